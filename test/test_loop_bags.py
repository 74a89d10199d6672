"""Bags: clouds from both storages, the choice of topic, what is said of bags that are cut off or damaged."""

from __future__ import annotations

import contextlib
import shutil
from dataclasses import replace
from pathlib import Path
from typing import IO

import numpy as np
import pytest
import zstandard
from cloud_bag import START_NS, STORAGES, cloud_message, cloud_points, storage_file, write_bag
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from rosbags.rosbag2 import CompressionMode, StoragePlugin

from twodpass_core.cloud import read_points
from twodpass_core.data.bags import is_bag, open_clouds, read_cloud
from twodpass_core.data.bags.cache import open_index
from twodpass_core.data.bags.frames import find_bags
from twodpass_core.data.bags.packed import check_room
from twodpass_core.data.scans import open_scans
from twodpass_core.errors import BagError, CloudError, ScanError


@pytest.mark.parametrize("storage", STORAGES)
@pytest.mark.parametrize("as_file", [False, True])
def test_clouds_come_back_as_written(tmp_path: Path, storage: StoragePlugin, as_file: bool) -> None:
    bag = write_bag(
        tmp_path / "drive", storage, {"/points": [cloud_message(k) for k in range(3)], "/rosout": ["a", "b"]}
    )
    path = storage_file(bag) if as_file else bag
    assert is_bag(path)
    scans = open_scans([path])
    assert len(scans) == 3
    for _ in range(2):
        for index, scan in enumerate(scans):
            assert scan.name == f"drive_{index:06d}"
            assert scan.stamp_ns == START_NS + index * 10**8
            np.testing.assert_array_equal(scan.points, cloud_points(index))
    np.testing.assert_array_equal(scans[2].points, cloud_points(2))
    (tmp_path / "beside").mkdir()
    np.save(tmp_path / "beside/drive_000001.npy", cloud_points(1))
    with pytest.raises(ScanError, match="both have a scan called drive_000001: give one without the other"):
        open_scans([path, tmp_path / "beside"])


@pytest.mark.parametrize("storage", STORAGES)
@pytest.mark.parametrize("compression", [CompressionMode.FILE, CompressionMode.MESSAGE, CompressionMode.STORAGE])
def test_compressed_bags(tmp_path: Path, storage: StoragePlugin, compression: CompressionMode) -> None:
    if storage == StoragePlugin.SQLITE3 and compression == CompressionMode.STORAGE:
        pytest.skip("sqlite3 has no compression of its own")
    bag = write_bag(tmp_path / "drive", storage, {"/points": [cloud_message(k) for k in range(3)]}, compression)
    for index, scan in enumerate(open_scans([bag])):
        np.testing.assert_array_equal(scan.points, cloud_points(index))


