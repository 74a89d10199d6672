"""Which occupied voxels touch: the map a submanifold 3x3x3 convolution works from."""

from __future__ import annotations

import torch
from torch import Tensor

from twodpass_core.sparse.grid import KEY_BITS
from twodpass_core.sparse.pairs import Pairs
from twodpass_core.sparse.pyramid import VoxelLevel
from twodpass_core.sparse.rows import run_begins, to_host

NUM_OFFSETS = 27
CENTRE = 13  # offset k stands for (dx, dy, dz) with k = (dx + 1) * 9 + (dy + 1) * 3 + (dz + 1); 26 - k is its opposite


def build_neighbour_map(level: VoxelLevel) -> Pairs:
    """Find the up to 26 occupied neighbours (sources) of every voxel (target) of a level.

    Being a neighbour is mutual: only the 13 offsets before the centre are searched, each pair is entered both ways.
    """
    num_voxels = level.num_voxels
    found = _neighbours_before(level).view(-1)
    slots = (found >= 0).nonzero().squeeze(1)
    neighbours = found.index_select(0, slots)
    slots = slots.to(torch.int32)
    voxels = slots % max(num_voxels, 1)
    # At a given offset neighbours are in the order of their voxels, so that slots ascend both ways.
    opposite = slots + (neighbours - voxels + CENTRE * num_voxels)
    pairs = torch.stack([neighbours, voxels])
    return Pairs.of(
        num_voxels,
        offsets=(*range(CENTRE), *range(NUM_OFFSETS - 1, CENTRE, -1)),
        pairs=torch.cat([pairs, pairs.flip(0)], dim=1),
        slots=torch.cat([slots, opposite]),
        centre=CENTRE,
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
    for index, other in enumerate(_columns_before(columns)):
        other_place = (other * stride).index_select(0, column_of_voxel) + height
        for dz in range(3):
            torch.index_select(table, 0, other_place + dz, out=found[3 * index + dz])
    torch.index_select(table, 0, place - 1, out=found[CENTRE - 1])
    return found


def _columns(level: VoxelLevel) -> tuple[Tensor, Tensor, Tensor, int]:
    """Each voxel's column (M,), the columns' keys (U,) ascending, each voxel's height (M,), the number of heights."""
    height = level.keys & ((1 << KEY_BITS) - 1)
    column_keys = level.keys >> KEY_BITS
    if level.num_voxels == 0:
        return column_keys, column_keys, height, 0
    begins = run_begins(column_keys)
    column_of_voxel = torch.cumsum(begins, 0) - 1
    num_columns, lowest, highest = to_host(begins.sum(), *torch.aminmax(height))
    columns = column_keys.new_empty(num_columns).scatter_(0, column_of_voxel, column_keys)
    return column_of_voxel, columns, height - lowest, highest - lowest + 1


def _columns_before(columns: Tensor) -> list[Tensor]:
    """Positions (U,) of each column's neighbours at (dx, dy) = (-1, -1), (-1, 0), (-1, 1), (0, -1); U where absent."""
    num_columns = columns.shape[0]
    if num_columns == 0:
        return [columns] * 4
    previous_row = columns - (1 << KEY_BITS) - 1
    position = torch.searchsorted(columns, previous_row)
    found = []
    for wanted in (previous_row, previous_row + 1, previous_row + 2):
        # Keys ascend by one along y, so the next wanted key stands at this position or at the next.
        match = columns.index_select(0, position.clamp(max=num_columns - 1)) == wanted
        found.append(torch.where(match, position, num_columns))
        position = position + match
    same_row = torch.arange(-1, num_columns - 1, device=columns.device)
    match = columns.index_select(0, same_row.clamp(min=0)) == columns - 1
    found.append(torch.where(match, same_row, num_columns))
    return found
