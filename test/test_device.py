"""Devices by name; the current one while a network computes; lack of memory under any name."""

from __future__ import annotations

import gc
import os
import re
import subprocess
import sys
import weakref
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from tiny_weights import SMALL_GRID, scan, tiny_card, tiny_student, write_tiny_weights

from twodpass_core.device import choose_device, computing_on, empty_cache, give_back_memory
from twodpass_core.errors import ConfigError
from twodpass_core.models.folded import CellLogits, FoldedStudent
from twodpass_core.segmenter import Segmenter
from twodpass_core.sparse.backend import SparseBackend
from twodpass_core.sparse.trial import try_backend

CPU = torch.device("cpu")


@pytest.fixture(scope="module")
def weights(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_tiny_weights(tmp_path_factory.mktemp("weights") / "tiny.safetensors", tiny_card(SMALL_GRID))


@pytest.mark.parametrize(
    ("name", "reason"),
    [
        ("abacus", "unknown device 'abacus'"),
        ("meta", "unknown device 'meta'"),
        ("cpu:3", "unknown device 'cpu:3': choose auto, cpu, cuda or cuda:N"),
        ("cuda:", "unknown device 'cuda:'"),
        ("cuda:01", "unknown device 'cuda:01'"),
        ("cuda:99", "CUDA devices"),
        ("cuda:200", "'cuda:200' is not there: torch sees"),
    ],
)
def test_devices_that_are_not_there_are_refused(name: str, reason: str) -> None:
    with pytest.raises(ConfigError, match=reason):
        choose_device(name)


def test_the_cpu_is_chosen_by_name() -> None:
    assert choose_device("cpu") == CPU


@pytest.mark.parametrize(("name", "chosen"), [("auto", "cuda:1"), ("cuda", "cuda:1"), ("cuda:0", "cuda:0")])
def test_the_current_gpu_is_chosen_for_good(name: str, chosen: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """Every thread has a current GPU of its own."""
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 2)
    monkeypatch.setattr(torch.cuda, "current_device", lambda: 1)
    assert choose_device(name) == torch.device(chosen)


@pytest.mark.parametrize(
    "message",
    [
        "CUDA error: CUBLAS_STATUS_ALLOC_FAILED when calling `cublasCreate(handle)`",
        "Triton Error [CUDA]: out of memory",
        "CUDA error: out of memory\nCompile with `TORCH_USE_CUDA_DSA`",
        "CUDNN_STATUS_ALLOC_FAILED",
        "[enforce fail at alloc_cpu.cpp:127] err == 0. DefaultCPUAllocator: can't allocate memory: you tried to",
    ],
)
def test_lack_of_memory_has_one_name_and_leaves_nothing_behind(message: str) -> None:
    left = []

    def compute() -> None:
        tensor = torch.zeros(10)
        left.append(weakref.ref(tensor))
        raise RuntimeError(message)

    gc.disable()
    try:
        with pytest.raises(torch.cuda.OutOfMemoryError, match=re.escape(message)), computing_on(CPU):
            compute()
        assert left[0]() is None
    finally:
        gc.enable()


def test_other_errors_stay_what_they_are() -> None:
    class OtherError(RuntimeError):
        pass

    with pytest.raises(OtherError, match="illegal"), computing_on(CPU):
        raise OtherError("an illegal memory access was encountered")


class FullAtFirst(FoldedStudent):
    """Finds the memory full when it is run for the first time."""

    full = True

    def __call__(self, *inputs: Any) -> CellLogits:
        if self.full:
            self.full = False
            raise RuntimeError("Triton Error [CUDA]: out of memory")
        return super().__call__(*inputs)


def test_a_segmenter_tells_of_full_memory_and_goes_on() -> None:
    card = tiny_card(SMALL_GRID)
    segmenter = Segmenter(card, FullAtFirst(tiny_student(card), torch.float32, CPU), CPU)
    with pytest.raises(torch.cuda.OutOfMemoryError):
        segmenter.segment(scan(10))
    assert segmenter.segment(scan(10)).class_id.shape == (10,)


@pytest.fixture
def entered(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """The CUDA devices that are current, innermost last."""
    current: list[str] = []

    @contextmanager
    def cuda_device(device: torch.device) -> Iterator[None]:
        current.append(str(device))
        try:
            yield
        finally:
            current.pop()

    monkeypatch.setattr(torch.cuda, "device", cuda_device)
    return current


def test_a_backend_is_tried_on_its_device(entered: list[str]) -> None:
    tried = []

    def broken() -> SparseBackend:
        tried.append(list(entered))
        raise OSError("no compiler")

    with pytest.raises(ConfigError, match="no compiler"):
        try_backend("other", broken, torch.device("cuda:1"), [torch.float32], 16)
    assert tried == [["cuda:1"]]


def test_what_is_computed_is_computed_on_its_device(entered: list[str]) -> None:
    with computing_on(torch.device("cuda:1")):
        assert entered == ["cuda:1"]
    with computing_on(CPU):
        assert entered == []


SWITCHES = """
import torch
from twodpass_core.device import allows_tf32
found = [allows_tf32()]
torch.backends.cuda.matmul.allow_tf32 = True
found.append(allows_tf32())
torch.set_float32_matmul_precision("highest")
found.append(allows_tf32())
if hasattr(torch.backends.cuda.matmul, "fp32_precision"):
    for precision in ("tf32", "ieee"):
        torch.backends.cuda.matmul.fp32_precision = precision
        found.append(allows_tf32())
print(*found)
"""


def test_both_switches_for_tf32_are_heeded() -> None:
    """In a process of its own: once the newer one is used, torch refuses the older one there."""
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join(sys.path)}
    command = [sys.executable, "-W", "ignore", "-c", SWITCHES]
    done = subprocess.run(command, env=environment, capture_output=True, text=True, timeout=100)
    assert done.returncode == 0, done.stderr
    assert done.stdout.split() in (["False", "True", "False"], ["False", "True", "False", "True", "False"])


@pytest.mark.skipif(torch.cuda.device_count() < 2, reason="needs two GPUs")
@pytest.mark.parametrize("backend", ["torch", "auto"])
def test_a_gpu_need_not_be_the_current_one(weights: Path, backend: str) -> None:
    points = scan(2000)
    first, second = (Segmenter.from_weights(weights, f"cuda:{index}", backend=backend) for index in (0, 1))
    with torch.cuda.device(0):
        found = second.segment(points)
    assert np.array_equal(found.class_id, first.segment(points).class_id)
    assert sum(found.stage_seconds.values()) > 0


def test_a_lost_gpu_is_logged_where_memory_is_given_back(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    def lose_gpu() -> None:
        raise RuntimeError("CUDA error: unspecified launch failure")

    monkeypatch.setattr(torch.cuda, "empty_cache", lose_gpu)
    give_back_memory(torch.device("cuda"))
    empty_cache()
    assert [record.getMessage().rpartition(": ")[2] for record in caplog.records] == ["unspecified launch failure"] * 2


def test_the_workspaces_of_libraries_are_given_back_where_torch_can(monkeypatch: pytest.MonkeyPatch) -> None:
    done: list[str] = []
    monkeypatch.setattr(torch.cuda, "empty_cache", lambda: done.append("cache"))
    monkeypatch.setattr(torch._C, "_cuda_clearCublasWorkspaces", lambda: done.append("workspaces"), raising=False)
    give_back_memory(CPU)
    assert done == []
    give_back_memory(torch.device("cuda"))
    assert done == ["workspaces", "cache"]
    monkeypatch.delattr(torch._C, "_cuda_clearCublasWorkspaces")
    give_back_memory(torch.device("cuda"))
    assert done == ["workspaces", "cache", "cache"]
