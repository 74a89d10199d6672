"""Vehicles of the catalogue, in the frame of the street: x along it, y to the left, z up from the ground.

Each function gives the bodies of one whose middle stands at (x, y) metres, facing `yaw` radians from the x axis; all of
them have the raw id of SemanticKITTI that is given. Sizes (metres) and colours are drawn from the generator.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from twodpass_core.simulation import materials
from twodpass_core.simulation.bodies import Bodies, Body, Material
from twodpass_core.simulation.materials import CHROME, RUBBER
from twodpass_core.simulation.shapes import Box, Ellipsoid, Vector
from twodpass_core.simulation.textures import Banded, Colour, Plain

GLASS: Colour = (0.12, 0.15, 0.19)


@dataclass(frozen=True)
class Chassis:
    """Where an object stands (metres, radians); places on it are given in metres forward, left and up from there."""

    x: float
    y: float
    yaw: float
    raw_id: int

    def box(self, place: Vector, size: Vector, material: Material) -> Body:
        """Its centre at `place`, of a size (metres) along, across and up."""
        return Body(Box(self.at(place), size, self.yaw), self.raw_id, material)

    def ellipsoid(self, place: Vector, radii: Vector, material: Material) -> Body:
        """Its centre at `place`, of radii (metres) along, across and up."""
        return Body(Ellipsoid(self.at(place), radii, self.yaw), self.raw_id, material)

    def wheels(self, forward: Sequence[float], width: float, radius: float = 0.31) -> Bodies:
        """Pairs of wheels, each `forward` (metres) of the middle, their outer sides `width` (metres) apart."""
        places = ((at, side * (width / 2 - 0.12), radius) for at in forward for side in (-1, 1))
        return tuple(self.ellipsoid(place, (radius, 0.14, radius), RUBBER) for place in places)

    def at(self, place: Vector) -> Vector:
        """Where in the street (metres) a place on the object is."""
        forward, left, up = place
        cosine, sine = np.cos(self.yaw), np.sin(self.yaw)
        return float(self.x + forward * cosine - left * sine), float(self.y + forward * sine + left * cosine), up


def car(x: float, y: float, yaw: float, raw_id: int, rng: np.random.Generator) -> Bodies:
    """A passenger car."""
    chassis = Chassis(x, y, yaw, raw_id)
    length, width, height = rng.uniform(3.8, 4.8), rng.uniform(1.7, 1.9), rng.uniform(1.4, 1.75)
    reflectance, colour = rng.uniform(0.15, 0.5), materials.car_colour(rng)
    belt = 0.58 * height
    rise = height - belt
    paint = Material(reflectance, texture=Plain(colour))
    cabin = Material(reflectance, texture=Banded(colour, GLASS, 0.06 * rise, 0.78 * rise))
    lamps = Material(0.6, texture=Plain((0.75, 0.12, 0.1)))
    return (
        chassis.box((0.0, 0.0, 0.22 + (belt - 0.22) / 2), (length, width, belt - 0.22), paint),
        chassis.ellipsoid((-0.04 * length, 0.0, belt), (0.36 * length, 0.47 * width, rise), cabin),
        *(chassis.box((-length / 2, side * 0.38 * width, 0.78 * belt), (0.04, 0.25, 0.14), lamps) for side in (-1, 1)),
        *chassis.wheels((-0.31 * length, 0.31 * length), width + 0.02),
    )


def truck(x: float, y: float, yaw: float, raw_id: int, rng: np.random.Generator) -> Bodies:
    """A cab and a load; the middle is that of both together."""
    chassis = Chassis(x, y, yaw, raw_id)
    length, width, height = rng.uniform(6.0, 8.0), rng.uniform(2.2, 2.4), rng.uniform(2.8, 3.4)
    cab = Material(rng.uniform(0.2, 0.5), texture=Banded(materials.car_colour(rng), GLASS, 0.2, 0.8, 1.8))
    load = Material(rng.uniform(0.25, 0.5), texture=Plain((0.9, 0.9, 0.88) if rng.random() < 0.6 else (0.3, 0.4, 0.6)))
    return (
        chassis.box((length / 2 - 0.9, 0.0, 1.4), (1.8, width, 2.0), cab),
        chassis.box((-1.0, 0.0, 0.8 + (height - 0.8) / 2), (length - 2.0, width, height - 0.8), load),
        *chassis.wheels((-0.31 * length, 0.31 * length), width - 0.04, 0.42),
    )


def bus(x: float, y: float, yaw: float, raw_id: int, rng: np.random.Generator) -> Bodies:
    """Counts as other vehicle."""
    chassis = Chassis(x, y, yaw, raw_id)
    length, height = rng.uniform(9.0, 11.5), rng.uniform(2.9, 3.2)
    colour = ((0.85, 0.6, 0.1), (0.75, 0.15, 0.15), (0.2, 0.45, 0.3))[rng.integers(3)]
    body = Material(rng.uniform(0.25, 0.5), texture=Banded(colour, GLASS, -0.1, 0.95, 1.6))
    return (
        chassis.box((0.0, 0.0, 0.35 + (height - 0.35) / 2), (length, 2.5, height - 0.35), body),
        *chassis.wheels((-0.3 * length, 0.32 * length), 2.48, 0.45),
    )


def caravan(x: float, y: float, yaw: float, raw_id: int, rng: np.random.Generator) -> Bodies:
    """A trailer, its bar in front; counts as other vehicle."""
    chassis = Chassis(x, y, yaw, raw_id)
    length, height = rng.uniform(3.8, 5.0), rng.uniform(2.3, 2.6)
    body = Material(rng.uniform(0.3, 0.5), texture=Banded((0.93, 0.93, 0.9), GLASS, 0.0, 0.6, 1.9))
    return (
        chassis.box((0.0, 0.0, 0.45 + (height - 0.45) / 2), (length, 2.1, height - 0.45), body),
        chassis.box((length / 2 + 0.5, 0.0, 0.45), (1.0, 0.12, 0.12), CHROME),
        *chassis.wheels((0.0,), 2.12),
    )


def bicycle(x: float, y: float, yaw: float, raw_id: int, rng: np.random.Generator) -> Bodies:
    """Without a rider."""
    chassis = Chassis(x, y, yaw, raw_id)
    frame = Material(rng.uniform(0.2, 0.45), texture=Plain(materials.car_colour(rng)))
    return (
        *(chassis.ellipsoid((at, 0.0, 0.34), (0.34, 0.025, 0.34), RUBBER) for at in (-0.52, 0.52)),
        chassis.box((0.0, 0.0, 0.62), (0.62, 0.05, 0.2), frame),
        chassis.box((-0.2, 0.0, 0.86), (0.26, 0.12, 0.08), RUBBER),
        chassis.box((0.42, 0.0, 0.98), (0.06, 0.5, 0.06), CHROME),
    )


def motorcycle(x: float, y: float, yaw: float, raw_id: int, rng: np.random.Generator) -> Bodies:
    """Without a rider."""
    chassis = Chassis(x, y, yaw, raw_id)
    paint = Material(rng.uniform(0.2, 0.45), texture=Plain(materials.car_colour(rng)))
    return (
        *(chassis.ellipsoid((at, 0.0, 0.31), (0.31, 0.07, 0.31), RUBBER) for at in (-0.68, 0.68)),
        chassis.ellipsoid((0.1, 0.0, 0.66), (0.62, 0.19, 0.28), paint),
        chassis.box((-0.42, 0.0, 0.82), (0.66, 0.28, 0.12), RUBBER),
        chassis.box((0.5, 0.0, 1.05), (0.08, 0.7, 0.08), CHROME),
    )
