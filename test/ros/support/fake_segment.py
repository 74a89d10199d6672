"""A made-up network for the node: quick, and it fails when the intensity of a scan's first point asks for it."""

from __future__ import annotations

import sys
import time
from enum import IntEnum
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import torch

from twodpass_core.classes import ClassMap
from twodpass_core.device import give_back_memory
from twodpass_core.errors import WeightsError


class Fault(IntEnum):
    """What the network does, asked for by the intensity of a scan's first point."""

    OUT_OF_MEMORY = -1
    EXCEPTION = -2
    SLOW = -3
    HANGS = -4
    OUTLASTS = -5  # a stop's patience


SECONDS: dict[float, float] = {Fault.SLOW: 1.2, Fault.HANGS: 60.0, Fault.OUTLASTS: 5.0}


class FakeSegmenter:
    """Class 1 + (10 x, rounded, modulo 19); nothing for points that are not finite."""

    device = "cpu"
    card = SimpleNamespace(trained=True, intensity_max=1.0)
    class_map = ClassMap.load("semantickitti")

    def __init__(self, seconds: float) -> None:
        self.seconds = seconds

    def warm_up(self) -> None:
        pass

    def close(self) -> None:
        sys.stderr.write("closed\n")

    def segment(self, points: np.ndarray, votes: int = 1) -> Any:
        fault = points[0, 3] if len(points) else 0
        if fault == Fault.OUT_OF_MEMORY:
            raise torch.cuda.OutOfMemoryError("made up by the test")
        if fault == Fault.EXCEPTION:
            raise RuntimeError("made up by the test")
        time.sleep(SECONDS.get(fault, self.seconds))
        finite = np.isfinite(points).all(axis=1)
        class_id = np.full(len(points), 255, np.uint8)
        class_id[finite] = 1 + np.round(10 * points[finite, 0]).astype(np.int64) % 19
        stages = {"voxelise": 0.001, "neighbours": 0.001, "classifier": 0.001}
        return SimpleNamespace(class_id=class_id, probability=finite * np.float32(0.5), stage_seconds=stages)


class OnLostGpu(FakeSegmenter):
    """The first scan costs it its GPU."""

    def close(self) -> None:
        give_back_memory(torch.device("cuda"))

    def segment(self, points: np.ndarray, votes: int = 1) -> Any:
        torch.cuda.empty_cache = lose_gpu
        lose_gpu()


class Broken(FakeSegmenter):
    """Fails when it is used, and again when it is closed."""

    class_map = None  # type: ignore[assignment]

    def close(self) -> None:
        raise RuntimeError("cannot be closed, made up by the test")


def lose_gpu() -> None:
    """What every call of CUDA does after a fault of the driver, as long as the process lives."""
    raise RuntimeError("CUDA error: unspecified launch failure, made up by the test")


def load(path: Path, device: str, precision: str, backend: str) -> Any:
    """`path` is the name of a behaviour."""
    match path.name:
        case "quick" | "default.safetensors":
            return FakeSegmenter(seconds=0.0)
        case "slow":
            return FakeSegmenter(seconds=0.06)
        case "loads_forever":
            time.sleep(60.0)
        case "loads_slowly":
            time.sleep(3.0)
            return FakeSegmenter(seconds=0.0)
        case "lost_gpu":
            torch.cuda.empty_cache()
            return OnLostGpu(seconds=0.0)
        case "broken":
            return Broken(seconds=0.0)
        case "no_driver":
            raise RuntimeError("no NVIDIA driver, made up by the test")
    raise WeightsError(f"{path}: cannot be read, made up by the test")
