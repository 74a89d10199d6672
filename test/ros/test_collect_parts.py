"""The parts of `collect` that need no running node: parameters, headers of serialised messages, the queue."""

from __future__ import annotations

import math
import os
import struct
import threading
from collections import Counter
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from rclpy.qos import DurabilityPolicy, QoSProfile, ReliabilityPolicy
from rclpy.serialization import serialize_message
from rules import rules_of
from std_msgs.msg import Header
from vehicle import camera_info, cloud, compressed, image, messages

from twodpass_core.data.pairing import PairedSet
from twodpass_core.geometry.rigid_transform import RigidTransform
from twodpass_core.geometry.transform_tree import TransformTree
from twodpass_core.recording import BagWriter, GateSettings, Manifest, RecordedSet, RecordedTopic, WriterSettings
from twodpass_ros.collect.camera import Camera
from twodpass_ros.collect.in_order_worker import InOrderWorker
from twodpass_ros.collect.input import Message, read_header, wanted_qos
from twodpass_ros.collect.input_problems import malformation
from twodpass_ros.collect.parameters import CollectParameters
from twodpass_ros.collect.recording import Recording, obstacles_to_write
from twodpass_ros.collect.report import Health, RecordingState
from twodpass_ros.collect.sets import CalibrationWatch, FormedSet
from twodpass_ros.diagnostics import ERROR, WARN, Streak

RULES = rules_of(CollectParameters)
TEXT = st.text(st.characters(codec="ascii", exclude_characters="\0"))


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("images", ("/front/image raw",)),
        ("images", ("/front/image_raw", "/front/image_raw")),
        ("camera_infos", ("/front//camera_info",)),
        ("odometry", "1st/odom"),
    ],
)
def test_what_is_no_topic_is_refused(name: str, value: object) -> None:
    assert not RULES[name].accepts(value)


def test_parameters_become_the_settings_of_the_core() -> None:
    parameters = CollectParameters(min_distance=2.0, every_nth=3, split_seconds=60.0)
    assert parameters.gate() == GateSettings(min_distance=2.0, every_nth=3)
    assert parameters.writer() == WriterSettings(split_seconds=60.0)


@given(st.integers(0, 2**31 - 1), st.integers(0, 10**9 - 1), TEXT)
def test_stamp_and_frame_are_read_from_serialised_messages(seconds: int, nanoseconds: int, frame: str) -> None:
    header = Header(frame_id=frame)
    header.stamp.sec, header.stamp.nanosec = seconds, nanoseconds
    assert read_header(serialize_message(header)) == (seconds * 10**9 + nanoseconds, frame)


def test_the_header_of_a_long_message_and_of_the_other_byte_order() -> None:
    assert read_header(serialize_message(image("front", 1234))) == (1_234_000_000, "front_optical")
    big_endian = b"\0\0\0\0" + struct.pack(">iII", 7, 8, 4) + b"map\0"
    assert read_header(big_endian) == (7 * 10**9 + 8, "map")


@pytest.mark.parametrize("cut", [0, 3, 11, 17])
def test_a_message_that_is_cut_off_is_an_error(cut: int) -> None:
    with pytest.raises(struct.error):
        read_header(serialize_message(Header(frame_id="velodyne"))[:cut])


def test_what_all_publishers_offer_is_asked_of_them_and_of_static_transforms_what_any_does() -> None:
    reliable, best_effort = ReliabilityPolicy.RELIABLE, ReliabilityPolicy.BEST_EFFORT
    latched, volatile = DurabilityPolicy.TRANSIENT_LOCAL, DurabilityPolicy.VOLATILE
    mixed = [
        QoSProfile(depth=1, reliability=reliable, durability=latched),
        QoSProfile(depth=1, reliability=best_effort, durability=volatile),
    ]
    for offered, latched_if, expected in (
        (mixed, all, (best_effort, volatile)),
        (mixed, any, (reliable, latched)),
        (mixed[:1], all, (reliable, latched)),
        (mixed[1:], any, (best_effort, volatile)),
    ):
        qos = wanted_qos(offered, 7, latched_if)
        assert (qos.reliability, qos.durability, qos.depth) == (*expected, 7)


