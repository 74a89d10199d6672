"""An endless street from a seed: houses, gardens, trees, parked cars, people, traffic; a side street after each block.

World frame: x along the street, y to its left, z up from the road's surface; metres, seconds. Traffic keeps right.
Every block and every vehicle has its own generator: what stands at a place does not depend on where one looks from.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, replace
from functools import cached_property
from typing import Final

import numpy as np

from twodpass_core.simulation import people, vehicles
from twodpass_core.simulation.block import LENGTH, block
from twodpass_core.simulation.bodies import Bodies, Body, slab
from twodpass_core.simulation.labels import (
    MOVING_BICYCLIST,
    MOVING_BUS,
    MOVING_CAR,
    MOVING_MOTORCYCLIST,
    MOVING_TRUCK,
    TERRAIN,
    THINGS,
)
from twodpass_core.simulation.plan import StreetPlan

SLOT = 36.0
"""Length of street that one moving vehicle has to itself."""
EGO_SLOT, EGO_SPEED, ONCOMING_SPEED = 1, 8.0, 9.0
"""The ego vehicle drives in the right lane; its own slot there stays free for it."""
INSTANCES_OF_BLOCK, INSTANCES_OF_LANE, FIRST_OF_TRAFFIC = 64, 8192, 32768
"""Instance numbers, of 16 bits: 512 blocks of 64, then 8192 for the traffic of each lane. Far away they repeat."""

Vehicle = Callable[[float, float, float, int, np.random.Generator], Bodies]
TRAFFIC: Final[tuple[tuple[float, Vehicle, int], ...]] = (
    (0.1, vehicles.truck, MOVING_TRUCK),
    (0.08, vehicles.bus, MOVING_BUS),
    (0.22, people.motorcyclist, MOVING_MOTORCYCLIST),
    (0.3, people.bicyclist, MOVING_BICYCLIST),
    (1.0, vehicles.car, MOVING_CAR),
)
"""Share of what is not one of those above, kind, label."""


@dataclass(frozen=True)
class Street:
    """The street that belongs to a seed, 0 to 2^32 - 1."""

    seed: int

    @cached_property
    def plan(self) -> StreetPlan:
        """Widths, heights, ground and light of this street."""
        return StreetPlan.draw(self._generator(0))

    def bodies(self, time: float, x: float, reach: float) -> Bodies:
        """All bodies that can be seen at `time` from `x` along the street within `reach`, and some farther ones."""
        blocks = range(int((x - reach) // LENGTH), int((x + reach) // LENGTH) + 1)
        far = 10 * reach
        ground = slab((x - far, x + far), (-far, far), -0.06, TERRAIN, self.plan.grass)
        things = [body for index in blocks for body in self._block(index, time)]
        return ground, *things, *self._traffic(time, x, reach)

    def ego_pose(self, time: float) -> np.ndarray:
        """(4, 4) float64 world_from_vehicle: along the right lane with a slight sway; the origin is on the road."""
        x = (EGO_SLOT + 0.5) * SLOT + EGO_SPEED * time
        sway, wavelength = 0.2, 25.0
        yaw = np.arctan(sway / wavelength * np.cos(x / wavelength))
        pose = np.eye(4)
        pose[:2, :2] = [[np.cos(yaw), -np.sin(yaw)], [np.sin(yaw), np.cos(yaw)]]
        pose[:2, 3] = x, -self.plan.lane / 2 + sway * np.sin(x / wavelength)
        return pose

    def _generator(self, *keys: int) -> np.random.Generator:
        return np.random.default_rng([key % 2**32 for key in (self.seed, *keys)])

    def _block(self, index: int, time: float) -> Iterator[Body]:
        objects = block(self.plan, index * LENGTH, time, self._generator(1, index))
        yield from _numbered(objects, index % 512 * INSTANCES_OF_BLOCK + 1)

    def _traffic(self, time: float, x: float, reach: float) -> Iterator[Body]:
        lanes = ((-self.plan.lane / 2, EGO_SPEED), (self.plan.lane / 2, -ONCOMING_SPEED))
        for lane, (y, speed) in enumerate(lanes):
            offset = speed * time
            for slot in range(int((x - reach - offset) // SLOT), int((x + reach - offset) // SLOT) + 1):
                rng = self._generator(2, lane, slot)
                if (lane == 0 and slot == EGO_SLOT) or rng.random() < 0.4:
                    continue
                place = (slot + 0.5) * SLOT + rng.uniform(-8.0, 8.0) + offset
                make, raw_id = next((make, raw_id) for share, make, raw_id in TRAFFIC if rng.random() < share)
                number = FIRST_OF_TRAFFIC + lane * INSTANCES_OF_LANE + slot % INSTANCES_OF_LANE
                yaw = 0.0 if speed > 0 else np.pi
                yield from _numbered([make(place, y, yaw, raw_id, rng)], number)


def _numbered(objects: Iterable[Bodies], first: int) -> Iterator[Body]:
    """The bodies of objects; those that are counted get an instance number each, from `first`."""
    number = first
    for bodies in objects:
        if bodies[0].raw_id not in THINGS:
            yield from bodies
            continue
        yield from (replace(body, instance=number) for body in bodies)
        number += 1
