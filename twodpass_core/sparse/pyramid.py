"""The voxel pyramid (eq. 4): the occupied voxels of a batch of points at every scale, and the way between scales.

The cells of one scale need not nest in those of the next (63 cells of 1.587 m over 125 of 0.8 m), so scales are linked
through the points. To do that once and cheaply, points are grouped into *atoms*: neighbours in voxel order that share
their voxel at every scale. An atom belongs to exactly one voxel per scale, and there are about half as many atoms as
points.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import reduce

import torch
from torch import Tensor

from twodpass_core.sparse.grid import CELL_LOW_BITS, VoxelGrid, coordinate_rows, halve_keys, unpack_keys
from twodpass_core.sparse.rows import Membership, Pooling, Runs, group_runs, run_begins, to_host


@dataclass(frozen=True, eq=False)
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

    def runs_by_two(self) -> Runs:
        """The voxels in groups by floor(cell / 2) on each axis."""
        return Runs.of(self.keys & ~CELL_LOW_BITS)

    def halve(self) -> Halving:
        """The next coarser level of a U-Net: every cell is two of this level's on each axis, floor(cell / 2).

        Unlike the pyramid's levels, which divide the volume anew at every scale, these nest.
        """
        parents, keys = Membership.of(halve_keys(self.keys))
        return Halving(self, VoxelLevel(2 * self.scale, keys, self.atoms.through(parents)), parents)


@dataclass(frozen=True, eq=False)
class Halving:
    """A level, the level of its voxels' cells halved, and which voxel of that each voxel is in."""

    fine: VoxelLevel
    coarse: VoxelLevel
    parents: Membership  # of the fine voxels in the coarse ones


@dataclass(frozen=True, eq=False)
class VoxelPyramid:
    """All levels over one batch of N points; level 1 is always there."""

    levels: dict[int, VoxelLevel]
    points: Membership  # of the N points in the voxels of scale 1
    point_to_atom: Tensor  # (N,) int32
    atom_sizes: Tensor  # (A,) int32: points of each atom

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
        sample: (N,) integers, of the scan that each point belongs to, or None for one scan.

    Points outside the grid keep cells of their own there (negative, or beyond the last): they see their neighbours
    like any other.

    Raises:
        ValueError: a point is not finite, or thousands of cells away from the volume.
    """
    xyz = coordinate_rows(points)
    point_keys = grid.voxel_keys(xyz, sample, 1)
    by_voxel = Runs.of(point_keys)
    ordered_xyz = xyz.index_select(1, by_voxel.order)
    ordered_sample = None if sample is None else sample.index_select(0, by_voxel.order)
    coarser_scales = sorted(set(scales) - {1})
    coarser_keys = [grid.voxel_keys(ordered_xyz, ordered_sample, scale) for scale in coarser_scales]
    by_atom = Runs(by_voxel.order, reduce(torch.logical_or, map(run_begins, coarser_keys), by_voxel.begins))

    num_voxels, num_atoms, reachable = to_host(by_voxel.number(), by_atom.number(), grid.within_reach(xyz))
    if not reachable:
        raise ValueError("a point is not finite or far outside the volume: keep those inside (VoxelGrid.contains) only")
    finest, atoms = by_voxel.groups(num_voxels), by_atom.groups(num_atoms)
    levels = {1: VoxelLevel(1, point_keys.index_select(0, finest.first_rows()), _nested(atoms, finest))}
    atom_keys = [keys.index_select(0, atoms.offsets) for keys in coarser_keys]
    for scale, keys, of_atoms in zip(coarser_scales, atom_keys, group_runs(*map(Runs.of, atom_keys)), strict=True):
        levels[scale] = VoxelLevel(scale, keys.index_select(0, of_atoms.first_rows()), of_atoms)
    return VoxelPyramid(levels, finest, atoms.group, atoms.sizes())


def _nested(small: Membership, large: Membership) -> Membership:
    """The groups of `small` in those of `large`, of which each is a part, when both list the rows in one order."""
    group = large.group.index_select(0, small.first_rows())
    order = torch.arange(group.shape[0], dtype=torch.int32, device=group.device)
    return Membership(group, order, small.group.index_select(0, large.first_rows()))