def test_files_compressed_as_a_whole_are_unpacked_once(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    messages = [cloud_message(k) for k in range(3)]
    bag = write_bag(
        tmp_path / "drive", StoragePlugin.SQLITE3, {"/points": messages, "/rosout": ["a"]}, CompressionMode.FILE
    )
    copy, copied = shutil.copyfileobj, list[object]()

    def counted_copy(source: IO[bytes], target: IO[bytes]) -> None:
        copied.append(target)
        copy(source, target)

    monkeypatch.setattr("shutil.copyfileobj", counted_copy)
    scans = open_scans([bag])
    assert len(scans) == len(list(scans)) == 3
    assert len(copied) == 1
    with pytest.raises(BagError, match="no PointCloud2 on '/rosout'"):
        open_clouds(bag, "/rosout")


def test_what_would_fill_the_disk_is_not_unpacked(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    messages = {"/points": [cloud_message(0)]}
    bag = write_bag(tmp_path / "drive", StoragePlugin.SQLITE3, messages, CompressionMode.FILE)
    monkeypatch.setattr("shutil.copyfileobj", lambda *_: pytest.fail("is unpacked"))
    usage = shutil.disk_usage(tmp_path)
    with monkeypatch.context() as patched:
        patched.setattr("twodpass_core.data.bags.packed.shutil.disk_usage", lambda _: usage._replace(free=2**28))
        with pytest.raises(
            BagError, match=r"drive: its files are .* may unpack to 0 MB, but .* has room for 0 MB: set"
        ):
            open_clouds(bag)
    (file,) = bag.glob("*.zstd")
    with monkeypatch.context() as patched:
        patched.setattr(
            "twodpass_core.data.bags.packed.shutil.disk_usage", lambda _: usage._replace(free=2**28 + 2**18)
        )
        check_room([file])
        with pytest.raises(BagError, match="TMPDIR"):
            check_room([file] * 3)
    bomb = zstandard.ZstdCompressor().compress(bytes(2**26))
    file.write_bytes(bomb)
    with pytest.raises(BagError, match=rf"zstd: {len(bomb)} bytes may unpack to 67108864, too many to be a recording"):
        open_clouds(bag)
    for damaged in (bomb[:-40], b"no frame at all"):
        file.write_bytes(damaged)
        with pytest.raises(BagError, match=r"zstd: cannot be unpacked: .* the file is cut off or damaged"):
            open_clouds(bag)
    with pytest.raises(BagError, match="compressed as a whole, so no single message can be read"):
        open_index(bag)


@pytest.mark.parametrize("storage", STORAGES)
def test_choice_of_topic(tmp_path: Path, storage: StoragePlugin) -> None:
    topics = {"/front": [cloud_message(1)], "/rear": [cloud_message(2)], "/idle": [], "/rosout": ["a"]}
    bag = write_bag(tmp_path / "two", storage, topics)
    with pytest.raises(BagError, match=r"two: has several PointCloud2 topics, .* --topic: /front, /rear$"):
        open_clouds(bag)
    with pytest.raises(BagError, match=r"no PointCloud2 on '/rosout'; its PointCloud2 topics are /front, /rear$"):
        open_clouds(bag, "/rosout")
    with pytest.raises(BagError, match=r"no PointCloud2 on ''; its PointCloud2 topics are /front, /rear$"):
        open_clouds(bag, "")
    (raw,) = open_clouds(bag, "/rear")
    np.testing.assert_array_equal(read_points(read_cloud(raw).message), cloud_points(2))

    bag = write_bag(tmp_path / "none", storage, {"/rosout": ["a", "b"]})
    with pytest.raises(BagError, match=r"holds no PointCloud2; it has /rosout \(std_msgs/msg/String, 2 messages\)"):
        open_clouds(bag)


def test_a_bag_without_its_metadata(tmp_path: Path) -> None:
    bag = write_bag(tmp_path / "drive", StoragePlugin.MCAP, {"/points": [cloud_message(0)]})
    (bag / "metadata.yaml").unlink()
    assert len(open_clouds(bag)) == 1
    (bag / "second.mcap").write_bytes(storage_file(bag).read_bytes())
    with pytest.raises(BagError, match="ros2 bag reindex"):
        open_clouds(bag)


def test_a_real_bag_of_raw_packets(shared_data: Path) -> None:
    with pytest.raises(BagError, match=r"holds no PointCloud2; it has /velodyne_packets \(velodyne_msgs/msg/Velodyne"):
        open_clouds(shared_data / "velodyne_nebula/vlp16/1673400471837873222")


def test_messages_are_read_one_at_a_time(tmp_path: Path) -> None:
    good, bad = cloud_message(0), replace(cloud_message(1), width=51)
    bag = write_bag(tmp_path / "drive", StoragePlugin.SQLITE3, {"/points": [good, bad, good]})
    scans = iter(open_scans([bag]))
    assert next(scans).points.shape == (50, 4)
    with pytest.raises(ScanError, match="drive: cloud 1 of /points: data: 800 bytes do not fit height 1 x width 51"):
        next(scans)


@pytest.mark.parametrize("storage", STORAGES)
@pytest.mark.parametrize("raw", [b"", b"\0\1\0\0", b"\0\1\0\0" + b"\xff" * 200, b"\xff" * 64])
def test_messages_that_are_no_clouds(tmp_path: Path, storage: StoragePlugin, raw: bytes) -> None:
    bag = write_bag(tmp_path / "drive", storage, {"/points": [cloud_message(0), raw, cloud_message(2)]})
    scans = iter(open_scans([bag]))
    assert next(scans).name == "drive_000000"
    with pytest.raises(ScanError, match=r"drive: cloud 1 of /points: cannot be read, it is damaged: \S"):
        next(scans)
    assert next(scans).name == "drive_000002"


def test_a_bad_cloud_does_not_end_the_bag(tmp_path: Path) -> None:
    bad = replace(cloud_message(1), point_step=0)
    bag = write_bag(tmp_path / "bag", StoragePlugin.MCAP, {"/points": [cloud_message(0), bad, cloud_message(2)]})
    scans = iter(open_scans([bag]))
    assert next(scans).name == "bag_000000"
    with pytest.raises(ScanError, match=r"bag: cloud 1 of /points: .*point_step"):
        next(scans)
    assert next(scans).name == "bag_000002"
    assert open_scans([bag]).names == ["bag_000000", "bag_000001", "bag_000002"]


@pytest.mark.parametrize("storage", STORAGES)
def test_fewer_clouds_than_promised(tmp_path: Path, storage: StoragePlugin) -> None:
    bag = write_bag(tmp_path / "drive", storage, {"/points": [cloud_message(0)]})
    metadata = (bag / "metadata.yaml").read_text()
    (bag / "metadata.yaml").write_text(metadata.replace("message_count: 1", "message_count: 9"))
    clouds = open_clouds(bag)
    assert len(clouds) == 9
    with pytest.raises(BagError, match="/points should have 9 clouds, but 1 could be read"):
        list(clouds)


@pytest.fixture(scope="module")
def bag_bytes(tmp_path_factory: pytest.TempPathFactory) -> dict[str, bytes]:
    folder = tmp_path_factory.mktemp("bags")
    found = {}
    for storage, mode in ((STORAGES[0], CompressionMode.NONE), (STORAGES[1], CompressionMode.STORAGE)):
        messages = [cloud_message(k, 200) for k in range(3)]
        bag = write_bag(folder / storage.name, storage, {"/points": messages}, mode)
        found[storage_file(bag).suffix] = storage_file(bag).read_bytes()
    return found


@pytest.mark.parametrize("kept", [0, 1, 8, 40, 500, 0.25, 0.5, 0.75, 0.95, -40, -9, -1])
@pytest.mark.parametrize("suffix", [".db3", ".mcap"])
def test_a_bag_that_is_cut_off(tmp_path: Path, bag_bytes: dict[str, bytes], suffix: str, kept: float) -> None:
    whole = bag_bytes[suffix]
    path = tmp_path / f"drive{suffix}"
    path.write_bytes(whole[: int(kept * len(whole)) if isinstance(kept, float) else kept])
    with pytest.raises(BagError, match=rf"drive\{suffix}: "):
        list(open_clouds(path))


@given(data=st.data(), suffix=st.sampled_from([".db3", ".mcap"]))
@settings(max_examples=150, suppress_health_check=[HealthCheck.function_scoped_fixture])
def test_a_bag_with_wrong_bytes(tmp_path: Path, bag_bytes: dict[str, bytes], data: st.DataObject, suffix: str) -> None:
    content = bytearray(bag_bytes[suffix])
    for _ in range(data.draw(st.integers(1, 4))):
        position = data.draw(st.one_of(st.integers(0, 300), st.integers(0, len(content) - 1)))
        content[position] = data.draw(st.integers(0, 255))
    path = tmp_path / f"drive{suffix}"
    path.write_bytes(content)
    with contextlib.suppress(BagError, CloudError):  # anything else is a failure
        for raw in open_clouds(path):
            read_points(read_cloud(raw).message)


@pytest.mark.parametrize(
    "metadata",
    ["", "[]", "rosbag2_bagfile_information: 7", "a: [", "- " * 5000, "rosbag2_bagfile_information: {version: 99}"],
)
def test_damaged_metadata(tmp_path: Path, metadata: str) -> None:
    bag = write_bag(tmp_path / "drive", StoragePlugin.SQLITE3, {"/points": [cloud_message(0)]})
    (bag / "metadata.yaml").write_text(metadata)
    with pytest.raises(BagError, match=r"drive: (cannot be read|its metadata\.yaml is damaged)"):
        open_clouds(bag)


def test_what_is_no_bag(tmp_path: Path) -> None:
    (tmp_path / "drive.bag").write_bytes(b"#ROSBAG V2.0\n")
    (tmp_path / "metadata.yaml").write_text("#" * (5 * 2**20))
    for path, reason in (
        (tmp_path / "absent.mcap", "does not exist"),
        (tmp_path / "drive.bag", "is not a ROS 2 bag"),
        (tmp_path, "metadata.yaml: is larger"),
    ):
        with pytest.raises(BagError, match=reason):
            open_clouds(path)


def test_how_to_convert_a_bag_of_ros_1_is_told(tmp_path: Path) -> None:
    old = tmp_path / "drive.bag"
    old.write_bytes(b"#ROSBAG V2.0\n")
    how = rf"drive\.bag: is a bag of ROS 1: `rosbags-convert --src {old} --dst {tmp_path / 'drive'}` makes one of ROS 2"
    for path in (old, tmp_path):
        with pytest.raises(BagError, match=how):
            find_bags([path])
    for path in (old, tmp_path):
        with pytest.raises(BagError, match=how):
            open_scans([path])
