"""Which occupied voxels touch: the map a submanifold 3x3x3 convolution works from."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from twodpass_core.sparse.grid import KEY_BITS
from twodpass_core.sparse.pyramid import VoxelLevel

NUM_OFFSETS = 27
CENTRE = 13  # offset k stands for (dx, dy, dz) with k = (dx + 1) * 9 + (dy + 1) * 3 + (dz + 1); 26 - k is its opposite


@dataclass(frozen=True)
class NeighbourMap:
    """Pairs (voxel, neighbour) of one level, grouped by offset, and for each voxel the list of its pairs.

    A convolution makes one product row per pair (features of the neighbour times the offset's weights) and sums the
    rows of each voxel. Product rows are numbered: 0..M-1 the voxels themselves (the centre offset), then the P pairs.
    """

    num_voxels: int
    offsets: tuple[int, ...]  # the 26 offsets without the centre, in the order of the groups
    counts: tuple[int, ...]  # pairs of each group
    neighbours: Tensor  # (P,) int32
    product_rows: Tensor  # (M + P,) int32, listed voxel by voxel
    product_offsets: Tensor  # (M,) int32: where each voxel's list begins


def build_neighbour_map(level: VoxelLevel) -> NeighbourMap:
    """Find the up to 26 occupied neighbours of every voxel of a level.

    Being a neighbour is mutual: only the 13 offsets before the centre are searched, each pair is entered both ways.
    """
    found = _neighbours_before(level)
    present = found >= 0
    offset, voxel = present.nonzero(as_tuple=True)
    neighbour = found[present]
    counts = tuple(present.sum(dim=1).tolist())

    num_voxels, num_found = level.num_voxels, voxel.shape[0]
    row = torch.arange(num_voxels, num_voxels + 2 * num_found, dtype=torch.int32, device=voxel.device)
    table = torch.full((num_voxels, NUM_OFFSETS), -1, dtype=torch.int32, device=voxel.device)
    table[:, CENTRE] = torch.arange(num_voxels, dtype=torch.int32, device=voxel.device)
    flat = table.view(-1)
    flat[voxel * NUM_OFFSETS + offset] = row[:num_found]
    flat[neighbour.to(torch.int64) * NUM_OFFSETS + (NUM_OFFSETS - 1 - offset)] = row[num_found:]
    listed = table >= 0
    list_lengths = listed.sum(dim=1)
    return NeighbourMap(
        num_voxels=num_voxels,
        offsets=(*range(CENTRE), *range(NUM_OFFSETS - 1, CENTRE, -1)),
        counts=counts * 2,
        neighbours=torch.cat([neighbour, voxel.to(torch.int32)]),
        product_rows=table[listed],
        product_offsets=(torch.cumsum(list_lengths, 0) - list_lengths).to(torch.int32),
    )


def _neighbours_before(level: VoxelLevel) -> Tensor:
    """(13, M) int32: the neighbour at each offset before the centre, -1 where there is none.

    Voxels are looked up in a table with a row per occupied (sample, x, y) column and an entry per height, which is
    small because LiDAR columns are few and low.
    """
    column_of_voxel, columns, height, num_heights = _columns(level)
    stride = num_heights + 2  # an empty cell below and above
    table = torch.full(((columns.shape[0] + 1) * stride,), -1, dtype=torch.int32, device=columns.device)
    place = column_of_voxel * stride + height + 1
    table[place] = torch.arange(level.num_voxels, dtype=torch.int32, device=columns.device)

    found = torch.empty(CENTRE, level.num_voxels, dtype=torch.int32, device=columns.device)
    for index, (dx, dy) in enumerate(((-1, -1), (-1, 0), (-1, 1), (0, -1))):
        other = _find(columns, columns + (dx << KEY_BITS) + dy)
        other_place = (other * stride).index_select(0, column_of_voxel) + height
        for dz in range(3):
            torch.index_select(table, 0, other_place + dz, out=found[3 * index + dz])
    torch.index_select(table, 0, place - 1, out=found[CENTRE - 1])
    return found


def _columns(level: VoxelLevel) -> tuple[Tensor, Tensor, Tensor, int]:
    """Each voxel's column (M,), the columns' keys (U,) ascending, each voxel's height (M,), the number of heights."""
    height = level.keys & ((1 << KEY_BITS) - 1)
    columns, column_of_voxel = torch.unique_consecutive(level.keys >> KEY_BITS, return_inverse=True)
    if level.num_voxels == 0:
        return column_of_voxel, columns, height, 0
    lowest, highest = (int(bound) for bound in torch.aminmax(height))
    return column_of_voxel, columns, height - lowest, highest - lowest + 1


def _find(sorted_keys: Tensor, wanted: Tensor) -> Tensor:
    """(W,) int64 positions of the wanted keys, len(sorted_keys) where absent."""
    position = torch.searchsorted(sorted_keys, wanted)
    if sorted_keys.shape[0] == 0:
        return position
    match = sorted_keys.index_select(0, position.clamp(max=sorted_keys.shape[0] - 1)) == wanted
    return torch.where(match, position, sorted_keys.shape[0])
