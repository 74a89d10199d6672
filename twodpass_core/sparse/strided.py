"""Which voxels meet in a strided convolution and its inverse: those of a level and those their halved cells make.

A cell is in one cell of the coarser level, at one of the eight places there: nothing is searched.
"""

from __future__ import annotations

import torch
from torch import Tensor

from twodpass_core.sparse.grid import KEY_BITS
from twodpass_core.sparse.pairs import Pairs
from twodpass_core.sparse.pyramid import Halving

NUM_STRIDED_OFFSETS = 8  # offset k stands for (dx, dy, dz) = fine cell - 2 coarse cell, with k = dx * 4 + dy * 2 + dz


def build_strided_pairs(halving: Halving) -> tuple[Pairs, Pairs]:
    """From fine voxels to coarse ones, and back."""
    places = _places(halving)
    offset, fine = torch.sort(places, stable=True)
    coarse = halving.parents.group.index_select(0, fine)
    num_fine, num_coarse = halving.fine.num_voxels, halving.coarse.num_voxels
    offsets, to_fine, to_coarse = range(NUM_STRIDED_OFFSETS), offset * num_fine + fine, offset * num_coarse + coarse
    pairs = torch.stack([fine.to(torch.int32), coarse])
    # At a given offset both ascend together, so that slots ascend both ways.
    return (
        Pairs.of(num_coarse, offsets, pairs, slots=to_coarse),
        Pairs.of(num_fine, offsets, pairs.flip(0), slots=to_fine),
    )


def build_strided_tables(halving: Halving) -> tuple[Tensor, Tensor]:
    """For each offset the fine voxel of each coarse one, (8, M_coarse) int32, and the coarse of each fine, (8, M_fine).

    -1 where there is none. The host never waits for the device.
    """
    places, parents = _places(halving), halving.parents.group
    down = parents.new_full((NUM_STRIDED_OFFSETS * halving.coarse.num_voxels,), -1)
    fine = torch.arange(halving.fine.num_voxels, dtype=torch.int32, device=parents.device)
    down.scatter_(0, places * halving.coarse.num_voxels + parents, fine)
    up = parents.new_full((NUM_STRIDED_OFFSETS, halving.fine.num_voxels), -1)
    up.scatter_(0, places[None], parents[None])
    return down.view(NUM_STRIDED_OFFSETS, -1), up


def _places(halving: Halving) -> Tensor:
    """(M_fine,) int64: the offset at which each fine voxel is in its coarse one."""
    x, y, z = ((halving.fine.keys >> axis * KEY_BITS) & 1 for axis in (2, 1, 0))
    return x * 4 + y * 2 + z
