"""What `collect` listens to, without the node: `Sensors` reads real topics of the vehicle."""

from __future__ import annotations

from collections import Counter

import numpy as np
import pytest
from geometry_msgs.msg import TransformStamped
from rclpy.serialization import deserialize_message, serialize_message
from ros_peer import MANY
from sensor_msgs.msg import Image, PointCloud2
from tf2_msgs.msg import TFMessage
from vehicle import CAMERA_FROM_LIDAR, LATCHED, Vehicle, camera_info, cloud, image, odometry, transform_message

from twodpass_core.geometry.rigid_transform import RigidTransform
from twodpass_ros.collect.input import Message
from twodpass_ros.collect.parameters import CollectParameters
from twodpass_ros.collect.report import Health, RecordingState
from twodpass_ros.collect.sensors import Sensors
from twodpass_ros.collect.sets import CalibrationWatch, FormedSet
from twodpass_ros.diagnostics import WARN, Streak


def listening(vehicle: Vehicle, heard: list[Message], formed: list[FormedSet]) -> Sensors:
    """To the vehicle, in its own process."""
    return Sensors(vehicle.node, CollectParameters(odometry="/odometry"), heard.append, formed.append)


def mounting(x: float, *, vehicle_too: bool = False) -> TFMessage:
    """The camera `x` metres ahead of the LiDAR."""
    ahead = RigidTransform(np.eye(3), np.array([x, 0.0, 0.0]))
    transforms = [transform_message("lidar", "front_optical", ahead, 0)]
    if vehicle_too:
        transforms.append(transform_message("base_link", "lidar", ahead, 0))
    return TFMessage(transforms=transforms)


def test_a_recording_begins_with_the_static_transforms_in_the_order_of_their_last_word(vehicle: Vehicle) -> None:
    heard: list[Message] = []
    sensors = listening(vehicle, heard, [])
    description = vehicle.node.create_publisher(TFMessage, "/tf_static", LATCHED)
    vehicle.spin_until(lambda: vehicle.node.count_publishers("/tf_static") == 2, "both publishers")
    sensors.connect()
    for publisher, message in (
        (vehicle.static, mounting(1.0)),
        (description, mounting(2.0, vehicle_too=True)),
        (vehicle.static, mounting(3.0)),
    ):
        before = len(heard)
        publisher.publish(message)
        vehicle.spin_until(lambda: len(heard) > before, "a static transform")  # noqa: B023
    beginning = sensors.beginning(10**18)
    assert [message.received_ns for message in beginning] == [10**18] * 2  # else the bag would span what came before
    begun = [deserialize_message(message.data, TFMessage) for message in beginning]
    assert begun == [mounting(2.0, vehicle_too=True), mounting(3.0)]


def test_a_message_that_cannot_be_read_is_recorded_and_told_and_the_one_before_holds(vehicle: Vehicle) -> None:
    heard: list[Message] = []
    formed: list[FormedSet] = []
    sensors = listening(vehicle, heard, formed)
    points = vehicle.node.create_publisher(PointCloud2, sensors.scans.name, MANY)
    vehicle.spin_until(lambda: vehicle.node.count_publishers(sensors.scans.name), "the publisher of scans")
    sensors.connect()
    vehicle.spin_until(
        lambda: all(publisher.get_subscription_count() for publisher in (points, vehicle.odometry)), "connection"
    )
    whole = serialize_message(odometry(1000, 7.0))
    for data in (whole, whole[:60]):
        vehicle.odometry.publish(data)
    vehicle.spin_until(lambda: len(heard) == 2, "both messages")
    points.publish(cloud(1000))
    vehicle.spin_until(lambda: formed, "a set")
    assert formed[0].world_from_vehicle is not None
    assert formed[0].world_from_vehicle.translation.tolist() == [7.0, 0.0, 0.0]
    points.publish(cloud(2500))
    vehicle.spin_until(lambda: len(formed) == 2, "another set")
    assert formed[1].world_from_vehicle is None  # 1.5 s later it may be anywhere
    assert not +sensors.lost()
    points.publish(cloud(2500))
    vehicle.spin_until(lambda: sensors.scans.received == 3, "the same scan again")
    assert +sensors.lost() == {sensors.scans.name: 1}
    ((level, told),) = troubles(sensors)
    assert level == WARN
    assert told.startswith("a message of /odometry is of no use: /odometry cannot be read: ")


