"""How much memory a call takes, measured in a process of its own."""

from __future__ import annotations

import fcntl
import multiprocessing
import os
import signal
import time
from contextlib import suppress
from functools import partial
from pathlib import Path

import numpy as np
import pytest

from twodpass_core.benchmark.memory import STATUS, peak_process_bytes
from twodpass_core.errors import BenchmarkError


def use_fifty_megabytes() -> None:
    np.ones(50_000_000, np.uint8).sum()


def test_peak_memory_sees_what_is_freed_again() -> None:
    peak = peak_process_bytes(use_fifty_megabytes)
    if peak is None:
        pytest.skip("this system does not tell")
    assert 45e6 < peak < 200e6


def be_killed() -> None:
    os.kill(os.getpid(), signal.SIGKILL)  # as Linux does where memory runs out


def test_a_process_that_is_killed_for_its_memory_is_told_of() -> None:
    if not STATUS.exists():
        pytest.skip("this system does not tell")
    with pytest.raises(BenchmarkError, match=r"was killed.*too little memory"):
        peak_process_bytes(be_killed)


def fail() -> None:
    raise BenchmarkError("no point is in the volume")


def test_what_goes_wrong_in_the_process_is_raised_here() -> None:
    if not STATUS.exists():
        pytest.skip("this system does not tell")
    with pytest.raises(BenchmarkError, match="no point is in the volume"):
        peak_process_bytes(fail)


def lock_until_left_alone(note: Path) -> None:
    """The lock is given back when this process ends."""
    file = os.open(note, os.O_RDWR)
    fcntl.flock(file, fcntl.LOCK_EX)
    os.write(file, str(os.getpid()).encode())
    parent = multiprocessing.parent_process()
    assert parent is not None
    parent.join()


def test_the_process_ends_though_the_one_that_waits_for_it_was_killed(tmp_path: Path) -> None:
    if not STATUS.exists():
        pytest.skip("this system does not tell")
    note = tmp_path / "note"
    note.touch()
    waiting = multiprocessing.get_context("spawn").Process(
        target=peak_process_bytes, args=(partial(lock_until_left_alone, note),)
    )
    waiting.start()
    while not note.read_text() and waiting.is_alive():
        time.sleep(0.05)
    waiting.kill()
    waiting.join()
    end = time.monotonic() + 20
    with note.open() as file:
        while True:
            try:
                fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
                break
            except BlockingIOError:
                if time.monotonic() > end:
                    with suppress(ProcessLookupError):
                        os.kill(int(note.read_text()), signal.SIGKILL)
                    pytest.fail("the process is still there")
                time.sleep(0.05)
