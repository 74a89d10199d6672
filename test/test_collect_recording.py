"""Recording: bags that every reader opens, at every moment."""

from __future__ import annotations

import itertools
import math
import threading
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import recording_data as data
import yaml
from mcap.reader import make_reader
from recording_data import files_of, settings, wait_for
from rosbags.highlevel import AnyReader
from rosbags.rosbag2 import Reader

from twodpass_core import __version__
from twodpass_core.cloud import read_points
from twodpass_core.data.bags import open_clouds, read_cloud
from twodpass_core.errors import RecordingError
from twodpass_core.mcap_files.check import check_mcap
from twodpass_core.recording import (
    BagWriter,
    Calibration,
    Manifest,
    RecordedCamera,
    RecordedMessage,
    RecordedSet,
    RecordedTopic,
)
from twodpass_core.recording.manifest import MANIFEST

CAMERA = RecordedCamera(
    image_topic="/front/image",
    info_topic="/front/camera_info",
    frame_id="camera",
    width=64,
    height=32,
    distortion_model="plumb_bob",
    d=(0.0,) * 5,
    k=(50.0, 0.0, 32.0, 0.0, 50.0, 16.0, 0.0, 0.0, 1.0),
    r=(1.0, 0.0, 0.0, 0.0, 1.0, 0.0, 0.0, 0.0, 1.0),
    p=(50.0, 0.0, 32.0, 0.0, 0.0, 50.0, 16.0, 0.0, 0.0, 0.0, 1.0, 0.0),
    camera_from_lidar=tuple(np.eye(4).ravel().tolist()),
)


def test_a_recording_is_a_bag_that_every_reader_opens(tmp_path: Path) -> None:
    bag = tmp_path / "drive"
    with BagWriter(bag, settings()) as writer:
        assert writer.write(data.STATIC, data.START_NS, data.static_transform("lidar"))
        for index in range(5):
            assert writer.write_set(data.make_set(index))
    assert sorted(path.name for path in bag.iterdir()) == ["drive_0.mcap", "manifest.json", "metadata.yaml"]

    expected = [m for index in range(5) for m in data.make_set(index).messages]
    stored = data.read_mcap(bag / "drive_0.mcap")
    assert stored[0] == ("/tf_static", data.START_NS, data.static_transform("lidar"))
    assert stored[1:] == [(m.topic.name, m.log_time_ns, m.data) for m in expected]  # as received, to the byte
    check_mcap(bag / "drive_0.mcap")

    with AnyReader([bag]) as reader:  # by the definitions that are in the file
        images: list[Any] = [
            reader.deserialize(raw, connection.msgtype)
            for connection, _, raw in reader.messages()
            if connection.topic == "/front/image"
        ]
    assert [(m.header.frame_id, m.encoding, m.width) for m in images] == [("camera", "rgb8", 64)] * 5
    clouds = [read_cloud(raw) for raw in open_clouds(bag)]
    assert [cloud.stamp_ns for cloud in clouds] == [data.stamp(index) for index in range(5)]
    np.testing.assert_array_equal(read_points(clouds[3].message), data.scan_points(data.stamp(3)))


def test_the_qos_of_the_publishers_is_kept(tmp_path: Path) -> None:
    with BagWriter(tmp_path / "drive", settings()) as writer:
        writer.write(data.STATIC, 5, data.static_transform("lidar"))
        writer.write(data.POINTS, 6, data.scan(6))
    with Reader(tmp_path / "drive") as reader:
        found = {c.topic: c.ext.offered_qos_profiles[0] for c in reader.connections}  # type: ignore[union-attr]
    static, points = found["/tf_static"], found["/points"]
    assert (static.durability.name, static.reliability.name) == ("TRANSIENT_LOCAL", "RELIABLE")
    assert (points.durability.name, points.reliability.name, points.depth) == ("VOLATILE", "BEST_EFFORT", 5)


def test_the_manifest_tells_what_was_recorded(tmp_path: Path) -> None:
    bag = tmp_path / "drive"
    writer = BagWriter(bag, settings())
    calibration = Calibration(lidar_topic="/points", lidar_frame="lidar", cameras={"front": CAMERA})
    writer.record_calibration(calibration)
    writer.write_set(data.make_set(0))
    writer.write_set(RecordedSet(7, data.make_set(1).messages, {"front": -4}, math.nan))
    writer.count_dropped({"/front/image": 3}, sets=2)
    writer.close()
    manifest = Manifest.read(bag)
    writer.close()
    assert Manifest.read(bag) == manifest
    assert manifest.complete
    assert manifest.error is None
    assert [(s.stamp_ns, s.offset_ns, s.calibration_score) for s in manifest.sets] == [
        (data.START_NS, {"front": 3_000_000}, 0.5),
        (7, {"front": -4}, None),
    ]
    assert manifest.dropped == {"/front/image": 3}
    assert {topic.name: topic.messages for topic in manifest.topics} == {"/points": 2, "/front/image": 2}
    assert (manifest.start_ns, manifest.stop_ns) == (data.stamp(0) + 10**6, data.stamp(1) + 4 * 10**6)
    assert manifest.calibration == calibration
    assert manifest.software == f"twodpass {__version__}"
    with pytest.raises(RecordingError, match="the recording is closed"):
        writer.write_set(data.make_set(2))


