"""A spinning LiDAR that ray-casts into bodies."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from twodpass_core.simulation.bodies import Body


@dataclass(frozen=True)
class SpinningLidar:
    """A beam table and what the sensor does to its measurements.

    elevations_deg: angle of each beam above the horizon, degrees, in the order of the rows of a scan.
    columns: measurements of each beam per turn.
    height: of the sensor above the ground, metres.
    min_range, max_range: outside of these there is no return, metres.
    range_noise: standard deviation of the measured range, metres.
    dropout: share of pulses that never return.
    """

    elevations_deg: tuple[float, ...]
    columns: int
    height: float = 1.73
    min_range: float = 2.0
    max_range: float = 80.0
    range_noise: float = 0.015
    dropout: float = 0.03

    def directions(self) -> np.ndarray:
        """(beams, columns, 3) float64 unit vectors, x forward, y left, z up; the turn starts ahead and goes left."""
        elevation = np.radians(self.elevations_deg)[:, None]
        azimuth = self._azimuths()[None, :]
        flat = np.cos(elevation)
        return np.stack(np.broadcast_arrays(flat * np.cos(azimuth), flat * np.sin(azimuth), np.sin(elevation)), axis=-1)

    def cast(
        self, world_from_lidar: np.ndarray, bodies: Sequence[Body], rng: np.random.Generator
    ) -> tuple[np.ndarray, np.ndarray]:
        """One turn without moving: points (N, 4) float32 (x, y, z in the sensor's frame, intensity 0..1) and the
        indices (N,) of the bodies that they hit, row by row. `world_from_lidar` (4, 4) turns about z only.
        """
        rays = self.directions()
        distance, owner = self._nearest(world_from_lidar, rays, bodies, rng)
        materials = [body.material for body in bodies]
        roughness = np.array([material.roughness for material in materials])
        reflectance = np.array([material.reflectance for material in materials])

        measured = distance + rng.normal(size=distance.shape) * np.hypot(self.range_noise, roughness[owner])
        in_range = (measured >= self.min_range) & (measured <= self.max_range)
        returned = in_range & (rng.random(distance.shape) >= self.dropout)
        owner, measured = owner[returned], measured[returned]
        points = np.empty((len(owner), 4), np.float32)
        points[:, :3] = rays[returned] * measured[:, None]
        points[:, 3] = self._intensity(reflectance[owner], measured, rng)
        return points, owner

    def _azimuths(self) -> np.ndarray:
        return np.arange(self.columns) * (2 * np.pi / self.columns)

    def _nearest(
        self, world_from_lidar: np.ndarray, rays: np.ndarray, bodies: Sequence[Body], rng: np.random.Generator
    ) -> tuple[np.ndarray, np.ndarray]:
        """Distance (beams, columns) to the first body on each ray, inf where there is none, and the body's index."""
        origin, directions = world_from_lidar[:3, 3], rays @ world_from_lidar[:3, :3].T
        distance = np.full(rays.shape[:2], np.inf)
        owner = np.zeros(rays.shape[:2], np.intp)
        for index, body in enumerate(bodies):
            columns = self._columns_towards(world_from_lidar, body)
            if not len(columns):
                continue
            entry, leave = body.shape.intersect(origin, directions[:, columns])
            if body.material.free_path:
                # A pulse in foliage meets a leaf after an exponentially distributed way (Beer-Lambert), or passes.
                entry = entry + rng.exponential(body.material.free_path, entry.shape)
            hit = (entry > 0) & (entry < leave) & (entry < distance[:, columns])
            row, column = np.nonzero(hit)
            distance[row, columns[column]] = entry[hit]
            owner[row, columns[column]] = index
        return distance, owner

    def _columns_towards(self, world_from_lidar: np.ndarray, body: Body) -> np.ndarray:
        """Indices of the columns that can see a body: none out of range, all when the sensor is in its footprint."""
        x, y, radius = body.shape.footprint
        offset = world_from_lidar[:2, :2].T @ (np.array([x, y]) - world_from_lidar[:2, 3])
        away = float(np.hypot(*offset))
        if away - radius > self.max_range:
            return np.zeros(0, np.intp)
        if away <= radius:
            return np.arange(self.columns)
        per_radian = self.columns / (2 * np.pi)
        middle = np.arctan2(offset[1], offset[0]) * per_radian
        reach = np.arcsin(radius / away) * per_radian
        return np.arange(int(np.floor(middle - reach)), int(np.ceil(middle + reach)) + 1) % self.columns

    def _intensity(self, reflectance: np.ndarray, measured: np.ndarray, rng: np.random.Generator) -> np.ndarray:
        """Reflectance, weaker with distance, with speckle, in KITTI's steps of 0.01 from 0 to 0.99."""
        faded = reflectance * (1.0 - 0.4 * measured / self.max_range)
        return np.round(np.clip(faded + rng.normal(0.0, 0.03, len(faded)), 0.0, 0.99), 2)


HDL_64E = SpinningLidar(
    elevations_deg=(*np.linspace(2.0, -8.33, 32).tolist(), *np.linspace(-8.83, -24.33, 32).tolist()), columns=2048
)
"""The sensor of KITTI, as its manual gives the angles of its two blocks of 32 beams."""
