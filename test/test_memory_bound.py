"""Memory that a scan takes: in proportion to its points, with a bound for any cloud, as docs/performance.md says."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import pytest
import torch
from table_backend import TableBackend
from tiny_weights import tiny_card
from torch import Tensor
from torch.profiler import ProfilerActivity, profile

from twodpass_core.models.folded import FoldedStudent
from twodpass_core.models.student import PointVoxelStudent, StudentConfig
from twodpass_core.segmenter import Segmenter
from twodpass_core.sparse import pairs
from twodpass_core.sparse.backend import SparseBackend
from twodpass_core.sparse.grid import KITTI_GRID
from twodpass_core.sparse.torch_backend import TorchBackend

WIDTH = 16
BOUND = 3000 + 30 * WIDTH
"""Bytes a point, with 128 hidden channels."""


class MapsAlone(TableBackend):
    """Takes the memory of a kernel that makes no products: its table, and the result."""

    def forward(self, features: Tensor, weight: Tensor, table: Tensor, addend: Tensor) -> Tensor:
        return features.new_empty(table.shape[1], weight.shape[2]).copy_(addend)


def with_intensity(xyz: np.ndarray) -> np.ndarray:
    return np.concatenate([xyz, np.ones((len(xyz), 1))], axis=1).astype(np.float32)


def scattered(count: int) -> np.ndarray:
    """Most points have a voxel of their own, at every scale."""
    low, high = (-50, -50, -4), (50, 50, 2)
    return with_intensity(np.random.default_rng(0).uniform(low, high, (count, 3)))


def solid(count: int) -> np.ndarray:
    """Every voxel has all its neighbours."""
    width = round((count / 60) ** 0.5)
    cells = np.stack(np.meshgrid(np.arange(width), np.arange(width), np.arange(60), indexing="ij"), -1)
    return with_intensity(cells.reshape(-1, 3) * 0.1 + (0.05, 0.05, -3.95))


def in_one_voxel(count: int) -> np.ndarray:
    return with_intensity(np.random.default_rng(0).uniform(0.01, 0.09, (count, 3)))


def peak_bytes(points: np.ndarray, backend: SparseBackend) -> int:
    """How much the CPU's allocator has given out at once, for one scan after the network is there."""
    card = tiny_card(KITTI_GRID).model_copy(update={"architecture": StudentConfig(width=WIDTH)})
    network = FoldedStudent(
        PointVoxelStudent(card.architecture, KITTI_GRID, backend), torch.float32, torch.device("cpu")
    )
    segmenter = Segmenter(card, network, torch.device("cpu"))
    with profile(activities=[ProfilerActivity.CPU], profile_memory=True) as profiler:
        segmenter.segment(points)
    assert profiler.profiler is not None
    assert profiler.profiler.kineto_results is not None
    events = [event for event in profiler.profiler.kineto_results.events() if event.name() == "[memory]"]
    changes = [event.nbytes() for event in sorted(events, key=lambda event: event.start_ns())]
    return int(np.cumsum(changes).max())


@pytest.mark.parametrize("cloud", [scattered, solid, in_one_voxel])
def test_memory_is_bounded_by_the_number_of_points(cloud: Callable[[int], np.ndarray]) -> None:
    small, large = cloud(10_000), cloud(20_000)
    less, more = (peak_bytes(points, MapsAlone()) for points in (small, large))
    assert 0.9 * len(large) / len(small) < more / less < 1.1 * len(large) / len(small)
    assert more < BOUND * len(large)


def test_products_of_the_torch_backend_have_a_bound_of_their_own(monkeypatch: pytest.MonkeyPatch) -> None:
    points = solid(10_000)
    products = 27 * WIDTH * len(points)
    unbounded = peak_bytes(points, TorchBackend())
    assert unbounded < BOUND * len(points) + 4 * products
    monkeypatch.setattr(pairs, "TARGETS_ON_CPU", len(points) // 8)
    assert unbounded - peak_bytes(points, TorchBackend()) > 4 * products / 2
