"""Convex solids that rays can be cast at. World frame: metres, z up."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Protocol

import numpy as np

Span = tuple[np.ndarray, np.ndarray]
"""Distances (...) at which a ray enters and leaves a solid; the ray misses it where they are not entry < exit."""

Vector = tuple[float, float, float]


class Shape(Protocol):
    """A convex solid."""

    def intersect(self, origin: np.ndarray, directions: np.ndarray) -> Span:
        """Entry and exit of the rays from `origin` (3,) along unit `directions` (..., 3)."""
        ...

    @property
    def footprint(self) -> Vector:
        """A vertical cylinder around the solid: x and y of its axis, and its radius."""
        ...


@dataclass(frozen=True)
class Box:
    """A box turned by `yaw` (radians) about its vertical axis; `size` is its length, width and height."""

    centre: Vector
    size: Vector
    yaw: float = 0.0

    def intersect(self, origin: np.ndarray, directions: np.ndarray) -> Span:
        half = np.asarray(self.size) / 2
        box_from_world = _rotation(-self.yaw)
        start = box_from_world @ (origin - self.centre)
        along = directions @ box_from_world.T if self.yaw else directions
        entry, leave = _slab(start[0], along[..., 0], half[0])
        for axis in (1, 2):
            near, far = _slab(start[axis], along[..., axis], half[axis])
            np.maximum(entry, near, out=entry)
            np.minimum(leave, far, out=leave)
        return entry, leave

    @property
    def footprint(self) -> Vector:
        return self.centre[0], self.centre[1], float(np.hypot(self.size[0], self.size[1])) / 2


@dataclass(frozen=True)
class Cylinder:
    """An upright cylinder that stands on `foot`, the centre of its lower end."""

    foot: Vector
    radius: float
    height: float

    def intersect(self, origin: np.ndarray, directions: np.ndarray) -> Span:
        start = origin - self.foot
        wall = _quadric(start[:2] / self.radius, directions[..., :2] / self.radius)
        ends = _slab(start[2] - self.height / 2, directions[..., 2], self.height / 2)
        return np.maximum(wall[0], ends[0]), np.minimum(wall[1], ends[1])

    @property
    def footprint(self) -> Vector:
        return self.foot[0], self.foot[1], self.radius


@dataclass(frozen=True)
class Ellipsoid:
    """An ellipsoid with half axes `radii`, the first two turned by `yaw` (radians) about the vertical."""

    centre: Vector
    radii: Vector
    yaw: float = 0.0

    def intersect(self, origin: np.ndarray, directions: np.ndarray) -> Span:
        sphere_from_world = _rotation(-self.yaw) / np.asarray(self.radii)[:, None]
        return _quadric(sphere_from_world @ (origin - self.centre), directions @ sphere_from_world.T)

    @property
    def footprint(self) -> Vector:
        return self.centre[0], self.centre[1], max(self.radii[:2])


def _rotation(yaw: float) -> np.ndarray:
    cosine, sine = np.cos(yaw), np.sin(yaw)
    return np.array([[cosine, -sine, 0.0], [sine, cosine, 0.0], [0.0, 0.0, 1.0]])


def _slab(start: float, along: np.ndarray, half: float) -> Span:
    """Where rays are between two parallel planes at -half and +half."""
    speed = np.where(np.abs(along) < 1e-12, 1e-12, along)
    middle = -start / speed
    reach = half / np.abs(speed)
    return middle - reach, middle + reach


def _quadric(start: np.ndarray, along: np.ndarray) -> Span:
    """Where rays are inside the unit circle or sphere. start (d,), along (..., d)."""
    a = np.maximum((along * along).sum(axis=-1), 1e-24)
    b = along @ start
    inside = b * b - a * (start @ start - 1.0)
    reach = np.sqrt(np.maximum(inside, 0.0)) / a
    middle = -b / a
    return np.where(inside > 0, middle - reach, np.inf), middle + reach
