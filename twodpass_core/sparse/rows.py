"""Rows in groups: sums, means and copies of feature rows between points, atoms and voxels, with gradients.

All of it rests on torch's embedding_bag: on the CPU it is threaded, vectorised and accumulates bf16 in float32, many
times faster than index_add.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor
from torch.autograd import Function
from torch.nn import functional as F  # noqa: N812


@dataclass(frozen=True)
class Membership:
    """Which of G groups each of R rows belongs to, and the rows listed group by group."""

    group: Tensor  # (R,) int32
    order: Tensor  # (R,) int32: the rows, first group first
    offsets: Tensor  # (G,) int32: where each group begins in `order`

    @classmethod
    def of_sorted(cls, keys: Tensor) -> tuple[Membership, Tensor]:
        """As `of`, for keys that ascend already."""
        begins = run_begins(keys)
        starts = begins.nonzero().squeeze(1)
        order = torch.arange(keys.shape[0], dtype=torch.int32, device=keys.device)
        group = (torch.cumsum(begins, 0) - 1).to(torch.int32)
        return cls(group, order, starts.to(torch.int32)), keys.index_select(0, starts)

    @classmethod
    def of(cls, keys: Tensor) -> tuple[Membership, Tensor]:
        """Group rows by key (R,) int64; also returns the groups' keys (G,), ascending."""
        sorted_keys, order = torch.sort(keys)
        by_order, group_keys = cls.of_sorted(sorted_keys)
        group = torch.empty_like(by_order.group).scatter_(0, order, by_order.group)
        return cls(group, order.to(torch.int32), by_order.offsets), group_keys

    def sizes(self) -> Tensor:
        """(G,) int32 rows of each group."""
        return torch.diff(self.offsets, append=self.offsets.new_full((1,), self.order.shape[0]))


def run_begins(*columns: Tensor) -> Tensor:
    """(R,) bool: rows that differ from the row before them in any column; the first row always does."""
    begins = torch.ones_like(columns[0], dtype=torch.bool)
    if begins.shape[0] > 1:
        begins[1:] = columns[0][1:] != columns[0][:-1]
        for column in columns[1:]:
            begins[1:] |= column[1:] != column[:-1]
    return begins


def sum_rows(features: Tensor, index: Tensor, offsets: Tensor, weights: Tensor | None = None) -> Tensor:
    """(G, C): group g is the (weighted) sum of features[index[offsets[g]:offsets[g+1]]]; no gradient."""
    if offsets.shape[0] == 0:
        return features.new_zeros(0, features.shape[1])
    weights = None if weights is None else weights.to(features.dtype)
    return F.embedding_bag(index, features, offsets, mode="sum", per_sample_weights=weights)


def mean_rows(features: Tensor, membership: Membership) -> Tensor:
    """(R, C) -> (G, C): the mean over the rows of each group."""
    out: Tensor = _Mean.apply(features, membership)  # type: ignore[no-untyped-call]
    return out


def spread_rows(features: Tensor, membership: Membership) -> Tensor:
    """(G, C) -> (R, C): every row gets its group's features."""
    out: Tensor = _Spread.apply(features, membership)  # type: ignore[no-untyped-call]
    return out


@dataclass(frozen=True)
class Pooling:
    """From groups of rows to other groups of the same rows: the weighted mean over each target group's rows."""

    source: Membership
    target: Membership
    row_weights: Tensor  # (R,) integer: how often each row counts
    totals: Tensor  # (G_target, 1) float32: summed weights

    @classmethod
    def between(cls, source: Membership, target: Membership, row_weights: Tensor) -> Pooling:
        weights = row_weights.to(torch.float32)
        return cls(source, target, row_weights, sum_rows(weights[:, None], target.order, target.offsets))

    def __call__(self, features: Tensor) -> Tensor:
        """(G_source, C) -> (G_target, C)."""
        out: Tensor = _Pool.apply(features, self)  # type: ignore[no-untyped-call]
        return out


class _Mean(Function):
    @staticmethod
    def forward(ctx: Any, features: Tensor, membership: Membership) -> Tensor:
        ctx.membership = membership
        sums = sum_rows(features, membership.order, membership.offsets)
        return sums.div_(membership.sizes()[:, None].to(features.dtype))

    @staticmethod
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor | None, ...]:
        shares = grad / ctx.membership.sizes()[:, None].to(grad.dtype)
        return shares.index_select(0, ctx.membership.group), None


class _Spread(Function):
    @staticmethod
    def forward(ctx: Any, features: Tensor, membership: Membership) -> Tensor:
        ctx.membership = membership
        return features.index_select(0, membership.group)

    @staticmethod
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor | None, ...]:
        return sum_rows(grad.contiguous(), ctx.membership.order, ctx.membership.offsets), None


class _Pool(Function):
    @staticmethod
    def forward(ctx: Any, features: Tensor, pooling: Pooling) -> Tensor:
        ctx.pooling = pooling
        summed = _sum_through(features, pooling.source, pooling.target, pooling.row_weights)
        return summed.div_(pooling.totals.to(features.dtype))

    @staticmethod
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor | None, ...]:
        pooling = ctx.pooling
        shares = grad / pooling.totals.to(grad.dtype)
        return _sum_through(shares, pooling.target, pooling.source, pooling.row_weights), None


def _sum_through(features: Tensor, source: Membership, target: Membership, weights: Tensor) -> Tensor:
    index = source.group.index_select(0, target.order)
    return sum_rows(features, index, target.offsets, weights.index_select(0, target.order))
