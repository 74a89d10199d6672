"""Bags as a source of frames: pairing, and what is said of a bag that lacks something."""

from __future__ import annotations

import itertools
import logging
import math
import pickle
import time
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from bag_data import BagData
from drive_bag import (
    BASE_FROM_LIDAR,
    CAMERA,
    START_NS,
    assert_same,
    drive,
    expected_transform,
    image_ns,
    odom_from_base,
    picture,
    points,
    scan_ns,
    without,
)
from rosbags.rosbag2 import CompressionMode, StoragePlugin

from twodpass_core.data.bags.config import BagConfig
from twodpass_core.data.bags.frames import BagFrames, find_bags
from twodpass_core.data.frame import FrameSource
from twodpass_core.data.source import SourceConfig, open_source
from twodpass_core.errors import BagError, ConfigError, TransformError
from twodpass_core.geometry.rigid_transform import RigidTransform


@pytest.mark.parametrize("storage", [StoragePlugin.SQLITE3, StoragePlugin.MCAP])
@pytest.mark.parametrize("compression", [CompressionMode.NONE, CompressionMode.MESSAGE, CompressionMode.STORAGE])
def test_frames_are_what_was_recorded(tmp_path: Path, storage: StoragePlugin, compression: CompressionMode) -> None:
    if storage == StoragePlugin.SQLITE3 and compression == CompressionMode.STORAGE:
        pytest.skip("sqlite3 has no compression of its own")
    source: FrameSource = BagFrames([drive().write(tmp_path / "drive", storage, compression)])
    assert list(source.ids) == [f"drive/{scan_ns(index)}" for index in range(5)]
    for index in (3, 0, 4, 3):
        frame = source[index]
        assert (frame.id, frame.stamp_ns, frame.labels) == (source.ids[index], scan_ns(index), None)
        np.testing.assert_array_equal(frame.points, points(index))
        assert_same(frame.world_from_lidar, odom_from_base(scan_ns(index)) @ BASE_FROM_LIDAR)
        (view,) = frame.views
        assert (view.name, view.stamp_ns) == ("/camera/image_raw", image_ns(index))
        assert_same(view.camera_from_lidar, expected_transform(index))
        np.testing.assert_array_equal(view.load_image(), picture(index))
        np.testing.assert_array_equal(view.camera.matrix, CAMERA.matrix)


def test_compressed_images(tmp_path: Path) -> None:
    source = BagFrames([drive(form="png").write(tmp_path / "drive")])
    np.testing.assert_array_equal(source[4].views[0].load_image(), picture(4))


def test_frames_go_to_other_processes(tmp_path: Path) -> None:
    source = BagFrames([drive().write(tmp_path / "drive")])
    source[0]
    copy = pickle.loads(pickle.dumps(source))
    view = pickle.loads(pickle.dumps(copy[3])).views[0]
    np.testing.assert_array_equal(view.load_image(), picture(3))


def test_scans_without_an_image_near_enough_are_used_without(tmp_path: Path) -> None:
    data = drive()
    data.messages = [entry for entry in data.messages if entry[2] != image_ns(2) or entry[0] == "/tf"]
    source = BagFrames([data.write(tmp_path / "drive")], BagConfig(max_offset=0.03))
    assert [len(source[index].views) for index in range(5)] == [1, 1, 0, 1, 1]
    with pytest.raises(
        BagError, match=r"no scan of /points has an image .* within max_offset 0.01 s; .* 0.020 s apart"
    ):
        BagFrames([tmp_path / "drive"], BagConfig(max_offset=0.01))


