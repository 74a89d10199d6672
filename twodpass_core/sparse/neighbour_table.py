"""Neighbours as a table with a row per offset: what a kernel reads that gathers, multiplies and sums at once."""

from __future__ import annotations

import torch
from torch import Tensor

from twodpass_core.sparse.grid import KEY_BITS
from twodpass_core.sparse.neighbours import NUM_OFFSETS
from twodpass_core.sparse.pyramid import VoxelLevel


def build_neighbour_table(level: VoxelLevel) -> Tensor:
    """(27, M) int32: for each offset, in the order of SparseBackend.convolve, the voxel there; -1 where there is none.

    The host never waits for the device: all sizes are known beforehand.
    """
    keys = level.keys
    if level.num_voxels == 0:
        return torch.empty(NUM_OFFSETS, 0, dtype=torch.int32, device=keys.device)
    table = torch.empty(NUM_OFFSETS, level.num_voxels, dtype=torch.int32, device=keys.device)
    for column in range(9):
        x, y = column // 3 - 1, column % 3 - 1
        wanted = keys + ((x << 2 * KEY_BITS) + (y << KEY_BITS) - 1)  # at z - 1; z and z + 1 are the next keys
        position = torch.searchsorted(keys, wanted)
        for z in range(3):
            found = keys.take(position.clamp(max=level.num_voxels - 1)) == wanted + z
            table[3 * column + z] = torch.where(found, position, -1)
            position = position + found
    return table
