"""The layers on sparse voxels that students are made of.

Convolutions have no bias; normalisation follows them. A U-Net's way between two levels:

    halving = level.halve()
    between = backend.build_strided_maps(halving)
    coarse = strided(fine, backend, between.down)
    fine = torch.cat([fine, inverse(coarse, backend, between.up)], dim=1)
"""

from __future__ import annotations

import math
from typing import ClassVar

import torch
from torch import Tensor, nn
from torch.nn import functional as F  # noqa: N812

from twodpass_core.sparse.backend import SparseBackend
from twodpass_core.sparse.neighbours import NUM_OFFSETS
from twodpass_core.sparse.strided import NUM_STRIDED_OFFSETS


class SparseConvolution(nn.Module):
    """weight (K, C_in, C_out), see SparseBackend. Subclasses say which map it is for."""

    num_offsets: ClassVar[int]
    sources_per_target: ClassVar[int]  # at most, for the initial weights

    def __init__(self, width_in: int, width_out: int) -> None:
        super().__init__()
        bound = 1 / math.sqrt(self.sources_per_target * width_in)
        self.weight = nn.Parameter(torch.empty(self.num_offsets, width_in, width_out).uniform_(-bound, bound))

    def forward(self, features: Tensor, backend: SparseBackend, kernel_map: object) -> Tensor:
        """(M_source, C_in) -> (M_target, C_out)."""
        weight = self.weight.to(features.dtype)  # in mixed precision features come in half precision
        return backend.convolve(features, weight, kernel_map, features.new_zeros(weight.shape[2]))


class SubmanifoldConvolution(SparseConvolution):
    """3x3x3 on the voxels of a level, by the map of `build_map`."""

    num_offsets = NUM_OFFSETS
    sources_per_target = NUM_OFFSETS


class StridedConvolution(SparseConvolution):
    """2x2x2, stride 2: to the level of halved cells, by `build_strided_maps(...).down`."""

    num_offsets = NUM_STRIDED_OFFSETS
    sources_per_target = NUM_STRIDED_OFFSETS


class InverseConvolution(SparseConvolution):
    """The transposed 2x2x2 of stride 2: back to exactly the voxels of the finer level, by `.up` of the same maps."""

    num_offsets = NUM_STRIDED_OFFSETS
    sources_per_target = 1


class PointwiseConvolution(nn.Module):
    """1x1x1 convolution without bias; weight (C_in, C_out)."""

    def __init__(self, width: int) -> None:
        super().__init__()
        bound = 1 / math.sqrt(width)
        self.weight = nn.Parameter(torch.empty(width, width).uniform_(-bound, bound))

    def forward(self, features: Tensor) -> Tensor:
        """(M, C_in) -> (M, C_out)."""
        return features @ self.weight


def norm_as_in_inference(norm: nn.BatchNorm1d | nn.BatchNorm2d, features: Tensor) -> Tensor:
    """Batch normalisation by the running statistics, which it leaves as they are."""
    statistics = norm.running_mean, norm.running_var
    return F.batch_norm(features, *statistics, norm.weight, norm.bias, training=False, eps=norm.eps)


class VoxelNorm(nn.BatchNorm1d):
    """Batch normalisation over voxels; in training, fewer than two have no variance: then as in inference."""

    def forward(self, features: Tensor) -> Tensor:
        """(M, C) -> (M, C)."""
        if self.training and features.shape[0] < 2:
            return norm_as_in_inference(self, features)
        return super().forward(features)

    def scale_and_shift(self) -> tuple[Tensor, Tensor]:
        """(C,), (C,) float64: what it is in evaluation mode, y = scale * x + shift."""
        assert self.running_mean is not None
        assert self.running_var is not None
        scale = self.weight.detach().double() / torch.sqrt(self.running_var.double() + self.eps)
        return scale, self.bias.detach().double() - scale * self.running_mean.double()
