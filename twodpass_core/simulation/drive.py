"""Drive along a simulated street and scan it."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np

from twodpass_core.simulation.lidar import HDL_64E, SpinningLidar
from twodpass_core.simulation.street import Street, ego_pose

PERIOD_NS = 100_000_000


@dataclass(frozen=True)
class SimulatedScan:
    """One turn of the sensor.

    points: (N, 4) float32 x, y, z (metres, x forward, y left, z up, origin in the sensor), intensity (0..1).
    raw_labels: (N,) uint32, SemanticKITTI's raw ids.
    stamp_ns: time since the start of the drive, nanoseconds.
    pose: (4, 4) float64 world_from_lidar.
    """

    points: np.ndarray
    raw_labels: np.ndarray
    stamp_ns: int
    pose: np.ndarray


def simulate_scans(frames: int, seed: int, *, lidar: SpinningLidar = HDL_64E) -> Iterator[SimulatedScan]:
    """`frames` scans at 10 Hz of a drive along the street of `seed` (>= 0). The same arguments give the same scans."""
    street = Street(seed)
    for frame in range(frames):
        stamp_ns = frame * PERIOD_NS
        time = stamp_ns * 1e-9
        pose = ego_pose(time)
        pose[2, 3] += lidar.height
        rng = np.random.default_rng([seed, frame])
        points, raw_labels = lidar.cast(pose, street.bodies(time, float(pose[0, 3]), lidar.max_range), rng)
        yield SimulatedScan(points, raw_labels, stamp_ns, pose)
