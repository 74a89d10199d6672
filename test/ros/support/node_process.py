"""A node under test in a process of its own, as a launch would start it."""

from __future__ import annotations

import contextlib
import fcntl
import multiprocessing
import os
import re
import signal
import sys
import tempfile
import time
from collections.abc import Callable
from functools import partial
from pathlib import Path

import fake_segment

from twodpass_ros.segment import main

STOP = 10.0
HANG = 60.0
"""Seconds after which a wait is a failure: a bound against hangs, generous for a loaded machine."""


# Children of a process that has imported everything: they start at once. Nothing of this process is in them.
_FORKSERVER = multiprocessing.get_context("forkserver")
_FORKSERVER.set_forkserver_preload(["fake_segment", "twodpass_ros.segment.node"])

Main = Callable[[list[str]], int]
"""Runs a node with these arguments until it ends; returns the exit code."""


class NodeProcess:
    """A node in a process and a process group of its own, as a launch would start it. Its log is kept."""

    def __init__(self, main: Main, *ros_arguments: str) -> None:
        self._folder = tempfile.TemporaryDirectory()
        self._log = Path(self._folder.name, "log")
        self._log.touch()
        arguments = ["--ros-args", *ros_arguments]
        self._process = _FORKSERVER.Process(target=_run, args=(main, arguments, self._log), daemon=True)
        self._process.start()

    @classmethod
    def fake(cls, *ros_arguments: str, weights: str = "quick") -> NodeProcess:
        """`segment` with the made-up network of fake_segment.py."""
        return cls(partial(main, load_segmenter=fake_segment.load), "-p", f"weights:='{weights}'", *ros_arguments)

    @classmethod
    def real(cls, *ros_arguments: str) -> NodeProcess:
        """`segment` with weights."""
        return cls(main, *ros_arguments)

    def __enter__(self) -> NodeProcess:
        return self

    def __exit__(self, *_: object) -> None:
        sys.stderr.write(self.log())  # pytest shows it if the test fails
        self._process.terminate()  # a node that ends by itself leaves no shared memory behind
        self._process.join(STOP)
        self._process.kill()
        self._process.join()
        self._folder.cleanup()

    def kill(self) -> None:
        """As a loss of power would end it."""
        self._process.kill()
        self._process.join()
        _remove_shared_memory_of_the_dead()

    def is_alive(self) -> bool:
        return self._process.is_alive()

    def end(self, number: signal.Signals, timeout: float) -> int | None:
        """Sends a signal; returns the exit code, None if it did not end in time."""
        os.kill(self._pid, number)
        return self.wait(timeout)

    def wait(self, timeout: float = HANG) -> int | None:
        self._process.join(timeout)
        return self._process.exitcode

    def log(self) -> str:
        return self._log.read_text()

    @property
    def _pid(self) -> int:
        assert self._process.pid is not None
        return self._process.pid

    def wait_for_log(self, words: str) -> None:
        end = time.monotonic() + HANG
        while words not in self.log():
            assert time.monotonic() < end, f"waited in vain for {words!r} in the log:\n{self.log()}"
            time.sleep(0.05)

    def memory(self) -> int:
        """Resident bytes."""
        pages = int(Path(f"/proc/{self._pid}/statm").read_text().split()[1])
        return pages * os.sysconf("SC_PAGE_SIZE")

    def threads(self) -> int:
        """How many it has."""
        return len(list(Path(f"/proc/{self._pid}/task").iterdir()))


def shared_memory(pid: int) -> set[Path]:
    """Fast DDS's 64 MB of a process. What it has opened of this one's is left out."""

    def opened(by: int) -> set[str]:
        return set(re.findall(r"/dev/shm/fastdds_[0-9a-f]{16}\b", Path(f"/proc/{by}/maps").read_text()))

    return set(map(Path, opened(pid) - opened(os.getpid())))


def _remove_shared_memory_of_the_dead() -> None:
    """Fast DDS leaves 64 MB of a process that is killed. Of the living, the file beside the memory is locked."""
    for lock in Path("/dev/shm").glob("fastdds_*_el"):
        if "port" in lock.name:
            continue
        with contextlib.suppress(OSError), lock.open() as file:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
            lock.with_name(lock.name.removesuffix("_el")).unlink()
            lock.unlink()


def _run(main: Main, arguments: list[str], log: Path) -> None:
    os.setsid()
    output = os.open(log, os.O_WRONLY | os.O_APPEND)
    os.dup2(output, sys.stdout.fileno())
    os.dup2(output, sys.stderr.fileno())
    sys.exit(main(arguments))
