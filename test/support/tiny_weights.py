"""Weights files for tests: a small network with SemanticKITTI's classes, random numbers of one seed."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import torch

from twodpass_core.classes import ClassMap
from twodpass_core.models.folded import FoldedStudent
from twodpass_core.models.student import PointVoxelStudent, StudentConfig
from twodpass_core.sparse.backend import SparseBackend
from twodpass_core.sparse.grid import KITTI_GRID, VoxelGrid
from twodpass_core.weights import Card, save_weights

SMALL_GRID = VoxelGrid(minimum=(-10, -10, -2), maximum=(10, 10, 2), cells=(100, 100, 20))


def tiny_card(grid: VoxelGrid = KITTI_GRID, *, width: int = 8, trained: bool = False) -> Card:
    return Card(
        architecture=StudentConfig(scales=(2, 4), width=width, hidden=16),
        grid=grid,
        class_map=ClassMap.load("semantickitti"),
        intensity_max=1.0,
        trained=trained,
        origin="random, seed 0",
        licence="Apache-2.0",
    )


def tiny_student(card: Card, backend: SparseBackend | None = None) -> PointVoxelStudent:
    torch.manual_seed(0)
    return PointVoxelStudent(card.architecture, card.grid, backend)


def folded_student(card: Card, backend: SparseBackend | None = None) -> FoldedStudent:
    """What a Segmenter of `write_tiny_weights` has, in float32 on the CPU."""
    return FoldedStudent(tiny_student(card, backend), torch.float32, torch.device("cpu"))


def write_tiny_weights(path: Path, card: Card | None = None) -> Path:
    card = card or tiny_card()
    save_weights(path, tiny_student(card).state_dict(), card)
    return path


def scan(count: int, seed: int = 0) -> np.ndarray:
    """Points (N, 4) all over the small grid."""
    low, high = (-9.9, -9.9, -1.9, 0.0), (9.9, 9.9, 1.9, 1.0)
    return np.random.default_rng(seed).uniform(low, high, size=(count, 4)).astype(np.float32)
