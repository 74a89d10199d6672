"""Runs of the tests: interrupted, and what they leave behind read and compared."""

from __future__ import annotations

import os
import signal
from pathlib import Path
from typing import Any

import torch
from training_data import Blobs

from twodpass_core.data.frame import Frame

STATE = ("state_dict", "optimizer_states", "lr_schedulers", "torch_generator", "global_step", "epoch")


def load(run: Path, name: str = "last") -> dict[str, Any]:
    content: dict[str, Any] = torch.load(run / f"checkpoints/{name}.ckpt", weights_only=True)
    return content


def assert_same(one: Any, other: Any, place: str = "") -> None:
    """Bitwise, through dicts and lists."""
    if isinstance(one, torch.Tensor):
        assert torch.equal(one, other), place
    elif isinstance(one, dict):
        assert one.keys() == other.keys(), place
        for key in one:
            assert_same(one[key], other[key], f"{place}/{key}")
    elif isinstance(one, list | tuple):
        assert len(one) == len(other), place
        for index, (left, right) in enumerate(zip(one, other, strict=True)):
            assert_same(left, right, f"{place}/{index}")
    else:
        assert one == other, place


class Interrupting(Blobs):
    """Sends this process a signal when a frame is read for the n-th time."""

    def __init__(self, frames: int, at: int, number: signal.Signals = signal.SIGTERM) -> None:
        super().__init__(frames)
        self.at, self.number, self.read = at, number, 0

    def __getitem__(self, index: int) -> Frame:
        self.read += 1
        if self.read == self.at:
            os.kill(os.getpid(), self.number)
        return super().__getitem__(index)
