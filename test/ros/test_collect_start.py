"""`collect` over real DDS: what stands against a recording, how that is told, and how one begins."""

from __future__ import annotations

import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

import pytest
from builtin_interfaces.msg import Time
from diagnostic_msgs.msg import DiagnosticStatus
from node_process import NodeProcess
from rclpy.serialization import deserialize_message
from ros_peer import MANY
from rosgraph_msgs.msg import Clock
from tf2_msgs.msg import TFMessage
from vehicle import Start, Vehicle, cloud, image, messages, odometry, only_bag, transform_message

from twodpass_core.geometry.rigid_transform import RigidTransform
from twodpass_core.recording import Manifest
from twodpass_ros.collect import main

WARN, ERROR = DiagnosticStatus.WARN, DiagnosticStatus.ERROR


def test_start_is_refused_until_all_is_right(start: Start, vehicle: Vehicle, tmp_path: Path) -> None:
    start(autostart="false", input_timeout=60.0)
    vehicle.wait_for_connection()

    def refused(words: str, say: Callable[[], object] = lambda: None) -> None:
        """When the vehicle says so."""
        answer = ""
        for _ in range(100):
            say()
            vehicle.spin(0.1)
            success, answer = vehicle.call_trigger("start")
            assert not success
            if words in answer:
                break
        assert words in answer
        assert vehicle.wait_for_words(words) == WARN

    refused("nothing comes on /collect/input/points")
    refused("no CameraInfo: nothing comes on /front/camera_info", lambda: vehicle.send_set(1000, info=False))
    refused("no camera matrix", lambda: vehicle.inform(1000, focal=0.0))
    refused("is 64 x 48 pixels, but /front/camera_info is of 128 x 48", lambda: vehicle.inform(1000, width=128))
    refused("there is no frame", lambda: vehicle.inform(1000))
    vehicle.mount()
    refused("the clocks differ", lambda: vehicle.send_set(2000, offset=5000))
    assert not list(tmp_path.iterdir())

    assert vehicle.set_parameter("on_problem", "warn") == ""
    assert vehicle.call_trigger("start")[0]
    assert vehicle.wait_for_words("the clocks differ") == WARN
    assert vehicle.next_status().recording
    for name, value in (("min_distance", 1.0), ("use_sim_time", True)):
        assert f"{name} is read when recording starts: call ~/stop first" in vehicle.set_parameter(name, value)
    assert not vehicle.call_trigger("start")[0]
    assert vehicle.call_trigger("stop") == (True, f"0 sets in {only_bag(tmp_path)}")
    assert not vehicle.next_status().recording
    assert Manifest.read(only_bag(tmp_path)).complete


def test_a_topic_that_nobody_publishes_is_told_with_those_there_are(start: Start, vehicle: Vehicle) -> None:
    start(images="[/rear/image_raw]", autostart="false")
    types = "sensor_msgs/msg/Image or sensor_msgs/msg/CompressedImage"
    vehicle.wait_for_words(f"/rear/image_raw has no publisher ({types} comes on /front/image_raw")


def test_what_newly_stands_against_a_recording_is_logged(start: Start, vehicle: Vehicle) -> None:
    process = start()
    vehicle.wait_for_connection()
    process.wait_for_log("not recording: nothing comes on /collect/input/points")

    def logged(words: str, start: int) -> None:
        for stamp in range(start, start + 10_000, 100):
            if words in process.log():
                return
            vehicle.send_set(stamp)
            vehicle.spin(0.1)
        raise AssertionError(f"{words!r} is not in\n{process.log()}")

    logged("not recording: front: there is no frame", 1000)  # as much of an error as before, and another one
    vehicle.mount()
    logged("recording to ", 20_000)


def test_a_warning_is_not_enough_where_there_is_nothing_to_record(
    start: Start, vehicle: Vehicle, tmp_path: Path
) -> None:
    start(on_problem="warn", slop=0.01)
    vehicle.wait_for_connection()
    assert vehicle.wait_for_words("nothing comes on /front/image_raw") == ERROR
    success, answer = vehicle.call_trigger("start")
    assert not success
    assert "nothing comes on /collect/input/points" in answer
    assert not list(tmp_path.iterdir())
    vehicle.drive(range(0, 2000, 100), pause=0.05, offset=30)
    assert vehicle.wait_for_words("no set has formed yet; ") == ERROR
    reason = "scans have no image of front within the slop of 0.01 s, the nearest is 0.030 s away: trigger both"
    assert reason in vehicle.diagnostics[-1].message
    vehicle.drive(range(2000, 4000, 100), pause=0.05)  # without any transform
    vehicle.spin_until(lambda: vehicle.statuses[-1].recording, "a recording")
    assert vehicle.wait_for_words("there is no frame") == WARN


def test_stamps_that_say_nothing_stand_against_a_recording(start: Start, vehicle: Vehicle, tmp_path: Path) -> None:
    start(slop=0.05)
    vehicle.wait_for_connection()
    vehicle.mount()

    def drive_until(words: str, offset: int, fixed: int | None = None) -> None:
        for _ in range(100):
            vehicle.send_set(int(time.time() * 1000) if fixed is None else fixed, offset)
            vehicle.spin(0.1)
            if vehicle.diagnostics and words in vehicle.diagnostics[-1].message:
                return
        raise AssertionError(f"{words!r} was not said")

    drive_until("stamps of /collect/input/points do not move: ", 3, fixed=0)
    drive_until("the clocks differ: stamps are of the future, on arrival of /front/image_raw -0.", 250)
    assert not list(tmp_path.iterdir())
    drive_until("recording to ", 3)


