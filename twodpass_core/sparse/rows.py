"""Sums over groups of feature rows: the one primitive under pooling, gathering and convolution.

torch's embedding_bag is used for it: on the CPU it is threaded, vectorised and accumulates bf16 in float32, many times faster than index_add.
"""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor
from torch.autograd import Function
from torch.nn import functional as F  # noqa: N812

from twodpass_core.sparse.pyramid import VoxelLevel, VoxelPyramid


def sum_rows(features: Tensor, index: Tensor, offsets: Tensor, weights: Tensor | None = None) -> Tensor:
    """(T, C): group t is the (weighted) sum of features[index[offsets[t]:offsets[t+1]]]; no gradient."""
    if offsets.shape[0] == 0 or features.shape[0] == 0:
        return features.new_zeros(offsets.shape[0], features.shape[1])
    weights = None if weights is None else weights.to(features.dtype)
    return F.embedding_bag(index, features, offsets, mode="sum", per_sample_weights=weights)


def mean_pool(features: Tensor, pyramid: VoxelPyramid, source: int, target: int) -> Tensor:
    """(M_source, C) -> (M_target, C): the mean over the points of each target voxel of their source voxels' features."""
    out: Tensor = _MeanPool.apply(features, pyramid.levels[source], pyramid.levels[target], pyramid.atom_counts)
    return out


def mean_points(features: Tensor, pyramid: VoxelPyramid) -> Tensor:
    """(N, C) -> (M_1, C): the mean over the points of each scale-1 voxel."""
    out: Tensor = _MeanPoints.apply(features, pyramid)
    return out


def gather_atoms(features: Tensor, level: VoxelLevel) -> Tensor:
    """(M, C) -> (A, C): each atom gets its voxel's features."""
    out: Tensor = _Gather.apply(features, level.atom_to_voxel, level.atom_order, level.atom_offsets)
    return out


def _pool(features: Tensor, source: VoxelLevel, target: VoxelLevel, atom_counts: Tensor) -> Tensor:
    index = source.atom_to_voxel.index_select(0, target.atom_order)
    return sum_rows(features, index, target.atom_offsets, atom_counts.index_select(0, target.atom_order))


class _MeanPool(Function):
    @staticmethod
    def forward(ctx: Any, features: Tensor, source: VoxelLevel, target: VoxelLevel, atom_counts: Tensor) -> Tensor:
        ctx.levels = source, target, atom_counts
        return _pool(features, source, target, atom_counts) / target.point_counts[:, None].to(features.dtype)

    @staticmethod
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor | None, ...]:  # type: ignore[override]
        source, target, atom_counts = ctx.levels
        return _pool(grad / target.point_counts[:, None].to(grad.dtype), target, source, atom_counts), None, None, None


class _MeanPoints(Function):
    @staticmethod
    def forward(ctx: Any, features: Tensor, pyramid: VoxelPyramid) -> Tensor:
        ctx.pyramid = pyramid
        counts = pyramid.levels[1].point_counts[:, None].to(features.dtype)
        return sum_rows(features, pyramid.point_order, pyramid.point_offsets) / counts

    @staticmethod
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor | None, ...]:  # type: ignore[override]
        counts = ctx.pyramid.levels[1].point_counts[:, None].to(grad.dtype)
        return (grad / counts).index_select(0, ctx.pyramid.point_to_voxel(1)), None


class _Gather(Function):
    """features[index], whose gradient is a sum over the rows that read the same feature."""

    @staticmethod
    def forward(ctx: Any, features: Tensor, index: Tensor, order: Tensor, offsets: Tensor) -> Tensor:
        ctx.groups = order, offsets
        return features.index_select(0, index)

    @staticmethod
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor | None, ...]:  # type: ignore[override]
        return sum_rows(grad.contiguous(), *ctx.groups), None, None, None
