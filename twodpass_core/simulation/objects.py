"""The catalogue: what stands and moves in a simulated street, built from solids with a material and a label.

Labels are SemanticKITTI's raw ids. Every function returns the bodies of one object standing at (x, y); sizes (metres)
are drawn from the generator it is given.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from twodpass_core.simulation.shapes import Box, Cylinder, Ellipsoid, Shape

CAR, TRUCK, PERSON, ROAD, PARKING, SIDEWALK, BUILDING, FENCE, LANE_MARKING = 10, 18, 30, 40, 44, 48, 50, 51, 60
VEGETATION, TRUNK, TERRAIN, POLE, TRAFFIC_SIGN = 70, 71, 72, 80, 81
MOVING_CAR, MOVING_PERSON, MOVING_TRUCK = 252, 254, 258


@dataclass(frozen=True)
class Material:
    """How a surface answers a laser pulse.

    reflectance: mean intensity up close, in KITTI's unit (0..1).
    roughness: standard deviation of the surface along the ray, metres.
    free_path: mean way of a pulse in it before it meets a leaf or a slat, metres; 0 for a closed surface.
    """

    reflectance: float
    roughness: float = 0.0
    free_path: float = 0.0


@dataclass(frozen=True)
class Body:
    """A solid with the SemanticKITTI raw id of what it belongs to."""

    shape: Shape
    raw_id: int
    material: Material


Bodies = tuple[Body, ...]

ASPHALT = Material(0.27)
PAINT = Material(0.62)
PAVING = Material(0.36)
GRASS = Material(0.42, roughness=0.04)
BARK = Material(0.33, roughness=0.02)
LEAVES = Material(0.30, free_path=0.7)
HEDGE = Material(0.28, free_path=0.25)
SLATS = Material(0.38, free_path=0.08)
METAL = Material(0.45)
RETROREFLECTOR = Material(0.97)
RUBBER = Material(0.06)
CLOTHES = Material(0.31, roughness=0.02)


def slab(x: tuple[float, float], y: tuple[float, float], top: float, raw_id: int, material: Material) -> Body:
    """A piece of ground between two x and two y, half a metre thick."""
    centre = ((x[0] + x[1]) / 2, (y[0] + y[1]) / 2, top - 0.25)
    return Body(Box(centre, (x[1] - x[0], abs(y[1] - y[0]), 0.5)), raw_id, material)


def car(x: float, y: float, yaw: float, raw_id: int, rng: np.random.Generator) -> Bodies:
    length, width, height = rng.uniform(3.8, 4.8), rng.uniform(1.7, 1.9), rng.uniform(1.4, 1.75)
    paint = Material(rng.uniform(0.1, 0.6))
    belt = 0.58 * height
    hull = Box((x, y, 0.22 + (belt - 0.22) / 2), (length, width, belt - 0.22), yaw)
    cabin = Ellipsoid((x, y, belt), (0.36 * length, 0.47 * width, height - belt), yaw)
    return Body(hull, raw_id, paint), Body(cabin, raw_id, paint), *_axles(x, y, yaw, length, width, raw_id)


def truck(x: float, y: float, yaw: float, raw_id: int, rng: np.random.Generator) -> Bodies:
    length, width, height = rng.uniform(6.0, 8.0), rng.uniform(2.2, 2.4), rng.uniform(2.8, 3.4)
    paint = Material(rng.uniform(0.2, 0.7))
    ahead = np.array([np.cos(yaw), np.sin(yaw)])
    cab_x, cab_y = np.array([x, y]) + ahead * (length / 2 - 0.9)
    load_x, load_y = np.array([x, y]) - ahead * 1.0
    cab = Box((cab_x, cab_y, 0.4 + 1.0), (1.8, width, 2.0), yaw)
    load = Box((load_x, load_y, 0.8 + (height - 0.8) / 2), (length - 2.0, width, height - 0.8), yaw)
    return Body(cab, raw_id, paint), Body(load, raw_id, paint), *_axles(x, y, yaw, length, width, raw_id)


def _axles(x: float, y: float, yaw: float, length: float, width: float, raw_id: int) -> Bodies:
    reach = 0.31 * length
    feet = ((x + side * reach * np.cos(yaw), y + side * reach * np.sin(yaw), 0.31) for side in (-1, 1))
    return tuple(Body(Box(foot, (0.6, width - 0.04, 0.6), yaw), raw_id, RUBBER) for foot in feet)


def person(x: float, y: float, raw_id: int, rng: np.random.Generator) -> Bodies:
    height = rng.uniform(1.55, 1.9)
    torso = Ellipsoid((x, y, 0.66 * height), (0.24, 0.24, 0.24 * height))
    legs = Cylinder((x, y, 0.0), 0.16, 0.55 * height)
    head = Ellipsoid((x, y, 0.93 * height), (0.1, 0.1, 0.07 * height))
    return tuple(Body(shape, raw_id, CLOTHES) for shape in (torso, legs, head))


def tree(x: float, y: float, rng: np.random.Generator) -> Bodies:
    trunk_height = rng.uniform(2.2, 3.4)
    spread, rise = rng.uniform(1.6, 3.0), rng.uniform(1.6, 2.8)
    trunk = Cylinder((x, y, 0.0), rng.uniform(0.12, 0.22), trunk_height)
    crown = Ellipsoid((x, y, trunk_height + 0.75 * rise), (spread, spread * rng.uniform(0.8, 1.0), rise))
    return Body(trunk, TRUNK, BARK), Body(crown, VEGETATION, LEAVES)


def bush(x: float, y: float, rng: np.random.Generator) -> Bodies:
    radius = rng.uniform(0.5, 1.2)
    shape = Ellipsoid((x, y, 0.5 * radius), (radius, radius * rng.uniform(0.7, 1.0), radius * rng.uniform(0.8, 1.2)))
    return (Body(shape, VEGETATION, HEDGE),)


def hedge(x: tuple[float, float], y: float, rng: np.random.Generator) -> Bodies:
    height = rng.uniform(0.9, 1.8)
    shape = Box((sum(x) / 2, y, height / 2), (x[1] - x[0], rng.uniform(0.5, 0.9), height))
    return (Body(shape, VEGETATION, HEDGE),)


def fence(x: tuple[float, float], y: float, rng: np.random.Generator) -> Bodies:
    height = rng.uniform(0.9, 1.6)
    return (Body(Box((sum(x) / 2, y, height / 2), (x[1] - x[0], 0.08, height)), FENCE, SLATS),)


def building(x: tuple[float, float], front: float, side: int, rng: np.random.Generator) -> Bodies:
    """A house whose street face is at y = `front`; `side` is +1 where it extends to larger y, -1 to smaller."""
    depth, height = rng.uniform(9.0, 12.0), rng.uniform(6.0, 13.0)
    wall = Material(rng.uniform(0.22, 0.5), roughness=0.01)
    middle = sum(x) / 2
    house = Box((middle, front + side * depth / 2, height / 2), (x[1] - x[0], depth, height))
    if rng.random() < 0.5:
        return (Body(house, BUILDING, wall),)
    porch = Box((middle + rng.uniform(-2, 2), front - side * 0.7, 1.4), (rng.uniform(2.0, 3.5), 1.4, 2.8))
    return Body(house, BUILDING, wall), Body(porch, BUILDING, wall)


def lamp(x: float, y: float, rng: np.random.Generator) -> Bodies:
    height = rng.uniform(5.5, 7.5)
    arm = Box((x, y - np.sign(y) * 0.8, height), (0.1, 1.6, 0.1))
    return Body(Cylinder((x, y, 0.0), 0.09, height), POLE, METAL), Body(arm, POLE, METAL)


def sign(x: float, y: float, rng: np.random.Generator) -> Bodies:
    height = rng.uniform(2.3, 2.9)
    plate = Box((x, y, height), (0.04, 0.7, 0.7), rng.uniform(-0.15, 0.15))
    return Body(Cylinder((x + 0.08, y, 0.0), 0.04, height), POLE, METAL), Body(plate, TRAFFIC_SIGN, RETROREFLECTOR)
