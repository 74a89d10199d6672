"""Settings of a whole process that runs the network on the CPU: for programs (command line, nodes), not libraries."""

from __future__ import annotations

import ctypes
import os
import sys

M_TRIM_THRESHOLD, M_MMAP_THRESHOLD = -1, -3  # mallopt(3)
KEEP_BELOW = 1 << 30  # bytes
RETURN_FROM = 24 << 20
SPIN_COUNT = "2000"  # of GNU OpenMP: some 0.02 ms


def tune_process() -> None:
    """Share the processors, keep the memory. Call it before torch is imported; the user's own settings win.

    * OpenMP's threads spin for milliseconds at the end of every parallel loop. On a machine that is busy with other
      work, as a vehicle's computer is, that multiplies the time of a scan. A short spin serves a free machine as well.
    * glibc returns large blocks to the system as soon as they are freed. Every scan needs them again, as fresh pages
      that the kernel has to clear.
    """
    if "OMP_WAIT_POLICY" not in os.environ:
        os.environ.setdefault("GOMP_SPINCOUNT", SPIN_COUNT)
    _keep_freed_memory(KEEP_BELOW)


def return_large_blocks() -> None:
    """Undo half of `tune_process`: less memory, more time. The user's own settings win.

    A training step frees large blocks in another order than it asks for them. What is kept is then scattered, and of
    little use to glibc, where a freed block hardly ever serves again for an aligned one of its own size (before 2.38).
    """
    _keep_freed_memory(RETURN_FROM)


def give_back_freed_memory() -> None:
    """Let the system have what `tune_process` keeps: for a program that will not need it for a while."""
    malloc_trim = getattr(ctypes.CDLL(None), "malloc_trim", None) if sys.platform == "linux" else None
    if malloc_trim is not None:  # of glibc
        malloc_trim(0)


def _keep_freed_memory(below: int) -> None:
    own_choice = {
        "MALLOC_MMAP_THRESHOLD_",
        "MALLOC_TRIM_THRESHOLD_",
        "GLIBC_TUNABLES",
        "LD_PRELOAD",
    } & os.environ.keys()
    if sys.platform == "linux" and not own_choice:
        mallopt = getattr(ctypes.CDLL(None), "mallopt", None)  # absent from musl
        if mallopt is not None:
            mallopt(M_MMAP_THRESHOLD, below)
            mallopt(M_TRIM_THRESHOLD, below)
