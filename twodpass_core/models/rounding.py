"""A trained student's weights, rounded to the nearest for which the folded network's weights are exact in bf16.

Half of what bf16 changes at inference is the rounding of the weights: the same error in every voxel. A network that is
trained anyway can be given the rounded weights for good; float32 and bf16 then run the very same ones.
"""

from __future__ import annotations

import copy

import torch
from torch import Tensor

from twodpass_core.models.layers import VoxelNorm
from twodpass_core.models.student import PointVoxelBlock, PointVoxelStudent, ResidualBlock


@torch.no_grad()
def rounded_for_bf16(student: PointVoxelStudent) -> PointVoxelStudent:
    """A copy whose convolutions, normalisation folded in (`models.folded`), have bf16 numbers as weights and biases.

    No folded weight moves by more than half a step of bf16, 0.4 % of it. All other layers run in float32 always, and
    are as they were.
    """
    student = copy.deepcopy(student)
    for block in student.blocks:
        assert isinstance(block, PointVoxelBlock)
        for residual in block.voxel_branch:
            assert isinstance(residual, ResidualBlock)
            _round_residual(residual)
    return student


def _round_residual(block: ResidualBlock) -> None:
    _round_before_norm(block.convolution1.weight, block.norm1)
    _round_before_norm(block.convolution2.weight, block.norm2)
    _round_before_norm(block.shortcut.weight, block.shortcut_norm)
    _set_shift(block.norm1, _rounded(_shift(block.norm1)))
    # The shifts of the sum's two parts are folded into one.
    both = _rounded(_shift(block.norm2) + _shift(block.shortcut_norm))
    _set_shift(block.norm2, both - _shift(block.shortcut_norm))


def _round_before_norm(weight: Tensor, norm: VoxelNorm) -> None:
    """Of a convolution, (..., C_out), whose outputs the normalisation then scales."""
    scale, _ = norm.scale_and_shift()
    weight.copy_(_unscaled(_rounded(weight.double() * scale), scale, weight))


def _unscaled(scaled: Tensor, scale: Tensor, before: Tensor) -> Tensor:
    """Where the normalisation scales by 0, the weight does not matter and stays."""
    return torch.where(scale == 0, before.double(), scaled / scale)


def _rounded(values: Tensor) -> Tensor:
    return values.to(torch.bfloat16).double()


def _shift(norm: VoxelNorm) -> Tensor:
    return norm.scale_and_shift()[1]


def _set_shift(norm: VoxelNorm, shift: Tensor) -> None:
    assert norm.running_mean is not None
    norm.bias.copy_(shift + norm.scale_and_shift()[0] * norm.running_mean.double())
