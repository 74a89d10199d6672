"""Poses between two times, and eq. 2 of the paper: from a LiDAR to a camera that measures at another time."""

from __future__ import annotations

import numpy as np

from twodpass_core.geometry.rigid_transform import RigidTransform


def camera_from_lidar_across_times(
    camera_from_vehicle: RigidTransform,
    world_from_vehicle_at_camera: RigidTransform,
    world_from_vehicle_at_lidar: RigidTransform,
    vehicle_from_lidar: RigidTransform,
) -> RigidTransform:
    """Eq. 2: takes points measured at the LiDAR's time to where the camera sees them at its own."""
    vehicle_motion = world_from_vehicle_at_camera.inverse() @ world_from_vehicle_at_lidar
    return camera_from_vehicle @ vehicle_motion @ vehicle_from_lidar


def interpolate(start: RigidTransform, end: RigidTransform, share: float) -> RigidTransform:
    """`start` at share 0, `end` at 1; between and beyond translation is linear, rotation of constant speed (slerp)."""
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
