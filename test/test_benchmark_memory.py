"""How much memory a call takes, measured in a process of its own."""

from __future__ import annotations

import os
import signal

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
