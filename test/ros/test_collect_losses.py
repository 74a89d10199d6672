"""`collect` over real DDS: what is lost is counted, and nothing is that need not be."""

from __future__ import annotations

import time
from collections import Counter
from pathlib import Path
from typing import Any

from nav_msgs.msg import Odometry
from rclpy.qos import DurabilityPolicy, QoSProfile, ReliabilityPolicy
from ros_peer import MANY
from tf2_msgs.msg import TFMessage
from vehicle import CAMERA_FROM_LIDAR, MS, Start, Vehicle, odometry, only_bag, transform_message

from twodpass_core.recording import Manifest
from twodpass_ros.collect import main
from twodpass_ros.collect.input import Message
from twodpass_ros.collect.parameters import CollectParameters
from twodpass_ros.collect.sensors import Sensors

BEST_EFFORT, TRANSIENT_LOCAL = ReliabilityPolicy.BEST_EFFORT, DurabilityPolicy.TRANSIENT_LOCAL


def main_with_slow_sets(arguments: list[str]) -> int:
    import twodpass_ros.collect.node as module
    from twodpass_ros.collect.recording import Recording

    class SlowRecording(Recording):
        def write_set(self, *given: Any) -> None:
            time.sleep(0.1)
            super().write_set(*given)

    vars(module).update(Recording=SlowRecording, SETS_WAITING=1)
    return main(arguments)


def test_sets_that_come_faster_than_they_are_looked_at_are_counted(
    start: Start, vehicle: Vehicle, tmp_path: Path
) -> None:
    start(main_with_slow_sets)
    vehicle.wait_for_recording()
    vehicle.drive(range(100_000, 101_000, 100))
    assert vehicle.call_trigger("stop")[0]
    bag = only_bag(tmp_path)
    manifest = Manifest.read(bag)
    assert manifest.dropped_sets == manifest.dropped["/collect/input/points"] > 0
    assert vehicle.call_trigger("start")[0]
    assert vehicle.call_trigger("stop")[0]
    (another,) = {*tmp_path.iterdir()} - {bag}
    assert Manifest.read(another).dropped == {}  # what was lost before is not its own


def test_the_sets_that_are_formed_at_the_end_are_not_lost(start: Start, vehicle: Vehicle, tmp_path: Path) -> None:
    start(main_with_slow_sets, slop=1.0)
    vehicle.wait_for_recording()
    stamps = range(100_000, 100_800, 100)  # not decided before the scans have gone on for two seconds
    vehicle.drive(stamps)
    vehicle.spin(0.5)
    assert vehicle.call_trigger("stop")[0]
    recorded = {entry.stamp_ns for entry in Manifest.read(only_bag(tmp_path)).sets}
    assert {stamp * MS for stamp in stamps} <= recorded


def test_a_publisher_that_joins_and_leaves_costs_no_message(vehicle: Vehicle) -> None:
    heard: list[Message] = []
    sensors = Sensors(vehicle.node, CollectParameters(odometry="/odometry"), heard.append, lambda _: None)
    sent = 0

    def drive() -> None:
        nonlocal sent
        for _ in range(20):
            sensors.connect()
            for _ in range(3):
                vehicle.odometry.publish(odometry(sent, 0.0))
                latched.publish(TFMessage(transforms=[transform_message("odom", "lidar", CAMERA_FROM_LIDAR, sent)]))
                sent += 1
            vehicle.spin(0.02)

    vehicle.node.destroy_publisher(vehicle.moving)
    latched = vehicle.node.create_publisher(TFMessage, "/tf", QoSProfile(depth=100, durability=TRANSIENT_LOCAL))
    vehicle.spin_until(lambda: vehicle.node.count_publishers("/tf") == 1, "that /tf comes from one")
    sensors.connect()
    read = (vehicle.odometry, latched)
    vehicle.spin_until(lambda: all(publisher.get_subscription_count() for publisher in read), "connection")
    for _ in range(2):
        others = [
            vehicle.node.create_publisher(Odometry, "/odometry", QoSProfile(depth=1, reliability=BEST_EFFORT)),
            vehicle.node.create_publisher(TFMessage, "/tf", 1),
        ]
        drive()
        for other in others:
            vehicle.node.destroy_publisher(other)
        drive()
    vehicle.spin(0.2)
    assert Counter(message.topic.name for message in heard) == {"/odometry": sent, "/tf": sent}
    assert len({message.data for message in heard}) == 2 * sent
    assert not +sensors.lost()


def test_static_transforms_that_are_not_latched_are_subscribed_to_once(vehicle: Vehicle) -> None:
    vehicle.node.destroy_publisher(vehicle.static)
    vehicle.static = vehicle.node.create_publisher(TFMessage, "/tf_static", MANY)
    vehicle.spin_until(lambda: vehicle.node.count_publishers("/tf_static") == 1, "that they come from one")
    sensors = Sensors(vehicle.node, CollectParameters(), lambda _: None, lambda _: None)
    sensors.connect()
    subscribed = list(vehicle.node.subscriptions)
    sensors.connect()
    assert list(vehicle.node.subscriptions) == subscribed
