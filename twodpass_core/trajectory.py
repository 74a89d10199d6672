"""Poses over time, and eq. 2 of the paper: from a LiDAR to a camera that measures at another time."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from twodpass_core.errors import ConfigError
from twodpass_core.geometry import RigidTransform


def camera_from_lidar_across_times(
    camera_from_vehicle: RigidTransform,
    world_from_vehicle_at_camera: RigidTransform,
    world_from_vehicle_at_lidar: RigidTransform,
    vehicle_from_lidar: RigidTransform,
) -> RigidTransform:
    """Eq. 2: takes points measured at the LiDAR's time to where the camera sees them at its own."""
    vehicle_motion = world_from_vehicle_at_camera.inverse() @ world_from_vehicle_at_lidar
    return camera_from_vehicle @ vehicle_motion @ vehicle_from_lidar


@dataclass(frozen=True, eq=False)
class Trajectory:
    """Poses world_from_body at increasing times, and between them: rotation and translation interpolated linearly.

    Up to `tolerance_ns` before the first and after the last pose that pose holds.

    Raises:
        ConfigError: no poses, not as many as times, or times that do not increase.
    """

    stamps_ns: npt.NDArray[np.int64]  # (T,)
    poses: Sequence[RigidTransform]  # (T,)
    tolerance_ns: int = 0

    def __post_init__(self) -> None:
        if len(self.stamps_ns) != len(self.poses) or not len(self.poses):
            raise ConfigError(f"a trajectory of {len(self.poses)} poses cannot have {len(self.stamps_ns)} time stamps")
        if (backward := np.flatnonzero(np.diff(self.stamps_ns) <= 0)).size:
            at = int(backward[0])
            raise ConfigError(
                f"time stamps must increase: {self.stamps_ns[at]} ns is followed by {self.stamps_ns[at + 1]} ns"
            )

    def at(self, stamp_ns: int) -> RigidTransform:
        """world_from_body at a time. Raises ConfigError where that is farther than the tolerance outside the span."""
        first, last = int(self.stamps_ns[0]), int(self.stamps_ns[-1])
        if not first - self.tolerance_ns <= stamp_ns <= last + self.tolerance_ns:
            outside_s = max(first - stamp_ns, stamp_ns - last) * 1e-9
            raise ConfigError(
                f"no pose at {stamp_ns} ns: the trajectory, {first} to {last} ns, ends {outside_s:.3f} s from there"
            )
        after = int(np.searchsorted(self.stamps_ns, stamp_ns, side="right"))
        if after == 0 or after == len(self.poses):
            return self.poses[0 if after == 0 else -1]
        before = after - 1
        span_ns = int(self.stamps_ns[after]) - int(self.stamps_ns[before])
        share = (stamp_ns - int(self.stamps_ns[before])) / span_ns
        return interpolate(self.poses[before], self.poses[after], share)

    def motion(self, from_ns: int, to_ns: int) -> RigidTransform:
        """body(to)_from_body(from): takes what stands still in the world from the body's one frame to the other."""
        return self.at(to_ns).inverse() @ self.at(from_ns)


def interpolate(start: RigidTransform, end: RigidTransform, share: float) -> RigidTransform:
    """`start` at share 0, `end` at 1; between them translation is linear, rotation of constant speed (slerp)."""
    translation = (1 - share) * start.translation + share * end.translation
    q0, q1 = start.quaternion(), end.quaternion()
    cosine = float(q0 @ q1)
    if cosine < 0:  # the same rotation, the short way round
        q1, cosine = -q1, -cosine
    angle = np.arccos(min(cosine, 1.0))
    if angle < 1e-6:  # the sines below vanish; over so small an angle straight is as good
        return RigidTransform.from_quaternion((1 - share) * q0 + share * q1, translation)
    weights = np.sin([(1 - share) * angle, share * angle])
    return RigidTransform.from_quaternion(weights[0] * q0 + weights[1] * q1, translation)
