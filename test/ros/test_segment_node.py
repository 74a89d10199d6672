"""The node's contract on its topics: every point comes back; failures are told, and pass."""

from __future__ import annotations

import json
from array import array
from collections.abc import Callable, Iterator
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
from clouds import malformed, records, scan
from diagnostic_msgs.msg import DiagnosticStatus
from fake_segment import FakeSegmenter, Fault
from node_process import NodeProcess
from rclpy.qos import DurabilityPolicy, QoSProfile, ReliabilityPolicy
from rclpy.serialization import deserialize_message
from segment_peer import Peer
from sensor_msgs.msg import PointCloud2, PointField
from std_msgs.msg import Header

from twodpass_ros.conversion import point_cloud2
from twodpass_ros.msg import ClassMap
from twodpass_ros.player import cloud_of

LATCHED = QoSProfile(depth=1, reliability=ReliabilityPolicy.RELIABLE, durability=DurabilityPolicy.TRANSIENT_LOCAL)
OK, WARN, ERROR = DiagnosticStatus.OK, DiagnosticStatus.WARN, DiagnosticStatus.ERROR


@pytest.fixture(scope="module")
def fake_node() -> Iterator[NodeProcess]:
    """A running node with a made-up network that fails on demand (fake_segment.py), one for all tests here."""
    with NodeProcess.fake("-p", "input_timeout:=60.0", "-p", "late_after:=60.0") as process:
        yield process


@pytest.fixture(scope="module")
def connected(fake_node: NodeProcess) -> Iterator[Peer]:
    with Peer() as peer:
        peer.wait_for_active_node()
        yield peer


@pytest.fixture
def active(connected: Peer) -> Peer:
    """A peer of the active node, all trouble of earlier tests forgotten."""
    connected.label(scan())
    while connected.next_level() != OK:
        connected.label(scan())
    connected.clear()
    return connected


def recorded_cdr(data: Path) -> PointCloud2:
    return deserialize_message((data / "pointcloud2_cdr/pointcloud2.cdr").read_bytes(), PointCloud2)


def recorded_ouster(data: Path) -> PointCloud2:
    folder = data / "ouster_organized"
    layout = SimpleNamespace(**json.loads((folder / "os1_128_frame0.json").read_text()))
    message = PointCloud2(
        height=layout.height,
        width=layout.width,
        fields=[PointField(**field) for field in layout.fields],
        point_step=layout.point_step,
        row_step=layout.row_step,
        data=array("B", (folder / "os1_128_frame0.bin").read_bytes()),
    )
    message.header.frame_id = "os_sensor"
    message.header.stamp.sec = 991
    return message


@pytest.mark.parametrize("recording", [recorded_cdr, recorded_ouster])
def test_every_point_of_a_recording_comes_back_with_every_field(
    recording: Callable[[Path], PointCloud2], active: Peer, shared_data: Path
) -> None:
    sent = recording(shared_data)
    received = active.label(sent)

    assert received.header == sent.header
    assert (received.height, received.width) == (sent.height, sent.width)
    assert received.fields[: len(sent.fields)] == sent.fields
    assert [field.name for field in received.fields[len(sent.fields) :]] == ["class_id", "probability", "rgb"]
    points = sent.height * sent.width
    before = np.frombuffer(sent.data, np.uint8).reshape(points, sent.point_step)
    after = np.frombuffer(received.data, np.uint8).reshape(points, received.point_step)
    np.testing.assert_array_equal(after[:, : sent.point_step], before)

    column = records(received, ("x", "y", "z", "class_id", "probability"))
    no_return = (column["x"] == 0) & (column["y"] == 0) & (column["z"] == 0)
    assert 0 < no_return.sum() < points
    assert (column["class_id"][no_return] == 255).all()
    assert (column["probability"][no_return] == 0).all()
    expected = 1 + np.round(10 * column["x"][~no_return]).astype(int) % 19
    np.testing.assert_array_equal(column["class_id"][~no_return], expected)


def test_a_cloud_without_points_comes_back_without_points(active: Peer) -> None:
    received = active.label(scan(points=0))

    assert received.width * received.height == 0
    assert received.point_step > 0
    assert len(received.data) == 0
    assert active.next_level() == OK


