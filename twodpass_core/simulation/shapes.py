"""Convex solids that rays can be cast at. World frame: metres, z up."""

from __future__ import annotations

from dataclasses import dataclass, field
from itertools import product
from typing import Final, Protocol

import numpy as np

from twodpass_core.geometry.rigid_transform import rotation_about_z

Span = tuple[np.ndarray, np.ndarray]
"""Distances (...) at which a ray enters and leaves a solid; the ray misses it where they are not entry < exit."""

Vector = tuple[float, float, float]
UNIT_CORNERS: Final = np.array(list(product((-1.0, 1.0), repeat=3)))


class Shape(Protocol):
    """A convex solid."""

    def intersect(self, origins: np.ndarray, directions: np.ndarray) -> Span:
        """Entry and exit of the rays from `origins` (..., 3) along unit `directions` (..., 3); the two broadcast."""
        ...

    def local(self, points: np.ndarray) -> np.ndarray:
        """World points (M, 3) in the solid's own axes, from its centre or foot, in metres."""
        ...

    def normals(self, points: np.ndarray) -> np.ndarray:
        """Unit normals (M, 3), in the solid's own axes, at world points (M, 3) on its surface."""
        ...

    @property
    def yaw(self) -> float:
        """Turn of the solid's own axes about the vertical, radians."""
        ...

    @property
    def footprint(self) -> Vector:
        """A vertical cylinder around the solid: x and y of its axis, and its radius."""
        ...

    @property
    def corners(self) -> np.ndarray:
        """(8, 3) corners of a box around the solid."""
        ...


@dataclass(frozen=True)
class Box:
    """A box turned by `yaw` (radians) about its vertical axis; `size` is its length, width and height."""

    centre: Vector
    size: Vector
    yaw: float = 0.0

    def intersect(self, origins: np.ndarray, directions: np.ndarray) -> Span:
        half = np.asarray(self.size) / 2
        start = self.local(origins)
        along = directions @ rotation_about_z(self.yaw) if self.yaw else directions
        entry, leave = _slab(start[..., 0], along[..., 0], half[0])
        for axis in (1, 2):
            near, far = _slab(start[..., axis], along[..., axis], half[axis])
            np.maximum(entry, near, out=entry)
            np.minimum(leave, far, out=leave)
        return entry, leave

    def local(self, points: np.ndarray) -> np.ndarray:
        return _local(points, self.centre, self.yaw)

    def normals(self, points: np.ndarray) -> np.ndarray:
        share = self.local(points) / (np.asarray(self.size) / 2)
        face = np.abs(share).argmax(axis=1)[:, None]
        normals = np.zeros_like(share)
        np.put_along_axis(normals, face, np.sign(np.take_along_axis(share, face, axis=1)), axis=1)
        return normals

    @property
    def footprint(self) -> Vector:
        return self.centre[0], self.centre[1], float(np.hypot(self.size[0], self.size[1])) / 2

    @property
    def corners(self) -> np.ndarray:
        return _corners(self.centre, np.asarray(self.size) / 2, self.yaw)


@dataclass(frozen=True)
class Cylinder:
    """An upright cylinder that stands on `foot`, the centre of its lower end."""

    foot: Vector
    radius: float
    height: float
    yaw: float = field(default=0.0, init=False)

    def intersect(self, origins: np.ndarray, directions: np.ndarray) -> Span:
        start = self.local(origins)
        wall = _quadric(start[..., :2] / self.radius, directions[..., :2] / self.radius)
        ends = _slab(start[..., 2] - self.height / 2, directions[..., 2], self.height / 2)
        return np.maximum(wall[0], ends[0]), np.minimum(wall[1], ends[1])

    def local(self, points: np.ndarray) -> np.ndarray:
        return np.asarray(points - np.asarray(self.foot))

    def normals(self, points: np.ndarray) -> np.ndarray:
        start = self.local(points)
        outward = start * (1.0, 1.0, 0.0)
        on_end = np.abs(start[:, 2] / self.height - 0.5) * 2 > np.linalg.norm(outward, axis=1) / self.radius
        outward[on_end] = np.sign(start[on_end, 2:] / self.height - 0.5) * (0.0, 0.0, 1.0)
        return _unit(outward)

    @property
    def footprint(self) -> Vector:
        return self.foot[0], self.foot[1], self.radius

    @property
    def corners(self) -> np.ndarray:
        x, y, z = self.foot
        return _corners((x, y, z + self.height / 2), np.array([self.radius, self.radius, self.height / 2]), 0.0)


@dataclass(frozen=True)
class Ellipsoid:
    """An ellipsoid with half axes `radii`, the first two turned by `yaw` (radians) about the vertical."""

    centre: Vector
    radii: Vector
    yaw: float = 0.0

    def intersect(self, origins: np.ndarray, directions: np.ndarray) -> Span:
        along = directions @ rotation_about_z(self.yaw) if self.yaw else directions
        return _quadric(self.local(origins) / self.radii, along / self.radii)

    def local(self, points: np.ndarray) -> np.ndarray:
        return _local(points, self.centre, self.yaw)

    def normals(self, points: np.ndarray) -> np.ndarray:
        return _unit(self.local(points) / np.square(self.radii))

    @property
    def footprint(self) -> Vector:
        return self.centre[0], self.centre[1], max(self.radii[:2])

    @property
    def corners(self) -> np.ndarray:
        return _corners(self.centre, np.asarray(self.radii), self.yaw)


def _local(points: np.ndarray, centre: Vector, yaw: float) -> np.ndarray:
    offset = points - np.asarray(centre)
    return np.asarray(offset @ rotation_about_z(yaw) if yaw else offset)


def _corners(centre: Vector, half: np.ndarray, yaw: float) -> np.ndarray:
    return np.asarray(UNIT_CORNERS * half @ rotation_about_z(yaw).T + np.asarray(centre))


def _unit(vectors: np.ndarray) -> np.ndarray:
    return np.asarray(vectors / np.maximum(np.linalg.norm(vectors, axis=1, keepdims=True), 1e-12))


def _slab(start: np.ndarray, along: np.ndarray, half: float) -> Span:
    """Where rays are between two parallel planes at -half and +half."""
    speed = np.where(np.abs(along) < 1e-12, 1e-12, along)
    middle = -start / speed
    reach = half / np.abs(speed)
    return middle - reach, middle + reach


def _quadric(start: np.ndarray, along: np.ndarray) -> Span:
    """Where rays are inside the unit circle or sphere. start (..., d), along (..., d)."""
    a = np.maximum(_dot(along, along), 1e-24)
    b = _dot(along, start)
    inside = b * b - a * (_dot(start, start) - 1.0)
    reach = np.sqrt(np.maximum(inside, 0.0)) / a
    middle = -b / a
    return np.where(inside > 0, middle - reach, np.inf), middle + reach


def _dot(one: np.ndarray, other: np.ndarray) -> np.ndarray:
    return np.asarray(np.einsum("...i,...i->...", one, other))
