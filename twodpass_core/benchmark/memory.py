"""Peak memory of a piece of code."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import torch

STATUS = Path("/proc/self/status")
CLEAR_REFS = Path("/proc/self/clear_refs")
RESET_PEAK = "5"  # see proc_pid_clear_refs(5)


def peak_memory_bytes(run: Callable[[], object], device: torch.device) -> int | None:
    """How far memory rises while `run` runs: allocated memory on CUDA, resident memory of this process on Linux.

    None where neither can be told.
    """
    if device.type == "cuda":
        before = torch.cuda.memory_allocated(device)
        torch.cuda.reset_peak_memory_stats(device)
        run()
        return torch.cuda.max_memory_allocated(device) - before
    if not STATUS.exists():
        run()
        return None
    before = _status_bytes("VmRSS")
    CLEAR_REFS.write_text(RESET_PEAK)
    run()
    return _status_bytes("VmHWM") - before


def _status_bytes(field: str) -> int:
    line = next(line for line in STATUS.read_text().splitlines() if line.startswith(f"{field}:"))
    return int(line.split()[1]) * 1024