def test_a_tool_that_publishes_static_transforms_for_once_does_not_hide_those_that_stay(
    start: Start, vehicle: Vehicle
) -> None:
    vehicle.node.create_publisher(TFMessage, "/tf_static", MANY)
    vehicle.mount()  # before the node is there
    start()
    vehicle.wait_for_connection()
    vehicle.drive(range(0, 5000, 100), pause=0.05)
    assert vehicle.statuses[-1].recording


def test_without_time_nothing_is_recorded(start: Start, vehicle: Vehicle, tmp_path: Path) -> None:
    """Everything would be logged at time 0."""
    start(use_sim_time="true", on_problem="warn")
    vehicle.wait_for_connection()
    vehicle.mount()
    vehicle.drive(range(0, 2000, 100))
    assert vehicle.wait_for_words("no time comes on /clock: play the bag with --clock") == ERROR
    assert not vehicle.call_trigger("start")[0]
    assert not list(tmp_path.iterdir())
    clock = vehicle.node.create_publisher(Clock, "/clock", MANY)
    for stamp in range(2000, 20_000, 100):
        clock.publish(Clock(clock=Time(sec=stamp // 1000)))
        vehicle.send_set(stamp)
        vehicle.spin(0.05)
        if vehicle.statuses[-1].sets:
            break
    assert vehicle.statuses[-1].recording


def test_a_message_that_no_bag_takes_stands_against_a_recording(start: Start, vehicle: Vehicle) -> None:
    start(on_problem="warn")
    vehicle.wait_for_connection()
    vehicle.points.publish(cloud(0))
    vehicle.images["front"].publish(image("front", 3, width=4000, height=3500))
    words = "/front/image_raw: a message of 40.1 MiB is more than the 40 MiB that readers of bags take"
    assert vehicle.wait_for_words(words) == ERROR
    success, answer = vehicle.call_trigger("start")
    assert not success
    assert words in answer


def test_a_recording_begins_with_the_motion_before_it(start: Start, vehicle: Vehicle, tmp_path: Path) -> None:
    start(autostart="false", odometry="/odometry")
    vehicle.wait_for_connection()
    vehicle.mount()
    success, stamp = False, 0
    while not success:  # the last scan waits for the next one, and is in the first set
        stamp += 100
        assert stamp < 10_000
        vehicle.moving.publish(
            TFMessage(transforms=[transform_message("odom", "lidar", RigidTransform.identity(), stamp)])
        )
        vehicle.odometry.publish(odometry(stamp, 0.0))
        vehicle.spin(0.05)
        vehicle.send_set(stamp)
        vehicle.spin(0.05)
        success, _ = vehicle.call_trigger("start")
    assert vehicle.call_trigger("stop")[0]
    bag = only_bag(tmp_path)
    recorded = messages(bag)
    first = Manifest.read(bag).sets[0].stamp_ns
    transforms = [deserialize_message(data, TFMessage).transforms[0] for _, data in recorded["/tf"]]
    assert first in [entry.header.stamp.sec * 10**9 + entry.header.stamp.nanosec for entry in transforms]
    assert recorded["/odometry"]
    received = [at for at, _ in recorded["/tf"]]
    assert received == sorted(received)
    assert recorded["/tf_static"][0][0] <= received[0]


def test_scans_alone_are_recorded_where_there_are_no_cameras(start: Start, vehicle: Vehicle, tmp_path: Path) -> None:
    start(images="[]")
    vehicle.spin_until(lambda: vehicle.points.get_subscription_count(), "connection")
    for stamp in range(0, 2000, 100):
        vehicle.points.publish(cloud(stamp))
        vehicle.spin(0.05)
    vehicle.wait_for_status(lambda status: status.recording and status.sets, "sets")
    assert vehicle.call_trigger("stop")[0]
    manifest = Manifest.read(only_bag(tmp_path))
    assert {entry.name for entry in manifest.topics} == {"/collect/input/points"}
    assert {len(entry.offset_ns) for entry in manifest.sets} == {0}


def test_scans_that_nobody_can_read_are_not_recorded(start: Start, vehicle: Vehicle, tmp_path: Path) -> None:
    start(images="[]")
    vehicle.spin_until(lambda: vehicle.points.get_subscription_count(), "connection")
    for stamp in range(0, 1000, 100):
        broken = cloud(stamp)
        broken.data = broken.data[:-5]
        vehicle.points.publish(broken)
        vehicle.spin(0.05)
    assert vehicle.wait_for_words("/collect/input/points is malformed: data: ") == ERROR
    assert not list(tmp_path.iterdir())


def test_one_topic_named_in_two_ways_is_refused() -> None:
    with NodeProcess(main, "-p", "images:=[/front/image, front/image]") as process:
        assert process.wait() == 1
        assert "some are one and the same topic" in process.log()


def test_parameters_that_cannot_be_are_refused_at_start() -> None:
    with NodeProcess(main, "-p", "images:=[/a/image, /b/image]", "-p", "camera_infos:=[/a/info]") as process:
        assert process.wait() == 1
        assert "as many as topics in images (2)" in process.log()


@pytest.mark.parametrize("package", ["message_filters", "tf2_msgs"])
def test_a_missing_package_is_said_in_one_sentence(package: str) -> None:
    code = f"import sys; sys.modules['{package}'] = None; from twodpass_ros.collect import main; sys.exit(main([]))"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=60, check=False)
    assert done.returncode == 1
    assert f"collect needs {package}, which is not installed: sudo apt install" in done.stderr
    assert "Traceback" not in done.stderr
