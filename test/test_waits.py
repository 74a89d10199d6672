"""How often the host waits for a GPU between points and labels: what docs/design.md says, and no more."""

from __future__ import annotations

import warnings
from collections.abc import Callable
from pathlib import Path
from typing import Literal

import numpy as np
import pytest
import torch
from sparse_points import GRID, random_points
from table_backend import TableBackend
from tiny_weights import SMALL_GRID, folded_student, scan, tiny_card, write_tiny_weights
from torch import Tensor
from waits import Waits

from twodpass_core.benchmark.training import TrainingCase
from twodpass_core.models.student import StudentConfig
from twodpass_core.segmenter import Segmenter
from twodpass_core.sparse.neighbour_table import build_neighbour_table
from twodpass_core.sparse.neighbours import build_neighbour_map
from twodpass_core.sparse.pyramid import build_pyramid

POINTS_IN_VOLUME, VOXELS_AND_ATOMS, COARSER_VOXELS = "nonzero", "tolist", "tolist"
CELLS_AND_GROUPS = GROUPS = "tolist"
SCAN = [POINTS_IN_VOLUME, VOXELS_AND_ATOMS, COARSER_VOXELS, CELLS_AND_GROUPS]
MAP_OF_A_LEVEL = ["tolist", "nonzero", "tolist"]


@pytest.fixture(scope="module")
def weights(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_tiny_weights(tmp_path_factory.mktemp("weights") / "tiny.safetensors", tiny_card(SMALL_GRID))


@pytest.mark.parametrize(
    ("wait", "name"),
    [
        (lambda x: x.nonzero(), "nonzero"),
        (lambda x: torch.bincount(x.long()), "bincount"),
        (lambda x: x.unique(), "_unique2"),
        (lambda x: torch.unique_consecutive(x), "unique_consecutive"),
        (lambda x: x[x > 1], "index with a mask"),
        (lambda x: x.masked_select(x > 1), "masked_select"),
        (lambda x: x.tolist(), "tolist"),
        (lambda x: bool(x.any()), "__bool__"),
        (lambda x: int(x.sum()), "__int__"),
        (lambda x: float(x.sum()), "__float__"),
        (lambda x: x.sum().item(), "item"),
        (lambda x: x.cpu(), "cpu"),
        (lambda x: x.to("cpu"), "to the host"),
        (lambda x: torch.tensor([1.0]), "lift_fresh"),
    ],
)
def test_what_waits_is_seen(wait: Callable[[Tensor], object], name: str) -> None:
    numbers = torch.arange(3.0)
    with Waits() as waits:
        wait(numbers)
    assert name in waits.seen


def test_what_does_not_wait_is_not_noted() -> None:
    numbers = torch.arange(3.0)
    with Waits() as waits:
        numbers.to("cpu", non_blocking=True)
        numbers.to(torch.float64)[torch.zeros_like(numbers).long()].sort()
    assert waits.seen == []


@pytest.mark.parametrize("count", [0, 1, 500])
def test_waits_of_a_neighbour_map(count: int) -> None:
    points, sample = random_points(count)
    level = build_pyramid(points, sample, GRID, ()).levels[1]
    with Waits() as by_table:
        build_neighbour_table(level)
    with Waits() as by_pairs:
        build_neighbour_map(level)
    assert by_table.seen == []
    assert by_pairs.seen == MAP_OF_A_LEVEL[count == 0 :]


def test_waits_of_a_scan(weights: Path) -> None:
    segmenter = Segmenter.from_weights(weights, "cpu")
    segmenter.warm_up()
    with Waits() as waits:
        segmenter.segment(scan(2000))
    assert waits.seen == SCAN + MAP_OF_A_LEVEL * 2


@pytest.fixture
def without_waits() -> Segmenter:
    """Of the same weights, on a backend that does not wait."""
    card = tiny_card(SMALL_GRID)
    return Segmenter(card, folded_student(card, TableBackend()), torch.device("cpu"))


def test_waits_of_a_scan_whose_backend_does_not_wait(weights: Path, without_waits: Segmenter) -> None:
    with Waits() as waits:
        found = without_waits.segment(scan(2000), return_scores=True)
    assert waits.seen == SCAN
    expected = Segmenter.from_weights(weights, "cpu").segment(scan(2000), return_scores=True)
    assert found.scores is not None
    assert expected.scores is not None
    np.testing.assert_allclose(found.scores, expected.scores, rtol=1e-4, atol=1e-5)


def test_votes_wait_as_often_as_scans_do_but_for_their_points(without_waits: Segmenter) -> None:
    with Waits() as waits:
        without_waits.segment(scan(2000), votes=3)
    assert waits.seen == SCAN[:1] + 3 * SCAN[1:]


@pytest.mark.parametrize("variant", ["paper", "authors"])
def test_waits_of_a_training_step(variant: Literal["paper", "authors"]) -> None:
    """Losses, backward pass and optimiser add none to those of the student's voxels and maps."""
    scans, network = (scan(800), scan(700)), StudentConfig(width=8)
    case = TrainingCase(scans, "bf16", network, variant, patch=(64, 48), device="cpu")
    step, batch = case.prepare(), case.batch(0)
    step(batch)
    with Waits() as waits:
        step(batch)
    assert waits.seen == [VOXELS_AND_ATOMS, COARSER_VOXELS, GROUPS] + MAP_OF_A_LEVEL * 4


@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a GPU, whose driver counts the waits")
@pytest.mark.parametrize("backend", ["torch", "auto"])
def test_cuda_counts_no_more(weights: Path, backend: str) -> None:
    segmenter = Segmenter.from_weights(weights, "cuda", backend=backend)
    segmenter.warm_up()
    points = scan(2000)
    segmenter.segment(points)
    torch.cuda.set_sync_debug_mode("warn")
    try:
        with warnings.catch_warnings(record=True) as caught:
            warnings.simplefilter("always")
            segmenter.segment(points)
    finally:
        torch.cuda.set_sync_debug_mode("default")
    of_a_map = {"torch": len(MAP_OF_A_LEVEL), "torchsparse": 1, "triton": 0}
    maps = 2 * of_a_map[segmenter.backend]
    download = 1
    assert sum("synchroniz" in str(warning.message) for warning in caught) <= len(SCAN) + maps + download
