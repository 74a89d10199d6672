"""Poses between poses, and eq. 2."""

from __future__ import annotations

import json
import math
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from twodpass_core.errors import ConfigError
from twodpass_core.geometry import RigidTransform
from twodpass_core.trajectory import Trajectory, camera_from_lidar_across_times, interpolate

SECOND_NS = 1_000_000_000
START_NS = 1_532_402_927 * SECOND_NS  # so large that float64 seconds would lose nanoseconds


def turning_drive(tolerance_ns: int = 0) -> Trajectory:
    """10 m/s along x while turning left by 0.2 rad/s, a pose every half a second."""
    stamps = START_NS + np.arange(5) * (SECOND_NS // 2)
    poses = [RigidTransform.from_xyz_rpy([5 * i, 0, 0, 0, 0, 0.1 * i]) for i in range(5)]
    return Trajectory(stamps, poses, tolerance_ns)


@given(st.integers(0, 2 * SECOND_NS))
def test_between_poses_speed_is_constant(elapsed_ns: int) -> None:
    pose = turning_drive().at(START_NS + elapsed_ns)
    seconds = elapsed_ns / SECOND_NS
    expected = RigidTransform.from_xyz_rpy([10 * seconds, 0, 0, 0, 0, 0.2 * seconds])
    np.testing.assert_allclose(pose.matrix(), expected.matrix(), atol=1e-9)


def test_poses_at_their_own_times() -> None:
    drive = turning_drive()
    for stamp, pose in zip(drive.stamps_ns, drive.poses, strict=True):
        np.testing.assert_allclose(drive.at(int(stamp)).matrix(), pose.matrix(), atol=1e-12)


def test_outside_its_span_is_an_error_beyond_the_tolerance() -> None:
    drive = turning_drive(tolerance_ns=1000)
    assert drive.at(START_NS - 1000) is drive.poses[0]
    assert drive.at(START_NS + 2 * SECOND_NS + 1000) is drive.poses[-1]
    for stamp in (START_NS - 1001, START_NS + 2 * SECOND_NS + 1001):
        with pytest.raises(ConfigError, match="no pose at"):
            drive.at(stamp)
    with pytest.raises(ConfigError, match=r"ends 1\.500 s from there"):
        turning_drive().at(START_NS + 7 * SECOND_NS // 2)


def test_a_single_pose() -> None:
    still = Trajectory(np.array([5]), [RigidTransform.from_xyz_rpy([1, 2, 3, 0, 0, 0])])
    np.testing.assert_allclose(still.at(5).translation, [1, 2, 3])


@pytest.mark.parametrize(
    ("stamps", "poses", "message"), [([], 0, "0 poses"), ([1, 2], 1, "2 time stamps"), ([1, 3, 3], 3, "must increase")]
)
def test_trajectories_are_checked(stamps: list[int], poses: int, message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        Trajectory(np.array(stamps, np.int64), [RigidTransform.identity()] * poses)


def test_rotation_takes_the_short_way_round() -> None:
    """From 170 to 190 degrees is 20 degrees, although the quaternions with w >= 0 lie on far sides."""
    start, end = (RigidTransform.from_xyz_rpy([0, 0, 0, 0, 0, math.radians(angle)]) for angle in (170, 190))
    half = RigidTransform.from_xyz_rpy([0, 0, 0, 0, 0, math.pi])
    np.testing.assert_allclose(interpolate(start, end, 0.5).rotation, half.rotation, atol=1e-12)


def test_a_still_point_seen_later_from_a_moving_vehicle() -> None:
    """A post 20 m ahead is 15 m ahead half a second later, turned to the right as the vehicle turned left."""
    moved = turning_drive().motion(START_NS, START_NS + SECOND_NS // 2).apply(np.array([[20.0, 0, 0]]))
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
