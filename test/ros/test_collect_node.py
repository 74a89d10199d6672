"""`collect` over real DDS: what is recorded, and that no trouble outlives its message."""

from __future__ import annotations

import resource
import signal
import sys
from array import array
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from diagnostic_msgs.msg import DiagnosticStatus
from geometry_msgs.msg import TransformStamped
from mcap.reader import make_reader
from rclpy.qos import QoSProfile, ReliabilityPolicy
from rclpy.serialization import deserialize_message
from ros_peer import MANY
from rosbags.rosbag2 import Reader
from sensor_msgs.msg import CompressedImage, Image, PointCloud2
from tf2_msgs.msg import TFMessage
from vehicle import CAMERA_FROM_LIDAR, Start, Vehicle, cloud, compressed, image, is_nan, messages, odometry, only_bag

from twodpass_core.recording import Manifest
from twodpass_core.recording.recovery import recover
from twodpass_ros.collect import main

OK, WARN, ERROR = DiagnosticStatus.OK, DiagnosticStatus.WARN, DiagnosticStatus.ERROR


def test_sets_are_recorded_as_they_were_sent(start: Start, vehicle: Vehicle, tmp_path: Path) -> None:
    process = start()
    vehicle.wait_for_recording()
    stamps = range(100_000, 103_000, 100)
    vehicle.drive(stamps)
    status = vehicle.wait_for_status(lambda status: status.sets >= 28, "sets")
    assert status.recording
    assert status.bag == str(only_bag(tmp_path))
    assert list(status.offset_ms) == [3.0]
    assert status.sets_per_second > 0
    assert status.disk_free_bytes > 0
    assert process.end(signal.SIGINT, 20) == 0

    bag = only_bag(tmp_path)
    recorded = messages(bag)
    scans = [deserialize_message(data, PointCloud2) for _, data in recorded["/collect/input/points"]]
    images = [deserialize_message(data, Image) for _, data in recorded["/front/image_raw"]]
    assert [scan for scan in scans if scan.header.stamp.sec >= 100] == [cloud(stamp) for stamp in stamps]
    assert [picture for picture in images if picture.header.stamp.sec >= 100] == [
        image("front", stamp + 3) for stamp in stamps
    ]
    assert len(recorded["/tf_static"]) == 1
    assert len(recorded["/front/camera_info"]) >= 29

    manifest = Manifest.read(bag)
    assert manifest.complete
    assert len(manifest.sets) == len(scans) == len(images)
    assert {entry.offset_ns["front"] for entry in manifest.sets} == {3_000_000}
    assert manifest.calibration is not None
    camera = manifest.calibration.cameras["front"]
    assert camera.camera_from_lidar is not None
    np.testing.assert_allclose(np.reshape(camera.camera_from_lidar, (4, 4)), CAMERA_FROM_LIDAR.matrix(), atol=1e-12)
    with next(bag.glob("*.mcap")).open("rb") as file:
        summary = make_reader(file).get_summary()
    assert summary is not None
    assert {schema.name for schema in summary.schemas.values()} >= {"sensor_msgs/msg/PointCloud2"}


def test_odometry_that_has_ended_does_not_hold_sets_back(start: Start, vehicle: Vehicle, tmp_path: Path) -> None:
    start(min_distance=1.0, odometry="/odometry", input_timeout=0.5)
    vehicle.wait_for_recording()
    vehicle.odometry.publish(odometry(0, 0.0))
    before = vehicle.next_status().sets
    vehicle.drive(range(100_000, 102_000, 100))
    assert vehicle.wait_for_status(lambda status: status.sets >= before + 18, "sets without a pose")
    vehicle.wait_for_words("nothing on /odometry for ")
    assert "min_distance cannot be kept" in vehicle.diagnostics[-1].message


