"""Writes drives as ROS 2 bags: clouds, images with CameraInfo, transforms, as drivers and `ros2 bag record` do."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field
from io import BytesIO
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image
from rosbags.rosbag2 import CompressionFormat, CompressionMode, StoragePlugin, Writer
from rosbags.typesys import Stores, get_typestore

from twodpass_core.cameras.model import CameraModel
from twodpass_core.cloud import make_cloud
from twodpass_core.geometry.rigid_transform import RigidTransform

TYPES = get_typestore(Stores.ROS2_HUMBLE)
KINDS = {
    "cloud": "sensor_msgs/msg/PointCloud2",
    "image": "sensor_msgs/msg/Image",
    "compressed": "sensor_msgs/msg/CompressedImage",
    "info": "sensor_msgs/msg/CameraInfo",
    "tf": "tf2_msgs/msg/TFMessage",
    "odometry": "nav_msgs/msg/Odometry",
    "text": "std_msgs/msg/String",
}


@dataclass
class BagData:
    """Messages of a bag to be, in the order in which they are added; `log_ns` is when they are recorded.

    One may also be bytes, which are written as they are.
    """

    messages: list[tuple[str, str, int, Any]] = field(default_factory=list)  # topic, type, log time, message

    def add(self, topic: str, kind: str, message: Any, log_ns: int) -> None:
        self.messages.append((topic, KINDS[kind], log_ns, message))

    def cloud(
        self,
        stamp_ns: int,
        points: np.ndarray,
        *,
        topic: str = "/points",
        frame: str = "lidar",
        log_ns: int | None = None,
        columns: Mapping[str, np.ndarray] | None = None,
    ) -> None:
        """A cloud of (N, 4) points, and more fields by name."""
        named = {name: points[:, k] for k, name in enumerate(("x", "y", "z", "intensity"))} | dict(columns or {})
        self.add(topic, "cloud", cloud_message(stamp_ns, named, frame), stamp_ns if log_ns is None else log_ns)

    def image(
        self, stamp_ns: int, rgb: np.ndarray, *, topic: str = "/camera/image_raw", frame: str = "camera", form: str = ""
    ) -> None:
        """A raw image, or a compressed one of a form (png, jpeg)."""
        t, header = TYPES.types, make_header(stamp_ns, frame)
        if form:
            buffer = BytesIO()
            Image.fromarray(rgb).save(buffer, form, **({"quality": 95} if form == "jpeg" else {}))
            data = np.frombuffer(buffer.getvalue(), np.uint8)
            self.add(topic, "compressed", t[KINDS["compressed"]](header, form, data), stamp_ns)
            return
        height, width = rgb.shape[:2]
        data = np.ascontiguousarray(rgb[..., ::-1]).ravel()
        self.add(topic, "image", t[KINDS["image"]](header, height, width, "bgr8", 0, 3 * width, data), stamp_ns)

    def info(
        self, stamp_ns: int, camera: CameraModel, *, topic: str = "/camera/camera_info", frame: str = "camera"
    ) -> None:
        t = TYPES.types
        region = t["sensor_msgs/msg/RegionOfInterest"](0, 0, 0, 0, False)
        model = "plumb_bob" if camera.distortion_model == "pinhole" else camera.distortion_model
        projection = np.hstack([camera.matrix, np.zeros((3, 1))])
        message = t[KINDS["info"]](
            make_header(stamp_ns, frame), camera.height, camera.width, model, np.array(camera.coefficients, np.float64),
            np.ascontiguousarray(camera.matrix.ravel()), np.eye(3).ravel(), projection.ravel(), 0, 0, region,
        )  # fmt: skip
        self.add(topic, "info", message, stamp_ns)

    def transform(
        self, parent: str, child: str, pose: RigidTransform, stamp_ns: int, *, static: bool = False, topic: str = ""
    ) -> None:
        """parent_from_child, on /tf or /tf_static where no topic is given."""
        t = TYPES.types
        entry = t["geometry_msgs/msg/TransformStamped"](
            make_header(stamp_ns, parent), child, t["geometry_msgs/msg/Transform"](_vector(pose), _quaternion(pose))
        )
        self.add(topic or ("/tf_static" if static else "/tf"), "tf", t[KINDS["tf"]]([entry]), stamp_ns)

    def odometry(
        self, parent: str, child: str, pose: RigidTransform, stamp_ns: int, *, topic: str = "/odometry"
    ) -> None:
        t = TYPES.types
        point = t["geometry_msgs/msg/Point"](*pose.translation.tolist())
        where = t["geometry_msgs/msg/PoseWithCovariance"](
            t["geometry_msgs/msg/Pose"](point, _quaternion(pose)), np.zeros(36)
        )
        zero = t["geometry_msgs/msg/Vector3"](0.0, 0.0, 0.0)
        speed = t["geometry_msgs/msg/TwistWithCovariance"](t["geometry_msgs/msg/Twist"](zero, zero), np.zeros(36))
        self.add(topic, "odometry", t[KINDS["odometry"]](make_header(stamp_ns, parent), child, where, speed), stamp_ns)

    def change(self, topic: str, nth: int, change: Callable[[Any], Any]) -> None:
        """Put something else in the place of the nth message of a topic."""
        positions = [position for position, entry in enumerate(self.messages) if entry[0] == topic]
        name, kind, log_ns, message = self.messages[positions[nth]]
        self.messages[positions[nth]] = name, kind, log_ns, change(message)

    def write(
        self,
        path: Path,
        storage: StoragePlugin = StoragePlugin.MCAP,
        compression: CompressionMode = CompressionMode.NONE,
    ) -> Path:
        """Write the bag, messages in the order of their recording."""
        writer = Writer(path, version=9, storage_plugin=storage)
        writer.set_compression(compression, CompressionFormat.ZSTD)
        with writer:
            connections: dict[str, Any] = {}
            for topic, kind, log_ns, message in sorted(self.messages, key=lambda entry: entry[2]):
                if topic not in connections:
                    connections[topic] = writer.add_connection(topic, kind, typestore=TYPES)
                raw = message if isinstance(message, bytes) else TYPES.serialize_cdr(message, kind)
                writer.write(connections[topic], log_ns, raw)
        return path


def cloud_message(stamp_ns: int, columns: Mapping[str, np.ndarray], frame: str = "lidar") -> Any:
    cloud, t = make_cloud({name: np.ascontiguousarray(column) for name, column in columns.items()}), TYPES.types
    fields = [t["sensor_msgs/msg/PointField"](f.name, f.offset, int(f.datatype), f.count) for f in cloud.fields]
    return t[KINDS["cloud"]](
        make_header(stamp_ns, frame), cloud.height, cloud.width, fields, False, cloud.point_step, cloud.row_step,
        cloud.data, cloud.is_dense,
    )  # fmt: skip


def make_header(stamp_ns: int, frame: str) -> Any:
    return TYPES.types["std_msgs/msg/Header"](
        TYPES.types["builtin_interfaces/msg/Time"](*divmod(stamp_ns, 10**9)), frame
    )


def rows(values: Iterable[Iterable[float]]) -> list[list[float]]:
    """Of a matrix, for YAML."""
    return [[float(value) for value in row] for row in values]


def _vector(pose: RigidTransform) -> Any:
    return TYPES.types["geometry_msgs/msg/Vector3"](*pose.translation.tolist())


def _quaternion(pose: RigidTransform) -> Any:
    w, x, y, z = pose.quaternion().tolist()
    return TYPES.types["geometry_msgs/msg/Quaternion"](x, y, z, w)
