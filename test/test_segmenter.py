"""The Segmenter's contract: every point answered, in order, and nothing made up where there is no return."""

from __future__ import annotations

import gc
import time
import weakref
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from contextlib import AbstractContextManager
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from tiny_weights import SMALL_GRID, scan, tiny_card, tiny_student, write_tiny_weights

from twodpass_core.classes import UNLABELLED
from twodpass_core.clock import StageClock
from twodpass_core.errors import ConfigError, WeightsError
from twodpass_core.models.folded import CellLogits, FoldedStudent
from twodpass_core.segmenter import Segmenter
from twodpass_core.sparse.torch_backend import TorchBackend


@pytest.fixture(scope="module")
def weights(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_tiny_weights(tmp_path_factory.mktemp("weights") / "tiny.safetensors", tiny_card(SMALL_GRID))


@pytest.fixture(scope="module")
def segmenter(weights: Path) -> Segmenter:
    return Segmenter.from_weights(weights, device="cpu")


def scores_of(segmenter: Segmenter, points: np.ndarray, votes: int = 1) -> np.ndarray:
    result = segmenter.segment(points, return_scores=True, votes=votes)
    assert result.scores is not None
    return result.scores


def test_every_point_inside_gets_a_class_and_its_probability(segmenter: Segmenter) -> None:
    result = segmenter.segment(scan(800), return_scores=True)
    assert result.class_id.dtype == np.uint8
    assert result.class_id.shape == (800,)
    assert result.class_id.min() >= 1
    assert result.class_id.max() <= 19
    assert result.scores is not None
    assert np.array_equal(result.class_id, result.scores[:, 1:].argmax(axis=1) + 1)
    softmax = np.exp(result.scores) / np.exp(result.scores).sum(axis=1, keepdims=True)
    np.testing.assert_allclose(result.probability, softmax[np.arange(800), result.class_id], rtol=1e-5)


def test_the_ignored_class_is_never_the_answer(segmenter: Segmenter) -> None:
    student = tiny_student(segmenter.card)
    with torch.no_grad():
        student.classifier[2].get_parameter("bias")[0] += 10
    network = FoldedStudent(student, torch.float32, segmenter.device)
    result = Segmenter(segmenter.card, network, segmenter.device).segment(scan(300), return_scores=True)
    assert result.scores is not None
    assert (result.scores.argmax(axis=1) == 0).all()
    assert np.array_equal(result.class_id, result.scores[:, 1:].argmax(axis=1) + 1)


@pytest.mark.parametrize("around", [torch.device("meta"), torch.autocast("cpu", torch.bfloat16)])
@pytest.mark.parametrize("votes", [1, 2])
def test_what_torch_is_told_for_other_networks_changes_nothing(
    segmenter: Segmenter, around: AbstractContextManager[object], votes: int
) -> None:
    expected = scores_of(segmenter, scan(500), votes)
    with around:
        found = scores_of(segmenter, scan(500), votes)
    assert np.array_equal(found, expected)


def test_one_absurd_intensity_does_no_more_than_a_bright_one(segmenter: Segmenter) -> None:
    bright, absurd, all_absurd = (scan(500) for _ in range(3))
    bright[7, 3], absurd[7, 3] = 4 * segmenter.card.intensity_max, 1e30
    assert np.array_equal(scores_of(segmenter, absurd), scores_of(segmenter, bright))
    all_absurd[:, 3] = -3e38
    assert np.isfinite(segmenter.segment(all_absurd).probability).all()


def test_points_without_an_answer_do_not_touch_the_others(segmenter: Segmenter) -> None:
    good = scan(500)
    bad = np.array(
        [
            [0, 0, 0, 0.5],  # no return
            [np.nan, 0, 0, 0],
            [1, np.inf, 0, 0],
            [1, 1, -np.inf, 0],
            [1, 1, 1, np.nan],
            [10, 0, 0, 0],  # on the border of the volume
            [0, 0, 5, 0],
            [1e30, 0, 0, 0],
        ],
        dtype=np.float32,
    )
    places = np.random.default_rng(1).permutation(508)
    mixed = np.concatenate([good, bad])[places]
    untouched = mixed.copy()
    result = segmenter.segment(mixed, return_scores=True)
    alone = segmenter.segment(good, return_scores=True)
    is_good = places < 500
    assert (result.class_id[~is_good] == UNLABELLED).all()
    assert (result.probability[~is_good] == 0).all()
    assert result.scores is not None
    assert alone.scores is not None
    assert (result.scores[~is_good] == 0).all()
    assert np.array_equal(result.class_id[is_good], alone.class_id[places[is_good]])
    np.testing.assert_allclose(result.scores[is_good], alone.scores[places[is_good]], atol=1e-5)
    np.testing.assert_array_equal(mixed, untouched)


@pytest.mark.parametrize("count", [0, 1])
def test_scans_of_hardly_any_points_have_a_label_each(segmenter: Segmenter, count: int) -> None:
    assert segmenter.segment(scan(count)).class_id.shape == (count,)


def test_all_points_outside(segmenter: Segmenter) -> None:
    result = segmenter.segment(scan(20) + np.float32(100), return_scores=True)
    assert (result.class_id == UNLABELLED).all()
    assert result.scores is not None
    assert result.scores.shape == (20, 20)


def test_the_same_scan_gives_the_same_labels(segmenter: Segmenter) -> None:
    first, second = segmenter.segment(scan(2000)), segmenter.segment(scan(2000))
    assert np.array_equal(first.class_id, second.class_id)
    assert np.array_equal(first.probability, second.probability)


def test_votes_average_the_logits_of_rotated_scans(segmenter: Segmenter) -> None:
    points = scan(400)
    inside = (
        np.abs(points[:, :2]).max(axis=1) < 6.9
    )  # stays in the volume whatever the angle, so it can be rotated by hand
    points = points[inside]
    quarter_turned = points.copy()
    quarter_turned[:, 0], quarter_turned[:, 1] = -points[:, 1], points[:, 0]
    half_turned = points * np.array([-1, -1, 1, 1], np.float32)
    three_quarters = points.copy()
    three_quarters[:, 0], three_quarters[:, 1] = points[:, 1], -points[:, 0]
    turned = np.stack([points, quarter_turned, half_turned, three_quarters])
    mean_scores = np.mean([scores_of(segmenter, scan) for scan in turned], axis=0)
    # A rotation in float32 moves a few points across a cell border.
    close = np.abs(scores_of(segmenter, points, votes=4) - mean_scores).max(axis=1) < 1e-3
    assert close.mean() > 0.95


def test_corners_that_rotate_out_of_the_volume_keep_an_answer(segmenter: Segmenter) -> None:
    corners = np.array([[9.9, 9.9, 0, 0.1], [-9.9, 9.9, 0, 0.1]], dtype=np.float32)
    result = segmenter.segment(corners, votes=8)
    assert (result.class_id != UNLABELLED).all()


def test_random_votes_follow_their_generator(segmenter: Segmenter) -> None:
    points = scan(300)

    def scores(seed: int) -> np.ndarray:
        result = segmenter.segment(points, True, votes=2, random_votes=np.random.default_rng(seed))
        assert result.scores is not None
        return result.scores

    assert np.array_equal(scores(3), scores(3))
    assert not np.array_equal(scores(3), scores(4))


class Watched(FoldedStudent):
    """Keeps what it is given."""

    given: list[np.ndarray]

    def __call__(self, points: torch.Tensor, clock: StageClock) -> CellLogits:
        self.given.append(points.numpy().copy())
        return super().__call__(points, clock)


def test_random_votes_look_from_everywhere_near_by(segmenter: Segmenter) -> None:
    card, device = segmenter.card, segmenter.device
    network = Watched(tiny_student(card), torch.float32, device)
    network.given = []
    points = np.array([[5, 0, 0, 0.1], [-5, 0, 0, 0.2]], np.float32)
    Segmenter(card, network, device).segment(points, votes=100, random_votes=np.random.default_rng(0))
    given = np.stack(network.given)
    ahead = given[:, 0, :2] - given[:, 1, :2]
    angles = np.arctan2(ahead[:, 1], ahead[:, 0])
    assert np.histogram(angles, 6, (-np.pi, np.pi))[0].min() > 5
    np.testing.assert_allclose(given[:, :, :3].mean(axis=1).std(axis=0), 0.1, rtol=0.25)  # metres on each axis
    np.testing.assert_allclose(np.linalg.norm(ahead, axis=1), 10, rtol=1e-5)


def test_stages_are_timed_in_order(segmenter: Segmenter) -> None:
    stages = list(segmenter.segment(scan(100)).stage_seconds)
    assert stages == ["voxelise", "neighbours", "point_encoder", "block_0", "block_1", "classifier", "gather"]


@pytest.mark.parametrize("points", [np.zeros((3, 3), np.float32), np.zeros((3, 4)), np.zeros(4, np.float32)])
def test_wrong_arrays_are_refused(segmenter: Segmenter, points: np.ndarray) -> None:
    with pytest.raises(ValueError, match=r"\(N, 4\) float32"):
        segmenter.segment(points)


def test_what_is_to_be_averaged_is_named(segmenter: Segmenter) -> None:
    """A number there would be taken for whether scores are wanted."""
    with pytest.raises(TypeError, match="positional"):
        segmenter.segment(scan(50), True, 12)  # type: ignore[call-arg]


def test_read_only_points_are_fine(segmenter: Segmenter) -> None:
    points = scan(50)
    points.flags.writeable = False
    assert (segmenter.segment(points).class_id != UNLABELLED).all()


@pytest.mark.parametrize("view", [lambda rows: rows[::-1], lambda rows: rows[::3], lambda rows: rows[:, ::-1][:, ::-1]])
def test_points_may_have_any_strides(segmenter: Segmenter, view: Callable[[np.ndarray], np.ndarray]) -> None:
    strided = view(scan(300))
    expected = segmenter.segment(np.ascontiguousarray(strided))
    assert np.array_equal(segmenter.segment(strided).class_id, expected.class_id)


class Alone(FoldedStudent):
    """Fails where a thread runs it while another one does."""

    threads = 0

    def __call__(self, *inputs: Any) -> CellLogits:
        self.threads += 1
        time.sleep(0.01)  # others would come in
        assert self.threads == 1
        answer = super().__call__(*inputs)
        self.threads -= 1
        return answer


def test_threads_that_share_a_segmenter_take_turns(segmenter: Segmenter) -> None:
    scans = [scan(1500, seed) for seed in range(6)]
    expected = [segmenter.segment(points).class_id for points in scans]
    card, device = segmenter.card, segmenter.device
    shared = Segmenter(card, Alone(tiny_student(card), torch.float32, device), device)
    with ThreadPoolExecutor(3) as threads:
        found = [result.class_id for result in threads.map(shared.segment, scans)]
    assert all(map(np.array_equal, found, expected))


@pytest.mark.parametrize("precision", ["bf16", "fp16"])
def test_other_precisions_mostly_agree(weights: Path, segmenter: Segmenter, precision: str) -> None:
    reduced = Segmenter.from_weights(weights, device="cpu", precision=precision)  # type: ignore[arg-type]
    points = scan(3000)
    assert (reduced.segment(points).class_id == segmenter.segment(points).class_id).mean() > 0.95


def test_wrong_settings_are_refused(weights: Path) -> None:
    with pytest.raises(ConfigError, match="precision"):
        Segmenter.from_weights(weights, precision="int3")  # type: ignore[arg-type]
    with pytest.raises(ConfigError, match="backend"):
        Segmenter.from_weights(weights, backend="abacus")
    with pytest.raises(WeightsError, match=r"absent\.safetensors"):
        Segmenter.from_weights("absent.safetensors")


def test_a_closed_segmenter_says_so(weights: Path) -> None:
    segmenter = Segmenter.from_weights(weights, device="cpu")
    segmenter.warm_up()
    segmenter.close()
    with pytest.raises(RuntimeError, match="closed"):
        segmenter.segment(scan(10))


def test_closing_frees_the_network_and_its_buffers_at_once(weights: Path) -> None:
    segmenter = Segmenter.from_weights(weights, device="cpu")
    segmenter.segment(scan(500))
    network = segmenter._network
    assert network is not None
    assert isinstance(network.backend, TorchBackend)
    left = [weakref.ref(part) for part in (network, network.backend, *network.backend._workspace._buffers.values())]
    assert len(left) > 3
    gc.disable()  # nothing is left to find for the collector
    try:
        del network
        segmenter.close()
        assert [ref() for ref in left] == [None] * len(left)
    finally:
        gc.enable()


@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a GPU")
@pytest.mark.parametrize("backend", ["torch", "auto"])
def test_closing_gives_a_gpu_its_memory_back(weights: Path, backend: str) -> None:
    Segmenter.from_weights(weights, device="cuda", backend=backend).close()  # what is uploaded once stays
    torch.cuda.empty_cache()
    before = torch.cuda.memory_reserved()
    segmenter = Segmenter.from_weights(weights, device="cuda", backend=backend)
    segmenter.segment(scan(100_000))
    assert torch.cuda.memory_reserved() > before
    segmenter.close()
    assert torch.cuda.memory_reserved() <= before + (2 << 20)  # one block of small tensors
