"""Peak memory of a piece of code."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import suppress
from multiprocessing import get_context
from multiprocessing.connection import Connection
from pathlib import Path

import torch

from twodpass_core.errors import BenchmarkError

STATUS = Path("/proc/self/status")


def peak_bytes(run: Callable[[], object], device: torch.device) -> int | None:
    """How much memory `run`, a picklable that makes all it needs, takes on a device; None where that is unknown."""
    return peak_device_bytes(run, device) if device.type == "cuda" else peak_process_bytes(run)


def peak_device_bytes(run: Callable[[], object], device: torch.device) -> int:
    """How far allocated CUDA memory rises while `run` runs."""
    before = torch.cuda.memory_allocated(device)
    torch.cuda.reset_peak_memory_stats(device)
    run()
    return torch.cuda.max_memory_allocated(device) - before


def peak_process_bytes(run: Callable[[], object]) -> int | None:
    """How far resident memory rises in a process of its own that has its imports done and runs `run`, a picklable.

    None where the system does not tell (it is read from Linux's /proc).

    Raises:
        BenchmarkError: the process was killed.
    """
    if not STATUS.exists():
        return None
    context = get_context("spawn")
    receiver, sender = context.Pipe(duplex=False)
    process = context.Process(target=_tell_growth, args=(sender, run), daemon=True)
    process.start()
    sender.close()
    try:
        told: int | Exception = receiver.recv()
    except EOFError:
        raise BenchmarkError(
            "the process that measures memory was killed: is there too little memory? It needs as much as this one"
        ) from None
    finally:
        process.join()
    if isinstance(told, Exception):
        raise told
    return told


def _tell_growth(sender: Connection, run: Callable[[], object]) -> None:
    """Unlike a pool's process this one ends after its run, whatever has become of the one that waits for it."""
    try:
        told: int | Exception = _growth(run)
    except Exception as error:
        told = error
    with suppress(BrokenPipeError):
        sender.send(told)


def _growth(run: Callable[[], object]) -> int:
    before = _status_bytes("VmRSS")
    run()
    return _status_bytes("VmHWM") - before


def _status_bytes(field: str) -> int:
    line = next(line for line in STATUS.read_text().splitlines() if line.startswith(f"{field}:"))
    return int(line.split()[1]) * 1024
