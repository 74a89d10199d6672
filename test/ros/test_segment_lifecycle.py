"""The node's life: it starts, stops and fails to start in an orderly way, whatever it is doing."""

from __future__ import annotations

import signal
import statistics
import subprocess
import sys
import time
from collections.abc import Callable

import pytest
from clouds import scan
from fake_segment import Fault
from lifecycle_msgs.msg import Transition
from lifecycle_msgs.srv import ChangeState
from node_process import HANG, NodeProcess
from segment_peer import ACTIVE, FINALIZED, INACTIVE, UNCONFIGURED, Peer
from sensor_msgs.msg import PointCloud2

NO_AUTOSTART = ("-p", "autostart:=false")


def unconfigured(peer: Peer) -> None:
    peer.wait_for_state(UNCONFIGURED)


def inactive(peer: Peer) -> None:
    unconfigured(peer)
    assert peer.change_state(Transition.TRANSITION_CONFIGURE)


def active(peer: Peer) -> None:
    inactive(peer)
    assert peer.change_state(Transition.TRANSITION_ACTIVATE)


def in_a_scan(peer: Peer) -> None:
    active(peer)
    peer.wait_for_active_node()
    peer.scans.publish(scan(first_intensity=Fault.HANGS))
    peer.spin(0.3)


def finalized(peer: Peer) -> None:
    unconfigured(peer)
    assert peer.change_state(Transition.TRANSITION_UNCONFIGURED_SHUTDOWN)
    assert peer.state() == FINALIZED


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
@pytest.mark.parametrize("reach", [unconfigured, inactive, active, in_a_scan, finalized])
def test_a_signal_ends_the_node_orderly(reach: Callable[[Peer], None], number: signal.Signals, peer: Peer) -> None:
    with NodeProcess.fake(*NO_AUTOSTART) as node:
        reach(peer)
        assert node.end(number, timeout=5.0) == 0
        assert "Traceback" not in node.log()


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_a_signal_ends_the_node_while_it_loads_weights(number: signal.Signals) -> None:
    with NodeProcess.fake(weights="loads_forever") as node:
        node.wait_for_log("Loading")
        assert node.end(number, timeout=5.0) == 0
        assert "Traceback" not in node.log()


def test_a_signal_ends_the_node_in_a_transition_that_loads_weights(peer: Peer) -> None:
    with NodeProcess.fake(*NO_AUTOSTART, weights="loads_forever") as node:
        unconfigured(peer)
        request = ChangeState.Request(transition=Transition(id=Transition.TRANSITION_CONFIGURE))
        peer.client(ChangeState, "/segment/change_state").call_async(request)
        node.wait_for_log("Loading")
        assert node.end(signal.SIGTERM, timeout=5.0) == 0
        assert "[ERROR]" not in node.log()
        assert "Traceback" not in node.log()


def test_while_weights_are_loaded_at_start_the_node_answers(peer: Peer) -> None:
    with NodeProcess.fake(weights="loads_forever") as node:
        peer.spin_until(lambda: peer.diagnostics, "diagnostics")
        assert peer.diagnostics[-1].message == "loading the weights"
        assert peer.state() == UNCONFIGURED
        assert peer.set_parameter("votes", 2) == ""
        assert "deactivate or clean up first" in peer.set_parameter("weights", "quick")
        assert peer.change_state(Transition.TRANSITION_UNCONFIGURED_SHUTDOWN)
        assert peer.state() == FINALIZED
        assert node.end(signal.SIGINT, timeout=5.0) == 0


def test_a_transition_asked_for_while_weights_are_loaded_takes_what_is_loaded(peer: Peer) -> None:
    with NodeProcess.fake(weights="loads_slowly") as node:
        node.wait_for_log("Loading")
        assert peer.change_state(Transition.TRANSITION_CONFIGURE)
        peer.spin(0.3)
        assert peer.state() == INACTIVE
        assert node.log().count("Loading") == 1
        assert peer.change_state(Transition.TRANSITION_ACTIVATE)
        peer.wait_for_active_node()


