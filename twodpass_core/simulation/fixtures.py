"""What does not move, of the catalogue: houses, borders, plants, poles. Sizes in metres, drawn from the generator.

Things stand on the ground at (x, y); what is long reaches from x[0] to x[1] along the street.
"""

from __future__ import annotations

import numpy as np

from twodpass_core.simulation import materials
from twodpass_core.simulation.bodies import Bodies, Body, Material
from twodpass_core.simulation.labels import BUILDING, FENCE, POLE, TRAFFIC_SIGN, TRUNK, VEGETATION
from twodpass_core.simulation.materials import GALVANISED, METAL
from twodpass_core.simulation.shapes import Box, Cylinder, Ellipsoid
from twodpass_core.simulation.textures import Plate

SIGN_COLOURS = (((0.93, 0.93, 0.93), (0.75, 0.08, 0.1)), ((0.1, 0.25, 0.65), (0.93, 0.93, 0.93)))


def building(x: tuple[float, float], front: float, side: int, rng: np.random.Generator) -> Bodies:
    """A house whose street face is at y = `front`; `side` is +1 where it extends to larger y, -1 to smaller."""
    depth, height = rng.uniform(9.0, 12.0), rng.uniform(6.0, 13.0)
    wall = materials.house_wall(height, rng)
    middle = sum(x) / 2
    house = Body(Box((middle, front + side * depth / 2, height / 2), (x[1] - x[0], depth, height)), BUILDING, wall)
    if rng.random() < 0.5:
        return (house,)
    porch = Box((middle + rng.uniform(-2, 2), front - side * 0.7, 1.4), (rng.uniform(2.0, 3.5), 1.4, 2.8))
    return house, Body(porch, BUILDING, materials.plain_wall(rng))


def shed(x: float, y: float, rng: np.random.Generator) -> Bodies:
    """Low, at the pavement: from afar like a hedge or a wall."""
    height = rng.uniform(1.9, 2.6)
    shape = Box((x, y, height / 2), (rng.uniform(2.5, 4.5), rng.uniform(1.2, 1.6), height))
    return (Body(shape, BUILDING, materials.plain_wall(rng)),)


def hedge(x: tuple[float, float], y: float, rng: np.random.Generator) -> Bodies:
    """0.9 to 2 m high; a ray gets 5 to 20 cm into it on average."""
    height = rng.uniform(0.9, 2.0)
    shape = Box((sum(x) / 2, y, height / 2), (x[1] - x[0], rng.uniform(0.4, 0.9), height))
    return (Body(shape, VEGETATION, materials.foliage(rng, rng.uniform(0.05, 0.2))),)


def fence(x: tuple[float, float], y: float, rng: np.random.Generator) -> Bodies:
    """Boards or slats, or a low garden wall, which SemanticKITTI counts as fence, too."""
    height, kind = rng.uniform(0.9, 1.9), rng.random()
    make = materials.boards if kind < 0.4 else materials.slats if kind < 0.8 else materials.plain_wall
    material, thickness = make(rng), 0.08 if kind < 0.8 else 0.3
    return (Body(Box((sum(x) / 2, y, height / 2), (x[1] - x[0], thickness, height)), FENCE, material),)


def tree(x: float, y: float, rng: np.random.Generator) -> Bodies:
    """A trunk and a sparse crown, 5 to 8.3 m high together."""
    trunk_height = rng.uniform(2.2, 3.4)
    spread, rise = rng.uniform(1.6, 3.0), rng.uniform(1.6, 2.8)
    trunk = Cylinder((x, y, 0.0), rng.uniform(0.08, 0.22), trunk_height)
    crown = Ellipsoid((x, y, trunk_height + 0.75 * rise), (spread, spread * rng.uniform(0.8, 1.0), rise))
    return Body(trunk, TRUNK, materials.bark(rng)), Body(crown, VEGETATION, materials.foliage(rng, 0.7))


def bush(x: float, y: float, rng: np.random.Generator) -> Bodies:
    """Leaves down to the ground, 1 to 2.4 m wide."""
    radius = rng.uniform(0.5, 1.2)
    shape = Ellipsoid((x, y, 0.5 * radius), (radius, radius * rng.uniform(0.7, 1.0), radius * rng.uniform(0.8, 1.2)))
    return (Body(shape, VEGETATION, materials.foliage(rng, 0.2)),)


def lamp(x: float, y: float, rng: np.random.Generator) -> Bodies:
    """A pole of 5.5 to 7.5 m with an arm over the road, which is at y = 0."""
    height = rng.uniform(5.5, 7.5)
    arm = Box((x, y - np.sign(y) * 0.8, height), (0.1, 1.6, 0.1))
    return Body(Cylinder((x, y, 0.0), rng.uniform(0.08, 0.13), height), POLE, GALVANISED), Body(arm, POLE, GALVANISED)


def post(x: float, y: float, rng: np.random.Generator) -> Bodies:
    """A parking meter or a bollard: from afar like a person."""
    height = rng.uniform(1.0, 1.6)
    pole = Body(Cylinder((x, y, 0.0), rng.uniform(0.06, 0.1), height), POLE, METAL)
    if rng.random() < 0.5:
        return (pole,)
    return pole, Body(Box((x, y, height), (0.24, 0.28, 0.4)), POLE, METAL)


def sign(x: float, y: float, rng: np.random.Generator) -> Bodies:
    """A square plate at 2.3 to 2.9 m, seen along the street, on its pole."""
    height = rng.uniform(2.3, 2.9)
    plate = Box((x, y, height), (0.04, 0.7, 0.7), rng.uniform(-0.15, 0.15))
    face = Material(0.97, texture=Plate(*SIGN_COLOURS[rng.integers(len(SIGN_COLOURS))], size=0.7))
    return Body(Cylinder((x + 0.08, y, 0.0), 0.04, height), POLE, METAL), Body(plate, TRAFFIC_SIGN, face)
