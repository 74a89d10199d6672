"""The volume that is segmented and its division into cells, per scale."""

from __future__ import annotations

import math
from functools import lru_cache

import torch
from pydantic import model_validator
from torch import Tensor
from typing_extensions import Self

from twodpass_core.checked import Checked

# A voxel's key packs (sample, x, y, z) into one int64, 16 bits each, so that keys sort as (sample, x, y, z) do.
# Cells may lie outside the grid (points rotated out of it) and be negative, hence the offset.
KEY_BITS = 16
CELL_OFFSET = 1 << (KEY_BITS - 1)
CELL_OFFSETS = CELL_OFFSET | CELL_OFFSET << KEY_BITS | CELL_OFFSET << 2 * KEY_BITS
MAX_HEIGHT = 1024
CELL_LOW_BITS = 1 | 1 << KEY_BITS | 1 << 2 * KEY_BITS  # the last bit of x, y and z


class VoxelGrid(Checked):
    """A box of space, in metres in the frame the network was trained in, and its cells at scale 1."""

    minimum: tuple[float, float, float]
    maximum: tuple[float, float, float]
    cells: tuple[int, int, int]

    @model_validator(mode="after")
    def _ordered(self) -> Self:
        if not all(low < high for low, high in zip(self.minimum, self.maximum, strict=True)):
            raise ValueError(
                f"the volume's minimum {self.minimum} must be below its maximum {self.maximum} on every axis"
            )
        if not all(0 < n < CELL_OFFSET // 2 for n in self.cells):
            raise ValueError(f"cells must be between 1 and {CELL_OFFSET // 2 - 1} on every axis, not {self.cells}")
        if self.cells[2] > MAX_HEIGHT:  # neighbours are found in tables of occupied columns by height
            raise ValueError(f"at most {MAX_HEIGHT} cells in height, not {self.cells[2]}")
        return self

    def cells_at(self, scale: int) -> tuple[int, int, int]:
        """Cells on each axis at a scale: ceil(cells / scale)."""
        x, y, z = (math.ceil(n / scale) for n in self.cells)
        return x, y, z

    def contains(self, points: Tensor) -> Tensor:
        """(N,) bool: which of the points (N, >=3) lie strictly inside the volume. Non-finite points do not."""
        xyz = coordinate_rows(points)
        return ((xyz > self._column(self.minimum, xyz)) & (xyz < self._column(self.maximum, xyz))).all(dim=0)

    def admits(self, points: Tensor) -> Tensor:
        """(N,) bool: which of the points (N, 4) are given to a network: inside, with a return and a finite intensity.

        (0, 0, 0) is no return.
        """
        has_return = (coordinate_rows(points) != 0).any(dim=0)
        return self.contains(points) & has_return & points[:, 3].isfinite()

    def cell_indices(self, xyz: Tensor, scale: int) -> Tensor:
        """(3, N) int64 cell of each point, given as coordinate rows (3, N) float32.

        The arithmetic is float32 in the order multiply, divide, truncate towards zero, which decides the cell of
        points on a border. Points beyond the volume get cells outside 0..cells-1; less than one cell below the minimum
        is still cell 0.
        """
        minimum, maximum = self._column(self.minimum, xyz), self._column(self.maximum, xyz)
        return (self._column(self.cells_at(scale), xyz) * (xyz - minimum) / (maximum - minimum)).to(torch.int64)

    def voxel_keys(self, xyz: Tensor, sample: Tensor | None, scale: int) -> Tensor:
        """(N,) int64 packed (sample, x, y, z) of points (3, N); `sample` (N,) integers, None for a single scan."""
        x, y, z = self.cell_indices(xyz, scale)
        key: Tensor = (x << 2 * KEY_BITS) + (y << KEY_BITS) + (z + CELL_OFFSETS)
        return key if sample is None else key + (sample.to(torch.int64) << 3 * KEY_BITS)

    def within_reach(self, xyz: Tensor) -> Tensor:
        """() bool: whether the cells of all points (3, N) fit a key: finite, less than some 16,000 cells outside."""
        if xyz.shape[1] == 0:
            return torch.ones((), dtype=torch.bool, device=xyz.device)
        cell = self.cell_indices(torch.stack(torch.aminmax(xyz, dim=1), dim=1), 1)  # NaN passes through aminmax
        return ((cell > -CELL_OFFSET + 1) & (cell < CELL_OFFSET - 1)).all()

    def lower_corners(self, keys: Tensor) -> Tensor:
        """(M, 3) float32 lower corners, in metres, of the scale-1 voxels with these keys."""
        cell = unpack_keys(keys)[:, 1:].t().to(torch.float32)
        minimum, maximum = self._column(self.minimum, cell), self._column(self.maximum, cell)
        return (cell * ((maximum - minimum) / self._column(self.cells, cell)) + minimum).t()

    @staticmethod
    def _column(values: tuple[float, float, float], like: Tensor) -> Tensor:
        return _column_on_device(values, like.dtype, like.device)


KITTI_GRID = VoxelGrid(minimum=(-50, -50, -4), maximum=(50, 50, 2), cells=(1000, 1000, 60))
NUSCENES_GRID = VoxelGrid(minimum=(-50, -50, -4), maximum=(50, 50, 3), cells=(1000, 1000, 70))
"""The published networks'."""


@lru_cache(maxsize=64)
@torch.inference_mode(False)
def _column_on_device(values: tuple[float, float, float], dtype: torch.dtype, device: torch.device) -> Tensor:
    """(3, 1), uploaded once: the host waits for the device at every upload."""
    return torch.tensor(values, dtype=dtype, device=device)[:, None]


def coordinate_rows(points: Tensor) -> Tensor:
    """(3, N) contiguous x, y and z of points (N, >=3): arithmetic on whole rows is several times faster."""
    return points[:, :3].t().contiguous()


def halve_keys(keys: Tensor) -> Tensor:
    """(M,) int64 keys of floor(cell / 2), same samples, of the packed keys (M,)."""
    cell = keys & ((1 << 3 * KEY_BITS) - 1)
    return (keys - cell) + (((cell & ~CELL_LOW_BITS) + CELL_OFFSETS) >> 1)


def unpack_keys(keys: Tensor) -> Tensor:
    """(M, 4) int64 (sample, x, y, z) of packed keys (M,)."""
    mask = (1 << KEY_BITS) - 1
    cell = torch.stack([(keys >> 2 * KEY_BITS) & mask, (keys >> KEY_BITS) & mask, keys & mask], dim=1) - CELL_OFFSET
    return torch.cat([(keys >> 3 * KEY_BITS)[:, None], cell], dim=1)