def test_a_bag_without_messages(tmp_path: Path) -> None:
    BagWriter(tmp_path / "drive", settings()).close()
    manifest = Manifest.read(tmp_path / "drive")
    assert (manifest.complete, manifest.sets, manifest.start_ns) == (True, (), None)
    check_mcap(tmp_path / "drive/drive_0.mcap")
    with Reader(tmp_path / "drive") as reader:
        assert reader.message_count == 0


@pytest.mark.parametrize("limit", [{"split_bytes": 50_000}, {"split_seconds": 0.35}])
def test_each_file_of_a_split_recording_stands_alone(tmp_path: Path, limit: dict[str, float]) -> None:
    bag = tmp_path / "drive"
    with BagWriter(bag, settings(chunk_bytes=1, **limit)) as writer:
        writer.write(data.STATIC, data.START_NS, data.static_transform("lidar"))
        writer.write(data.STATIC, data.START_NS + 1, data.static_transform("camera"))
        writer.write(data.INFO, data.START_NS + 2, b"earlier")
        writer.write(data.INFO, data.START_NS + 3, b"the last one")
        for index in range(20):
            writer.write_set(data.make_set(index))
    files = files_of(bag)
    assert len(files) >= 4
    scans = []
    for number, path in enumerate(files):
        check_mcap(path)
        messages = data.read_mcap(path)
        scans += [raw for topic, _, raw in messages if topic == "/points"]
        static = [raw for topic, _, raw in messages if topic == "/tf_static"]
        assert static == [data.static_transform("lidar"), data.static_transform("camera")]
        infos = [raw for topic, _, raw in messages if topic == "/front/camera_info"]
        assert infos == ([b"earlier", b"the last one"] if number == 0 else [b"the last one"])
        assert messages[0][0] in ("/tf_static", "/front/camera_info")  # before what needs it
    assert scans == [data.scan(data.stamp(index)) for index in range(20)]  # once each, in order
    information = yaml.safe_load((bag / "metadata.yaml").read_text())["rosbag2_bagfile_information"]
    assert information["relative_file_paths"] == [path.name for path in files]
    assert information["message_count"] == sum(len(data.read_mcap(path)) for path in files)
    with Reader(bag) as reader:
        assert sum(1 for _ in reader.messages()) == reader.message_count
    assert len(list(open_clouds(bag))) == 20


def test_between_the_files_is_no_gap_for_a_player_to_seek_into(tmp_path: Path) -> None:
    bag = tmp_path / "drive"
    with BagWriter(bag, settings(chunk_bytes=1, split_bytes=1)) as writer:
        writer.write(data.STATIC, data.START_NS, data.static_transform("lidar"))
        for index in (0, 10, 30, 20):  # the last one is of a clock that was set back
            writer.write_set(data.make_set(index))
    information = yaml.safe_load((bag / "metadata.yaml").read_text())["rosbag2_bagfile_information"]
    starts = [file["starting_time"]["nanoseconds_since_epoch"] for file in information["files"]]
    ends = [start + file["duration"]["nanoseconds"] for start, file in zip(starts, information["files"], strict=True)]
    assert len(starts) == 5
    assert all(start <= end for start, end in zip(starts[1:], ends, strict=False))
    assert starts[2] == ends[1] == data.stamp(0) + 4 * 10**6
    assert starts[4] == data.stamp(20) + 10**6


def test_of_static_transforms_told_again_and_again_the_last_is_repeated(tmp_path: Path) -> None:
    bag = tmp_path / "drive"
    with BagWriter(bag, settings(chunk_bytes=1, split_bytes=1)) as writer:
        for index in range(20):  # as some nodes do, each time with a new stamp
            writer.write(data.STATIC, data.stamp(index), data.static_transform("lidar", data.stamp(index)))
        writer.write_set(data.make_set(20))
    static = [raw for topic, _, raw in data.read_mcap(files_of(bag)[-1]) if topic == "/tf_static"]
    assert static == [data.static_transform("lidar", data.stamp(19))]


def test_camera_infos_of_a_set_are_not_repeated_beside_it(tmp_path: Path) -> None:
    bag = tmp_path / "drive"
    with BagWriter(bag, settings(chunk_bytes=1, split_bytes=1)) as writer:
        for index in range(3):
            info = RecordedMessage(data.INFO, data.stamp(index), b"info %d" % index)
            writer.write_set(RecordedSet(index, (*data.make_set(index).messages, info)))
    infos = [raw for path in files_of(bag) for topic, _, raw in data.read_mcap(path) if topic == data.INFO.name]
    assert infos == [b"info 0", b"info 1", b"info 2"]


