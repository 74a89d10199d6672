"""Sparse convolution in plain PyTorch: gather, multiply, sum."""

from __future__ import annotations

import math

import torch
from torch import Tensor

from twodpass_core.sparse.kernel_backend import KernelBackend
from twodpass_core.sparse.neighbours import build_neighbour_map
from twodpass_core.sparse.pairs import Pairs
from twodpass_core.sparse.pyramid import Halving, VoxelLevel
from twodpass_core.sparse.rows import sum_rows
from twodpass_core.sparse.strided import build_strided_pairs
from twodpass_core.sparse.workspace import Workspace

LARGEST = 1 << 27
"""Numbers of product rows that are in memory at once. Where every voxel has all of its neighbours, there are 27 rows a
voxel; what exceeds this is computed some channels after the others. A scan of KITTI has a sixth of it at width 64."""


class TorchBackend(KernelBackend[Pairs]):
    """Runs anywhere torch runs, on the CPU and on CUDA; the reference for other backends."""

    name = "torch"

    def __init__(self) -> None:
        self._workspace = Workspace()

    def neighbour_table(self, level: VoxelLevel) -> Pairs:
        return build_neighbour_map(level)

    def strided_tables(self, halving: Halving) -> tuple[Pairs, Pairs]:
        return build_strided_pairs(halving)

    def forward(self, features: Tensor, weight: Tensor, table: Pairs, addend: Tensor) -> Tensor:
        parts = math.ceil((table.num_targets + sum(table.counts)) * weight.shape[2] / LARGEST)
        if parts <= 1:
            return self._convolve(features, weight, addend, table)
        channels = zip(weight.chunk(parts, dim=2), addend.chunk(parts, dim=-1), strict=True)
        return torch.cat([self._convolve(features, *part, table) for part in channels], dim=1)

    def _convolve(self, features: Tensor, weight: Tensor, addend: Tensor, pairs: Pairs) -> Tensor:
        weights, workspace = weight.unbind(), self._workspace
        gathered = workspace.rows("gathered", max(pairs.counts), features.shape[1], features)
        products = workspace.rows("products", pairs.num_targets + sum(pairs.counts), weight.shape[2], features)
        begun, *groups = products.split((pairs.num_targets, *pairs.counts))
        if pairs.centre is None:
            begun.copy_(addend)
        else:
            torch.addmm(addend, features, weights[pairs.centre], out=begun)
        sources = pairs.sources.split(pairs.counts)
        for offset, group, product in zip(pairs.offsets, sources, groups, strict=True):
            rows = gathered[: group.shape[0]]  # of one offset at a time: they are multiplied while in the cache
            torch.mm(torch.index_select(features, 0, group, out=rows), weights[offset], out=product)
        return sum_rows(products, pairs.product_rows, pairs.product_offsets)

    def weight_gradient(self, features: Tensor, grad: Tensor, table: Pairs) -> Tensor:
        out = features.new_empty(len(table.offsets) + (table.centre is not None), features.shape[1], grad.shape[1])
        if table.centre is not None:
            out[table.centre] = features.t() @ grad
        groups = table.sources.split(table.counts), table.targets.split(table.counts)
        for offset, sources, targets in zip(table.offsets, *groups, strict=True):
            out[offset] = features.index_select(0, sources).t() @ grad.index_select(0, targets)
        return out
