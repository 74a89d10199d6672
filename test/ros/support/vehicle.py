"""A vehicle for `collect` to record: publishes scans, images of two cameras, CameraInfo and transforms."""

from __future__ import annotations

import math
import time
from array import array
from collections.abc import Callable, Sequence
from io import BytesIO
from pathlib import Path
from typing import Any

import numpy as np
import PIL.Image
from builtin_interfaces.msg import Time
from geometry_msgs.msg import TransformStamped
from nav_msgs.msg import Odometry
from node_process import NodeProcess
from rclpy.qos import DurabilityPolicy, QoSProfile, ReliabilityPolicy
from ros_peer import MANY, RosPeer
from rosbags.rosbag2 import Reader
from sensor_msgs.msg import CameraInfo, CompressedImage, Image, PointCloud2
from std_msgs.msg import Header
from std_srvs.srv import Trigger
from tf2_msgs.msg import TFMessage

from twodpass_core.cloud import make_cloud
from twodpass_core.geometry.rigid_transform import RigidTransform
from twodpass_ros.conversion import point_cloud2
from twodpass_ros.msg import CollectionStatus

Start = Callable[..., NodeProcess]
"""Starts `collect`, by a main function other than its own if need be, with parameters NAME=VALUE."""
LATCHED = QoSProfile(depth=10, reliability=ReliabilityPolicy.RELIABLE, durability=DurabilityPolicy.TRANSIENT_LOCAL)
WIDTH, HEIGHT = 64, 48
MS = 1_000_000
CAMERA_FROM_LIDAR = RigidTransform(
    np.array([[0.0, -1.0, 0.0], [0.0, 0.0, -1.0], [1.0, 0.0, 0.0]]), np.array([0.0, -0.1, -0.3])
)


class Vehicle(RosPeer):
    """Says nothing until it is told to. All stamps are in milliseconds."""

    def __init__(self, cameras: Sequence[str] = ("front",)) -> None:
        super().__init__("/collect")
        self.statuses: list[CollectionStatus] = []
        for trigger in ("start", "stop"):  # before the statuses, so that who publishes these knows these clients
            self.client(Trigger, f"/collect/{trigger}")
        self.node.create_subscription(CollectionStatus, "/collect/status", self.statuses.append, MANY)
        self.points = self.node.create_publisher(PointCloud2, "/collect/input/points", MANY)
        self.images = {name: self.node.create_publisher(Image, f"/{name}/image_raw", MANY) for name in cameras}
        self.infos = {name: self.node.create_publisher(CameraInfo, f"/{name}/camera_info", MANY) for name in cameras}
        self.static = self.node.create_publisher(TFMessage, "/tf_static", LATCHED)
        self.moving = self.node.create_publisher(TFMessage, "/tf", MANY)
        self.odometry = self.node.create_publisher(Odometry, "/odometry", MANY)

    def mount(self) -> None:
        """The cameras on the LiDAR."""
        transforms = [
            transform_message("lidar", f"{name}_optical", CAMERA_FROM_LIDAR.inverse(), 0) for name in self.images
        ]
        self.static.publish(TFMessage(transforms=transforms))

    def inform(self, stamp: int, **changes: Any) -> None:
        for name, publisher in self.infos.items():
            publisher.publish(camera_info(name, stamp, **changes))

    def send_set(self, stamp: int, offset: int = 3, info: bool = True) -> None:
        """A scan, and images `offset` later."""
        self.points.publish(cloud(stamp))
        for name, publisher in self.images.items():
            publisher.publish(image(name, stamp + offset))
        if info:
            self.inform(stamp + offset)

    def drive(self, stamps: Sequence[int], pause: float = 0.02, **options: Any) -> None:
        for stamp in stamps:
            self.send_set(stamp, **options)
            self.spin(pause)

    def wait_for_connection(self) -> None:
        """Until the node reads the scans and all images, and this side its status."""
        read = [self.points, *self.images.values(), *self.infos.values(), self.static]
        self.spin_until(
            lambda: all(publisher.get_subscription_count() for publisher in read) and self.statuses, "connection"
        )

    def wait_for_recording(self, start: int = 0) -> None:
        """Drives until the node records. The stamps are start, start + 100 ..."""
        self.wait_for_connection()
        self.mount()
        end = time.monotonic() + 60
        while not (self.statuses and self.statuses[-1].recording):
            assert time.monotonic() < end, self.diagnostics[-1].message if self.diagnostics else "no diagnostics"
            self.send_set(start)
            self.spin(0.1)
            start += 100

    def call_trigger(self, name: str) -> tuple[bool, str]:
        self.spin_until(lambda: self.statuses, "a status")
        answer = self.call(Trigger, f"/collect/{name}", Trigger.Request())
        return bool(answer.success), str(answer.message)

    def next_status(self) -> CollectionStatus:
        self.statuses.clear()
        self.spin_until(lambda: self.statuses, "a status")
        return self.statuses[-1]

    def wait_for_status(self, condition: Callable[[CollectionStatus], object], what: str) -> CollectionStatus:
        self.spin_until(lambda: self.statuses and condition(self.statuses[-1]), what)
        return self.statuses[-1]

    def wait_for_words(self, words: str) -> bytes:
        """The level of the diagnostics that say so."""
        self.diagnostics.clear()
        self.spin_until(lambda: self.diagnostics and words in self.diagnostics[-1].message, f"{words!r}", 20)
        return bytes(self.diagnostics[-1].level)


