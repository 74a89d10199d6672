"""A trained student's weights, moved to the nearest ones that the folded network has without loss in bf16.

Half of what bf16 changes at inference is the rounding of the weights: the same error in every voxel. A network that is
trained anyway can be given the rounded weights for good; float32 and bf16 then run the very same ones.
"""

from __future__ import annotations

import copy

import torch
from torch import Tensor, nn

from twodpass_core.models.layers import VoxelNorm
from twodpass_core.models.student import PointVoxelBlock, PointVoxelStudent, ResidualBlock


@torch.no_grad()
def rounded_for_bf16(student: PointVoxelStudent) -> PointVoxelStudent:
    """A copy whose weights and biases, once batch normalisation is folded in (`models.folded`), are bf16 numbers.

    No folded weight moves by more than half a step of bf16, 0.4 % of it. Layers that run in float32 always are as they
    were.
    """
    student = copy.deepcopy(student)
    hidden = student.classifier[0]
    assert isinstance(hidden, nn.Linear)
    hidden.weight.copy_(_rounded(hidden.weight))  # its bias is added in float32
    for block in student.blocks:
        assert isinstance(block, PointVoxelBlock)
        for residual in block.voxel_branch:
            assert isinstance(residual, ResidualBlock)
            _round_residual(residual)
        for layer in (block.point_branch.direct, block.point_branch.merge[0], block.point_branch.merge[2]):
            _round_linear(layer)
    return student


def _round_residual(block: ResidualBlock) -> None:
    _round_before_norm(block.convolution1.weight, block.norm1)
    _round_before_norm(block.convolution2.weight, block.norm2)
    _round_before_norm(block.shortcut.weight, block.shortcut_norm)
    _set_shift(block.norm1, _rounded(_shift(block.norm1)))
    # The shifts of the sum's two parts are folded into one.
    both = _rounded(_shift(block.norm2) + _shift(block.shortcut_norm))
    _set_shift(block.norm2, both - _shift(block.shortcut_norm))


def _round_linear(layer: nn.Module) -> None:
    assert isinstance(layer, nn.Linear)
    layer.weight.copy_(_rounded(layer.weight))
    layer.bias.copy_(_rounded(layer.bias))


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
