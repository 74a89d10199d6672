"""What `collect` listens to, without the node: `Sensors` reads real topics of the vehicle."""

from __future__ import annotations

import numpy as np
from rclpy.serialization import deserialize_message
from tf2_msgs.msg import TFMessage
from vehicle import LATCHED, Vehicle, transform_message

from twodpass_core.geometry import RigidTransform
from twodpass_ros.collect.input import Message
from twodpass_ros.collect.parameters import CollectParameters
from twodpass_ros.collect.sensors import Sensors


def listening(vehicle: Vehicle, heard: list[Message], **parameters: object) -> Sensors:
    """To the vehicle, in its own process; what no set is formed of comes to `heard`."""
    return Sensors(vehicle.node, CollectParameters(**parameters), heard.append, lambda _: None)  # type: ignore[arg-type]


def mounting(x: float, *, vehicle_too: bool = False) -> TFMessage:
    """The camera `x` metres ahead of the LiDAR."""
    ahead = RigidTransform(np.eye(3), np.array([x, 0.0, 0.0]))
    transforms = [transform_message("lidar", "front_optical", ahead, 0)]
    if vehicle_too:
        transforms.append(transform_message("base_link", "lidar", ahead, 0))
    return TFMessage(transforms=transforms)


def test_a_recording_begins_with_the_static_transforms_in_the_order_of_their_last_word(vehicle: Vehicle) -> None:
    heard: list[Message] = []
    sensors = listening(vehicle, heard)
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
    begun = [deserialize_message(message.data, TFMessage) for message in sensors.beginning(0)]
    assert begun == [mounting(2.0, vehicle_too=True), mounting(3.0)]
