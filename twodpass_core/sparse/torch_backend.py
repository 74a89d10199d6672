"""Submanifold convolution in plain PyTorch: gather, multiply, sum."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor
from torch.autograd import Function

from twodpass_core.sparse.neighbours import CENTRE, NUM_OFFSETS, NeighbourMap, build_neighbour_map
from twodpass_core.sparse.pyramid import VoxelLevel
from twodpass_core.sparse.rows import sum_rows
from twodpass_core.sparse.workspace import Workspace


class TorchBackend:
    """Runs anywhere torch runs, on the CPU and on CUDA; the reference for other backends."""

    name = "torch"

    def __init__(self) -> None:
        self._workspace = Workspace()

    def build_map(self, level: VoxelLevel) -> NeighbourMap:
        return build_neighbour_map(level)

    def convolve(self, features: Tensor, weight: Tensor, neighbour_map: NeighbourMap, addend: Tensor) -> Tensor:
        arguments = features, weight, addend, neighbour_map, self._workspace
        out: Tensor = _Convolution.apply(*arguments)  # type: ignore[no-untyped-call]
        return out


class _Convolution(Function):
    @staticmethod
    def forward(
        ctx: Any, features: Tensor, weight: Tensor, addend: Tensor, pairs: NeighbourMap, workspace: Workspace
    ) -> Tensor:
        ctx.save_for_backward(features, weight)
        ctx.pairs, ctx.workspace, ctx.addend_is_bias = pairs, workspace, addend.ndim == 1
        return _convolve(features, weight, addend, pairs, workspace)

    @staticmethod
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor | None, ...]:
        features, weight = ctx.saved_tensors
        grad = grad.contiguous()
        grad_features = grad_weight = None
        if ctx.needs_input_grad[0]:
            # Neighbourhood is mutual: the gradient is a convolution with the weights transposed, at opposite offsets.
            opposite = weight.flip(0).transpose(1, 2).contiguous()
            grad_features = _convolve(grad, opposite, grad.new_zeros(weight.shape[1]), ctx.pairs, ctx.workspace)
        if ctx.needs_input_grad[1]:
            grad_weight = _weight_gradient(features, grad, ctx.pairs)
        return grad_features, grad_weight, grad.sum(0) if ctx.addend_is_bias else grad, None, None


def _convolve(features: Tensor, weight: Tensor, addend: Tensor, pairs: NeighbourMap, workspace: Workspace) -> Tensor:
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


def _weight_gradient(features: Tensor, grad: Tensor, pairs: NeighbourMap) -> Tensor:
    """dW_k = sum over the pairs of offset k of neighbour features (outer) output gradient."""
    out = features.new_empty(NUM_OFFSETS, features.shape[1], grad.shape[1])
    out[CENTRE] = features.t() @ grad
    half = len(pairs.offsets) // 2
    neighbours = pairs.neighbours.split(pairs.counts)
    for group, offset in enumerate(pairs.offsets):
        # The voxels of a group are the neighbours of the group with the opposite offset.
        voxels = neighbours[(group + half) % (2 * half)]
        out[offset] = features.index_select(0, neighbours[group]).t() @ grad.index_select(0, voxels)
    return out
