"""A drive as a bag: scans with images 20 ms later, of a vehicle that turns; and what is to be found in it."""

from __future__ import annotations

from pathlib import Path

import numpy as np
from bag_data import BagData

from twodpass_core.cameras.model import CameraModel
from twodpass_core.geometry.rigid_transform import RigidTransform

SECOND_NS = 10**9
START_NS = 1_714_506_077_250_967_979
CAMERA = CameraModel(np.array([[40.0, 0, 32], [0, 40, 24], [0, 0, 1]]), 64, 48)
OPTICAL = RigidTransform(np.array([[0.0, 0, 1], [-1, 0, 0], [0, -1, 0]]), np.zeros(3))  # in a frame with x forward
BASE_FROM_LIDAR = RigidTransform.from_xyz_rpy([1, 0, 1.7, 0, 0, 0.1])
BASE_FROM_CAMERA = RigidTransform.from_xyz_rpy([1.5, 0.2, 1.4, 0, 0, 0]) @ OPTICAL


def odom_from_base(stamp_ns: int) -> RigidTransform:
    """10 m/s ahead while turning by 0.3 rad/s."""
    seconds = (stamp_ns - START_NS) * 1e-9
    return RigidTransform.from_xyz_rpy([10 * seconds, 0, 0, 0, 0, 0.3 * seconds])


def scan_ns(index: int) -> int:
    return START_NS + index * SECOND_NS // 10


def image_ns(index: int) -> int:
    return scan_ns(index) + 20_000_000


def points(index: int, count: int = 60) -> np.ndarray:
    values = np.random.default_rng(index).uniform(-20, 20, (count, 4)).astype(np.float32)
    values[:, 3] = np.abs(values[:, 3]) / 20
    return values


def picture(index: int) -> np.ndarray:
    return np.full((48, 64, 3), (10 * index, 200, 30), np.uint8)


def drive(scans: int = 5, motion: str = "tf", form: str = "") -> BagData:
    """Scans at 10 Hz, each with an image 20 ms later; `motion` on tf, odometry, or nowhere."""
    data = BagData()
    data.transform("base", "lidar", BASE_FROM_LIDAR, START_NS - 1, static=True)
    data.transform("base", "camera", BASE_FROM_CAMERA, START_NS - 1, static=True)
    topic = "/camera/image_raw/compressed" if form else "/camera/image_raw"
    for index in range(scans):
        data.cloud(scan_ns(index), points(index))
        data.image(image_ns(index), picture(index), topic=topic, form=form)
        data.info(image_ns(index), CAMERA)
    for tick in range(-2, 2 * scans + 4):
        stamp = START_NS + tick * SECOND_NS // 20
        if motion == "tf":
            data.transform("odom", "base", odom_from_base(stamp), stamp)
        if motion == "odometry":
            data.odometry("odom", "base", odom_from_base(stamp), stamp)
    return data


def expected_transform(index: int, moving: bool = True) -> RigidTransform:
    """camera_from_lidar by eq. 2."""
    motion = odom_from_base(image_ns(index)).inverse() @ odom_from_base(scan_ns(index))
    return BASE_FROM_CAMERA.inverse() @ (motion if moving else RigidTransform.identity()) @ BASE_FROM_LIDAR


def assert_same(one: RigidTransform | None, other: RigidTransform, tolerance: float = 1e-9) -> None:
    assert one is not None
    np.testing.assert_allclose(one.matrix(), other.matrix(), atol=tolerance)


def without(data: BagData, *parts: str) -> BagData:
    data.messages = [entry for entry in data.messages if not any(part in entry[0] for part in parts)]
    return data


def kept_index(bag: Path) -> Path:
    """Where the index of a bag is kept."""
    return bag.parent / f".{bag.name}.twodpass.npz"
