"""Sparse convolution in plain PyTorch: gather, multiply, sum."""

from __future__ import annotations

from collections.abc import Iterator

import torch
from torch import Tensor
from torch.nn import functional as F  # noqa: N812

from twodpass_core.sparse.kernel_backend import KernelBackend
from twodpass_core.sparse.neighbours import build_neighbour_map
from twodpass_core.sparse.pairs import TILE, Block, Pairs
from twodpass_core.sparse.pyramid import Halving, VoxelLevel
from twodpass_core.sparse.rows import sum_rows
from twodpass_core.sparse.strided import build_strided_pairs
from twodpass_core.sparse.workspace import Workspace

GATHERED_ON_CPU, GATHERED_ON_GPU = 1 << 20, 1 << 24
"""Numbers that are gathered and multiplied at once: on the CPU they are multiplied while in the cache."""


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
        out = features.new_empty(table.num_targets, weight.shape[2])
        for block in table.blocks:
            products = self._products(features, weight, addend, block, table.centre)
            out[block.begin : block.end] = sum_rows(products, block.product_rows, block.product_offsets)
        return out

    def _products(self, features: Tensor, weight: Tensor, addend: Tensor, block: Block, centre: int | None) -> Tensor:
        """Those of a block (T + S, C_out)."""
        begins, num_tiles, width = block.end - block.begin, block.tile_offsets.shape[0], weight.shape[2]
        products = self._workspace.rows("products", begins + num_tiles * TILE, width, features)
        begun, tiled = products.split((begins, num_tiles * TILE))
        addend = addend if addend.ndim == 1 else addend[block.begin : block.end]
        if centre is None:
            begun.copy_(addend)
        else:
            torch.addmm(addend, features[block.begin : block.end], weight[centre], out=begun)
        batches = block.tile_offsets, block.sources, tiled.view(-1, TILE, width)
        for offsets, sources, product in _split(features, *batches):
            rows = self._gather("sources", features, sources)
            torch.bmm(rows, weight.index_select(0, offsets), out=product)
        return products

    def weight_gradient(self, features: Tensor, grad: Tensor, table: Pairs) -> Tensor:
        wide = torch.promote_types(features.dtype, torch.float32)  # sums of many tiles
        out = features.new_zeros(table.num_offsets, features.shape[1], grad.shape[1], dtype=wide)
        if table.centre is not None:
            out[table.centre] = features.t() @ grad
        for block in table.blocks:
            of_targets = F.pad(grad[block.begin : block.end], (0, 0, 0, 1))  # zero where a tile is filled up
            for offsets, sources, targets in _split(features, block.tile_offsets, block.sources, block.targets):
                rows = self._gather("sources", features, sources)
                grads = self._gather("targets", of_targets, targets)
                out.index_add_(0, offsets, torch.bmm(rows.transpose(1, 2), grads).to(wide))
        return out.to(features.dtype)

    def _gather(self, name: str, features: Tensor, rows: Tensor) -> Tensor:
        """(n, TILE) rows -> (n, TILE, C)."""
        gathered = self._workspace.rows(name, rows.numel(), features.shape[1], features)
        torch.index_select(features, 0, rows.reshape(-1), out=gathered)
        return gathered.view(*rows.shape, features.shape[1])


def _split(features: Tensor, *tiles: Tensor) -> Iterator[tuple[Tensor, ...]]:
    """Some tiles at a time."""
    limit = GATHERED_ON_CPU if features.device.type == "cpu" else GATHERED_ON_GPU
    at_once = max(1, limit // (TILE * features.shape[1]))
    return zip(*(tensor.split(at_once) for tensor in tiles), strict=True)
