"""Random points in a small grid, for the sparse layers."""

from __future__ import annotations

import torch
from torch import Tensor

from twodpass_core.sparse.grid import VoxelGrid

GRID = VoxelGrid(minimum=(-2, -2, -1), maximum=(2, 2, 1), cells=(11, 12, 7))


def random_points(count: int, seed: int = 0) -> tuple[Tensor, Tensor]:
    """Points (N, 4) all over the grid, and which of two samples each is of, (N,)."""
    generator = torch.Generator().manual_seed(seed)
    unit = torch.rand(count, 4, generator=generator)
    points = unit * torch.tensor([4.0, 4.0, 2.0, 1.0]) - torch.tensor([2.0, 2.0, 1.0, 0.0])
    return points, torch.randint(0, 2, (count,), generator=generator)
