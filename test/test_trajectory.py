"""Poses between poses, and eq. 2."""

from __future__ import annotations

import json
import math
from pathlib import Path

import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from twodpass_core.geometry.rigid_transform import RigidTransform
from twodpass_core.geometry.trajectory import camera_from_lidar_across_times, interpolate


def driving(seconds: float) -> RigidTransform:
    """world_from_vehicle at 10 m/s along x while it turns left by 0.2 rad/s."""
    return RigidTransform.from_xyz_rpy([10 * seconds, 0, 0, 0, 0, 0.2 * seconds])


@given(st.floats(0, 1))
def test_between_poses_speed_is_constant(share: float) -> None:
    pose = interpolate(driving(0.5), driving(1.0), share)
    np.testing.assert_allclose(pose.matrix(), driving(0.5 + 0.5 * share).matrix(), atol=1e-9)


@given(st.lists(st.floats(-3, 3), min_size=6, max_size=6))
def test_between_equal_poses_is_that_pose(values: list[float]) -> None:
    pose = RigidTransform.from_xyz_rpy(values)
    np.testing.assert_allclose(interpolate(pose, pose, 0.3).matrix(), pose.matrix(), atol=1e-12)


def test_rotation_takes_the_short_way_round() -> None:
    """From 170 to 190 degrees is 20 degrees, although the quaternions with w >= 0 lie on far sides."""
    start, end = (RigidTransform.from_xyz_rpy([0, 0, 0, 0, 0, math.radians(angle)]) for angle in (170, 190))
    half = RigidTransform.from_xyz_rpy([0, 0, 0, 0, 0, math.pi])
    np.testing.assert_allclose(interpolate(start, end, 0.5).rotation, half.rotation, atol=1e-12)


def test_a_still_point_seen_later_from_a_moving_vehicle() -> None:
    """A post 20 m ahead is 15 m ahead half a second later, turned to the right as the vehicle turned left."""
    here = RigidTransform.identity()
    moved = camera_from_lidar_across_times(here, driving(0.5), driving(0), here).apply(np.array([[20.0, 0, 0]]))
    np.testing.assert_allclose(moved, [[15 * math.cos(0.1), -15 * math.sin(0.1), 0]], atol=1e-9)


def test_same_time_is_the_plain_chain() -> None:
    rng = np.random.default_rng(0)
    transforms = [RigidTransform.from_quaternion(rng.normal(size=4), rng.normal(size=3)) for _ in range(3)]
    camera_from_vehicle, world_from_vehicle, vehicle_from_lidar = transforms
    across = camera_from_lidar_across_times(
        camera_from_vehicle, world_from_vehicle, world_from_vehicle, vehicle_from_lidar
    )
    np.testing.assert_allclose(across.matrix(), (camera_from_vehicle @ vehicle_from_lidar).matrix(), atol=1e-12)


def test_motion_between_the_sensors_of_a_real_vehicle(shared_data: Path) -> None:
    """The published lidar2cam of six cameras; what is left after the mounting is the vehicle's motion in between."""
    calibration = json.loads((shared_data / "nuscenes_mini/calibration.json").read_text())
    vehicle_from_lidar = RigidTransform.from_matrix(calibration["lidar"]["lidar2ego"])
    speeds = []
    for camera in calibration["cameras"].values():
        camera_from_vehicle = RigidTransform.from_matrix(camera["cam2ego"]).inverse()
        camera_from_lidar = RigidTransform.from_matrix(camera["lidar2cam"])
        motion = camera_from_vehicle.inverse() @ camera_from_lidar @ vehicle_from_lidar.inverse()
        assert np.abs(motion.rotation - np.eye(3)).max() < 0.01
        speeds.append(motion.translation[0] / (camera["timestamp"] - calibration["timestamp"]))
    assert max(np.abs(speeds[:1])) > 1  # it drives
    np.testing.assert_allclose(speeds, np.mean(speeds), rtol=0.5)
