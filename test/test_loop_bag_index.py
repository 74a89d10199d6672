"""The index of a bag: kept and renewed, what it holds, single messages by it."""

from __future__ import annotations

import logging
import os
import re
import shutil
from pathlib import Path

import numpy as np
import pytest
from bag_data import BagData
from drive_bag import BASE_FROM_LIDAR, CAMERA, START_NS, drive, image_ns, kept_index, picture, points, scan_ns
from rosbags.rosbag2 import Reader, StoragePlugin

from twodpass_core.cameras.model import CameraModel
from twodpass_core.cloud import read_points
from twodpass_core.data.bags import cache as bag_cache
from twodpass_core.data.bags.cache import open_index
from twodpass_core.data.bags.frames import BagFrames
from twodpass_core.data.bags.index import BagIndex
from twodpass_core.data.bags.indexing import build_index
from twodpass_core.data.bags.reader import MAX_OPEN_FILES, BagReader
from twodpass_core.geometry.rigid_transform import RigidTransform
from twodpass_core.message_types import CAMERA_INFO


@pytest.fixture
def bag(tmp_path: Path) -> Path:
    return drive().write(tmp_path / "drive")


def test_what_an_index_holds(bag: Path) -> None:
    index = open_index(bag)
    assert set(index.topics) == {"/points", "/camera/image_raw"}
    clouds, images = index.topics["/points"], index.topics["/camera/image_raw"]
    assert (clouds.frame_id, bool(clouds.labelled.any()), len(clouds)) == ("lidar", False, 5)
    assert clouds.num_points.tolist() == [60] * 5
    assert clouds.stamps_ns.tolist() == [scan_ns(k) for k in range(5)]
    assert (images.frame_id, images.is_picture) == ("camera", True)
    assert images.stamps_ns.tolist() == [image_ns(k) for k in range(5)]
    calibration = index.calibrations["/camera/camera_info"]
    assert (calibration.frame_id, len(calibration.messages)) == ("camera", 1)  # the five are the same
    moved = {(entry.parent, entry.child): (entry.is_static, len(entry.stamps_ns)) for entry in index.transforms}
    assert moved == {("base", "lidar"): (True, 1), ("base", "camera"): (True, 1), ("odom", "base"): (False, 16)}