def test_a_static_transform_of_no_use_is_told_for_once(vehicle: Vehicle) -> None:
    heard: list[Message] = []
    sensors = listening(vehicle, heard, [])
    vehicle.spin_until(lambda: vehicle.node.count_publishers("/tf_static"), "the publisher")
    sensors.connect()
    no_rotation = mounting(1.0)
    no_rotation.transforms[0].transform.rotation.w = 0.0
    for number, useless in enumerate((TFMessage(transforms=[TransformStamped()]), no_rotation), 1):
        vehicle.static.publish(useless)
        vehicle.spin_until(lambda: len(heard) == number, "a static transform")  # noqa: B023
        assert "a message of /tf_static is of no use: " in troubles(sensors)[0][1]
        assert not troubles(sensors)
    vehicle.static.publish(mounting(1.0))
    vehicle.spin_until(lambda: len(heard) == 3, "the right one")
    assert not troubles(sensors)
    assert not sensors.upsets()


@pytest.mark.parametrize(
    ("fixed_frame", "moving", "driven"),
    [("/odom", "lidar", 0.4), ("odom", "base_link", 0.0)],
    ids=["connected, written as ROS 1 did", "apart"],
)
def test_a_camera_is_where_the_vehicle_had_driven_if_that_is_known_of_the_lidar(
    vehicle: Vehicle, fixed_frame: str, moving: str, driven: float
) -> None:
    """At 10 m/s."""
    heard: list[Message] = []
    formed: list[FormedSet] = []
    parameters = CollectParameters(odometry="", images=("/front/image_raw",), fixed_frame=fixed_frame)
    sensors = Sensors(vehicle.node, parameters, heard.append, formed.append)
    points = vehicle.node.create_publisher(PointCloud2, sensors.scans.name, MANY)
    publishers = [points, vehicle.images["front"], vehicle.infos["front"], vehicle.moving, vehicle.static]
    vehicle.spin_until(lambda: vehicle.node.count_publishers(sensors.scans.name), "the publisher of scans")
    sensors.connect()
    vehicle.spin_until(lambda: all(publisher.get_subscription_count() for publisher in publishers), "connection")
    vehicle.mount()
    poses = {stamp: RigidTransform(np.eye(3), np.array([0.01 * stamp, 0.0, 0.0])) for stamp in (900, 1100)}
    drive = [transform_message("odom", moving, pose, stamp) for stamp, pose in poses.items()]
    vehicle.moving.publish(TFMessage(transforms=drive))
    vehicle.inform(1040)
    vehicle.spin_until(lambda: len(heard) == 3, "what goes with a set")
    points.publish(cloud(1000))
    vehicle.images["front"].publish(image("front", 1040))
    vehicle.spin_until(lambda: all(topic.newest for topic in sensors.of_sets), "a scan and an image")
    sensors.flush(lambda: None)
    (camera,) = formed[0].cameras.values()
    expected = CAMERA_FROM_LIDAR @ RigidTransform(np.eye(3), np.array([-driven, 0.0, 0.0]))
    np.testing.assert_allclose(camera.camera_from_lidar.matrix(), expected.matrix(), atol=1e-9)


def test_a_rectified_camera_is_turned_as_its_info_says(vehicle: Vehicle) -> None:
    heard: list[Message] = []
    formed: list[FormedSet] = []
    parameters = CollectParameters(odometry="", images=("/front/image_rect",))
    sensors = Sensors(vehicle.node, parameters, heard.append, formed.append)
    points = vehicle.node.create_publisher(PointCloud2, sensors.scans.name, MANY)
    images = vehicle.node.create_publisher(Image, "/front/image_rect", MANY)
    for topic in (sensors.scans.name, "/front/image_rect"):
        vehicle.spin_until(lambda: vehicle.node.count_publishers(topic), "its publisher")  # noqa: B023
    sensors.connect()
    publishers = [points, images, vehicle.infos["front"], vehicle.static]
    vehicle.spin_until(lambda: all(publisher.get_subscription_count() for publisher in publishers), "connection")
    vehicle.mount()
    turn, info = RigidTransform.from_xyz_rpy([0, 0, 0, 0.02, -0.1, 0.05]), camera_info("front", 1000)
    info.r = turn.rotation.ravel().tolist()
    vehicle.infos["front"].publish(info)
    vehicle.spin_until(lambda: len(heard) == 2, "what goes with a set")
    points.publish(cloud(1000))
    images.publish(image("front", 1000))
    vehicle.spin_until(lambda: all(topic.newest for topic in sensors.of_sets), "a scan and an image")
    sensors.flush(lambda: None)
    (camera,) = formed[0].cameras.values()
    expected = turn @ CAMERA_FROM_LIDAR
    np.testing.assert_allclose(camera.camera_from_lidar.matrix(), expected.matrix(), atol=1e-9)


def troubles(sensors: Sensors) -> list[tuple[bytes, str]]:
    """What the diagnostics would say of them."""
    watch = CalibrationWatch(lambda *_: None, lambda _: False)
    return Health(sensors, watch, Streak()).troubles(RecordingState(), [], Counter(), CollectParameters())
