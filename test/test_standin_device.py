"""A scan and a step of training on a device that refuses to meet the CPU's tensors: what a GPU would refuse."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import nullcontext
from pathlib import Path
from typing import Any, Literal

import numpy as np
import pytest
import torch
from standin_device import DEVICE, StandInDevice
from table_backend import TableBackend
from tiny_weights import SMALL_GRID, scan, tiny_card, write_tiny_weights

from twodpass_core.benchmark import training
from twodpass_core.benchmark.training import TrainingCase
from twodpass_core.models.folded import FoldedStudent
from twodpass_core.models.student import PointVoxelStudent, StudentConfig
from twodpass_core.segmenter import Segmenter
from twodpass_core.sparse.backend import SparseBackend
from twodpass_core.sparse.torch_backend import TorchBackend
from twodpass_core.weights import load_weights

BACKENDS = (TorchBackend, TableBackend)


@pytest.mark.parametrize(
    "meet",
    [
        lambda there, here: there + here,
        lambda there, here: there.index_select(0, here.long()),
        lambda there, here: here.index_select(0, there.long()),
        lambda there, here: torch.cat([there, here]),
        lambda there, here: here.add_(there),
    ],
)
def test_tensors_of_two_devices_do_not_meet(meet: Callable[[torch.Tensor, torch.Tensor], object]) -> None:
    here = torch.arange(3.0)
    with StandInDevice():
        there = here.to(DEVICE)
        assert there.device == DEVICE
        assert (there * 2).cpu().tolist() == [0, 2, 4]
        assert torch.tensor([1, 2], device=DEVICE).tolist() == [1, 2]
        with pytest.raises(RuntimeError, match="on meta and on the CPU"):
            meet(there, here)


@pytest.fixture
def no_autocast(monkeypatch: pytest.MonkeyPatch) -> None:
    """It does not know DEVICE."""
    monkeypatch.setattr(torch, "autocast", lambda *args, **kwargs: nullcontext())


@pytest.mark.usefixtures("no_autocast")
@pytest.mark.parametrize("make_backend", BACKENDS)
def test_a_scan_stays_on_the_device(tmp_path: Path, make_backend: Callable[[], SparseBackend]) -> None:
    weights = write_tiny_weights(tmp_path / "tiny.safetensors", tiny_card(SMALL_GRID))
    card, state_dict = load_weights(weights)
    student = PointVoxelStudent(card.architecture, card.grid, make_backend())
    student.load_state_dict(state_dict)
    with StandInDevice():
        segmenter = Segmenter(card, FoldedStudent(student, torch.float32, DEVICE), DEVICE)
        found = [segmenter.segment(scan(2000), return_scores=True, votes=votes).scores for votes in (1, 3)]
    on_cpu = Segmenter.from_weights(weights, "cpu")
    for votes, scores in zip((1, 3), found, strict=True):
        expected = on_cpu.segment(scan(2000), return_scores=True, votes=votes).scores
        assert scores is not None
        assert expected is not None
        np.testing.assert_allclose(scores, expected, rtol=1e-4, atol=1e-5)


@pytest.fixture
def training_there(no_autocast: None, monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """Networks move to DEVICE, which recomputation does not know in torch 2.4."""
    monkeypatch.setattr(torch, DEVICE.type, DEVICE, raising=False)
    monkeypatch.setattr(training, "choose_device", lambda name: DEVICE)
    monkeypatch.setattr(training, "make_backend", lambda *_: TableBackend())
    before: Any = torch.__future__.get_overwrite_module_params_on_conversion()
    torch.__future__.set_overwrite_module_params_on_conversion(True)
    yield
    torch.__future__.set_overwrite_module_params_on_conversion(before)


@pytest.mark.usefixtures("training_there")
@pytest.mark.parametrize("variant", ["paper", "authors"])
def test_a_training_step_stays_on_the_device(variant: Literal["paper", "authors"]) -> None:
    with StandInDevice():
        case = TrainingCase((scan(300), scan(200)), network=StudentConfig(width=8), variant=variant, patch=(64, 48))
        case.prepare()(case.batch(0))
