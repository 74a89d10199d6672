"""What meets in a convolution as a list of pairs, grouped by offset: the torch backend's table."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor


@dataclass(frozen=True)
class Pairs:
    """Pairs (source row of the features, target row of the result), and for each target the list of its pairs.

    A convolution makes one product row per pair (the source's features times the offset's weights) and sums the rows of
    each target. Product rows are numbered: 0..T-1 what each of the T targets begins with, then the P pairs.
    """

    num_targets: int
    centre: int | None  # the offset at which every row meets itself, if there is one; targets begin with its product
    offsets: tuple[int, ...]  # the others, in the order of the groups
    counts: tuple[int, ...]  # pairs of each group
    sources: Tensor  # (P,) int32
    targets: Tensor  # (P,) int32
    product_rows: Tensor  # (T + P,) int32, listed target by target
    product_offsets: Tensor  # (T,) int32: where each target's list begins

    @classmethod
    def grouped(
        cls,
        num_targets: int,
        offsets: tuple[int, ...],
        counts: tuple[int, ...],
        sources: Tensor,
        targets: Tensor,
        centre: int | None = None,
    ) -> Pairs:
        """List the pairs target by target."""
        itself = torch.arange(num_targets, dtype=torch.int32, device=targets.device)
        target_of_product = torch.cat([itself, targets])
        # bincount would have the host wait for the device.
        ones = torch.ones_like(target_of_product)
        list_lengths = torch.zeros_like(itself).scatter_add_(0, target_of_product.to(torch.int64), ones)
        return cls(
            num_targets=num_targets,
            centre=centre,
            offsets=offsets,
            counts=counts,
            sources=sources,
            targets=targets,
            product_rows=torch.sort(target_of_product, stable=True).indices.to(torch.int32),
            product_offsets=(torch.cumsum(list_lengths, 0) - list_lengths).to(torch.int32),
        )