def test_another_unit_of_intensity_is_told_once(fake_node: NodeProcess, active: Peer) -> None:
    for brightest in (99, 98):
        active.label(point_cloud2(Header(frame_id="velodyne"), cloud_of(np.full((50, 4), brightest, np.float32))))
        assert active.next_level() == WARN
        assert "the parameter intensity_scale converts it" in active.diagnostics[-1].message
    active.label(scan())
    active.spin_until(lambda: active.levels()[-1] == OK, "all well again")
    assert fake_node.log().count("the parameter intensity_scale converts it") == 1


def test_another_reason_is_logged_though_it_is_as_bad_as_the_one_before(fake_node: NodeProcess, active: Peer) -> None:
    errors, silences = (fake_node.log().count(words) for words in ("[ERROR]", "no scan for"))
    start = len(fake_node.log())
    active.set_parameter("input_timeout", 0.5)
    active.spin_until(lambda: fake_node.log().count("no scan for") > silences, "the silence")

    def told(words: str) -> bool:
        active.scans.publish(malformed())
        active.spin(0.1)
        return words in fake_node.log()[start:]

    active.set_parameter("input_timeout", 60.0)
    active.spin_until(lambda: told("scan dropped: malformed"), "the next reason")
    assert fake_node.log().count("[ERROR]") == errors + 2
    assert fake_node.log().count("no scan for") == silences + 1


def test_colours_are_those_of_the_class_map(active: Peer) -> None:
    column = records(active.label(scan()), ("class_id", "rgb"))

    packed = column["rgb"].copy().view(np.uint32)
    colours = np.stack([packed >> 16 & 255, packed >> 8 & 255, packed & 255], axis=1)
    np.testing.assert_array_equal(colours, FakeSegmenter.class_map.colour_table[column["class_id"]])


def test_reliable_and_best_effort_readers_both_receive(active: Peer) -> None:
    best_effort = QoSProfile(depth=1, reliability=ReliabilityPolicy.BEST_EFFORT)
    with active.reading(PointCloud2, "/segment/output/points", best_effort) as clouds:
        while not clouds:
            active.label(scan())  # the peer's own reader is reliable
            active.spin(0.1)


def test_the_class_map_reaches_a_late_reader_and_names_the_ids_of_the_cloud(active: Peer) -> None:
    with active.reading(ClassMap, "/segment/class_map", LATCHED) as maps:
        active.spin_until(lambda: maps, "the class map")

    assert maps[0].name == "semantickitti"
    assert maps[0].unlabelled_id == 255
    ids = {entry.id: entry.name for entry in maps[0].classes}
    assert ids == dict(list(enumerate(FakeSegmenter.class_map.names))[1:])
    assert set(records(active.label(scan()), ("class_id",))["class_id"]) <= set(ids)


def test_the_status_tells_of_each_scan(active: Peer) -> None:
    message = scan(points=30)
    message.data[0:4] = array("B", np.float32(np.nan).tobytes())
    active.label(message)
    active.spin_until(lambda: active.statuses, "a status")

    status = active.statuses[-1]
    assert status.header == message.header
    assert (status.points, status.labelled) == (30, 29)
    assert status.voxelise_ms == pytest.approx(2.0)
    parts = status.decode_ms + status.voxelise_ms + status.network_ms + status.encode_ms
    assert 0 < parts <= status.total_ms
    assert status.received == status.published + status.dropped
    assert status.device == "cpu"


def test_one_malformed_among_a_hundred_costs_one_scan_and_one_warning(active: Peer, fake_node: NodeProcess) -> None:
    start, logged = active.dropped(), fake_node.log().count("malformed")
    for number in range(100):
        if number == 50:
            active.scans.publish(malformed())
            active.spin_until(lambda: WARN in active.levels(), "a warning")
        else:
            active.label(scan(stamp=(number, 0)))
    active.spin_until(lambda: active.levels()[-1] == OK, "all well again")

    assert [message.header.stamp.sec for message in active.labelled] == [n for n in range(100) if n != 50]
    assert active.levels().count(WARN) == 1
    assert ERROR not in active.levels()
    assert active.dropped() == start + 1
    assert fake_node.log().count("malformed") == logged + 1
    assert fake_node.is_alive()


