"""Processes that a program starts beside itself, a node or a helper, and stops when it has done with them."""

from __future__ import annotations

import json
import multiprocessing
import os
import signal
import subprocess
import sys
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from multiprocessing.connection import Connection
from pathlib import Path
from types import FrameType
from typing import NoReturn

from twodpass_ros.dds_settings import keep_to_this_machine
from twodpass_ros.errors import NodeError
from twodpass_ros.signals import ending_signals, ignore_signals

STOP_TIMEOUT = 15.0  # seconds
LOG_LINES = 25


def use_own_domain() -> int:
    """Keeps this process and those that it starts apart from all other ROS nodes. Returns the domain's id."""
    domain_id = 1 + os.getpid() % 100
    os.environ["ROS_DOMAIN_ID"] = str(domain_id)
    keep_to_this_machine()
    return domain_id


def exit_on_signals() -> None:
    """Has a signal leave the program by way of every `with` and `finally`, as Ctrl-C does: the node is stopped, too."""
    numbers = [number for number in ending_signals() if number != signal.SIGINT]

    def leave(number: int, frame: FrameType | None) -> NoReturn:
        for each in numbers:  # a session that ends sends several: none may break off the leaving
            signal.signal(each, signal.SIG_IGN)
        raise SystemExit(128 + number)

    for number in numbers:
        signal.signal(number, leave)


@contextmanager
def running_node(
    parameters: Mapping[str, object], log: Path, name: str = "segment"
) -> Iterator[subprocess.Popen[bytes]]:
    """The node `segment`, or another, in a process group of its own, its output in the file `log`; stopped on leaving.

    A NodeError that passes through is given the last lines of the log.
    """
    command = [sys.executable, "-m", f"twodpass_ros.{name}", "--ros-args"]
    for parameter, value in parameters.items():
        command += ["-p", f"{parameter}:={json.dumps(value, ensure_ascii=False)}"]  # values are YAML
    with log.open("wb") as output:
        process = subprocess.Popen(
            command, stdin=subprocess.DEVNULL, stdout=output, stderr=subprocess.STDOUT, start_new_session=True
        )
        try:
            yield process
        except NodeError as error:
            lines = log.read_text(errors="replace").splitlines()[-LOG_LINES:]
            raise NodeError("\n    ".join([f"{error}. The last lines of {log}:", *lines])) from error
        finally:
            _stop(process)


@contextmanager
def helper_process(target: Callable[..., None], *arguments: object) -> Iterator[Connection]:
    """A process of its own that runs target(connection, *arguments); gives the connection's other end.

    On leaving that is closed, at which the helper is to end by itself: ended by a signal, it leaves the 64 MB of shared
    memory behind that Fast DDS has taken.
    """
    context = multiprocessing.get_context("spawn")
    connection, other_end = context.Pipe()
    process = context.Process(target=_help, args=(target, other_end, *arguments), daemon=True)
    process.start()
    other_end.close()
    try:
        yield connection
    finally:
        connection.close()
        process.join(STOP_TIMEOUT)
        process.kill()
        process.join()


def _help(target: Callable[..., None], *arguments: object) -> None:
    """Ctrl-C, and a terminal that closes, reach all processes: the one that has started this closes the connection."""
    ignore_signals()
    target(*arguments)


def _stop(process: subprocess.Popen[bytes]) -> None:
    """Asks the process group to end, more firmly each time."""
    for number in (signal.SIGINT, signal.SIGTERM, signal.SIGKILL):
        if process.poll() is not None:
            return
        os.killpg(process.pid, number)
        try:
            process.wait(STOP_TIMEOUT)
        except subprocess.TimeoutExpired:
            continue