def received(name: str, message: Any, age_ms: int = 0) -> Any:
    """An Input that has just received a message."""
    kind = type(message)
    topic = RecordedTopic.of_type(name, f"sensor_msgs/msg/{kind.__name__}")
    data = serialize_message(message)
    stamp_ns, frame_id = read_header(data)
    newest = Message(topic, data, stamp_ns + age_ms * 1_000_000, stamp_ns, frame_id)
    return SimpleNamespace(name=name, type=kind, newest=newest)


def test_a_scan_that_nobody_can_read_stands_against_a_recording() -> None:
    scan = cloud(1000, 3)
    assert not list(malformation(received("/points", scan)))
    scan.data = scan.data[:-5]
    (told,) = malformation(received("/points", scan))
    assert told.startswith("/points is malformed: data: ")
    cut = received("/points", scan)
    cut.newest = replace(cut.newest, data=cut.newest.data[:60])
    (told,) = malformation(cut)
    assert told.startswith("/points cannot be read: ")


def test_a_scan_without_intensity_is_looked_at_all_the_same() -> None:
    scan = cloud(1000, 3)
    for field in scan.fields:
        field.name = field.name.replace("intensity", "range")
    assert "range" in [field.name for field in scan.fields]
    watch = CalibrationWatch(lambda *_: None, lambda _: False)
    watch.look(FormedSet(PairedSet(0, received("/points", scan).newest, {}), None, {}))
    assert watch.trouble == ""