@pytest.mark.parametrize(
    ("weights", "words"),
    [("absent", "absent: cannot be read"), ("no_driver", "no NVIDIA driver")],
)
def test_without_usable_weights_the_node_says_so_once_and_can_be_tried_again(
    weights: str, words: str, peer: Peer
) -> None:
    with NodeProcess.fake(weights=weights) as node:
        node.wait_for_log(words)
        assert peer.state() == UNCONFIGURED
        (told,) = (line for line in node.log().splitlines() if "[ERROR]" in line)
        assert told.endswith(
            "ros2 param set /segment weights FILE (or another parameter that is to blame); "
            "ros2 lifecycle set /segment configure; "
            "ros2 lifecycle set /segment activate"
        )
        peer.spin_until(lambda: peer.diagnostics, "diagnostics")
        assert words in peer.diagnostics[-1].message

        assert not peer.change_state(Transition.TRANSITION_CONFIGURE)
        assert peer.set_parameter("weights", "quick") == ""
        assert peer.change_state(Transition.TRANSITION_CONFIGURE)
        assert peer.change_state(Transition.TRANSITION_ACTIVATE)
        peer.wait_for_active_node()


def test_without_weights_named_it_takes_those_that_come_with_it_and_says_what_they_know() -> None:
    with NodeProcess.fake(weights="") as node:
        node.wait_for_log("which know simulated streets only")
        assert "default.safetensors" in node.log()


def test_the_weights_that_come_with_it_can_be_asked_for_by_name(peer: Peer) -> None:
    with NodeProcess.fake(weights="default") as node:
        peer.wait_for_active_node()
        assert "default.safetensors" in node.log()
        assert "No `weights` given" not in node.log()


def test_input_that_nobody_publishes_is_told_with_what_to_do(peer: Peer) -> None:
    peer.node.create_publisher(PointCloud2, "/velodyne_points", 1)
    with NodeProcess.fake("-r", "~/input/points:=/lidar", "-p", "input_timeout:=0.1"):
        words = "s: /lidar has no publisher, remap ~/input/points to the topic of the sensor"
        others = " (sensor_msgs/msg/PointCloud2 comes on /velodyne_points)"
        peer.spin_until(
            lambda: any(words in status.message and others in status.message for status in peer.diagnostics),
            "a diagnostic that names the topic there is",
        )


@pytest.mark.parametrize(
    "argument",
    [
        "device:=gpu",
        "votes:=0",
        "votes:=many",
        "votes:=[]",
        "training_from_sensor:=[1.0]",
        "training_from_sensor:=[]",
        "training_from_sensor:=[0,0,2,0,0,0]",
    ],
)
def test_a_refused_parameter_at_start_ends_the_node_with_one_sentence(argument: str) -> None:
    with NodeProcess.fake("-p", argument) as node:
        assert node.wait() == 1
        assert argument.partition(":")[0] in node.log()
        assert node.log().count("\n") == 1


def test_a_whole_number_where_decimal_ones_are_needed_is_told_how_to_be_written() -> None:
    with NodeProcess.fake("-p", "intensity_scale:=1") as node:
        assert node.wait() == 1
        assert "'intensity_scale'" in node.log()
        assert "with a decimal point, 1.0" in node.log()


def test_a_signal_while_the_node_is_made_ends_it_orderly() -> None:
    code = (
        "import os, signal, sys, twodpass_ros.segment.node as module\n"
        "from twodpass_ros.segment import main\n"
        "class Late(module.SegmentNode):\n"
        "    def __init__(self, *given):\n"
        "        os.kill(os.getpid(), signal.SIGTERM)\n"
        "        super().__init__(*given)\n"
        "module.SegmentNode = Late\n"
        "sys.exit(main([]))\n"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=60, check=False)
    assert done.returncode == 0
    assert "Traceback" not in done.stderr