def test_a_stream_with_every_trouble_and_the_next_set_is_fine(start: Start, vehicle: Vehicle, tmp_path: Path) -> None:
    process = start()
    vehicle.wait_for_recording()
    vehicle.drive(range(50_000, 51_000, 100))

    before = vehicle.next_status()
    vehicle.moving.publish(TFMessage(transforms=[TransformStamped()]))  # no names, no rotation
    assert vehicle.wait_for_words("a message of /tf is of no use") == WARN

    for stamp in range(52_000, 53_000, 100):  # every third image is lost, the others are late and jitter
        vehicle.points.publish(cloud(stamp))
        if stamp % 300:
            vehicle.spin(0.05)
            vehicle.images["front"].publish(image("front", stamp + stamp // 100 % 7))
        vehicle.spin(0.01)
    vehicle.drive(range(54_000, 55_000, 100), offset=-50)  # the very slop
    vehicle.drive(range(10_000, 11_000, 100))  # back in time
    status = vehicle.wait_for_status(lambda status: status.sets >= before.sets + 6 + 9 + 8, "the sets")
    assert status.recording
    assert dict(zip(status.topics, status.dropped, strict=True))["/tf"] == 0

    process.kill()
    bag = only_bag(tmp_path)
    recover(bag)
    stamps = [entry.stamp_ns // 1_000_000 for entry in Manifest.read(bag).sets]
    assert set(range(10_100, 10_700, 100)) <= set(stamps)
    assert {52_000, 52_100, 52_300, 52_400, 52_600, 52_700} <= set(stamps)
    assert not {52_200, 52_500, 52_800} & set(stamps)
    assert len(messages(bag)["/front/image_raw"]) == len(stamps)
    assert len(messages(bag)["/tf"]) == 1  # as it was received


def test_the_gate_and_the_counts(start: Start, vehicle: Vehicle, tmp_path: Path) -> None:
    start(min_distance=1.0, odometry="/odometry")
    vehicle.odometry.publish(odometry(0, 0.0))
    vehicle.wait_for_recording()
    for step in range(1, 21):  # 0.25 m a set
        vehicle.odometry.publish(odometry(100_000 + 100 * step, 0.25 * step))
        vehicle.spin(0.02)
        vehicle.send_set(100_000 + 100 * step)
        vehicle.spin(0.02)
    vehicle.points.publish(cloud(100_000))  # late
    vehicle.spin(0.5)
    assert vehicle.call_trigger("stop")[0]
    manifest = Manifest.read(only_bag(tmp_path))
    assert 4 <= sum(entry.stamp_ns >= 100 * 10**9 for entry in manifest.sets) <= 6
    assert manifest.dropped["/collect/input/points"] >= 1
    assert "/odometry" in {topic.name for topic in manifest.topics}
    status = vehicle.next_status()
    assert dict(zip(status.topics, status.dropped, strict=True))["/collect/input/points"] >= 1


@pytest.mark.parametrize("folder", ["~nobody-of-that-name/drives", "/tmp/" + 300 * "x"])
def test_a_folder_that_cannot_be_looked_at_is_told(start: Start, vehicle: Vehicle, folder: str) -> None:
    start(folder=f"'{folder}'")
    vehicle.wait_for_connection()
    vehicle.mount()
    vehicle.drive(range(0, 500, 100))
    words = "there is no such user" if folder.startswith("~") else "cannot be looked at: File name too long"
    assert vehicle.wait_for_words(words) == ERROR
    assert not vehicle.next_status().recording
    succeeded, answer = vehicle.call_trigger("start")
    assert not succeeded
    assert words in answer


def test_a_full_disk_ends_the_recording_and_not_the_node(start: Start, vehicle: Vehicle, tmp_path: Path) -> None:
    process = start(min_free_bytes=2**40)
    vehicle.wait_for_connection()
    vehicle.mount()
    vehicle.drive(range(0, 500, 100))
    assert vehicle.wait_for_words("are to stay free: make room, or lower min_free_bytes") == ERROR
    assert not vehicle.next_status().recording
    assert not list(tmp_path.iterdir())
    assert vehicle.set_parameter("min_free_bytes", 0) == ""
    vehicle.wait_for_status(lambda status: status.recording, "a recording, as soon as there is room")
    assert process.is_alive()


def test_a_folder_that_cannot_be_is_told_before_any_sensor_is_there(
    start: Start, vehicle: Vehicle, tmp_path: Path
) -> None:
    (tmp_path / "file").touch()
    start(folder=f"'{tmp_path}/file/bags'")
    vehicle.wait_for_connection()
    assert vehicle.wait_for_words(f"folder {tmp_path}/file/bags: {tmp_path}/file is a file") == ERROR
    (tmp_path / "file").unlink()
    vehicle.wait_for_recording()
    assert only_bag(tmp_path / "file/bags").exists()


def test_stopping_what_has_failed_just_before_is_no_success(start: Start, vehicle: Vehicle, tmp_path: Path) -> None:
    start(main_with_small_files, images="['']")
    vehicle.spin_until(lambda: vehicle.points.get_subscription_count(), "connection")
    big = cloud(0, 400_000)
    big.data = array("B", np.random.default_rng(0).bytes(len(big.data)))
    vehicle.points.publish(big)
    vehicle.wait_for_status(lambda status: status.recording, "a recording")
    for second in range(1, 4):
        big.header.stamp.sec = second
        vehicle.points.publish(big)
    success, answer = vehicle.call_trigger("stop")
    assert not success
    assert "cannot be written" in answer


def test_a_disk_that_fails_on_the_way_leaves_what_was_written(start: Start, vehicle: Vehicle, tmp_path: Path) -> None:
    process = start(main_with_small_files, images="['']")
    vehicle.spin_until(lambda: vehicle.points.get_subscription_count(), "connection")
    big = cloud(0, 60_000)
    noise = np.random.default_rng(0)
    number = 0
    while not vehicle.diagnostics or "cannot be written" not in vehicle.diagnostics[-1].message:
        big.data = array("B", noise.bytes(len(big.data)))
        big.header.stamp.sec = number = number + 1
        assert number < 300
        vehicle.points.publish(big)
        vehicle.spin(0.1)
    assert vehicle.diagnostics[-1].level == ERROR
    assert not vehicle.next_status().recording
    assert process.is_alive()
    bag = only_bag(tmp_path)
    manifest = Manifest.read(bag)
    assert manifest.error
    assert len(messages(bag)["/collect/input/points"]) == len(manifest.sets) > 1


def test_two_cameras_one_compressed_best_effort_without_reliability(start: Start, tmp_path: Path) -> None:
    with Vehicle(("front", "left")) as vehicle:
        start(images="[/front/image_raw, /left/image_raw/compressed]", autostart="false")
        words = ""
        loose = QoSProfile(depth=5, reliability=ReliabilityPolicy.BEST_EFFORT)
        left = vehicle.node.create_publisher(CompressedImage, "/left/image_raw/compressed", loose)
        vehicle.spin_until(lambda: left.get_subscription_count() and vehicle.statuses, "connection")
        vehicle.mount()

        def drive(stamps: range) -> None:
            for stamp in stamps:
                vehicle.send_set(stamp)
                left.publish(compressed("left", stamp - 4))
                vehicle.spin(0.03)

        success, second = False, 0
        while not success:
            second += 1
            assert second < 100, words
            drive(range(1000 * second, 1000 * (second + 1), 100))
            success, words = vehicle.call_trigger("start")
        drive(range(200_000, 202_000, 100))
        status = vehicle.wait_for_status(lambda status: status.sets >= 18, "sets")
        assert list(status.cameras) == ["front", "left"]
        assert list(status.offset_ms) == [3.0, -4.0]
        assert is_nan(status.calibration_score)
        assert vehicle.call_trigger("stop")[0]
        with Reader(only_bag(tmp_path)) as reader:
            extras: dict[str, Any] = {connection.topic: connection.ext for connection in reader.connections}
            qos = {topic: extra.offered_qos_profiles[0].reliability.name for topic, extra in extras.items()}
        assert qos["/left/image_raw/compressed"] == "BEST_EFFORT"
        assert qos["/front/image_raw"] == "RELIABLE"


@pytest.mark.parametrize(
    ("reliability", "sets"),
    [(ReliabilityPolicy.RELIABLE, 5), (ReliabilityPolicy.BEST_EFFORT, 5), (ReliabilityPolicy.RELIABLE, 0)],
)
def test_a_topic_that_becomes_of_another_type_is_told(
    start: Start, vehicle: Vehicle, reliability: ReliabilityPolicy, sets: int
) -> None:
    start(input_timeout=0.5)
    vehicle.wait_for_connection()
    vehicle.drive(range(0, 100 * sets, 100))
    vehicle.node.destroy_publisher(vehicle.images.pop("front"))
    qos = QoSProfile(depth=10, reliability=reliability)
    other = vehicle.node.create_publisher(CompressedImage, "/front/image_raw", qos)
    vehicle.wait_for_words("it is sensor_msgs/msg/CompressedImage now, and was sensor_msgs/msg/Image; restart collect")
    vehicle.node.destroy_publisher(other)


def test_the_overlay_shows_the_scan_in_the_picture(start: Start, vehicle: Vehicle) -> None:
    start(score_interval=0.0)
    with vehicle.reading(Image, "/collect/overlay/front", MANY) as pictures:
        vehicle.wait_for_recording()
        vehicle.drive(range(50_000, 52_000, 100))
        vehicle.spin_until(lambda: any(p.header.stamp.sec == 51 for p in pictures), "a picture")
    picture = next(p for p in pictures if p.header.stamp.sec == 51)
    stamp = 51_000 + picture.header.stamp.nanosec // 1_000_000
    sent = image("front", stamp)
    assert (picture.width, picture.height, picture.encoding) == (sent.width, sent.height, "rgb8")
    assert picture.header == sent.header
    changed = np.frombuffer(picture.data, np.uint8) != np.frombuffer(sent.data, np.uint8)
    assert 10 < np.count_nonzero(changed.reshape(sent.height, sent.width, 3).any(axis=2)) < 500


def test_without_cv_bridge_only_the_overlay_is_missing(start: Start, vehicle: Vehicle) -> None:
    start(main_without_cv_bridge, score_interval=0.0)
    with vehicle.reading(Image, "/collect/overlay/front", MANY) as pictures:
        vehicle.wait_for_recording()
        vehicle.drive(range(50_000, 51_000, 100))
        assert vehicle.wait_for_words("showing the overlay needs cv_bridge, which is not installed: sudo apt") == WARN
        vehicle.wait_for_status(lambda status: status.sets >= 8, "sets")
    assert not pictures


def main_with_small_files(arguments: list[str]) -> int:
    resource.setrlimit(resource.RLIMIT_FSIZE, (6 * 2**20, 6 * 2**20))
    return main(arguments)


def main_without_cv_bridge(arguments: list[str]) -> int:
    sys.modules["cv_bridge"] = None  # type: ignore[assignment]
    return main(arguments)
