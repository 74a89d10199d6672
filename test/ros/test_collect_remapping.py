"""Names that `collect` is given go through the remappings once, as ROS has it."""

from __future__ import annotations

import time

import pytest
import rclpy
from rclpy.context import Context
from rclpy.executors import SingleThreadedExecutor
from sensor_msgs.msg import Image
from vehicle import image

from twodpass_ros.collect.input import Input, Message


@pytest.mark.parametrize(("given", "heard"), [("/left/image", "/right/image"), ("image", "/left/image")])
def test_swapped_topics_are_swapped_once(given: str, heard: str) -> None:
    rules = ["/left/image:=/right/image", "/right/image:=/left/image", "image:=/left/image"]
    contexts = [Context(), Context()]
    rclpy.init(context=contexts[0], args=["--ros-args", *(word for rule in rules for word in ("-r", rule))])
    rclpy.init(context=contexts[1])
    node, sender = (
        rclpy.create_node(name, context=context, use_global_arguments=False, cli_args=args)
        for name, context, args in (
            ("reader", contexts[0], ["--ros-args", *(word for rule in rules for word in ("-r", rule))]),
            ("sender", contexts[1], None),
        )
    )
    publishers = {topic: sender.create_publisher(Image, topic, 5) for topic in ("/left/image", "/right/image")}
    received: list[Message] = []
    topic = Input(node, given, [Image], received.append, 5)
    executor = SingleThreadedExecutor(context=contexts[0])
    executor.add_node(node)
    end = time.monotonic() + 20
    while not received and time.monotonic() < end:
        topic.connect()
        for name, publisher in publishers.items():
            message = image("any", 0)
            message.header.frame_id = name
            publisher.publish(message)
        executor.spin_once(timeout_sec=0.1)
    assert (topic.name, {message.frame_id for message in received}) == (heard, {heard})
    for context, part in zip(contexts, (node, sender), strict=True):
        part.destroy_node()
        rclpy.shutdown(context=context)
