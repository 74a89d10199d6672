"""The voxel pyramid (eq. 4): the occupied voxels of a batch of points at every scale, and the way between scales.

The cells of one scale need not nest in those of the next (63 cells of 1.587 m over 125 of 0.8 m), so scales are linked
through the points. To do that once and cheaply, points are grouped into *atoms*: neighbours in voxel order that share
their voxel at every scale. An atom belongs to exactly one voxel per scale, and there are about half as many atoms as
points.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from twodpass_core.sparse.grid import CELL_LOW_BITS, VoxelGrid, coordinate_rows, unpack_keys
from twodpass_core.sparse.rows import Membership, Pooling, run_begins


@dataclass(frozen=True)
class VoxelLevel:
    """The M occupied voxels of one scale, numbered in the order of (sample, x, y, z)."""

    scale: int
    keys: Tensor  # (M,) int64, ascending; see grid.unpack_keys
    atoms: Membership  # of the A atoms in the M voxels

    @property
    def num_voxels(self) -> int:
        return self.keys.shape[0]

    @property
    def coordinates(self) -> Tensor:
        """(M, 4) int64: sample, x, y, z."""
        return unpack_keys(self.keys)

    def group_by_two(self) -> Membership:
        """The voxels grouped by floor(cell / 2) on each axis."""
        return Membership.of(self.keys & ~CELL_LOW_BITS)[0]


@dataclass(frozen=True)
class VoxelPyramid:
    """All levels over one batch of N points; level 1 is always there."""

    levels: dict[int, VoxelLevel]
    points: Membership  # of the N points in the voxels of scale 1
    point_to_atom: Tensor  # (N,) int32
    atom_sizes: Tensor  # (A,) int64: points of each atom

    def point_to_voxel(self, scale: int) -> Tensor:
        """(N,) int32: the voxel of each point."""
        return self.levels[scale].atoms.group.index_select(0, self.point_to_atom)

    def pooling(self, source: int, target: int) -> Pooling:
        """(M_source, C) -> (M_target, C): the mean over each target voxel's points of their source voxels' features."""
        return Pooling.between(self.levels[source].atoms, self.levels[target].atoms, self.atom_sizes)


def build_pyramid(points: Tensor, sample: Tensor | None, grid: VoxelGrid, scales: Sequence[int]) -> VoxelPyramid:
    """Voxelise N points at every scale of `scales` and at scale 1.

    Args:
        points: (N, >=3) float32, metres, finite. N may be 0.
        sample: (N,) int64 index of the scan each point belongs to, or None for one scan.

    Points outside the grid keep cells of their own there (negative, or beyond the last): they see their neighbours
    like any other.

    Raises:
        ValueError: a point is not finite, or thousands of cells away from the volume.
    """
    xyz = coordinate_rows(points)
    grid.check_reach(xyz)
    finest, keys = Membership.of(grid.voxel_keys(xyz, sample, 1))
    order = finest.order
    ordered_xyz = xyz.index_select(1, order)
    ordered_sample = None if sample is None else sample.index_select(0, order)
    coarser_scales = sorted(set(scales) - {1})
    coarser_keys = [grid.voxel_keys(ordered_xyz, ordered_sample, scale) for scale in coarser_scales]

    begins = run_begins(finest.group.index_select(0, order), *coarser_keys)
    starts = begins.nonzero().squeeze(1)
    point_to_atom = torch.empty_like(order)
    point_to_atom.scatter_(0, order.to(torch.int64), (torch.cumsum(begins, 0) - 1).to(torch.int32))

    voxel_of_atom = finest.group.index_select(0, order.index_select(0, starts))
    levels = {1: VoxelLevel(1, keys, Membership.of_sorted(voxel_of_atom)[0])}
    for scale, point_keys in zip(coarser_scales, coarser_keys, strict=True):
        atoms, keys = Membership.of(point_keys.index_select(0, starts))
        levels[scale] = VoxelLevel(scale, keys, atoms)
    atom_sizes = torch.diff(starts, append=starts.new_full((1,), points.shape[0]))
    return VoxelPyramid(levels, finest, point_to_atom, atom_sizes)