@pytest.mark.parametrize("module", ["rclpy", "torch"])
def test_a_signal_while_modules_are_imported_ends_the_program_orderly(module: str) -> None:
    code = (
        "import os, signal, sys\n"
        "class Finder:\n"
        "    def find_spec(self, name, path, target=None):\n"
        f"        if name == '{module}':\n"
        "            os.kill(os.getpid(), signal.SIGTERM)\n"
        "sys.meta_path.insert(0, Finder())\n"
        "from twodpass_ros.segment import main\n"
        "sys.exit(main([]))\n"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=60, check=False)
    assert (done.returncode, done.stderr) == (0, "")


def test_a_decimal_number_where_whole_ones_are_needed_is_not_told_so() -> None:
    with NodeProcess.fake("-p", "votes:=1.5") as node:
        assert node.wait() == 1
        assert "'votes'" in node.log()
        assert "decimal point" not in node.log()


def test_a_deactivated_node_labels_nothing_and_works_again_when_activated(peer: Peer) -> None:
    with NodeProcess.fake():
        peer.wait_for_active_node()
        assert peer.change_state(Transition.TRANSITION_DEACTIVATE)
        assert peer.state() == INACTIVE
        peer.scans.publish(scan())
        peer.spin(0.5)
        assert not peer.labelled

        assert peer.set_parameter("weights", "slow") == ""  # freed: read again on activation
        assert peer.change_state(Transition.TRANSITION_ACTIVATE)
        assert peer.state() == ACTIVE
        peer.wait_for_active_node()


def test_the_network_is_freed_once_a_scan_ends_that_outlasts_a_stop(peer: Peer) -> None:
    with NodeProcess.fake() as node:
        peer.wait_for_active_node()
        peer.scans.publish(scan(first_intensity=Fault.OUTLASTS))
        peer.spin(0.3)
        assert peer.change_state(Transition.TRANSITION_DEACTIVATE)
        assert "A scan is still in work" in node.log()
        assert "closed" not in node.log()
        threads = node.threads()
        node.wait_for_log("closed")
        peer.spin_until(lambda: node.threads() < threads, "the end of the thread that it was in")


def test_a_scan_that_outlasts_a_stop_is_not_published_by_the_next_start(peer: Peer) -> None:
    with NodeProcess.fake() as node:
        peer.wait_for_active_node()
        peer.scans.publish(scan(first_intensity=Fault.OUTLASTS, stamp=(77, 0)))
        peer.spin(0.3)
        assert peer.change_state(Transition.TRANSITION_DEACTIVATE)
        assert peer.change_state(Transition.TRANSITION_ACTIVATE)
        node.wait_for_log("closed")
        peer.scans.publish(scan(stamp=(78, 0)))
        peer.spin(1.0)
        assert [cloud.header.stamp.sec for cloud in peer.labelled] == [78]


@pytest.mark.slow
def test_overload_keeps_results_fresh_counts_the_lost_and_needs_no_more_memory(peer: Peer) -> None:
    """Input at three times the sustainable rate for a minute."""
    inference = 0.06
    period = inference / 3
    with NodeProcess.fake(weights="slow") as node:
        peer.wait_for_active_node()
        dropped_before, sent_before = peer.dropped(), int(peer.value("received"))
        ages: list[float] = []
        sent: dict[int, float] = {}
        memory: list[int] = []
        end = time.monotonic() + HANG
        while time.monotonic() < end:
            number = len(sent) + 1
            sent[number] = time.monotonic()
            peer.scans.publish(scan(20_000, stamp=(number, 0)))
            peer.spin(period)
            ages += [time.monotonic() - sent[cloud.header.stamp.sec] for cloud in peer.labelled]
            peer.labelled.clear()
            memory.append(node.memory())
        peer.spin(1.0)
        ages += [time.monotonic() - sent[cloud.header.stamp.sec] for cloud in peer.labelled]
        peer.clear()
        assert int(peer.value("received")) - sent_before == len(sent)
        assert peer.dropped() - dropped_before == len(sent) - len(ages)

    assert len(sent) / 5 < len(ages) < len(sent) / 2
    assert statistics.median(ages) <= 2 * inference + period
    assert max(ages) < 2.0  # a busy machine may pause anybody
    assert memory[-1] - memory[len(memory) // 4] < 10 << 20
