"""Which sparse backend is chosen, what is said of it, and what happens where one is absent."""

from __future__ import annotations

import logging
import re
import sys
from contextlib import nullcontext
from pathlib import Path
from typing import Any

import pytest
import torch
from tiny_weights import tiny_card, write_tiny_weights
from torch import Tensor

from twodpass_core.errors import ConfigError, MissingDependencyError
from twodpass_core.segmenter import DTYPES, Segmenter
from twodpass_core.sparse import backend as backends
from twodpass_core.sparse.backend import SparseBackend, StridedMaps, make_backend
from twodpass_core.sparse.pyramid import Halving, VoxelLevel
from twodpass_core.sparse.torch_backend import TorchBackend
from twodpass_core.sparse.trial import try_backend
from twodpass_core.training.config import TrainingConfig
from twodpass_core.training.config_file import load_config

CPU, CUDA = torch.device("cpu"), torch.device("cuda")


class OtherBackend:
    """Stands for a backend that works."""

    name = "other"

    def __init__(self) -> None:
        self.torch_backend = TorchBackend()

    def build_map(self, level: VoxelLevel) -> Any:
        return self.torch_backend.build_map(level)

    def build_strided_maps(self, halving: Halving) -> StridedMaps:
        return self.torch_backend.build_strided_maps(halving)

    def convolve(self, features: Tensor, weight: Tensor, kernel_map: Any, addend: Tensor) -> Tensor:
        return self.torch_backend.convolve(features, weight, kernel_map, addend)


class TransposedBackend(OtherBackend):
    """Reads offsets as z, y, x, of the submanifold convolution alone: what a forgotten conversion looks like."""

    num_offsets = 27

    def convolve(self, features: Tensor, weight: Tensor, kernel_map: Any, addend: Tensor) -> Tensor:
        if weight.shape[0] == self.num_offsets:
            size = round(self.num_offsets ** (1 / 3))
            weight = weight.view(size, size, size, *weight.shape[1:]).transpose(0, 2).reshape(weight.shape)
        return super().convolve(features, weight, kernel_map, addend)


class TransposedStridedBackend(TransposedBackend):
    """The same, of the strided convolution and its inverse alone."""

    num_offsets = 8


class GradientlessBackend(OtherBackend):
    """Right forward, wrong backward."""

    def convolve(self, features: Tensor, weight: Tensor, kernel_map: Any, addend: Tensor) -> Tensor:
        return super().convolve(features.detach() + 0 * features, weight, kernel_map, addend)


class GradientlessInverseBackend(OtherBackend):
    """Wrong in the backward pass of the inverse convolution alone."""

    up: Any = None

    def build_strided_maps(self, halving: Halving) -> StridedMaps:
        maps = super().build_strided_maps(halving)
        self.up = maps.up
        return maps

    def convolve(self, features: Tensor, weight: Tensor, kernel_map: Any, addend: Tensor) -> Tensor:
        if kernel_map is self.up:
            weight = weight.detach() + 0 * weight
        return super().convolve(features, weight, kernel_map, addend)


class BrokenBackend(OtherBackend):
    def __init__(self) -> None:
        raise OSError("no C compiler")


class Float32Backend(OtherBackend):
    """Of a card that has no bf16."""

    def convolve(self, features: Tensor, weight: Tensor, kernel_map: Any, addend: Tensor) -> Tensor:
        if features.dtype == torch.bfloat16:
            raise RuntimeError("Feature '.bf16' requires .target sm_80 or higher")
        return super().convolve(features, weight, kernel_map, addend)


class InaccurateBackend(OtherBackend):
    """Wrong in half precision alone."""

    def convolve(self, features: Tensor, weight: Tensor, kernel_map: Any, addend: Tensor) -> Tensor:
        out = super().convolve(features, weight, kernel_map, addend)
        return out if out.dtype == torch.float32 else 1.1 * out


class NarrowBackend(OtherBackend):
    """Has too little shared memory for many channels."""

    def convolve(self, features: Tensor, weight: Tensor, kernel_map: Any, addend: Tensor) -> Tensor:
        if features.shape[1] > 32:
            raise RuntimeError("out of resource: shared memory")
        return super().convolve(features, weight, kernel_map, addend)


@pytest.mark.parametrize("width", [2, 16, 128])
def test_a_backend_that_works_passes_its_trial(width: int) -> None:
    assert try_backend("other", OtherBackend, CPU, list(DTYPES.values()), width).name == "other"


@pytest.mark.parametrize("make", [Float32Backend, InaccurateBackend, NarrowBackend])
def test_what_will_not_be_used_is_not_tried(make: type[OtherBackend]) -> None:
    assert try_backend("other", make, CPU, [torch.float32], 32).name == "other"


@pytest.mark.parametrize(
    ("make", "reason"),
    [
        (TransposedBackend, "differ from the torch backend's"),
        (TransposedStridedBackend, "differ from the torch backend's"),
        (GradientlessBackend, "differ from the torch backend's"),
        (GradientlessInverseBackend, "differ from the torch backend's"),
        (BrokenBackend, "no C compiler"),
        (Float32Backend, "requires .target sm_80"),
        (InaccurateBackend, r"results in torch\.bfloat16 differ from the torch backend's"),
        (NarrowBackend, "out of resource"),
    ],
)
def test_a_backend_that_does_not_work_fails_its_trial_with_the_reason(make: type[OtherBackend], reason: str) -> None:
    with pytest.raises(ConfigError, match=rf"does not work on cpu: .*{reason}.*\. Choose auto or torch"):
        try_backend("other", make, CPU, [torch.float32, torch.bfloat16], 64)


