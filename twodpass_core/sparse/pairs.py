"""What meets in a convolution as lists of pairs, by target and offset: the torch backend's table."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

TARGETS_ON_CPU, TARGETS_ON_GPU = 1 << 14, 1 << 17
"""Targets of a block: few enough for the memory, and the CPU's cache; enough for products that are worth a call."""
TILE = 256
"""Pairs multiplied by the same weights: enough for full speed, few enough to waste little on an offset's last tile."""


@dataclass(frozen=True, eq=False)
class Block:
    """T successive targets and their P pairs, grouped by offset; for each target the list of its product rows.

    A convolution makes one product row per pair (the source's features times the offset's weights) and sums the rows of
    each target. Each offset's pairs are filled up to whole tiles, so that the products of many offsets are one batch of
    equal matrices. Product rows are numbered: 0..T-1 what each of the targets begins with, then the S of the tiles.
    """

    begin: int  # the first target
    end: int  # one beyond the last
    tile_offsets: Tensor  # (S / TILE,) int32: the offset of each tile
    sources: Tensor  # (S / TILE, TILE) int32: rows of the features, any where a tile is filled up
    targets: Tensor  # (S / TILE, TILE) int32: 0..T-1, T where a tile is filled up
    product_rows: Tensor  # (T + P,) int32, listed target by target
    product_offsets: Tensor  # (T,) int32: where each target's list begins

    @classmethod
    def of(cls, begin: int, end: int, offsets: tuple[int, ...], groups: Sequence[Tensor]) -> Block:
        """Lay out the pairs of each offset, sources over targets (2, P_k), in tiles, and list them target by target."""
        counts = [group.shape[1] for group in groups]
        filler = torch.stack([groups[0].new_full((TILE,), 0), groups[0].new_full((TILE,), end)])
        filled = [part for group in groups for part in (group, filler[:, : -group.shape[1] % TILE])]
        sources, targets = torch.cat(filled, dim=1)
        targets = targets - begin
        itself = torch.arange(end - begin + 1, dtype=torch.int32, device=targets.device)
        target_of_product = torch.cat([itself[:-1], targets])
        # Neither bincount here nor a tensor of a list below: they would have the host wait for the device.
        ones = torch.ones_like(target_of_product)
        list_lengths = torch.zeros_like(itself).scatter_add_(0, target_of_product.to(torch.int64), ones)
        short = torch.int16 if end - begin < 1 << 15 else torch.int32  # sorting takes the CPU a pass per byte
        listed = torch.sort(target_of_product.to(short), stable=True).indices[: end - begin + sum(counts)]
        tile_offsets = [itself.new_full((-(-count // TILE),), k) for k, count in zip(offsets, counts, strict=True)]
        return cls(
            begin,
            end,
            torch.cat(tile_offsets),
            sources.view(-1, TILE),
            targets.view(-1, TILE),
            product_rows=listed.to(torch.int32),
            product_offsets=(torch.cumsum(list_lengths, 0) - list_lengths)[:-1].to(torch.int32),
        )


@dataclass(frozen=True, eq=False)
class Pairs:
    """Pairs (source row of the features, target row of the result) of all targets, block by block."""

    num_targets: int
    num_offsets: int
    centre: int | None  # the offset at which every row meets itself, if there is one; targets begin with its product
    blocks: tuple[Block, ...]

    @classmethod
    def of(
        cls,
        num_targets: int,
        offsets: Sequence[int],
        pairs: Tensor,
        slots: Tensor,
        centre: int | None = None,
    ) -> Pairs:
        """Divide pairs into blocks.

        Args:
            pairs: (2, P) int32: source row, target row.
            slots: (P,), ascending: the pair's place in a table with a row per offset, i * num_targets + target for
                offsets[i].
        """
        size = TARGETS_ON_CPU if slots.device.type == "cpu" else TARGETS_ON_GPU
        begins = range(0, num_targets, size)
        first_slots = torch.arange(len(offsets), dtype=slots.dtype, device=slots.device)[:, None] * num_targets
        first_slots = first_slots + torch.arange(0, num_targets, size, dtype=slots.dtype, device=slots.device)
        bounds = [*torch.searchsorted(slots, first_slots.view(-1)).tolist(), slots.shape[0]]
        blocks = []
        for block, begin in enumerate(begins):
            groups = [pairs[:, slice(*bounds[i : i + 2])] for i in range(block, len(bounds) - 1, len(begins))]
            blocks.append(Block.of(begin, min(begin + size, num_targets), tuple(offsets), groups))
        return cls(num_targets, len(offsets) + (centre is not None), centre, tuple(blocks))
