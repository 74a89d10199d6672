"""Weights rounded for bf16: the folded network is the same in bf16 and in float32."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pytest
import torch
from tiny_weights import tiny_card
from torch import Tensor

from twodpass_core.models.folded import FoldedStudent
from twodpass_core.models.layers import VoxelNorm
from twodpass_core.models.rounding import rounded_for_bf16
from twodpass_core.models.student import PointVoxelStudent

CPU = torch.device("cpu")
HALF_STEP = 2**-8
"""Of bf16, as a share of a number at most: it has 8 binary digits, the first of them always 1."""


@pytest.fixture
def student() -> PointVoxelStudent:
    """With normalisations as training leaves them, one channel of which is dead."""
    torch.manual_seed(3)
    card = tiny_card()
    student = PointVoxelStudent(card.architecture, card.grid).eval()
    for layer in student.modules():
        if isinstance(layer, VoxelNorm):
            assert layer.running_mean is not None
            assert layer.running_var is not None
            layer.running_mean.normal_()
            layer.running_var.uniform_(0.1, 4.0)
            torch.nn.init.normal_(layer.weight, 1.0, 0.3)
            torch.nn.init.normal_(layer.bias)
            with torch.no_grad():
                layer.weight[0] = 0.0
    return student


def tensors(of: object) -> Iterator[Tensor]:
    """All weights of a folded network, in a fixed order."""
    if isinstance(of, Tensor):
        yield of
    elif isinstance(of, list):
        for entry in of:
            yield from tensors(entry)
    elif type(of).__module__ == FoldedStudent.__module__:
        for value in vars(of).values():
            yield from tensors(value)


def folded(student: PointVoxelStudent, dtype: torch.dtype) -> list[Tensor]:
    return [tensor.to(torch.float32) for tensor in tensors(FoldedStudent(student, dtype, CPU))]


def test_bf16_loses_nothing_of_the_rounded_weights(student: PointVoxelStudent) -> None:
    rounded = rounded_for_bf16(student)
    in_bf16, in_float32 = folded(rounded, torch.bfloat16), folded(rounded, torch.float32)
    assert len(in_bf16) == len(in_float32) > 30
    for low, full in zip(in_bf16, in_float32, strict=True):
        torch.testing.assert_close(low, full, rtol=1e-5, atol=1e-6)


def test_no_weight_moves_by_more_than_rounding_moves_it(student: PointVoxelStudent) -> None:
    moved = 0
    for before, after in zip(
        folded(student, torch.float32), folded(rounded_for_bf16(student), torch.float32), strict=True
    ):
        reach = 1.01 * HALF_STEP * before.abs() + 1e-6
        assert bool(((after - before).abs() <= reach).all())
        moved += int((after != before).sum())
    assert moved > 1000


def test_the_student_itself_stays_as_it_was(student: PointVoxelStudent) -> None:
    before: dict[str, Any] = {name: tensor.clone() for name, tensor in student.state_dict().items()}
    after = rounded_for_bf16(student).state_dict()
    for name, tensor in student.state_dict().items():
        assert torch.equal(tensor, before[name])
    unchanged = {name for name in before if torch.equal(before[name], after[name])}
    assert {"point_encoder.0.weight", "blocks.0.point_branch.direct.weight", "classifier.0.weight"} <= unchanged
    dead = "blocks.0.voxel_branch.0.convolution1.weight"
    assert torch.equal(after[dead][..., 0], before[dead][..., 0])  # another training may bring the channel to life
    assert bool(before[dead][..., 0].any())


def test_rounding_twice_is_rounding_once(student: PointVoxelStudent) -> None:
    once = rounded_for_bf16(student)
    for first, second in zip(folded(once, torch.bfloat16), folded(rounded_for_bf16(once), torch.bfloat16), strict=True):
        assert torch.equal(first, second)
