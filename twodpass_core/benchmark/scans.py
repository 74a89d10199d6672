"""Scans to measure on: that they are of use, and a new one for every repeat."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt
import torch

from twodpass_core.errors import ScanError
from twodpass_core.geometry.rigid_transform import rotation_about_z
from twodpass_core.sparse.grid import VoxelGrid
from twodpass_core.wording import counted

TURN = 1e-3  # radians; at 50 m a voxel's width


def count_points(points: npt.NDArray[np.float32], grid: VoxelGrid) -> int:
    """How many of points (N, 4) are given to the network; ScanError where none is, so that nothing can be measured."""
    count = int(grid.admits(torch.from_numpy(points)).sum())
    if count == 0:
        bounds = f"{grid.minimum} to {grid.maximum} m"
        raise ScanError(
            f"none of the scan's {counted(len(points), 'point')} is a return in the network's volume, {bounds}"
        )
    return count


def turned(points: npt.NDArray[np.float32], repeat: int) -> npt.NDArray[np.float32]:
    """A copy of points (N, 4), turned about z a little more at every repeat, so that it has new voxels.

    Every scan of a vehicle has: what a library prepares for the sizes that it has met, and keeps, does not help.
    Points at (0, 0, 0), no returns, stay there.
    """
    out = points.copy()
    with np.errstate(invalid="ignore"):  # infinite coordinates
        out[:, :2] = points[:, :2] @ rotation_about_z(TURN * repeat)[:2, :2].T.astype(np.float32)
    return out
