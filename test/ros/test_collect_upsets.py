"""What makes a recording of no use although all topics come: other clocks, another calibration, a changed mounting."""

from __future__ import annotations

from collections import Counter
from typing import Any

import numpy as np
import pytest
from geometry_msgs.msg import Quaternion
from nav_msgs.msg import Odometry
from ros_peer import MANY
from sensor_msgs.msg import PointCloud2
from tf2_msgs.msg import TFMessage
from vehicle import Vehicle, camera_info, cloud, image, odometry, transform_message

from twodpass_core.geometry.rigid_transform import RigidTransform
from twodpass_ros.collect.input import Message
from twodpass_ros.collect.parameters import CollectParameters
from twodpass_ros.collect.report import Health, RecordingState
from twodpass_ros.collect.sensors import Sensors
from twodpass_ros.collect.sets import CalibrationWatch, FormedSet
from twodpass_ros.diagnostics import WARN, Streak

LATER = 37_000  # TAI against UTC, in milliseconds


class Listener:
    """`Sensors` that hear the vehicle, in its own process."""

    def __init__(self, vehicle: Vehicle, *images: str) -> None:
        self.vehicle = vehicle
        self.heard: list[Message] = []
        self.formed: list[FormedSet] = []
        parameters = CollectParameters(odometry="/odometry", images=images, fixed_frame="odom")
        self.sensors = Sensors(vehicle.node, parameters, self.heard.append, self.formed.append)
        self.points = vehicle.node.create_publisher(PointCloud2, self.sensors.scans.name, MANY)
        self.read = [self.points, vehicle.moving, vehicle.static, vehicle.odometry]
        self.read += [vehicle.images["front"], vehicle.infos["front"]] if images else []
        vehicle.spin_until(self._is_connected, "connection")

    def hear(self, publisher: Any, message: Any) -> None:
        """Has the vehicle say something, until it has come."""
        received = sum(topic.received for topic in self.sensors.inputs)
        publisher.publish(message)
        self.vehicle.spin_until(lambda: sum(topic.received for topic in self.sensors.inputs) > received, "a message")

    def troubles(self, *, recording: bool) -> list[tuple[bytes, str]]:
        """What the diagnostics would say."""
        health = Health(self.sensors, CalibrationWatch(lambda *_: None, lambda _: False), Streak())
        state = RecordingState(wanted=recording, recording=recording)
        return health.troubles(state, [], Counter(), CollectParameters())

    def _is_connected(self) -> bool:
        self.sensors.connect()
        return all(publisher.get_subscription_count() for publisher in self.read)


def driven(stamp: int, parent: str = "odom") -> TFMessage:
    """At 10 m/s."""
    pose = RigidTransform(np.eye(3), np.array([0.01 * stamp, 0.0, 0.0]))
    return TFMessage(transforms=[transform_message(parent, "lidar", pose, stamp)])


def ahead(x: float) -> TFMessage:
    mounting = RigidTransform(np.eye(3), np.array([x, 0.0, 0.0]))
    return TFMessage(transforms=[transform_message("lidar", "front_optical", mounting, 0)])


@pytest.mark.parametrize("late", ["odometry", "moving"])
def test_motion_by_another_clock_stands_against_a_recording(vehicle: Vehicle, late: str) -> None:
    listener = Listener(vehicle)
    listener.hear(listener.points, cloud(50_000))
    listener.hear(vehicle.odometry, odometry(50_000 - LATER * (late == "odometry"), 7.0))
    listener.hear(vehicle.moving, driven(50_000 - LATER * (late == "moving")))
    (problem,) = listener.sensors.problems(max_clock_difference=0.5)
    name = "/odometry" if late == "odometry" else "'lidar' on /tf"
    assert problem.startswith(f"the clocks differ: on arrival stamps of {name} were ")
    assert "synchronise" in problem


def test_a_map_that_is_told_in_advance_is_no_other_clock(vehicle: Vehicle) -> None:
    listener = Listener(vehicle)
    listener.hear(listener.points, cloud(50_000))
    in_map = transform_message("map", "odom", RigidTransform.identity(), 50_000 + LATER)
    listener.hear(vehicle.moving, TFMessage(transforms=[*driven(50_000).transforms, in_map]))
    assert not list(listener.sensors.problems(max_clock_difference=0.5))


def test_what_one_bag_cannot_tell_of_is_told_until_another_begins(vehicle: Vehicle) -> None:
    listener = Listener(vehicle)
    for x in (1.0, 1.0):  # as a publisher says again and again
        listener.hear(vehicle.static, ahead(x))
    listener.hear(listener.points, cloud(90_000))
    assert not listener.troubles(recording=True)
    listener.hear(vehicle.static, ahead(2.0))
    listener.hear(listener.points, cloud(80_000))
    told = [
        (WARN, "'front_optical' in 'lidar' has changed since the recording began: one bag cannot tell of both; ~/stop "
         "and ~/start begin another"),
        (WARN, "the clock has been set back since the recording began: one bag cannot tell of both; ~/stop and ~/start "
         "begin another"),
    ]  # fmt: skip
    assert listener.troubles(recording=True) == told
    assert listener.troubles(recording=True) == told
    assert not listener.troubles(recording=False)
    listener.sensors.forget_upsets()
    assert not listener.troubles(recording=True)


def test_a_mounting_that_is_told_otherwise_together_with_others_has_changed(vehicle: Vehicle) -> None:
    listener = Listener(vehicle)
    listener.hear(vehicle.static, ahead(1.0))
    together = ahead(2.0)
    together.transforms.append(transform_message("lidar", "left_optical", RigidTransform.identity(), 0))
    for _ in range(2):
        listener.hear(vehicle.static, together)
        assert listener.sensors.upsets() == ["'front_optical' in 'lidar' has changed"]
    listener.sensors.forget_upsets()
    listener.hear(vehicle.static, together)
    assert not listener.sensors.upsets()


def speed_alone(by: str) -> Odometry:
    """Odometry whose pose is none, or has stayed that of the start."""
    message = odometry(1000, 7.0 if by == "no rotation" else 0.0)
    if by == "no rotation":
        message.pose.pose.orientation = Quaternion(x=0.0, y=0.0, z=0.0, w=0.0)
    else:
        message.twist.twist.linear.x = 8.0
    return message


@pytest.mark.parametrize("by", ["no rotation", "no motion"])
def test_odometry_without_a_pose_leaves_it_to_the_transforms(vehicle: Vehicle, by: str) -> None:
    listener = Listener(vehicle)
    listener.hear(vehicle.odometry, speed_alone(by))
    listener.hear(vehicle.moving, driven(1000))
    listener.hear(listener.points, cloud(1000))
    (formed,) = listener.formed
    assert formed.world_from_vehicle is not None
    np.testing.assert_allclose(formed.world_from_vehicle.translation, [10, 0, 0])


def test_a_calibration_that_may_be_of_another_camera_is_told(vehicle: Vehicle) -> None:
    listener = Listener(vehicle, "/front/image_raw")
    listener.hear(vehicle.images["front"], image("front", 1000))
    for frame, doubts in (("front_optical", 0), ("left_optical", 1)):
        info = camera_info("front", 1000)
        info.header.frame_id = frame
        listener.hear(vehicle.infos["front"], info)
        told = [text for _, text in listener.troubles(recording=True) if "is it its CameraInfo?" in text]
        assert len(told) == doubts
