"""Rows in groups: sums, means and copies of feature rows between points, atoms and voxels, with gradients.

All of it rests on torch's embedding_bag: on the CPU it is threaded, vectorised and accumulates bf16 in float32, many
times faster than index_add.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import accumulate
from typing import Any

import torch
from torch import Tensor
from torch.autograd import Function
from torch.nn import functional as F  # noqa: N812


@dataclass(frozen=True, eq=False)
class Membership:
    """Which of G groups each of R rows belongs to, and the rows listed group by group."""

    group: Tensor  # (R,) int32
    order: Tensor  # (R,) int32: the rows, first group first
    offsets: Tensor  # (G,) int32: where each group begins in `order`

    @classmethod
    def of(cls, keys: Tensor) -> tuple[Membership, Tensor]:
        """Group rows by key (R,) int64; also returns the groups' keys (G,), ascending."""
        (membership,) = group_runs(Runs.of(keys))
        return membership, keys.index_select(0, membership.first_rows())

    def through(self, groups: Membership) -> Membership:
        """Compose: row -> this group -> the larger group that `groups` puts it in.

        Every larger group must hold a row.
        """
        group = groups.group.index_select(0, self.group)
        ordered, order = torch.sort(group)
        numbers = torch.arange(groups.offsets.shape[0], dtype=group.dtype, device=group.device)
        return Membership(group, order.to(torch.int32), torch.searchsorted(ordered, numbers, out_int32=True))

    def sizes(self) -> Tensor:
        """(G,) int32 rows of each group."""
        return torch.diff(self.offsets, append=self.offsets.new_full((1,), self.order.shape[0]))

    def first_rows(self) -> Tensor:
        """(G,) int32: the first row of each group in `order`."""
        return self.order.index_select(0, self.offsets)


@dataclass(frozen=True, eq=False)
class Runs:
    """Rows in an order in which each group's follow one another.

    The number of groups stays on the device: `number()` returns it as a tensor.
    """

    order: Tensor  # (R,) int64
    begins: Tensor  # (R,) bool, in that order: the first row of each group

    @classmethod
    def of(cls, keys: Tensor) -> Runs:
        """Rows with the same key (R,) int64 are a group."""
        sorted_keys, order = torch.sort(keys)
        return cls(order, run_begins(sorted_keys))

    def number(self) -> Tensor:
        """How many groups there are, () int64."""
        return self.begins.sum()

    def groups(self, number: int) -> Membership:
        """The groups, given their number. The host does not wait for the device, as it would for `nonzero`."""
        rank = (torch.cumsum(self.begins, 0) - 1).to(torch.int32)
        rows = torch.arange(rank.shape[0], dtype=torch.int32, device=rank.device)
        place = torch.where(self.begins, rank, number).to(torch.int64)  # rows that begin nothing: one beyond, cut off
        offsets = rows.new_empty(number + 1).scatter_(0, place, rows)[:number]
        group = torch.empty_like(rank).scatter_(0, self.order, rank)
        return Membership(group, self.order.to(torch.int32), offsets)


def group_runs(*runs: Runs) -> list[Membership]:
    """The groups of each; the host waits for the device once for all."""
    numbers = to_host(*(run.number() for run in runs))
    return [run.groups(number) for run, number in zip(runs, numbers, strict=True)]


def to_host(*scalars: Tensor) -> list[int]:
    """Integers and truth values () that the device has found; the host waits for it once for all."""
    if not scalars:
        return []
    numbers: list[int] = torch.stack([scalar.to(torch.int64) for scalar in scalars]).tolist()
    return numbers


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


def spread_sum(features: Sequence[Tensor], memberships: Sequence[Membership]) -> Tensor:
    """(G_i, C) of each membership -> (R, C): every row gets the sum of its groups' features."""
    out: Tensor = _SpreadSum.apply(tuple(memberships), *features)  # type: ignore[no-untyped-call]
    return out


def rows_in_stack(groups: Sequence[Tensor], sizes: Sequence[int]) -> tuple[Tensor, Tensor]:
    """R rows have a group in each of S tables: where these are once the tables stand one below the other.

    Args:
        groups: of each table (R,) int32, the group of every row.
        sizes: of each table, how many groups it has.

    Returns (R * S,) int32, the groups of the first row, of the second, ..., and (R,) int32, where each row's begin.
    """
    first_rows = accumulate(sizes[:-1], initial=0)
    index = torch.stack([group + first for group, first in zip(groups, first_rows, strict=True)], dim=1).view(-1)
    return index, torch.arange(0, index.shape[0], len(groups), dtype=torch.int32, device=index.device)


@dataclass(frozen=True, eq=False)
class Pooling:
    """From groups of rows to other groups of the same rows: the weighted mean over each target group's rows.

    Weights are summed as shares of the power of two next to their total: 16 bits hold those of up to 256 points without
    rounding, and no sum exceeds what fp16 can hold. What is left of the division is done afterwards, in float32.
    """

    source: Membership
    target: Membership
    shares: Tensor  # (R,) float32
    remainders: Tensor  # (G_target, 1) float64, in [1, 2): power of two over total
    source_of_ordered: Tensor  # (R,) int32: source group of each row, first target group first
    ordered_shares: Tensor  # (R,) float32, so too

    @classmethod
    def between(cls, source: Membership, target: Membership, row_weights: Tensor) -> Pooling:
        """`row_weights` (R,) integers: how often each row counts."""
        ordered = row_weights.index_select(0, target.order)
        up_to = torch.cumsum(ordered, 0)
        totals = torch.diff((up_to - ordered).index_select(0, target.offsets), append=up_to[-1:]).to(torch.float64)
        powers = torch.exp2(torch.ceil(torch.log2(totals)))
        shares = (row_weights / powers.index_select(0, target.group)).to(torch.float32)
        return cls(
            source,
            target,
            shares,
            (powers / totals)[:, None],
            source.group.index_select(0, target.order),
            shares.index_select(0, target.order),
        )

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


class _SpreadSum(Function):
    @staticmethod
    def forward(ctx: Any, memberships: tuple[Membership, ...], *features: Tensor) -> Tensor:
        ctx.memberships = memberships
        groups, sizes = [membership.group for membership in memberships], [rows.shape[0] for rows in features]
        return sum_rows(torch.cat(features), *rows_in_stack(groups, sizes))

    @staticmethod
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor | None, ...]:
        grad = grad.contiguous()
        return None, *(sum_rows(grad, membership.order, membership.offsets) for membership in ctx.memberships)


class _Pool(Function):
    @staticmethod
    def forward(ctx: Any, features: Tensor, pooling: Pooling) -> Tensor:
        ctx.pooling = pooling
        sums = sum_rows(features, pooling.source_of_ordered, pooling.target.offsets, pooling.ordered_shares)
        return _times(sums, pooling.remainders)

    @staticmethod
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor | None, ...]:
        pooling, order = ctx.pooling, ctx.pooling.source.order
        target_of_ordered = pooling.target.group.index_select(0, order)
        shares = pooling.shares.index_select(0, order)
        scaled = _times(grad, pooling.remainders).contiguous()
        return sum_rows(scaled, target_of_ordered, pooling.source.offsets, shares), None


def _times(features: Tensor, factors: Tensor) -> Tensor:
    """In float32 at least, rounded once."""
    wide = torch.promote_types(features.dtype, torch.float32)
    return (features * factors.to(wide)).to(features.dtype)