@pytest.mark.parametrize(("left", "told"), [(100, "the disk is full, 0.0 MB are left: make room"), (2**40, "")])
def test_no_recording_begins_on_a_full_disk_though_it_may_be_filled(
    left: int, told: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("twodpass_ros.collect.recording.free_bytes", lambda _: left)
    assert told in "".join(obstacles := obstacles_to_write(str(tmp_path / "bags"), WriterSettings(min_free_bytes=0)))
    assert bool(obstacles) == bool(told)


@pytest.mark.skipif(not os.access("/proc", os.W_OK), reason="only root may try to write there")
def test_a_file_system_without_room_is_not_called_full() -> None:
    (told,) = obstacles_to_write("/proc/bags", WriterSettings())
    assert told == "folder /proc/bags: no folder can be made in /proc, which is not of a disk"


def test_what_was_received_before_there_was_a_time_is_not_recorded(tmp_path: Path) -> None:
    recording = Recording(tmp_path, WriterSettings(min_free_bytes=0), GateSettings())
    for received_ns in (0, 5):
        scan = replace(received("/points", cloud(1000, 3)).newest, received_ns=received_ns)
        recording.write_set(FormedSet(PairedSet(scan.stamp_ns, scan, {}), None, {}), {})
        recording.write(replace(received("/info", camera_info("front", 1000)).newest, received_ns=received_ns))
    recording.close()
    assert {topic: [time for time, _ in found] for topic, found in messages(recording.bag).items()} == {
        "/points": [5],
        "/info": [5],
    }


def test_the_score_of_a_set_is_that_of_its_worst_camera() -> None:
    scan = received("/points", cloud(1000, 3)).newest
    formed = FormedSet(PairedSet(scan.stamp_ns, scan, {}), None, {})
    for scores, expected in (({"a": 0.9, "b": 0.4, "c": math.nan}, 0.4), ({"a": math.nan}, None), ({}, None)):
        assert formed.recorded(scores).calibration_score == expected


def test_a_set_that_found_no_room_does_not_hold_back_the_next(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    offered: list[int] = []

    def refuse_first(writer: BagWriter, recorded: RecordedSet) -> bool:
        offered.append(recorded.stamp_ns)
        return len(offered) > 1

    monkeypatch.setattr(BagWriter, "write_set", refuse_first)
    recording = Recording(tmp_path, WriterSettings(min_free_bytes=0), GateSettings(min_interval=10.0))
    for stamp_ns in (1, 2, 3):
        scan = received("/points", cloud(1000, 3)).newest
        recording.write_set(FormedSet(PairedSet(stamp_ns, scan, {}), None, {}), {})
    recording.close()
    assert offered == [1, 2]


@pytest.mark.parametrize(
    ("wanted", "at_work", "level"), [(True, False, ERROR), (False, False, WARN), (True, True, WARN)]
)
def test_what_stands_against_a_recording_is_an_error_where_one_is_wanted_and_there_is_none(
    wanted: bool, at_work: bool, level: bytes
) -> None:
    sensors: Any = SimpleNamespace(of_sets=[], beside_sets=[], inputs=[], cameras={}, missing=Counter, upsets=list)
    health = Health(sensors, CalibrationWatch(lambda *_: None, lambda _: False), Streak())
    state = RecordingState(wanted=wanted, recording=at_work)
    assert health.troubles(state, ["no scans"], Counter(), CollectParameters()) == [(level, "no scans")]


def test_two_recordings_of_one_second_have_folders_of_their_own(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("twodpass_ros.collect.recording.time.strftime", lambda form: "collect_now")
    for name in ("collect_now", "collect_now_1", "collect_now_2"):
        recording = Recording(tmp_path, WriterSettings(min_free_bytes=0), GateSettings())
        recording.close()
        assert recording.bag == tmp_path / name


def test_what_is_lost_counts_once_however_often_it_is_told(tmp_path: Path) -> None:
    recording = Recording(tmp_path, WriterSettings(min_free_bytes=0), GateSettings())
    for lost in ({"/points": 2}, {"/points": 2}, {"/points": 3, "/tf": 1}):
        recording.record_lost(lost)
    recording.close()
    assert Manifest.read(recording.bag).dropped == {"/points": 3, "/tf": 1}
    assert not recording.dropped  # by the disk


def problems(camera: Camera, scan_age_ms: int = 0) -> list[str]:
    tree = TransformTree()
    tree.add("lidar", "front_optical", RigidTransform.identity(), None)
    return list(camera.problems(received("/points", cloud(1000, 3), scan_age_ms), tree, 0.5, 0.05))


def test_of_images_that_are_alike_only_one_is_decoded_for_a_look(monkeypatch: pytest.MonkeyPatch) -> None:
    decoded: list[object] = []
    monkeypatch.setattr("twodpass_ros.collect.camera.decode_image", decoded.append)
    camera = Camera("front", received("/image", image("front", 1000)), received("/info", camera_info("front", 1000)))
    for _ in range(3):
        assert problems(camera) == []
    assert len(decoded) == 1
    camera.image = received("/image", compressed("front", 1100))
    assert problems(camera) == problems(camera) == []
    assert len(decoded) == 2


@pytest.mark.parametrize(
    ("image_age", "scan_age", "words"),
    [
        (30, 130, ""),
        (-40, 100, ""),  # within the slop
        (-100, 100, "stamps are of the future, on arrival of /image -0.100 s old, of /points 0.100 s old"),
        (20, -100, "stamps are of the future"),
        (-300, -200, ""),  # sensors that agree, on a computer that does not
        (700, 100, "on arrival stamps of /image 0.700 s old, of /points 0.100 s old"),
        (-900, 100, "on arrival stamps of /image -0.900 s old"),
    ],
)
def test_clocks_that_differ_are_told_by_the_age_of_what_arrives(image_age: int, scan_age: int, words: str) -> None:
    info = received("/info", camera_info("front", 1000))
    found = problems(Camera("front", received("/image", image("front", 1000), image_age), info), scan_age)
    assert len(found) == bool(words)
    assert not words or words in found[0]
    assert ("raise max_clock_difference" in "".join(found)) == words.startswith("on arrival")


def test_the_queue_keeps_order_and_refuses_what_finds_no_room() -> None:
    done: list[int] = []
    free, begun = threading.Event(), threading.Event()

    def work(item: int) -> None:
        begun.set()
        free.wait(10)
        done.append(item)

    worker = InOrderWorker(work, 2, "test")
    assert worker.offer(0)
    begun.wait(10)
    assert [worker.offer(item) for item in (1, 2, 3)] == [True, True, False]
    behind = [worker.is_behind]
    free.set()
    worker.drain()
    behind.append(worker.is_behind)
    assert behind == [True, False]
    assert done == [0, 1, 2]
    worker.stop()
