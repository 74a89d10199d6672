"""Edges of a scan, where the distance jumps, and of an image, where the brightness does."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt
from PIL import Image, ImageFilter

Floats = npt.NDArray[np.float64]

CELL = math.radians(0.4)  # of the grid of directions: a 64-beam LiDAR's spacing, or two of its columns
MAX_STEPS = 2  # cells to a neighbour; where the next return is farther off, nobody knows where the near thing ends
NEAREST, FARTHEST = 1.5, 60.0  # metres; nearer is the vehicle itself
MIN_JUMP, MIN_JUMP_SHARE = 0.5, 0.08  # metres, and of the distance: less may be a surface seen at a slant

IMAGE_WIDTH = 640  # pixels that images are reduced to, about: finer detail costs time and is no help
NEIGHBOURHOOD = 8  # pixels around, by whose contrast an edge's is measured: foliage and asphalt count alike
FAINT = 2.0  # grey levels, the contrast of a surface that has none
GAIN = 20.0
SPREAD = 1.6  # pixels, standard deviation: how far off an edge still counts
CLEAR = 8.0  # grey levels over two pixels, what is an edge for sure


@dataclass(frozen=True, eq=False)
class DepthEdges:
    """Where something near ends in front of something far."""

    xyz: Floats  # (K, 3) metres, in the frame of the points
    upright: npt.NDArray[np.bool_]  # (K,) the near thing ends to the left or right; otherwise it ends above

    def __len__(self) -> int:
        return len(self.xyz)

    def __getitem__(self, which: Any) -> DepthEdges:
        return DepthEdges(self.xyz[which], self.upright[which])


def depth_edges(xyz: Floats) -> DepthEdges:
    """Edges of finite points (N, 3), metres from the LiDAR, z along its axis.

    Points go into a grid of directions, the nearest in each cell, and each is compared with its neighbour to the left,
    to the right and above. An edge lies halfway between the two directions, at the nearer one's distance.
    """
    distance = np.linalg.norm(xyz, axis=1)
    xyz, distance = xyz[distance > NEAREST], distance[distance > NEAREST]
    grid = _nearest_by_direction(xyz, distance)
    directions = xyz / distance[:, None]
    rows, columns = np.nonzero(grid >= 0)
    near = grid[rows, columns]
    edges, upright = [], []
    for row_step, column_step in ((0, 1), (0, -1), (1, 0)):
        far = _neighbours(grid, rows, columns, row_step, column_step)
        jump = np.where(far >= 0, distance[far] - distance[near], 0.0)
        found = (jump > MIN_JUMP) & (jump > MIN_JUMP_SHARE * distance[near]) & (distance[near] < FARTHEST)
        between = directions[near[found]] + directions[far[found]]
        between *= (distance[near[found]] / np.linalg.norm(between, axis=1))[:, None]
        edges.append(between)
        upright.append(np.full(len(between), row_step == 0))
    return DepthEdges(np.concatenate(edges), np.concatenate(upright))


def _nearest_by_direction(xyz: Floats, distance: Floats) -> npt.NDArray[np.int64]:
    """(rows by elevation from below, columns by azimuth): the nearest point in each cell, -1 where there is none."""
    grid = np.full((math.ceil(math.pi / CELL), round(2 * math.pi / CELL)), -1)
    row = ((np.arcsin(xyz[:, 2] / distance) + math.pi / 2) / CELL).astype(np.int64)
    column = ((np.arctan2(xyz[:, 1], xyz[:, 0]) + math.pi) / CELL).astype(np.int64)
    order = np.argsort(-distance, kind="stable")  # the last that is written to a cell stays
    grid[np.minimum(row[order], grid.shape[0] - 1), column[order] % grid.shape[1]] = order
    return grid


def _neighbours(
    grid: npt.NDArray[np.int64],
    rows: npt.NDArray[np.int64],
    columns: npt.NDArray[np.int64],
    row_step: int,
    column_step: int,
) -> npt.NDArray[np.int64]:
    """The point in the next cell that has one, -1 where it is too far off. Columns go around, rows do not."""
    found = np.full(len(rows), -1)
    for steps in range(MAX_STEPS, 0, -1):
        row = np.minimum(rows + steps * row_step, grid.shape[0] - 1)
        other = grid[row, (columns + steps * column_step) % grid.shape[1]]
        found = np.where(other >= 0, other, found)
    return found


@dataclass(frozen=True, eq=False)
class ImageEdges:
    """How near each pixel of an image is to an edge: 0 far, 255 on a sharp one."""

    strength: npt.NDArray[np.uint8]  # (2, H / step, W / step): edges that go up, such as a pole's, and across
    step: int  # pixels of the image for one of these
    clear: float  # share of the pixels that lie on an edge beyond doubt

    def at(self, uv: Floats, upright: npt.NDArray[np.bool_]) -> npt.NDArray[np.uint8]:
        """Strength at pixels (..., 2), all within the image, of edges of the kinds `upright` (...)."""
        cell = (uv / self.step).astype(np.int64)
        _, height, width = self.strength.shape
        row, column = np.minimum(cell[..., 1], height - 1), np.minimum(cell[..., 0], width - 1)
        return np.asarray(self.strength[np.where(upright, 0, 1), row, column])


def image_edges(image: npt.NDArray[np.uint8]) -> ImageEdges:
    """Edges of an image (H, W, 3) RGB, relative to the contrast around them, spread over a few pixels."""
    step = max(1, round(image.shape[1] / IMAGE_WIDTH))
    grey = Image.fromarray(image).convert("L").reduce(step).filter(ImageFilter.GaussianBlur(1))
    level = np.asarray(grey, np.float32)
    gradient = np.zeros((2, *level.shape), np.float32)
    gradient[0, :, 1:-1] = np.abs(level[:, 2:] - level[:, :-2])
    gradient[1, 1:-1] = np.abs(level[2:] - level[:-2])
    around = _image(gradient.sum(axis=0)).filter(ImageFilter.BoxBlur(NEIGHBOURHOOD))
    relative = gradient * (GAIN / (np.asarray(around, np.float32) / 2 + FAINT))
    spread = [np.asarray(_image(part).filter(ImageFilter.GaussianBlur(SPREAD))) for part in relative]
    return ImageEdges(np.stack(spread), step, float((gradient.max(axis=0) > CLEAR).mean()))


def _image(values: npt.NDArray[np.float32]) -> Image.Image:
    return Image.fromarray(np.minimum(values, 255).astype(np.uint8))
