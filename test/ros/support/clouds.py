"""Clouds that are sent to `segment`, and a reader of clouds that comes back, without the code under test."""

from __future__ import annotations

from array import array

import numpy as np
from sensor_msgs.msg import PointCloud2

from twodpass_core.cloud import make_cloud
from twodpass_ros.conversion import point_cloud2


def scan(points: int = 50, first_intensity: float = 0.5, stamp: tuple[int, int] = (7, 11)) -> PointCloud2:
    """A small cloud of x, y, z, intensity, ring; x = 1.0, 1.1, 1.2 ..."""
    x = 1.0 + 0.1 * np.arange(points, dtype=np.float32)
    intensity = np.full(points, 0.5, np.float32)
    intensity[:1] = first_intensity
    ring = (np.arange(points) % 16).astype(np.uint16)
    cloud = make_cloud({"x": x, "y": -x, "z": 0 * x - 1.0, "intensity": intensity, "ring": ring})
    message = point_cloud2(PointCloud2().header, cloud)
    message.header.frame_id = "velodyne"
    message.header.stamp.sec, message.header.stamp.nanosec = stamp
    return message


def malformed() -> PointCloud2:
    """Says 50 points, holds 49."""
    message = scan()
    message.data = array("B", bytes(message.data)[: -message.point_step])
    return message


def records(message: PointCloud2, names: tuple[str, ...]) -> dict[str, np.ndarray]:
    """Columns of a little-endian cloud without row padding, read without the code under test."""
    types = {1: "i1", 2: "u1", 3: "<i2", 4: "<u2", 5: "<i4", 6: "<u4", 7: "<f4", 8: "<f8"}
    fields = {field.name: field for field in message.fields}
    dtype = np.dtype(
        {
            "names": list(names),
            "formats": [types[fields[name].datatype] for name in names],
            "offsets": [fields[name].offset for name in names],
            "itemsize": message.point_step,
        }
    )
    data = np.frombuffer(message.data, dtype)
    return {name: data[name] for name in names}
