"""What a launch file waits for before it plays a bag."""

from __future__ import annotations

import signal
import subprocess
import sys
from collections.abc import Iterator

import pytest
from lifecycle_msgs.msg import Transition
from node_process import HANG, NodeProcess
from segment_peer import Peer

from twodpass_ros.wait_until_active import main


@pytest.fixture
def waiting() -> Iterator[subprocess.Popen[bytes]]:
    process = subprocess.Popen([sys.executable, "-m", "twodpass_ros.wait_until_active", "segment"])
    yield process
    process.terminate()
    process.wait(HANG)


def test_it_ends_when_the_node_has_come_and_is_active(waiting: subprocess.Popen[bytes], peer: Peer) -> None:
    with NodeProcess.fake("-p", "autostart:=false"):
        assert peer.change_state(Transition.TRANSITION_CONFIGURE)
        peer.spin_until(lambda: "wait_until_active" in peer.node.get_node_names(), "the one that waits")
        peer.spin(0.5)
        assert waiting.poll() is None
        assert peer.change_state(Transition.TRANSITION_ACTIVATE)
        assert waiting.wait(HANG) == 0


def test_it_then_becomes_the_command_that_follows_and_knows_its_namespace(peer: Peer) -> None:
    ros_arguments = ("--ros-args", "-r", "__ns:=/front")
    command = ["sh", "-c", 'echo "$0" "$@"', "played", "--clock"]
    waiting = [sys.executable, "-m", "twodpass_ros.wait_until_active", "segment", *command, *ros_arguments]
    with NodeProcess.fake(*ros_arguments[1:]):
        done = subprocess.run(waiting, capture_output=True, text=True, timeout=HANG)
    assert (done.returncode, done.stdout) == (0, "played --clock\n"), done.stderr


@pytest.mark.parametrize(("number", "code"), [(signal.SIGINT, 0), (signal.SIGTERM, 143)])
def test_a_signal_ends_the_waiting(
    waiting: subprocess.Popen[bytes], peer: Peer, number: signal.Signals, code: int
) -> None:
    peer.spin_until(lambda: "wait_until_active" in peer.node.get_node_names(), "the one that waits")
    waiting.send_signal(number)
    assert waiting.wait(HANG) == code


def test_what_is_no_name_is_refused_in_one_sentence(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit):
        main(["seg ment"])
    assert capsys.readouterr().err.endswith("error: 'seg ment' is not the name of a node\n")