def header(frame_id: str, stamp: int) -> Header:
    return Header(frame_id=frame_id, stamp=Time(sec=stamp // 1000, nanosec=stamp % 1000 * MS))


def cloud(stamp: int, points: int = 200) -> PointCloud2:
    """On a wall 5 m ahead; x, y, z, intensity."""
    y = np.linspace(-2, 2, points, dtype=np.float32)
    columns = {"x": 5 + 0 * y, "y": y, "z": np.sin(y), "intensity": np.full_like(y, 0.5)}
    return point_cloud2(header("lidar", stamp), make_cloud(columns))


def image(camera: str, stamp: int, width: int = WIDTH, height: int = HEIGHT) -> Image:
    message = Image(header=header(f"{camera}_optical", stamp), width=width, height=height, encoding="rgb8")
    message.step = 3 * width
    pixels = np.random.default_rng(stamp).integers(0, 255, (height, width, 3), np.uint8)
    message.data = array("B", pixels.tobytes())
    return message


def compressed(camera: str, stamp: int, width: int = WIDTH, height: int = HEIGHT) -> CompressedImage:
    buffer = BytesIO()
    PIL.Image.fromarray(np.full((height, width, 3), stamp % 256, np.uint8)).save(buffer, "jpeg")
    return CompressedImage(header=header(f"{camera}_optical", stamp), format="jpeg", data=array("B", buffer.getvalue()))


def camera_info(camera: str, stamp: int, width: int = WIDTH, height: int = HEIGHT, focal: float = 40.0) -> CameraInfo:
    message = CameraInfo(header=header(f"{camera}_optical", stamp), width=width, height=height)
    message.distortion_model, message.d = "plumb_bob", [0.0] * 5
    message.k = [focal, 0.0, width / 2, 0.0, focal, height / 2, 0.0, 0.0, 1.0 if focal else 0.0]
    message.r = np.eye(3).ravel().tolist()
    message.p = [focal, 0.0, width / 2, 0.0, 0.0, focal, height / 2, 0.0, 0.0, 0.0, 1.0, 0.0]
    return message


def transform_message(parent: str, child: str, parent_from_child: RigidTransform, stamp: int) -> TransformStamped:
    message = TransformStamped(header=header(parent, stamp), child_frame_id=child)
    w, x, y, z = parent_from_child.quaternion().tolist()
    rotation, translation = message.transform.rotation, message.transform.translation
    rotation.w, rotation.x, rotation.y, rotation.z = w, x, y, z
    translation.x, translation.y, translation.z = parent_from_child.translation.tolist()
    return message


def odometry(stamp: int, x: float) -> Odometry:
    message = Odometry(header=header("odom", stamp), child_frame_id="base_link")
    message.pose.pose.position.x = x
    message.pose.pose.orientation.w = 1.0
    return message


def only_bag(folder: Path) -> Path:
    (bag,) = folder.iterdir()
    return bag


def messages(bag: Path) -> dict[str, list[tuple[int, bytes]]]:
    """Topic -> (time of receipt, serialised message), by rosbags."""
    found: dict[str, list[tuple[int, bytes]]] = {}
    with Reader(bag) as reader:
        for connection, received, data in reader.messages():
            found.setdefault(connection.topic, []).append((received, bytes(data)))
    return found


def is_nan(values: Sequence[float]) -> bool:
    return all(map(math.isnan, values))