def test_a_bag_is_read_through_once(bag: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    first = open_index(bag)
    assert kept_index(bag).exists()
    with monkeypatch.context() as patched:
        patched.setattr(bag_cache, "build_index", lambda path: pytest.fail("read again"))
        again = open_index(bag)
    assert list(again.topics) == list(first.topics)
    for topic in first.topics.values():
        for name in ("stamps_ns", "log_ns", "file", "num_points", "nth"):
            np.testing.assert_array_equal(getattr(again.topics[topic.topic], name), getattr(topic, name))
    assert again.calibrations["/camera/camera_info"].messages == first.calibrations["/camera/camera_info"].messages
    np.testing.assert_array_equal(again.transforms[2].poses, first.transforms[2].poses)
    assert (again.everything, again.files) == (first.everything, first.files)


def test_a_changed_bag_is_read_again(bag: Path) -> None:
    assert len(open_index(bag).topics["/points"]) == 5
    shutil.rmtree(bag)
    drive(7).write(bag)
    assert len(open_index(bag).topics["/points"]) == 7


def test_a_bag_that_is_recorded_anew_in_as_many_bytes_is_read_again(tmp_path: Path) -> None:
    bag, kept = tmp_path / "drive", []
    for shift in (0, 1):
        data = BagData()
        data.cloud(START_NS + shift, points(0), log_ns=START_NS)
        shutil.rmtree(bag, ignore_errors=True)
        kept.append([(file.name, file.stat().st_size) for file in sorted(data.write(bag).iterdir())])
        assert open_index(bag).topics["/points"].stamps_ns.tolist() == [START_NS + shift]
    assert kept[0] == kept[1]


def test_an_index_of_another_version_is_made_anew(bag: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with monkeypatch.context() as patched:
        patched.setattr(bag_cache, "FORM", bag_cache.FORM - 1)
        open_index(bag)
    made = []

    def counted(path: Path) -> BagIndex:
        made.append(path)
        return build_index(path)

    monkeypatch.setattr(bag_cache, "build_index", counted)
    for _ in range(2):
        open_index(bag)
    assert made == [bag]


@pytest.mark.parametrize("content", [b"", b"PK\x03\x04 nonsense", b"\x93NUMPY"])
def test_a_damaged_index_is_made_anew(bag: Path, content: bytes, caplog: pytest.LogCaptureFixture) -> None:
    open_index(bag)
    whole = kept_index(bag).read_bytes()
    for damage in (content, whole[: len(whole) // 2], whole[:300] + bytes(64) + whole[364:]):
        kept_index(bag).write_bytes(damage)
        assert len(open_index(bag).topics["/points"]) == 5
    assert "cannot be read and is made anew" in caplog.text


@pytest.mark.parametrize("offset", [6, 8])
def test_an_index_that_asks_for_what_zip_files_may_be_is_made_anew(
    bag: Path, offset: int, caplog: pytest.LogCaptureFixture
) -> None:
    """Another version of the format, or encryption, of which zipfile tells by errors of their own."""
    open_index(bag)
    content = bytearray(kept_index(bag).read_bytes())
    for entry in re.finditer(b"PK\x01\x02", content):  # of the directory at its end
        content[entry.start() + offset] = 0xFF
    kept_index(bag).write_bytes(content)
    assert len(open_index(bag).topics["/points"]) == 5
    assert "cannot be read and is made anew" in caplog.text


def test_the_index_of_who_has_no_home_folder_lies_beside_the_bag(bag: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(path: Path) -> Path:
        raise RuntimeError("Could not determine home directory.")

    monkeypatch.delenv("XDG_CACHE_HOME", raising=False)
    monkeypatch.setattr(Path, "expanduser", refuse)
    monkeypatch.setattr(Path, "home", lambda: refuse(Path("~")))
    open_index(bag)
    assert kept_index(bag).exists()
    with monkeypatch.context() as patched:
        patched.setattr(bag_cache, "replacing", _refuse_to_write)
        kept_index(bag).unlink()
        assert len(open_index(bag).topics["/points"]) == 5


def _refuse_to_write(path: Path) -> None:
    raise PermissionError("read-only")


def test_beside_a_read_only_folder_the_users_cache_is_used(
    bag: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    cache = tmp_path / "cache"
    monkeypatch.setenv("XDG_CACHE_HOME", str(cache))
    replace = os.replace

    def refuse(source: Path, target: Path) -> None:
        if target.parent == bag.parent or not cache.exists():
            raise PermissionError("read-only")
        replace(source, target)

    monkeypatch.setattr(os, "replace", refuse)
    open_index(bag)
    assert not kept_index(bag).exists()
    assert len(list(cache.glob("twodpass/*.npz"))) == 1
    with monkeypatch.context() as patched:
        patched.setattr(bag_cache, "build_index", lambda path: pytest.fail("read again"))
        open_index(bag)
    assert not caplog.records


def test_messages_in_any_order(bag: Path) -> None:
    index = open_index(bag)
    reader = BagReader(index)
    for position in (4, 0, 2, 2):
        message = reader.read(index.topics["/points"], position)
        np.testing.assert_array_equal(read_points(message), points(position))


def test_another_process_opens_the_files_itself(bag: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """As where they are shared, so is the place in them."""
    index, opened = open_index(bag), list[Path]()

    def counted(file: Path) -> Reader:
        opened.append(file)
        return Reader(file)

    monkeypatch.setattr("twodpass_core.data.bags.reader.Reader", counted)
    reader, process = BagReader(index), os.getpid()
    for number, forked in enumerate((process, process + 1), 1):
        monkeypatch.setattr(os, "getpid", lambda forked=forked: forked)
        for position in range(2):
            reader.read(index.topics["/points"], position)
        assert len(opened) == number


def test_messages_recorded_at_the_same_time(tmp_path: Path) -> None:
    """A recorder may stamp many messages alike; they are told apart by their order."""
    for storage in (StoragePlugin.MCAP, StoragePlugin.SQLITE3):
        data = BagData()
        for index in range(6):
            data.cloud(scan_ns(index), points(index), log_ns=START_NS + index // 3)
            data.cloud(scan_ns(index), points(9), topic="/rear", log_ns=START_NS + index // 3)
        index_of = build_index(data.write(tmp_path / f"bag{storage}", storage))
        reader = BagReader(index_of)
        for position in range(6):
            message = reader.read(index_of.topics["/points"], position)
            np.testing.assert_array_equal(read_points(message), points(position))


def test_a_bag_of_many_files(tmp_path: Path) -> None:
    """More files than are held open at a time."""
    files = MAX_OPEN_FILES + 2
    folder = tmp_path / "drive"
    folder.mkdir()
    for number in range(files):
        data = BagData()
        data.transform("base", "lidar", BASE_FROM_LIDAR, scan_ns(2 * number), static=True)
        for index in (2 * number, 2 * number + 1):
            data.cloud(scan_ns(index), points(index), log_ns=scan_ns(files))  # the same in all files
        part = data.write(tmp_path / f"part{number}")
        shutil.copy(part / f"part{number}.mcap", folder / f"drive_{number}.mcap")
    names = "".join(f"  - drive_{number}.mcap\n" for number in range(files))
    text = (part / "metadata.yaml").read_text().replace(f"  - part{files - 1}.mcap\n", names)
    (folder / "metadata.yaml").write_text(text)
    source = BagFrames([folder])
    for index in (2 * files - 1, 0, *range(2 * files)):
        np.testing.assert_array_equal(source[index].points, points(index))
    assert len(source) == 2 * files
    assert [len(entry.stamps_ns) for entry in open_index(folder).transforms] == [1]


def test_calibration_that_changes(tmp_path: Path) -> None:
    """A zoom: each image goes with the CameraInfo of its own time, else with the last before it."""
    data = drive(3)
    data.messages = [entry for entry in data.messages if "info" not in entry[0]]
    for index, focal in enumerate((40.0, 40.0, 80.0)):
        matrix = CAMERA.matrix * np.array([[focal / 40], [focal / 40], [1]])
        data.info(image_ns(index) - (index == 0), CameraModel(matrix, 64, 48))
    source = BagFrames([data.write(tmp_path / "drive")])
    found = open_index(tmp_path / "drive")
    assert len(found.calibrations["/camera/camera_info"].messages) == 2
    assert [source[k].views[0].camera.matrix[0, 0] for k in range(3)] == [40, 40, 80]
    info = BagReader(found).deserialise(found.calibrations["/camera/camera_info"].at(0), CAMERA_INFO)
    assert info.k[0] == 40


def test_calibrations_are_in_the_order_of_their_stamps(tmp_path: Path) -> None:
    data = BagData()
    for stamp in (2, 1, 3):
        data.info(stamp, CameraModel(CAMERA.matrix * [[stamp], [stamp], [1]], 64, 48))
    data.messages = [(topic, kind, number, info) for number, (topic, kind, _, info) in enumerate(data.messages)]
    index = open_index(data.write(tmp_path / "drive"))
    found = index.calibrations["/camera/camera_info"]
    infos = [BagReader(index).deserialise(found.at(stamp), CAMERA_INFO) for stamp in (1, 2, 3)]
    assert [info.k[0] for info in infos] == [40, 80, 120]


def test_poses_that_are_none_are_left_out(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    data = drive(motion="none")
    for tick in range(-2, 14):
        data.odometry("odom", "base", RigidTransform.identity(), START_NS + tick * 50_000_000)
    for entry in data.messages[-3:]:
        entry[3].pose.pose.orientation.w = 0.0
    index = open_index(data.write(tmp_path / "drive"))
    assert [len(entry.stamps_ns) for entry in index.transforms if not entry.is_static] == [13]
    assert "3 of 16 transforms from 'base' to 'odom' are not poses and are left out" in caplog.text


def test_static_is_a_topics_name_and_odometry_its_type(tmp_path: Path) -> None:
    data = BagData()
    for topic in ("/robot/tf_static", "/my_tf_static", "/tf_replay"):
        data.transform("base", topic[1:], RigidTransform.identity(), START_NS)
        data.messages[-1] = topic, *data.messages[-1][1:]
    data.odometry("odom", "base", RigidTransform.identity(), START_NS)
    index = open_index(data.write(tmp_path / "drive"))
    for found in (index, open_index(tmp_path / "drive")):  # as found, and as kept
        assert {entry.topic: (entry.is_static, entry.is_odometry) for entry in found.transforms} == {
            "/robot/tf_static": (True, False),
            "/my_tf_static": (False, False),
            "/tf_replay": (False, False),
            "/odometry": (False, True),
        }


def test_indexing_tells_that_it_takes_a_while(bag: Path, caplog: pytest.LogCaptureFixture) -> None:
    with caplog.at_level(logging.INFO):
        open_index(bag)
    assert "indexing" in caplog.text
    np.testing.assert_array_equal(BagFrames([bag])[0].views[0].load_image(), picture(0))
