"""Submanifold convolution in plain PyTorch: gather, multiply, sum."""

from __future__ import annotations

import torch
from torch import Tensor

from twodpass_core.sparse.kernel_backend import KernelBackend
from twodpass_core.sparse.neighbours import CENTRE, NUM_OFFSETS, NeighbourMap, build_neighbour_map
from twodpass_core.sparse.pyramid import VoxelLevel
from twodpass_core.sparse.rows import sum_rows
from twodpass_core.sparse.workspace import Workspace


class TorchBackend(KernelBackend):
    """Runs anywhere torch runs, on the CPU and on CUDA; the reference for other backends."""

    name = "torch"

    def __init__(self) -> None:
        self._workspace = Workspace()

    def build_map(self, level: VoxelLevel) -> NeighbourMap:
        return build_neighbour_map(level)

    def forward(self, features: Tensor, weight: Tensor, neighbour_map: NeighbourMap, addend: Tensor) -> Tensor:
        pairs, workspace = neighbour_map, self._workspace
        num_voxels, width_in = features.shape
        weights, num_pairs = weight.unbind(), sum(pairs.counts)
        gathered = workspace.rows("gathered", num_pairs, width_in, features)
        products = workspace.rows("products", num_voxels + num_pairs, weight.shape[2], features)
        centre, *groups = products.split((num_voxels, *pairs.counts))
        torch.index_select(features, 0, pairs.neighbours, out=gathered)
        torch.addmm(addend, features, weights[CENTRE], out=centre)
        for offset, rows, product in zip(pairs.offsets, gathered.split(pairs.counts), groups, strict=True):
            torch.mm(rows, weights[offset], out=product)
        return sum_rows(products, pairs.product_rows, pairs.product_offsets)

    def weight_gradient(self, features: Tensor, grad: Tensor, neighbour_map: NeighbourMap) -> Tensor:
        pairs = neighbour_map
        out = features.new_empty(NUM_OFFSETS, features.shape[1], grad.shape[1])
        out[CENTRE] = features.t() @ grad
        half = len(pairs.offsets) // 2
        neighbours = pairs.neighbours.split(pairs.counts)
        for group, offset in enumerate(pairs.offsets):
            # The voxels of a group are the neighbours of the group with the opposite offset.
            voxels = neighbours[(group + half) % (2 * half)]
            out[offset] = features.index_select(0, neighbours[group]).t() @ grad.index_select(0, voxels)
        return out
