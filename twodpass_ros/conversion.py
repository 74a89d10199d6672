"""Between the core's values and ROS messages."""

from __future__ import annotations

from array import array
from typing import Any

from builtin_interfaces.msg import Time
from sensor_msgs.msg import PointCloud2, PointField
from std_msgs.msg import Header

from twodpass_core.classes import IGNORED, UNLABELLED, ClassMap
from twodpass_core.cloud import CloudData
from twodpass_ros.msg import ClassMap as ClassMapMessage
from twodpass_ros.msg import SemanticClass


def point_cloud2(header: Header, cloud: CloudData) -> PointCloud2:
    """The cloud as a message."""
    return PointCloud2(
        header=header,
        height=cloud.height,
        width=cloud.width,
        fields=[
            PointField(name=field.name, offset=field.offset, datatype=int(field.datatype), count=field.count)
            for field in cloud.fields
        ],
        is_bigendian=cloud.is_bigendian,
        point_step=cloud.point_step,
        row_step=cloud.row_step,
        data=_bytes(cloud.data),
        is_dense=cloud.is_dense,
    )


def class_map_message(class_map: ClassMap, stamp: Time) -> ClassMapMessage:
    """Every class that a labelled cloud's class_id can name; the ignored class is never predicted."""
    return ClassMapMessage(
        header=Header(stamp=stamp),
        name=class_map.name,
        classes=[
            SemanticClass(id=entry.id, name=entry.name, r=entry.colour[0], g=entry.colour[1], b=entry.colour[2])
            for entry in class_map.classes
            if entry.id != IGNORED
        ],
        unlabelled_id=UNLABELLED,
    )


def _bytes(data: Any) -> array[int]:
    """Message data as the one type that rclpy takes over without looking at each byte."""
    content = array("B")
    content.frombytes(data)
    return content
