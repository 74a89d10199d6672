"""A program's processes are kept apart from other nodes; helpers end by themselves, to give back what they took."""

from __future__ import annotations

import multiprocessing
import os
import signal
import subprocess
import sys
from multiprocessing.connection import Connection
from pathlib import Path

import pytest

from twodpass_ros.child_process import helper_process, use_own_domain


def answer_until_closed(connection: Connection, note: Path) -> None:
    try:
        while True:
            connection.send(2 * connection.recv())
    except EOFError:
        note.write_text("ended by itself")


def test_a_helper_is_talked_to_and_ends_by_itself_when_left(tmp_path: Path) -> None:
    note = tmp_path / "note"
    with helper_process(answer_until_closed, note) as connection:
        connection.send(21)
        assert connection.recv() == 42
        assert not note.exists()
    assert note.read_text() == "ended by itself"


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM, signal.SIGHUP])
def test_a_signal_to_all_processes_lets_a_helper_end_by_itself(tmp_path: Path, number: signal.Signals) -> None:
    note = tmp_path / "note"
    with helper_process(answer_until_closed, note) as connection:
        connection.send(21)
        assert connection.recv() == 42
        (helper,) = multiprocessing.active_children()
        assert helper.pid is not None
        os.kill(helper.pid, number)
        connection.send(4)
        assert connection.recv() == 8
    assert note.read_text() == "ended by itself"


@pytest.mark.parametrize(
    ("distribution", "variable", "value"),
    [("humble", "ROS_LOCALHOST_ONLY", "1"), ("jazzy", "ROS_AUTOMATIC_DISCOVERY_RANGE", "LOCALHOST")],
)
def test_a_program_that_starts_nodes_keeps_to_this_machine_by_the_variable_that_its_ros_knows(
    distribution: str, variable: str, value: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(os, "environ", {"ROS_DISTRO": distribution})
    domain_id = use_own_domain()
    assert os.environ == {"ROS_DISTRO": distribution, "ROS_DOMAIN_ID": str(domain_id), variable: value}


SIGNALLED = """
import os, signal, sys
from twodpass_ros.child_process import exit_on_signals
numbers = [int(number) for number in sys.argv[2:]]
signal.signal(signal.SIGHUP, signal.SIG_IGN if sys.argv[1] == "nohup" else signal.SIG_DFL)
exit_on_signals()
try:
    os.kill(os.getpid(), numbers[0])
    print("stayed")
finally:
    os.kill(os.getpid(), numbers[1])
    print("left")
"""


@pytest.mark.parametrize(
    ("terminal", "first", "second", "code", "told"),
    [
        ("usual", signal.SIGTERM, signal.SIGHUP, 128 + signal.SIGTERM, "left"),  # as systemd ends a session
        ("usual", signal.SIGHUP, signal.SIGTERM, 128 + signal.SIGHUP, "left"),
        ("nohup", signal.SIGHUP, signal.SIGHUP, 0, "stayed left"),
    ],
)
def test_a_program_that_a_signal_or_its_closing_terminal_ends_stops_its_processes_first(
    terminal: str, first: signal.Signals, second: signal.Signals, code: int, told: str
) -> None:
    command = [sys.executable, "-c", SIGNALLED, terminal, str(int(first)), str(int(second))]
    done = subprocess.run(command, capture_output=True, text=True, timeout=100)
    assert (done.returncode, done.stdout.split()) == (code, told.split()), done.stderr
