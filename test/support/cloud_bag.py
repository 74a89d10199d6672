"""Bags with a few small clouds."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
from rosbags.rosbag2 import CompressionFormat, CompressionMode, StoragePlugin, Writer
from rosbags.typesys import Stores, get_typestore

from twodpass_core.cloud import make_cloud

TYPES = get_typestore(Stores.ROS2_HUMBLE)
CLOUD_TYPE = "sensor_msgs/msg/PointCloud2"
STORAGES = [StoragePlugin.SQLITE3, StoragePlugin.MCAP]
START_NS = 1_714_506_077_250_967_979


def cloud_points(index: int, count: int = 50) -> np.ndarray:
    return np.random.default_rng(index).normal(scale=20, size=(count, 4)).astype(np.float32)


def cloud_message(index: int, count: int = 50) -> Any:
    points = cloud_points(index, count)
    cloud = make_cloud({name: points[:, k] for k, name in enumerate(("x", "y", "z", "intensity"))})
    t = TYPES.types
    seconds, nanoseconds = divmod(START_NS + index * 10**8, 10**9)
    header = t["std_msgs/msg/Header"](t["builtin_interfaces/msg/Time"](seconds, nanoseconds), "lidar")
    fields = [t["sensor_msgs/msg/PointField"](f.name, f.offset, int(f.datatype), f.count) for f in cloud.fields]
    return t[CLOUD_TYPE](
        header, cloud.height, cloud.width, fields, False, cloud.point_step, cloud.row_step, cloud.data, True
    )


def write_bag(
    path: Path,
    storage: StoragePlugin,
    topics: dict[str, list[Any]],
    compression: CompressionMode = CompressionMode.NONE,
) -> Path:
    """A bag with clouds, texts and raw bytes (written as clouds) on the topics."""
    writer = Writer(path, version=9, storage_plugin=storage)
    writer.set_compression(compression, CompressionFormat.ZSTD)
    with writer:
        for topic, messages in topics.items():
            is_text = bool(messages) and isinstance(messages[0], str)
            kind = "std_msgs/msg/String" if is_text else CLOUD_TYPE
            connection = writer.add_connection(topic, kind, typestore=TYPES)
            for index, message in enumerate(messages):
                value = TYPES.types[kind](message) if is_text else message
                raw = value if isinstance(value, bytes) else TYPES.serialize_cdr(value, kind)
                writer.write(connection, START_NS + index * 10**8 + 5, raw)
    return path


def storage_file(bag: Path) -> Path:
    return next(file for file in bag.iterdir() if file.suffix in (".db3", ".mcap"))
