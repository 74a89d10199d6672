"""What the node says and does when what it works with breaks: it can be stopped and ended all the same."""

from __future__ import annotations

import signal
import subprocess
import sys

from clouds import scan
from lifecycle_msgs.msg import Transition
from node_process import NodeProcess
from segment_peer import INACTIVE, UNCONFIGURED, Peer


def test_a_gpu_that_is_lost_is_told_of_and_the_node_can_be_stopped_and_ended(peer: Peer) -> None:
    words = "CUDA error: unspecified launch failure"

    def is_told(start: str) -> bool:
        return any(status.message.startswith(start) and words in status.message for status in peer.diagnostics)

    def drops_a_scan() -> bool:
        peer.scans.publish(scan())
        return is_told("scan dropped")

    with NodeProcess.fake(weights="lost_gpu") as node:
        peer.spin_until(drops_a_scan, "the diagnostic of a scan")
        assert peer.change_state(Transition.TRANSITION_DEACTIVATE)
        assert not peer.change_state(Transition.TRANSITION_ACTIVATE)
        assert peer.state() == INACTIVE
        peer.clear()
        peer.spin_until(lambda: is_told("Cannot activate"), "the diagnostic of the transition")
        assert node.end(signal.SIGINT, timeout=5.0) == 0
        assert "Traceback" not in node.log()


def test_what_a_transition_fails_of_is_still_told_when_its_clearing_up_fails_too(peer: Peer) -> None:
    with NodeProcess.fake(weights="broken") as node:
        node.wait_for_log("Cannot configure")
        assert peer.state() == UNCONFIGURED
        peer.clear()
        peer.spin_until(lambda: peer.diagnostics, "diagnostics")
        assert peer.diagnostics[-1].message.startswith("Cannot configure: AttributeError")
        assert node.end(signal.SIGINT, timeout=5.0) == 0


def test_whatever_goes_wrong_at_the_end_ros_is_shut_down() -> None:
    code = (
        "import os, signal, rclpy, twodpass_ros.segment.node as module\n"
        "from twodpass_ros.segment import main\n"
        "class Broken(module.SegmentNode):\n"
        "    def __init__(self, *given):\n"
        "        super().__init__(*given)\n"
        "        os.kill(os.getpid(), signal.SIGTERM)\n"
        "    def stop(self):\n"
        "        raise RuntimeError('cannot be stopped')\n"
        "module.SegmentNode = Broken\n"
        "try:\n"
        "    main(['--ros-args', '-p', 'autostart:=false'])\n"
        "except RuntimeError as error:\n"
        "    print(error, rclpy.ok())\n"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=60, check=False)
    assert done.stdout == "cannot be stopped False\n", done.stderr
