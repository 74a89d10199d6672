"""Times of the stages of one computation, on the CPU or the GPU."""

from __future__ import annotations

import time
from collections.abc import Iterator
from contextlib import contextmanager

import torch


class StageClock:
    """Seconds per named stage, in the order the stages ran; a stage that runs again adds to its time.

    On CUDA, events are recorded instead of waiting for the GPU; `seconds` waits once, at the end.
    """

    def __init__(self, device: torch.device) -> None:
        self._on_cuda = device.type == "cuda"
        self._spans: list[tuple[str, float]] = []
        self._events: list[tuple[str, torch.cuda.Event, torch.cuda.Event]] = []

    @contextmanager
    def stage(self, name: str) -> Iterator[None]:
        """What is inside belongs to this stage; stages do not lie within each other."""
        if self._on_cuda:
            begin, end = torch.cuda.Event(enable_timing=True), torch.cuda.Event(enable_timing=True)
            begin.record()
            yield
            end.record()
            self._events.append((name, begin, end))
        else:
            started = time.perf_counter()
            yield
            self._spans.append((name, time.perf_counter() - started))

    def seconds(self) -> dict[str, float]:
        """Stage name -> seconds."""
        if self._events:
            self._events[-1][2].synchronize()
        spans = self._spans + [(name, begin.elapsed_time(end) / 1e3) for name, begin, end in self._events]
        total: dict[str, float] = {}
        for name, span in spans:
            total[name] = total.get(name, 0.0) + span
        return total