@pytest.mark.parametrize(
    ("fault", "words"), [(Fault.OUT_OF_MEMORY, "out of memory"), (Fault.EXCEPTION, "RuntimeError")]
)
def test_a_failure_is_a_warning_three_in_a_row_are_an_error_and_the_next_scan_works(
    fault: Fault, words: str, active: Peer
) -> None:
    active.scans.publish(scan(first_intensity=fault))
    active.spin_until(lambda: WARN in active.levels(), "a warning")
    assert words in active.diagnostics[-1].message
    active.label(scan())

    for _ in range(3):
        dropped = active.dropped()
        active.scans.publish(scan(first_intensity=fault))
        active.spin_until(lambda: active.dropped() > dropped, "a dropped scan")  # noqa: B023
    assert active.levels()[-1] == ERROR
    assert words in active.diagnostics[-1].message

    active.label(scan())
    active.spin_until(lambda: active.levels()[-1] == OK, "all well again")


def test_silent_input_is_an_error_until_the_next_scan(active: Peer) -> None:
    active.set_parameter("input_timeout", 0.5)
    active.spin_until(lambda: ERROR in active.levels(), "an error")
    told = active.diagnostics[-1].message
    assert "no scan for " in told
    assert "/segment/input/points has 1 publisher of sensor_msgs/msg/PointCloud2" in told

    active.set_parameter("input_timeout", 60.0)
    active.label(scan())
    assert active.next_level() == OK


def test_a_late_cloud_is_a_warning_a_run_of_them_an_error(active: Peer) -> None:
    active.set_parameter("late_after", 1.0)
    active.label(scan(first_intensity=Fault.SLOW))
    assert active.next_level() == WARN
    active.label(scan())
    assert active.next_level() == OK

    for _ in range(3):
        active.label(scan(first_intensity=Fault.SLOW))
    assert active.next_level() == ERROR
    active.set_parameter("late_after", 60.0)
    active.label(scan())
    active.spin_until(lambda: active.levels()[-1] == OK, "all well again")


def test_a_reader_with_incompatible_quality_of_service_is_told_what_to_do(active: Peer, fake_node: NodeProcess) -> None:
    words = "A reader of /segment/output/points gets nothing"
    with active.reading(PointCloud2, "/segment/output/points", LATCHED):
        active.spin_until(lambda: words in fake_node.log(), "the explanation")
    assert "RELIABLE, VOLATILE" in fake_node.log()


def test_scans_are_not_labelled_while_nobody_reads(active: Peer) -> None:
    with active.not_reading():
        active.clear()
        active.scans.publish(scan())
        active.spin_until(lambda: active.diagnostics, "diagnostics")
        assert "nobody reads" in active.diagnostics[-1].message
        published, unread = active.published(), active.value("not labelled, nobody reads")
        active.scans.publish(scan())
        active.spin_until(lambda: active.value("not labelled, nobody reads") != unread, "the count")
        assert active.published() == published
    last = scan(stamp=(0, 2))
    active.label(last)
    active.spin_until(lambda: active.statuses and active.statuses[-1].header == last.header, "its status")
    status = active.statuses[-1]
    assert status.unread > int(unread)
    assert status.received == status.published + status.dropped + status.unread


@pytest.mark.parametrize(
    ("name", "value", "words"),
    [
        ("votes", 0, "out of range"),
        ("input_timeout", -1.0, "out of range"),
        ("intensity_scale", float("nan"), "above 0"),
        ("training_from_sensor", [0.0, 0.0, 1.0], "six finite numbers, not [0.0, 0.0, 1.0]"),
        ("training_from_sensor", [0.0, 0.0, float("inf"), 0.0, 0.0, 0.0], "six finite numbers"),
        ("device", "cuda:01", "auto, cpu, cuda or cuda:N"),
        ("precision", "fp64", "one of fp32, bf16, fp16"),
        ("weights", "other", "deactivate or clean up first"),
        ("autostart", False, "read-only"),
        ("votes", "many", "type"),
    ],
)
def test_a_parameter_that_cannot_be_is_refused_with_the_reason(
    name: str, value: object, words: str, connected: Peer
) -> None:
    assert words in connected.set_parameter(name, value)


def test_parameters_of_the_sensor_apply_to_the_next_scan(active: Peer) -> None:
    before = records(active.label(scan()), ("x", "class_id"))
    assert active.set_parameter("training_from_sensor", [0.5, 0.0, 0.0, 0.0, 0.0, 0.0]) == ""
    after = records(active.label(scan()), ("x", "class_id"))
    assert active.set_parameter("training_from_sensor", [0.0] * 6) == ""

    np.testing.assert_array_equal(after["x"], before["x"])
    np.testing.assert_array_equal(after["class_id"][:10], before["class_id"][5:15])
