"""Neighbours as a table with a row per offset: what a kernel reads that gathers, multiplies and sums at once."""

from __future__ import annotations

import torch
from torch import Tensor

from twodpass_core.sparse.grid import KEY_BITS
from twodpass_core.sparse.neighbours import NUM_OFFSETS
from twodpass_core.sparse.pyramid import VoxelLevel


def build_neighbour_table(level: VoxelLevel) -> Tensor:
    """(27, M) int32: for each offset, in the order of SparseBackend.build_map, the voxel there; -1 where there is none.

    The host never waits for the device: all sizes are known beforehand. All columns are searched at once: launching
    what a GPU does with one takes the host longer than the GPU needs for it.
    """
    keys = level.keys
    table = torch.empty(9, 3, level.num_voxels, dtype=torch.int32, device=keys.device)
    if level.num_voxels:
        column = torch.arange(9, device=keys.device)
        shift = ((column // 3 - 1) << 2 * KEY_BITS) + ((column % 3 - 1) << KEY_BITS)
        wanted = keys + shift[:, None] - 1  # at z - 1; z and z + 1 are the next keys
        position = torch.searchsorted(keys, wanted)
        for z in range(3):
            found = keys.take(position.clamp(max=level.num_voxels - 1)) == wanted + z
            table[:, z] = torch.where(found, position, -1)
            position = position + found
    return table.view(NUM_OFFSETS, level.num_voxels)
