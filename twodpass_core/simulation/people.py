"""People of the catalogue, on foot and on two wheels. SemanticKITTI counts riders and what they ride as one.

Places, units and frame are those of `vehicles`.
"""

from __future__ import annotations

import numpy as np

from twodpass_core.simulation import materials
from twodpass_core.simulation.bodies import Bodies
from twodpass_core.simulation.materials import RUBBER, SKIN
from twodpass_core.simulation.vehicles import Chassis, bicycle, motorcycle


def person(x: float, y: float, yaw: float, raw_id: int, rng: np.random.Generator) -> Bodies:
    """Standing or walking."""
    chassis = Chassis(x, y, yaw, raw_id)
    height, stride = rng.uniform(1.55, 1.9), rng.uniform(0.0, 0.14)
    jacket, trousers = materials.clothes(rng), materials.clothes(rng)
    knees = ((side * stride, side * 0.09, 0.27 * height) for side in (-1, 1))
    return (
        *(chassis.ellipsoid(knee, (0.1, 0.09, 0.28 * height), trousers) for knee in knees),
        chassis.ellipsoid((0.0, 0.0, 0.64 * height), (0.15, 0.23, 0.24 * height), jacket),
        chassis.ellipsoid((0.0, 0.0, 0.93 * height), (0.1, 0.1, 0.075 * height), SKIN),
    )


def bicyclist(x: float, y: float, yaw: float, raw_id: int, rng: np.random.Generator) -> Bodies:
    """On a bicycle, some with a helmet."""
    return *bicycle(x, y, yaw, raw_id, rng), *_rider(Chassis(x, y, yaw, raw_id), 0.98, rng, helmet=rng.random() < 0.4)


def motorcyclist(x: float, y: float, yaw: float, raw_id: int, rng: np.random.Generator) -> Bodies:
    """On a motorcycle, with a helmet."""
    return *motorcycle(x, y, yaw, raw_id, rng), *_rider(Chassis(x, y, yaw, raw_id), 0.88, rng, helmet=True)


def _rider(chassis: Chassis, seat: float, rng: np.random.Generator, *, helmet: bool) -> Bodies:
    jacket, trousers = materials.clothes(rng), materials.clothes(rng)
    return (
        *(chassis.ellipsoid((0.05, side * 0.13, seat - 0.3), (0.15, 0.08, 0.4), trousers) for side in (-1, 1)),
        chassis.ellipsoid((-0.05, 0.0, seat + 0.27), (0.2, 0.24, 0.36), jacket),
        chassis.box((0.2, 0.0, seat + 0.32), (0.46, 0.42, 0.09), jacket),
        chassis.ellipsoid((0.06, 0.0, seat + 0.74), (0.12, 0.12, 0.15), RUBBER if helmet else SKIN),
    )
