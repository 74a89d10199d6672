"""Sparse convolution in plain PyTorch: gather, multiply, sum."""

from __future__ import annotations

import torch
from torch import Tensor

from twodpass_core.sparse.kernel_backend import KernelBackend
from twodpass_core.sparse.neighbours import build_neighbour_map
from twodpass_core.sparse.pairs import Pairs
from twodpass_core.sparse.pyramid import Halving, VoxelLevel
from twodpass_core.sparse.rows import sum_rows
from twodpass_core.sparse.strided import build_strided_pairs
from twodpass_core.sparse.workspace import Workspace


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
        pairs, workspace = table, self._workspace
        weights, num_pairs = weight.unbind(), sum(pairs.counts)
        gathered = workspace.rows("gathered", num_pairs, features.shape[1], features)
        products = workspace.rows("products", pairs.num_targets + num_pairs, weight.shape[2], features)
        begun, *groups = products.split((pairs.num_targets, *pairs.counts))
        torch.index_select(features, 0, pairs.sources, out=gathered)
        if pairs.centre is None:
            begun.copy_(addend)
        else:
            torch.addmm(addend, features, weights[pairs.centre], out=begun)
        for offset, rows, product in zip(pairs.offsets, gathered.split(pairs.counts), groups, strict=True):
            torch.mm(rows, weights[offset], out=product)
        return sum_rows(products, pairs.product_rows, pairs.product_offsets)

    def weight_gradient(self, features: Tensor, grad: Tensor, table: Pairs) -> Tensor:
        out = features.new_empty(len(table.offsets) + (table.centre is not None), features.shape[1], grad.shape[1])
        if table.centre is not None:
            out[table.centre] = features.t() @ grad
        groups = table.sources.split(table.counts), table.targets.split(table.counts)
        for offset, sources, targets in zip(table.offsets, *groups, strict=True):
            out[offset] = features.index_select(0, sources).t() @ grad.index_select(0, targets)
        return out
