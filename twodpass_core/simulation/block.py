"""One block of a street: 60 m of houses on both sides, then a side street. Every generator here yields objects."""

from __future__ import annotations

from collections.abc import Iterator
from itertools import pairwise
from typing import Final

import numpy as np

from twodpass_core.simulation import fixtures, people, vehicles
from twodpass_core.simulation.bodies import Bodies, Material, slab
from twodpass_core.simulation.labels import (
    BICYCLE,
    CAR,
    LANE_MARKING,
    MOTORCYCLE,
    MOVING_PERSON,
    OTHER_GROUND,
    OTHER_VEHICLE,
    PARKING,
    PERSON,
    ROAD,
    SIDEWALK,
    TERRAIN,
    TRUCK,
)
from twodpass_core.simulation.materials import PAINT
from twodpass_core.simulation.plan import StreetPlan

LENGTH: Final = 72.0
"""From one side street to the next: houses over the first 60 m, the side street from 62 m to 70 m."""
HOUSES: Final = (0.0, 60.0)
SIDE_STREET: Final = (62.0, 70.0)
WORLD_EDGE: Final = 100.0
"""How far the side streets go."""


def block(plan: StreetPlan, start: float, time: float, rng: np.random.Generator) -> Iterator[Bodies]:
    """The objects between x = `start` and `start` + LENGTH, as they are at `time`."""
    yield from _roadway(plan, start)
    for side in (1, -1):
        yield from _pavement(plan, start, side)
        yield from _roadside(plan, start, side, rng)
        yield from _lots(plan, start, side, rng)
        yield from _street_furniture(plan, start, side, rng)
        yield from _people(plan, start, side, rng, time)


def _roadway(plan: StreetPlan, start: float) -> Iterator[Bodies]:
    side_street = (start + SIDE_STREET[0], start + SIDE_STREET[1])
    yield (slab((start, start + LENGTH), (-plan.kerb, plan.kerb), 0.0, ROAD, plan.asphalt),)
    yield (slab(side_street, (-WORLD_EDGE, WORLD_EDGE), 0.0, ROAD, plan.asphalt),)
    for dash in np.arange(start + 2.0, start + HOUSES[1], 9.0):
        yield (slab((dash, dash + 3.0), (-0.08, 0.08), 0.005, LANE_MARKING, PAINT),)
    for edge in (SIDE_STREET[0] - 1.0, SIDE_STREET[1] + 0.5):
        yield (slab((start + edge, start + edge + 0.5), (-plan.lane, plan.lane), 0.005, LANE_MARKING, PAINT),)


def _pavement(plan: StreetPlan, start: float, side: int) -> Iterator[Bodies]:
    """Verge, pavement along the street and into the side street, gardens."""
    before = start + SIDE_STREET[1] - LENGTH
    along, top = (before, start + SIDE_STREET[0]), plan.kerb_height
    if plan.pavement > plan.kerb:
        yield (slab(along, (side * plan.kerb, side * plan.pavement), top, TERRAIN, plan.grass),)
    yield (slab(along, (side * plan.pavement, side * plan.edge), top, SIDEWALK, plan.paving),)
    for x in ((before, start), (start + HOUSES[1], start + SIDE_STREET[0])):
        yield (slab(x, (side * plan.edge, side * WORLD_EDGE), top, SIDEWALK, plan.paving),)
    garden = (side * plan.edge, side * WORLD_EDGE)
    yield (slab((start + HOUSES[0], start + HOUSES[1]), garden, top, TERRAIN, plan.grass),)


def _roadside(plan: StreetPlan, start: float, side: int, rng: np.random.Generator) -> Iterator[Bodies]:
    """The strip between lane and kerb, in stretches: parking bays, mostly, or road, pavement, a gravelled island."""
    y = side * plan.lane, side * plan.kerb
    borders = start + np.array([3.0, rng.uniform(17.0, 24.0), rng.uniform(36.0, 43.0), 58.0])
    for left, right in pairwise(borders.tolist()):
        kind = rng.random()
        if kind < 0.6:
            yield (slab((left, right), y, plan.bay_height, PARKING, plan.cobbles),)
            yield from _parked(left, right, sum(y) / 2, rng, share=0.6)
        elif kind < 0.75:
            yield (slab((left, right), y, plan.kerb_height, SIDEWALK, plan.paving),)
        elif kind < 0.85:
            yield (slab((left, right), y, plan.kerb_height, OTHER_GROUND, plan.gravel),)
        else:
            yield from _parked(left, right, sum(y) / 2, rng, share=0.25)


