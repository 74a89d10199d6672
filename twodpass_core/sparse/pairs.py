"""What meets in a convolution as lists of pairs, by target and offset: the torch backend's table."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

TARGETS_ON_CPU, TARGETS_ON_GPU = 1 << 14, 1 << 17
"""Targets of a block: few enough for the memory, and the CPU's cache; enough for products that are worth a call."""


@dataclass(frozen=True)
class Block:
    """T successive targets and their P pairs, grouped by offset; for each target the list of its product rows.

    A convolution makes one product row per pair (the source's features times the offset's weights) and sums the rows of
    each target. Product rows are numbered: 0..T-1 what each of the targets begins with, then the pairs.
    """

    begin: int  # the first target
    end: int  # one beyond the last
    offsets: tuple[int, ...]  # in the order of the groups
    counts: tuple[int, ...]  # pairs of each group
    sources: Tensor  # (P,) int32: rows of the features
    targets: Tensor  # (P,) int32: rows of the result
    product_rows: Tensor  # (T + P,) int32, listed target by target
    product_offsets: Tensor  # (T,) int32: where each target's list begins

    @classmethod
    def of(
        cls, begin: int, end: int, offsets: tuple[int, ...], counts: tuple[int, ...], sources: Tensor, targets: Tensor
    ) -> Block:
        """List the pairs target by target."""
        itself = torch.arange(end - begin, dtype=torch.int32, device=targets.device)
        target_of_product = torch.cat([itself, targets - begin])
        # bincount would have the host wait for the device.
        ones = torch.ones_like(target_of_product)
        list_lengths = torch.zeros_like(itself).scatter_add_(0, target_of_product.to(torch.int64), ones)
        return cls(
            begin,
            end,
            offsets,
            counts,
            sources,
            targets,
            product_rows=torch.sort(target_of_product, stable=True).indices.to(torch.int32),
            product_offsets=(torch.cumsum(list_lengths, 0) - list_lengths).to(torch.int32),
        )


@dataclass(frozen=True)
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
        sources: Tensor,
        targets: Tensor,
        slots: Tensor,
        centre: int | None = None,
    ) -> Pairs:
        """Of pairs (P,) int32, in the order of slots i * num_targets + target (P,), where offsets[i] is the offset."""
        size = TARGETS_ON_CPU if slots.device.type == "cpu" else TARGETS_ON_GPU
        begins = range(0, num_targets, size)
        first_slots = torch.arange(len(offsets), dtype=slots.dtype, device=slots.device)[:, None] * num_targets
        first_slots = first_slots + torch.arange(0, num_targets, size, dtype=slots.dtype, device=slots.device)
        bounds = [*torch.searchsorted(slots, first_slots.view(-1)).tolist(), slots.shape[0]]
        blocks = []
        for block, begin in enumerate(begins):
            groups = [slice(*bounds[i : i + 2]) for i in range(block, len(bounds) - 1, len(begins))]
            counts = tuple(group.stop - group.start for group in groups)
            rows = (torch.cat([pairs[group] for group in groups]) for pairs in (sources, targets))
            blocks.append(Block.of(begin, min(begin + size, num_targets), tuple(offsets), counts, *rows))
        return cls(num_targets, len(offsets) + (centre is not None), centre, tuple(blocks))
