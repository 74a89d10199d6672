"""The voxel pyramid (eq. 4): the occupied voxels of a batch of points at every scale, and the way between scales.

The cells of one scale need not nest in those of the next (63 cells of 1.587 m over 125 of 0.8 m), so scales are linked through
the points. To do that once and cheaply, points are grouped into *atoms*: neighbours in voxel order that share their voxel at every
scale. An atom belongs to exactly one voxel per scale, and there are about half as many atoms as points.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from twodpass_core.sparse.grid import VoxelGrid, unpack_keys


@dataclass(frozen=True)
class VoxelLevel:
    """The M occupied voxels of one scale, numbered in the order of (sample, x, y, z)."""

    scale: int
    keys: Tensor  # (M,) int64, ascending; see grid.unpack_keys
    atom_to_voxel: Tensor  # (A,) int32
    atom_order: Tensor  # (A,) int32: atoms sorted by voxel
    atom_offsets: Tensor  # (M,) int32: where each voxel begins in atom_order
    point_counts: Tensor  # (M,) int32

    @property
    def num_voxels(self) -> int:
        return self.keys.shape[0]

    @property
    def coordinates(self) -> Tensor:
        """(M, 4) int64: sample, x, y, z."""
        return unpack_keys(self.keys)


@dataclass(frozen=True)
class VoxelPyramid:
    """All levels over one batch of N points; level 1 is always there."""

    grid: VoxelGrid
    levels: dict[int, VoxelLevel]
    point_to_atom: Tensor  # (N,) int32
    point_order: Tensor  # (N,) int32: points sorted by scale-1 voxel
    point_offsets: Tensor  # (M_1,) int32: where each scale-1 voxel begins in point_order
    atom_counts: Tensor  # (A,) int32: points of each atom

    def point_to_voxel(self, scale: int) -> Tensor:
        """(N,) int32: the voxel of each point."""
        return self.levels[scale].atom_to_voxel.index_select(0, self.point_to_atom)


def build_pyramid(points: Tensor, sample: Tensor | None, grid: VoxelGrid, scales: Sequence[int]) -> VoxelPyramid:
    """Voxelise N points at every scale of `scales` and at scale 1.

    Args:
        points: (N, >=3) float32, metres, finite. N may be 0.
        sample: (N,) int64 index of the scan each point belongs to, or None for one scan.
    """
    scales = sorted({1, *scales})
    first_key, point_order = torch.sort(grid.voxel_keys(points, sample, 1))
    points = points[:, :3].index_select(0, point_order)
    sample = None if sample is None else sample.index_select(0, point_order)
    point_keys = [first_key, *(grid.voxel_keys(points, sample, scale) for scale in scales[1:])]

    begins = _run_begins(*point_keys)
    atom_starts = begins.nonzero().squeeze(1)
    atom_counts = torch.diff(atom_starts, append=atom_starts.new_full((1,), first_key.shape[0]))
    point_to_atom = torch.empty_like(point_order, dtype=torch.int32)
    point_to_atom[point_order] = (torch.cumsum(begins, 0) - 1).to(torch.int32)

    levels = {
        scale: _build_level(scale, keys.index_select(0, atom_starts), atom_counts)
        for scale, keys in zip(scales, point_keys, strict=True)
    }
    counts = levels[1].point_counts
    return VoxelPyramid(
        grid=grid,
        levels=levels,
        point_to_atom=point_to_atom,
        point_order=point_order.to(torch.int32),
        point_offsets=(torch.cumsum(counts, 0) - counts).to(torch.int32),
        atom_counts=atom_counts.to(torch.int32),
    )


def _build_level(scale: int, atom_keys: Tensor, atom_counts: Tensor) -> VoxelLevel:
    sorted_keys, order = torch.sort(atom_keys)
    begins = _run_begins(sorted_keys)
    starts = begins.nonzero().squeeze(1)
    atom_to_voxel = torch.empty_like(order, dtype=torch.int32)
    atom_to_voxel[order] = (torch.cumsum(begins, 0) - 1).to(torch.int32)
    points_before = torch.cumsum(atom_counts.index_select(0, order), 0)
    ends = torch.cat([starts[1:], starts.new_full((min(1, starts.shape[0]),), order.shape[0])]) - 1
    point_counts = torch.diff(points_before.index_select(0, ends), prepend=points_before.new_zeros(1))
    return VoxelLevel(
        scale=scale,
        keys=sorted_keys.index_select(0, starts),
        atom_to_voxel=atom_to_voxel,
        atom_order=order.to(torch.int32),
        atom_offsets=starts.to(torch.int32),
        point_counts=point_counts.to(torch.int32),
    )


def _run_begins(*columns: Tensor) -> Tensor:
    """(N,) bool: rows that differ from the row before them in any column; the first row always does."""
    begins = torch.ones_like(columns[0], dtype=torch.bool)
    if begins.shape[0] > 1:
        begins[1:] = columns[0][1:] != columns[0][:-1]
        for column in columns[1:]:
            begins[1:] |= column[1:] != column[:-1]
    return begins
