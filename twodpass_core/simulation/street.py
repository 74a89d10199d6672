"""An endless street from a seed: houses, gardens, trees, parked cars, people, traffic; a side street after each block.

World frame: x along the street, y to its left, z up from the road's surface; metres, seconds. Traffic keeps right.
Every block and every vehicle has its own generator: what stands at a place does not depend on where one looks from.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from itertools import pairwise

import numpy as np

from twodpass_core.simulation import objects
from twodpass_core.simulation.objects import Bodies, Body, slab

BLOCK = 72.0
"""From one side street to the next: houses over the first 60 m, the side street from 62 m to 70 m."""
HOUSES, SIDE_STREET = (0.0, 60.0), (62.0, 70.0)
LANE, KERB, PAVEMENT_EDGE, HOUSE_FRONT, WORLD_EDGE = 3.5, 5.8, 8.8, 13.0, 100.0
"""Distances from the middle of the street: end of the lane, kerb, end of the pavement, house fronts, end of it all."""
KERB_HEIGHT = 0.12
SLOT = 36.0
"""Length of street that one moving vehicle has to itself."""
EGO_SLOT, EGO_SPEED = 1, 8.0
LANES = ((-LANE / 2, EGO_SPEED), (LANE / 2, -9.0))
"""y and speed along x of the two lanes; the first is the ego vehicle's, whose own slot stays free for it."""