def test_the_bag_is_readable_while_it_is_recorded(tmp_path: Path) -> None:
    bag = tmp_path / "drive"
    with BagWriter(bag, settings(chunk_bytes=1, split_bytes=1)) as writer:
        with Reader(bag) as reader:
            assert reader.message_count == 0
        for index in range(4):
            writer.write_set(data.make_set(index))
            wait_for(lambda: writer.sets == index + 1)  # noqa: B023
            with Reader(bag) as reader:
                assert sum(1 for _ in reader.messages()) == 2 * index  # those of the finished files
            assert not Manifest.read(bag).complete


def test_a_long_recording_costs_the_disk_no_more_than_a_short_one(tmp_path: Path) -> None:
    bag = tmp_path / "drive"
    calibration = Calibration(lidar_topic="/points", lidar_frame="lidar", cameras={"front": CAMERA})
    with BagWriter(bag, settings(chunk_bytes=1, split_bytes=0)) as writer:
        writer.record_calibration(calibration)
        written = set()
        for index in range(4):
            writer.record_calibration(calibration.model_copy())  # told again and again, as `collect` does
            writer.write_set(data.make_set(index))
            wait_for(lambda: writer.sets == index + 1)  # noqa: B023
            written.add(((bag / MANIFEST).stat().st_ino, (bag / MANIFEST).read_bytes()))
        assert len(written) == 1
        moved = calibration.model_copy(update={"lidar_frame": "moved"})
        writer.record_calibration(moved)
        writer.write_set(data.make_set(4))
        wait_for(lambda: Manifest.read(bag).calibration == moved)
        assert Manifest.read(bag).sets == ()
    assert len(Manifest.read(bag).sets) == 5


def test_a_set_is_in_one_chunk_and_chunks_are_of_the_size_asked_for(tmp_path: Path) -> None:
    bag = tmp_path / "drive"
    size = data.set_bytes()
    with BagWriter(bag, settings(chunk_bytes=3 * size - 10)) as writer:
        for index in range(12):
            writer.write_set(data.make_set(index))
    with (bag / "drive_0.mcap").open("rb") as file:
        summary = make_reader(file).get_summary()
    assert summary is not None
    assert len(summary.chunk_indexes) == 4
    for number, chunk in enumerate(summary.chunk_indexes):
        assert chunk.compression == "zstd"
        assert chunk.message_start_time == data.stamp(3 * number) + 10**6
        assert chunk.message_end_time == data.stamp(3 * number + 2) + 4 * 10**6


def test_a_set_of_any_size_is_recorded_in_chunks_that_readers_take(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("twodpass_core.recording.split_recorder.MAX_CHUNK_BYTES", 20_000)
    bag, sets = tmp_path / "drive", [surround_set(index, cameras=7) for index in range(3)]
    with BagWriter(bag, settings(chunk_bytes=1, queue_bytes=100)) as writer:
        for recorded in sets:
            assert writer.write_set(recorded)
            wait_for(lambda: writer.sets == sets.index(recorded) + 1)  # noqa: B023
    path = bag / "drive_0.mcap"
    check_mcap(path)
    assert data.read_mcap(path) == [(m.topic.name, m.log_time_ns, m.data) for s in sets for m in s.messages]
    with path.open("rb") as file:
        summary = make_reader(file).get_summary()
    assert summary is not None
    chunks = sorted((c.message_start_time, c.message_end_time) for c in summary.chunk_indexes)
    assert len(chunks) == 3 * 3  # a scan and an image; three; three
    assert all(end < start for (_, end), (start, _) in itertools.pairwise(chunks))
    assert max(c.uncompressed_size for c in summary.chunk_indexes) < 25_000  # with descriptions of topics
    with Reader(bag) as reader:
        assert sum(1 for _ in reader.messages()) == 3 * 8


def surround_set(index: int, cameras: int) -> RecordedSet:
    """A scan and an image of each of several cameras, taken one after the other."""
    recorded = data.make_set(index)
    scan, image = recorded.messages
    images = [
        RecordedMessage(
            RecordedTopic.of_type(f"/camera{number}/image", data.IMAGE.type), image.log_time_ns + number, image.data
        )
        for number in range(cameras)
    ]
    return RecordedSet(recorded.stamp_ns, (scan, *images))


def test_a_small_message_does_not_wait_for_others(tmp_path: Path) -> None:
    with BagWriter(tmp_path / "drive", settings(chunk_seconds=0.05)) as writer:
        writer.write_set(data.make_set(0))
        wait_for(lambda: writer.sets == 1)


def test_many_threads_record(tmp_path: Path) -> None:
    bag = tmp_path / "drive"
    with BagWriter(bag, settings(chunk_bytes=20_000)) as writer:

        def record(first: int) -> None:
            for index in range(first, 40, 4):
                writer.write_set(data.make_set(index))
                writer.write(data.MOVING, data.stamp(index), b"%d" % index)

        threads = [threading.Thread(target=record, args=(first,)) for first in range(4)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
    messages = data.read_mcap(bag / "drive_0.mcap")
    assert sorted(int(raw) for topic, _, raw in messages if topic == "/tf") == list(range(40))
    assert sorted(s.stamp_ns for s in Manifest.read(bag).sets) == [data.stamp(index) for index in range(40)]