def _parked(left: float, right: float, y: float, rng: np.random.Generator, share: float) -> Iterator[Bodies]:
    for slot in np.arange(left + 3.5, right - 3.0, 6.5):
        x, yaw = slot + rng.uniform(-0.6, 0.6), rng.normal(0.0, 0.02) + (np.pi if rng.random() < 0.2 else 0.0)
        if rng.random() >= share:
            continue
        kind = rng.random()
        if kind < 0.75:
            yield vehicles.car(x, y, yaw, CAR, rng)
        elif kind < 0.81:
            yield vehicles.truck(x, y, yaw, TRUCK, rng)
        elif kind < 0.88:
            yield vehicles.caravan(x, y, yaw, OTHER_VEHICLE, rng)
        else:
            for offset in (-1.2, 0.0, 1.2)[: rng.integers(1, 4)]:
                yield vehicles.motorcycle(x + offset, y, np.pi / 2 + rng.normal(0.0, 0.1), MOTORCYCLE, rng)


def _lots(plan: StreetPlan, start: float, side: int, rng: np.random.Generator) -> Iterator[Bodies]:
    borders = 20.0 + rng.uniform(-2.5, 2.5), 40.0 + rng.uniform(-2.5, 2.5)
    for left, right in pairwise((start + np.array([HOUSES[0], *borders, HOUSES[1]])).tolist()):
        front = side * (plan.front + rng.uniform(0.0, 3.0))
        if rng.random() < 0.85:
            house = left + rng.uniform(1.0, 3.0), right - rng.uniform(1.0, 3.0)
            yield fixtures.building(house, front, side, rng)
        yield from _garden(plan, left, right, side, rng)


def _garden(plan: StreetPlan, left: float, right: float, side: int, rng: np.random.Generator) -> Iterator[Bodies]:
    gate, y = rng.uniform(left + 4.0, right - 4.0), side * (plan.edge + 0.5)
    yield _drive(plan, gate, side, rng)
    for x in ((left + 0.4, gate - 1.5), (gate + 1.5, right - 0.4)):
        kind = rng.random()
        if kind < 0.35:
            yield fixtures.hedge(x, y, rng)
        elif kind < 0.75:
            yield fixtures.fence(x, y, rng)
        elif kind < 0.85:
            yield fixtures.shed(sum(x) / 2, side * (plan.edge + 0.9), rng)
    near, far = plan.edge + 1.4, plan.front - 0.5
    for _ in range(rng.integers(2, 6)):
        yield fixtures.bush(rng.uniform(left + 1, right - 1), side * rng.uniform(near, far), rng)
    for _ in range(rng.integers(2, 5)):
        yield fixtures.tree(rng.uniform(left, right), side * rng.uniform(plan.front + 15.0, 50.0), rng)


def _drive(plan: StreetPlan, gate: float, side: int, rng: np.random.Generator) -> Bodies:
    """From the gate to the house: a parking place, or a path."""
    kinds: tuple[tuple[int, Material], ...] = ((PARKING, plan.cobbles), (SIDEWALK, plan.paving))
    y = side * plan.edge, side * plan.front
    return (slab((gate - 1.4, gate + 1.4), y, plan.kerb_height + 0.004, *kinds[rng.integers(2)]),)


def _street_furniture(plan: StreetPlan, start: float, side: int, rng: np.random.Generator) -> Iterator[Bodies]:
    near_kerb = side * (plan.kerb + 0.5)
    for x in np.arange(start + 4.0, start + 58.0, 9.0):
        if rng.random() < 0.6:
            yield fixtures.tree(x + rng.uniform(-1.5, 1.5), near_kerb, rng)
        if rng.random() < 0.35:
            yield fixtures.post(x + rng.uniform(3.0, 6.0), near_kerb, rng)
    for x in (start + 11.0, start + 37.0):
        yield fixtures.lamp(x + rng.uniform(-0.5, 0.5), side * (plan.kerb + 0.4), rng)
    for x in (start + 1.0, start + HOUSES[1] + 0.5):
        yield fixtures.sign(x, near_kerb, rng)
    rack = start + rng.uniform(14.0, 30.0)
    for x in rack + 0.7 * np.arange(rng.integers(0, 5)):
        yield vehicles.bicycle(x, side * (plan.edge - 0.9), np.pi / 2 + rng.normal(0.0, 0.08), BICYCLE, rng)


def _people(plan: StreetPlan, start: float, side: int, rng: np.random.Generator, time: float) -> Iterator[Bodies]:
    """Some stand; some walk to the end of the block and back, for ever."""
    for _ in range(rng.integers(1, 6)):
        begin, y = rng.uniform(*HOUSES), side * rng.uniform(plan.pavement + 0.5, plan.edge - 0.3)
        if rng.random() < 0.4:
            yield people.person(start + begin, y, rng.uniform(0, 2 * np.pi), PERSON, rng)
            continue
        walked = (begin + rng.uniform(0.9, 1.6) * time) % (2 * HOUSES[1])
        back = walked > HOUSES[1]
        x = start + (2 * HOUSES[1] - walked if back else walked)
        yield people.person(x, y, np.pi if back else 0.0, MOVING_PERSON, rng)