def test_a_trial_does_not_depend_on_the_device_that_tensors_are_made_on_elsewhere() -> None:
    with torch.device("meta"):
        assert try_backend("other", OtherBackend, CPU, [torch.float32], 16).name == "other"


def test_a_trial_leaves_the_random_numbers_of_a_training_alone() -> None:
    before = torch.get_rng_state()
    try_backend("other", OtherBackend, CPU, [torch.float32], 16)
    assert torch.equal(torch.get_rng_state(), before)


def test_auto_on_a_cpu_is_torch_and_says_why(caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.INFO)
    assert make_backend("auto", CPU).name == "torch"
    assert "sparse backend torch: the others need CUDA, the device is cpu" in caplog.text


@pytest.fixture
def no_packages(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(backends, "find_spec", lambda name: None)


@pytest.mark.usefixtures("no_packages")
def test_auto_on_a_gpu_without_others_is_torch_and_says_why(caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.INFO)
    assert make_backend("auto", CUDA).name == "torch"
    assert "sparse backend torch on cuda: torchsparse is not installed; triton is not installed" in caplog.text


def test_auto_on_a_gpu_takes_the_first_that_works_and_warns_of_one_that_does_not(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    def broken(*_: object) -> SparseBackend:
        raise ConfigError("the sparse backend 'torchsparse' does not work on cuda: undefined symbol")

    monkeypatch.setattr(backends, "_make_torchsparse", broken)
    monkeypatch.setattr(backends, "_make_triton", lambda *_: OtherBackend())
    caplog.set_level(logging.INFO)
    assert make_backend("auto", CUDA).name == "other"
    assert [record.levelname for record in caplog.records] == ["WARNING", "INFO"]
    assert "undefined symbol" in caplog.records[0].message
    assert "triton on cuda: torchsparse does not work; it passed its trial" in caplog.records[1].message


@pytest.mark.parametrize("name", ["triton", "torchsparse"])
def test_a_package_that_cannot_be_imported_is_passed_over_unless_asked_for(
    name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    (tmp_path / name).mkdir()
    (tmp_path / name / "__init__.py").write_text("raise ImportError('libcuda.so.1: cannot open shared object file')")
    monkeypatch.syspath_prepend(tmp_path)
    for module in (name, "twodpass_core.sparse.triton_backend", "twodpass_core.sparse.triton_kernels"):
        monkeypatch.delitem(sys.modules, module, raising=False)
    monkeypatch.setattr(backends, "find_spec", lambda wanted: wanted if wanted == name else None)
    monkeypatch.setattr(torch.cuda, "device", lambda device: nullcontext())
    reason = rf"'{name}' does not work on cuda: libcuda\.so\.1: cannot open .*\. Choose auto or torch"
    with pytest.raises(ConfigError, match=reason):
        make_backend(name, CUDA)
    assert make_backend("auto", CUDA).name == "torch"
    assert re.search(reason, caplog.text)


@pytest.mark.usefixtures("no_packages")
@pytest.mark.parametrize("name", ["triton", "torchsparse"])
def test_an_absent_package_is_named(name: str) -> None:
    with pytest.raises(MissingDependencyError, match=f"'{name}' needs {name}, which is not installed: .*without"):
        make_backend(name, CUDA)


@pytest.mark.parametrize("name", ["triton", "torchsparse"])
def test_a_backend_for_gpus_refuses_a_cpu(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(backends, "find_spec", lambda name: name)
    monkeypatch.delenv("TRITON_INTERPRET", raising=False)
    with pytest.raises(ConfigError, match=f"'{name}' needs a CUDA device, not cpu"):
        make_backend(name, CPU)


def test_unknown_backends_are_refused_with_the_known_ones() -> None:
    with pytest.raises(ConfigError, match="'minuet': choose auto, torch, torchsparse, triton"):
        make_backend("minuet")


def test_the_segmenter_passes_its_device_on(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(backends, "find_spec", lambda name: name)
    weights = write_tiny_weights(tmp_path / "tiny.safetensors")
    with pytest.raises(ConfigError, match="'torchsparse' needs a CUDA device, not cpu"):
        Segmenter.from_weights(weights, "cpu", backend="torchsparse")


def test_the_segmenter_has_a_backend_tried_as_it_will_use_it(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    trials: list[tuple[object, ...]] = []

    def noting(*trial: object) -> SparseBackend:
        trials.append(trial)
        return OtherBackend()

    monkeypatch.setattr(backends, "_make_triton", noting)
    weights = write_tiny_weights(tmp_path / "tiny.safetensors", tiny_card(width=6))
    assert Segmenter.from_weights(weights, "cpu", "bf16", "triton").backend == "other"
    assert trials == [(CPU, [torch.bfloat16], 6)]


def test_training_settings_have_a_backend_and_old_ones_go_on_working() -> None:
    assert TrainingConfig.model_validate({"machine": {"accelerator": "cpu"}}).machine.backend == "auto"
    assert load_config(None, ["machine.backend=triton"]).machine.backend == "triton"
    with pytest.raises(ConfigError, match=r"machine\.backend"):
        load_config(None, ["machine.backend=minuet"])