def test_threads_may_read_one_bag(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    source = BagFrames([drive(8).write(tmp_path / "drive")])
    reading, at_once = list[int](), set[int]()

    def slow(messages: Iterable[Any], start: int, stop: int | None) -> Iterator[Any]:
        reading.append(start)
        at_once.add(len(reading))
        found = [*itertools.islice(messages, start, start + 1)]
        time.sleep(0.001)
        reading.pop()
        return iter(found)

    monkeypatch.setattr("twodpass_core.data.bags.reader.islice", slow)
    with ThreadPoolExecutor(4) as pool:
        for index, frame in enumerate(pool.map(source.__getitem__, [*range(8)] * 8)):
            np.testing.assert_array_equal(frame.points, points(index % 8))
    assert at_once == {1}


def test_lidar_only_opens_no_image_and_needs_no_transform(tmp_path: Path) -> None:
    data = drive()
    data.messages = [entry for entry in data.messages if "tf" not in entry[0] and "camera_info" not in entry[0]]
    source = BagFrames([data.write(tmp_path / "drive")], cameras=[])
    assert source[0].views == ()


def test_the_sensors_mounting_moves_points_and_cameras_together(tmp_path: Path) -> None:
    config = BagConfig(training_from_sensor=(0, 0, 1.5, 0.02, 0, math.pi / 2), intensity_scale=2, intensity_max=2)
    bag = drive().write(tmp_path / "drive")
    plain, moved = BagFrames([bag])[1], BagFrames([bag], config)[1]
    training_from_sensor = RigidTransform.from_xyz_rpy(config.training_from_sensor)
    np.testing.assert_allclose(moved.points[:, :3], training_from_sensor.apply(plain.points[:, :3]), atol=1e-5)
    np.testing.assert_allclose(moved.points[:, 3], 2 * plain.points[:, 3])
    for frame, other in ((plain, moved),):
        in_camera = frame.views[0].camera_from_lidar.apply(frame.points[:, :3].astype(np.float64))
        same = other.views[0].camera_from_lidar.apply(other.points[:, :3].astype(np.float64))
        np.testing.assert_allclose(in_camera, same, atol=1e-4)
        assert frame.world_from_lidar is not None
        assert other.world_from_lidar is not None
        in_world = frame.world_from_lidar.apply(frame.points[:, :3].astype(np.float64))
        np.testing.assert_allclose(
            other.world_from_lidar.apply(other.points[:, :3].astype(np.float64)), in_world, atol=1e-4
        )


def test_a_folder_of_bags(tmp_path: Path) -> None:
    (tmp_path / "bags").mkdir()
    for name in ("monday", "tuesday"):
        drive(3).write(tmp_path / "bags" / name)
    source = BagFrames([tmp_path / "bags"])
    assert [name.split("/")[0] for name in source.ids] == ["monday"] * 3 + ["tuesday"] * 3
    assert source.origin(4) == (tmp_path / "bags/tuesday", scan_ns(1))
    np.testing.assert_array_equal(source[4].points, points(1))
    np.testing.assert_array_equal(source[-1].points, points(2))
    assert [source.origin(index)[0].name for index in (0, 2, 3, 5)] == ["monday", "monday", "tuesday", "tuesday"]
    np.testing.assert_array_equal(source[3].points, points(0))
    with pytest.raises(IndexError):
        source[6]
    assert len(open_source(SourceConfig(kind="bag", root=tmp_path / "bags", cameras=()))) == 6
    with pytest.raises(BagError, match="neither a ROS 2 bag nor a folder of bags"):
        find_bags([tmp_path])


def test_a_bag_of_a_folder_without_clouds_is_left_out(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    without(drive(3), "points").write(tmp_path / "bags/monday")
    drive(3).write(tmp_path / "bags/tuesday")
    assert [name.split("/")[0] for name in BagFrames([tmp_path / "bags"]).ids] == ["tuesday"] * 3
    assert "monday: holds no PointCloud2" in caplog.text
    with pytest.raises(BagError, match="monday: holds no PointCloud2"):
        BagFrames([tmp_path / "bags/monday"])


def test_held_out_frames(tmp_path: Path) -> None:
    bag, config = drive(5).write(tmp_path / "drive"), BagConfig(held_out=0.4)
    train, val, whole = (BagFrames([bag], config, split, cameras=[]) for split in ("train", "val", "trainval"))
    for unknown in ("test", "trian"):
        with pytest.raises(ConfigError, match=f"bags have no split '{unknown}': choose train, val, trainval"):
            BagFrames([bag], config, unknown, cameras=[])
    assert [*train.ids, *val.ids] == list(whole.ids)
    assert (len(train), len(val)) == (3, 2)
    assert len(BagFrames([bag], BagConfig(), "val", cameras=[])) == 5


# --- What is missing ------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("change", "kind", "reason"),
    [
        (lambda data: without(data, "points"), BagError, r"holds no PointCloud2; it has /camera/camera_info \(sensor"),
        (lambda data: without(data, "camera_info"), BagError, "CameraInfo topics are none. Name them in settings bag"),
        (lambda data: without(data, "tf"), TransformError, r"the bag has no transforms \(/tf, /tf_static\)"),
        (lambda data: data.cloud(START_NS, points(1), topic="/rear"), BagError, "bag.topic: /points, /rear"),
    ],
)  # fmt: skip
def test_what_a_bag_lacks_is_said(tmp_path: Path, change: Callable[[BagData], Any], kind: type, reason: str) -> None:
    data = drive(2)
    change(data)
    with pytest.raises(kind, match=reason):
        BagFrames([data.write(tmp_path / "drive")])


def test_clouds_that_come_out_of_order_are_put_in_order(tmp_path: Path) -> None:
    data = BagData()
    for number, index in enumerate((0, 2, 1)):
        data.cloud(scan_ns(index), points(index, 10 + index), log_ns=scan_ns(number))
    source = BagFrames([data.write(tmp_path / "drive")])
    for index in range(3):
        np.testing.assert_array_equal(source[index].points, points(index, 10 + index))
        assert source.num_points(index) == 10 + index


def test_repeated_time_stamps(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    data = drive(3)
    data.cloud(scan_ns(1), points(9), log_ns=scan_ns(2) + 5)
    source = BagFrames([data.write(tmp_path / "drive")])
    assert len(source) == 3
    np.testing.assert_array_equal(source[1].points, points(1))
    assert "left out, of a time stamp that is there already: 1 cloud of /points" in caplog.text
    data = BagData()
    for index in range(3):
        data.cloud(0, points(index), log_ns=scan_ns(index))
    with pytest.raises(BagError, match="all 3 clouds of /points have one time stamp, 0 ns"):
        BagFrames([data.write(tmp_path / "still")])


def test_nothing_is_logged_without_need(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    with caplog.at_level(logging.WARNING):
        BagFrames([drive().write(tmp_path / "drive")])[0]
    assert not caplog.records