@dataclass(frozen=True)
class Street:
    """The street that belongs to a seed."""

    seed: int

    def bodies(self, time: float, x: float, reach: float) -> Bodies:
        """All bodies that can be seen at `time` from `x` along the street within `reach`, and some farther ones."""
        blocks = range(int((x - reach) // BLOCK), int((x + reach) // BLOCK) + 1)
        ground = slab((x - 2 * reach, x + 2 * reach), (-2 * reach, 2 * reach), -0.06, objects.TERRAIN, objects.GRASS)
        return ground, *(body for block in blocks for body in self._block(block, time)), *self._traffic(time, x, reach)

    def _generator(self, *keys: int) -> np.random.Generator:
        return np.random.default_rng([key % 2**32 for key in (self.seed, *keys)])

    def _block(self, index: int, time: float) -> Iterator[Body]:
        start = index * BLOCK
        rng = self._generator(1, index)
        yield from _roadway(start)
        for side in (1, -1):
            yield from _ground(start, side)
            yield from _parked_vehicles(start, side, rng)
            yield from _lots(start, side, rng)
            yield from _street_furniture(start, side, rng)
            yield from _people(start, side, rng, time)

    def _traffic(self, time: float, x: float, reach: float) -> Iterator[Body]:
        for lane, (y, speed) in enumerate(LANES):
            offset = speed * time
            for slot in range(int((x - reach - offset) // SLOT), int((x + reach - offset) // SLOT) + 1):
                rng = self._generator(2, lane, slot)
                if (lane == 0 and slot == EGO_SLOT) or rng.random() < 0.5:
                    continue
                place = (slot + 0.5) * SLOT + rng.uniform(-8.0, 8.0) + offset
                yaw = 0.0 if speed > 0 else np.pi
                if rng.random() < 0.15:
                    yield from objects.truck(place, y, yaw, objects.MOVING_TRUCK, rng)
                else:
                    yield from objects.car(place, y, yaw, objects.MOVING_CAR, rng)


def ego_pose(time: float) -> np.ndarray:
    """(4, 4) float64 world_from_vehicle: along the right lane with a slight sway; the origin is on the road."""
    x = (EGO_SLOT + 0.5) * SLOT + EGO_SPEED * time
    sway, wavelength = 0.2, 25.0
    yaw = np.arctan(sway / wavelength * np.cos(x / wavelength))
    pose = np.eye(4)
    pose[:2, :2] = [[np.cos(yaw), -np.sin(yaw)], [np.sin(yaw), np.cos(yaw)]]
    pose[:2, 3] = x, -LANE / 2 + sway * np.sin(x / wavelength)
    return pose


def _roadway(start: float) -> Iterator[Body]:
    yield slab((start, start + BLOCK), (-KERB, KERB), 0.0, objects.ROAD, objects.ASPHALT)
    side_street = (start + SIDE_STREET[0], start + SIDE_STREET[1])
    yield slab(side_street, (-WORLD_EDGE, WORLD_EDGE), 0.0, objects.ROAD, objects.ASPHALT)
    for dash in np.arange(start + 2.0, start + HOUSES[1], 9.0):
        yield slab((dash, dash + 3.0), (-0.08, 0.08), 0.005, objects.LANE_MARKING, objects.PAINT)
    for edge in (SIDE_STREET[0] - 1.0, SIDE_STREET[1] + 0.5):
        yield slab((start + edge, start + edge + 0.5), (-LANE, LANE), 0.005, objects.LANE_MARKING, objects.PAINT)


def _ground(start: float, side: int) -> Iterator[Body]:
    pavement, garden = (objects.SIDEWALK, objects.PAVING), (objects.TERRAIN, objects.GRASS)
    before = start + SIDE_STREET[1] - BLOCK
    yield slab((before, start + SIDE_STREET[0]), (side * KERB, side * PAVEMENT_EDGE), KERB_HEIGHT, *pavement)
    for x in ((before, start), (start + HOUSES[1], start + SIDE_STREET[0])):
        yield slab(x, (side * PAVEMENT_EDGE, side * WORLD_EDGE), KERB_HEIGHT, *pavement)
    yield slab((start, start + HOUSES[1]), (side * PAVEMENT_EDGE, side * WORLD_EDGE), KERB_HEIGHT, *garden)
    yield slab((start + 4.0, start + 56.0), (side * LANE, side * KERB), 0.02, objects.PARKING, objects.PAVING)


def _parked_vehicles(start: float, side: int, rng: np.random.Generator) -> Iterator[Body]:
    y = side * (LANE + KERB) / 2
    for slot in np.arange(start + 7.5, start + 54.0, 6.5):
        x, yaw = slot + rng.uniform(-0.6, 0.6), rng.normal(0.0, 0.02)
        kind = rng.random()
        if kind < 0.45:
            yield from objects.car(x, y, yaw, objects.CAR, rng)
        elif kind < 0.5:
            yield from objects.truck(x, y, yaw, objects.TRUCK, rng)


def _lots(start: float, side: int, rng: np.random.Generator) -> Iterator[Body]:
    borders = 20.0 + rng.uniform(-2.5, 2.5), 40.0 + rng.uniform(-2.5, 2.5)
    for left, right in pairwise(start + np.array([HOUSES[0], *borders, HOUSES[1]])):
        front = side * (HOUSE_FRONT + rng.uniform(-1.0, 3.0))
        if rng.random() < 0.85:
            yield from objects.building((left + rng.uniform(1.0, 3.0), right - rng.uniform(1.0, 3.0)), front, side, rng)
        yield from _garden(left, right, side, rng)


def _garden(left: float, right: float, side: int, rng: np.random.Generator) -> Iterator[Body]:
    gate = rng.uniform(left + 4.0, right - 4.0)
    border = (objects.hedge, objects.fence, None)[rng.integers(3)]
    if border:
        yield from border((left + 0.4, gate - 1.2), side * (PAVEMENT_EDGE + 0.5), rng)
        yield from border((gate + 1.2, right - 0.4), side * (PAVEMENT_EDGE + 0.5), rng)
    for _ in range(rng.integers(2, 6)):
        yield from objects.bush(rng.uniform(left + 1, right - 1), side * rng.uniform(10.2, 11.5), rng)
    for _ in range(rng.integers(2, 5)):
        yield from objects.tree(rng.uniform(left, right), side * rng.uniform(28.0, 50.0), rng)


def _street_furniture(start: float, side: int, rng: np.random.Generator) -> Iterator[Body]:
    for x in np.arange(start + 4.0, start + 58.0, 9.0):
        if rng.random() < 0.7:
            yield from objects.tree(x + rng.uniform(-1.5, 1.5), side * (KERB + 0.6), rng)
    for x in (start + 11.0, start + 37.0):
        yield from objects.lamp(x + rng.uniform(-0.5, 0.5), side * (KERB + 0.4), rng)
    for x in (start + 1.0, start + HOUSES[1] + 0.5):
        yield from objects.sign(x, side * (KERB + 0.5), rng)


def _people(start: float, side: int, rng: np.random.Generator, time: float) -> Iterator[Body]:
    """Some stand; some walk to the end of the block and back, for ever."""
    for _ in range(rng.integers(0, 4)):
        begin, y = rng.uniform(*HOUSES), side * rng.uniform(KERB + 1.4, PAVEMENT_EDGE - 0.3)
        if rng.random() < 0.3:
            yield from objects.person(start + begin, y, objects.PERSON, rng)
        else:
            walked = (begin + rng.uniform(0.9, 1.6) * time) % (2 * HOUSES[1])
            yield from objects.person(start + min(walked, 2 * HOUSES[1] - walked), y, objects.MOVING_PERSON, rng)
