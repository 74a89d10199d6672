"""The ROS 2 messages that are recorded and read: names of their types, topics of transforms, and their time."""

from __future__ import annotations

from typing import Any, Final

POINT_CLOUD: Final = "sensor_msgs/msg/PointCloud2"
IMAGE: Final = "sensor_msgs/msg/Image"
COMPRESSED_IMAGE: Final = "sensor_msgs/msg/CompressedImage"
CAMERA_INFO: Final = "sensor_msgs/msg/CameraInfo"
TF_MESSAGE: Final = "tf2_msgs/msg/TFMessage"
ODOMETRY: Final = "nav_msgs/msg/Odometry"

TF_STATIC: Final = "tf_static"
TF_TOPICS: Final = ("tf", TF_STATIC)


def is_tf(topic: str) -> bool:
    """Whether it is /tf or /tf_static, of any namespace."""
    return _last_part(topic) in TF_TOPICS


def is_static_tf(topic: str, message_type: str) -> bool:
    """Whether a topic of that type tells transforms that hold for ever: /tf_static, of any namespace."""
    return message_type == TF_MESSAGE and _last_part(topic) == TF_STATIC


def header_stamp_ns(header: Any) -> int:
    """The time in a std_msgs/Header, in the form of any library that has its attributes, in nanoseconds."""
    return int(header.stamp.sec * 10**9 + header.stamp.nanosec)


def _last_part(topic: str) -> str:
    return topic.rpartition("/")[2]
