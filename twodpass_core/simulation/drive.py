"""Drive along a simulated street, scan it and take pictures of it."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from functools import cached_property

import numpy as np

from twodpass_core.simulation.camera import Picture, StreetCamera
from twodpass_core.simulation.lidar import HDL_64E, SpinningLidar
from twodpass_core.simulation.street import Street

STREET_SEED = 38
"""Of the street of demo and benchmark. No training sees it (data/simulated.py)."""
PERIOD_NS = 100_000_000
VIEW = 150.0
"""How far a camera sees, metres."""


@dataclass(frozen=True, eq=False)
class SimulatedScan:
    """One turn of the sensor.

    points: (N, 4) float32 x, y, z (metres, x forward, y left, z up, origin in the sensor), intensity (0..1).
    raw_labels: (N,) uint32, SemanticKITTI's raw ids.
    instances: (N,) uint16, a number for each vehicle and person, the same in all frames; 0 for all else.
    stamp_ns: time since the start of the drive, nanoseconds.
    pose: (4, 4) float64 world_from_lidar.
    """

    points: np.ndarray
    raw_labels: np.ndarray
    instances: np.ndarray
    stamp_ns: int
    pose: np.ndarray


@dataclass(frozen=True)
class Drive:
    """A drive along the street of `seed` (0 to 2^32 - 1). Every moment of it can be had on its own, in any order."""

    seed: int
    lidar: SpinningLidar = HDL_64E

    def scan(self, stamp_ns: int) -> SimulatedScan:
        """The scan at a time since the start of the drive."""
        pose = self.pose(stamp_ns)
        bodies = self._street.bodies(stamp_ns * 1e-9, float(pose[0, 3]), self.lidar.max_range)
        points, owner = self.lidar.cast(pose, bodies, self._generator(stamp_ns, 0))
        raw_ids = np.array([body.raw_id for body in bodies], np.uint32)
        instances = np.array([body.instance for body in bodies], np.uint16)
        return SimulatedScan(points, raw_ids[owner], instances[owner], stamp_ns, pose)

    def picture(self, stamp_ns: int, camera: StreetCamera) -> Picture:
        """What the camera sees at that time."""
        pose = self.pose(stamp_ns)
        bodies = self._street.bodies(stamp_ns * 1e-9, float(pose[0, 3]), VIEW)
        world_from_camera = pose @ camera.camera_from_lidar.inverse().matrix()
        return camera.render(world_from_camera, bodies, self._street.plan.light, self._generator(stamp_ns, 1))

    @cached_property
    def _street(self) -> Street:
        return Street(self.seed)

    def pose(self, stamp_ns: int) -> np.ndarray:
        """(4, 4) float64 world_from_lidar at a time since the start of the drive."""
        pose = self._street.ego_pose(stamp_ns * 1e-9)
        pose[2, 3] += self.lidar.height
        return pose

    def _generator(self, stamp_ns: int, sensor: int) -> np.random.Generator:
        return np.random.default_rng([self.seed, stamp_ns, sensor])


def simulate_scans(frames: int, seed: int, *, lidar: SpinningLidar = HDL_64E) -> Iterator[SimulatedScan]:
    """`frames` scans at 10 Hz of a drive along the street of `seed`. The same arguments give the same scans."""
    drive = Drive(seed, lidar)
    return (drive.scan(frame * PERIOD_NS) for frame in range(frames))
