"""Metrics against the benchmarks' definitions, the authors', and by hand."""

from __future__ import annotations

import json
import math
from pathlib import Path

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from twodpass_core.choices import Definition
from twodpass_core.evaluation.metrics import Scores, count_points, no_counts
from twodpass_core.training.counts import SegmentationCounts

CLASSES = 4


def count(labels: list[int], predictions: list[int], points: np.ndarray | None = None) -> torch.Tensor:
    points = np.zeros((len(labels), 4), np.float32) if points is None else points
    return count_points(torch.from_numpy(points), torch.tensor(labels), torch.tensor(predictions), CLASSES)


def scores(labels: list[int], predictions: list[int], definition: Definition = "benchmark") -> Scores:
    return Scores.of(count(labels, predictions).sum(0), definition)


def test_scores_are_those_counted_by_hand() -> None:
    result = scores([1, 1, 1, 2, 2, 0, 0], [1, 1, 2, 2, 255, 1, 255])
    # Class 1: 2 right, 1 missed, none too many (label 0 does not count). Class 2: 1 right, 1 missed, 1 too many.
    assert result.iou[:2] == pytest.approx((2 / 3, 1 / 3))
    assert math.isnan(result.iou[2])
    assert result.points == (3, 2, 0)
    assert result.mean_iou == pytest.approx(0.5)
    assert result.accuracy == pytest.approx(3 / 5)
    assert result.frequency_weighted_iou == pytest.approx((3 * 2 / 3 + 2 * 1 / 3) / 5)


@pytest.mark.parametrize("nothing", [0, 255])
def test_a_point_predicted_as_nothing_is_a_miss(nothing: int) -> None:
    assert scores([1, 1, 2], [1, nothing, 2]).iou[:2] == pytest.approx((0.5, 1.0))
    assert scores([1, 1, 2], [1, nothing, 2], "semantic-kitti-api").iou[:2] == pytest.approx((0.5, 1.0))
    assert scores([1, 1, 2], [1, nothing, 2], "authors").iou[:2] == pytest.approx((1.0, 1.0))


def kitti_api(labels: np.ndarray, predictions: np.ndarray) -> tuple[float, np.ndarray, float]:
    """Mean IoU, IoU and accuracy, as its manual states them: an empty union counts as 0."""
    iou, right, guessed = [], 0, 0
    kept = labels != 0
    for entry in range(1, CLASSES):
        is_it, said = labels[kept] == entry, predictions[kept] == entry
        union = (is_it | said).sum()
        iou.append((is_it & said).sum() / union if union else 0.0)
        right += int((is_it & said).sum())
        guessed += int(said.sum())
    return float(np.mean(iou)), np.array(iou), right / guessed if guessed else math.nan


ids = st.lists(st.tuples(st.integers(0, CLASSES - 1), st.integers(0, CLASSES - 1)), min_size=1, max_size=60)


@given(ids)
def test_semantic_kitti_api(pairs: list[tuple[int, int]]) -> None:
    labels, predictions = np.array(pairs).T
    mean, iou, accuracy = kitti_api(labels, predictions)
    result = scores(labels.tolist(), predictions.tolist(), "semantic-kitti-api")
    assert result.iou == pytest.approx(tuple(iou))
    assert result.mean_iou == pytest.approx(mean)
    assert result.accuracy == pytest.approx(accuracy, nan_ok=True)


@given(ids)
def test_nuscenes_devkit(pairs: list[tuple[int, int]]) -> None:
    """It refuses class 0 as a prediction, takes the mean over classes with a union, and weighs by labelled points."""
    pairs = [(label, max(prediction, 1)) for label, prediction in pairs]
    labels, predictions = np.array(pairs).T
    matrix = np.zeros((CLASSES, CLASSES), int)
    np.add.at(matrix, (labels, predictions), 1)
    matrix[0] = 0
    union = matrix.sum(0) + matrix.sum(1) - matrix.diagonal()
    iou = np.divide(matrix.diagonal(), union, out=np.full(CLASSES, np.nan), where=union > 0)[1:]
    result = scores(labels.tolist(), predictions.tolist())
    assert result.iou == pytest.approx(tuple(iou), nan_ok=True)
    if matrix.sum():
        assert result.mean_iou == pytest.approx(np.nanmean(iou))
        expected = np.nansum(matrix.sum(1)[1:] * iou) / matrix.sum()
        assert result.frequency_weighted_iou == pytest.approx(expected)


def test_the_authors_example(golden: Path) -> None:
    example = json.loads((golden / "misc.json").read_text())["metric"]
    classes = len(example["iou"]) + 1
    labels, predictions = torch.tensor(example["label"]), torch.tensor(example["pred"])
    counts = count_points(torch.zeros(len(labels), 3), labels, predictions, classes).sum(0)
    result = Scores.of(counts, "authors")
    assert result.iou == pytest.approx(example["iou"], abs=1e-9)
    assert Scores.of(counts).mean_iou < result.mean_iou


def test_points_are_counted_by_their_horizontal_distance() -> None:
    points = np.array([[3, 4, 50, 0], [6, 8, 0, 0], [0, -29.9, 0, 0], [300, 0, 0, 0]], np.float32)
    counts = count([1, 1, 2, 3], [1, 2, 2, 3], points)
    assert counts.sum(dim=(1, 2)).tolist() == [1, 1, 1, 0, 0, 1]
    assert counts[0, 1, 1] == counts[1, 1, 2] == counts[2, 2, 2] == counts[5, 3, 3] == 1


def test_counts_add_up_over_scans() -> None:
    metric, total = SegmentationCounts(CLASSES), no_counts(CLASSES)
    rng = np.random.default_rng(0)
    parts = [rng.integers(0, CLASSES, (2, 50)) for _ in range(3)]
    for labels, predictions in parts:
        counts = count(labels.tolist(), predictions.tolist())
        metric.update(counts)
        total += counts
    whole = np.concatenate(parts, axis=1)
    assert torch.equal(total, count(whole[0].tolist(), whole[1].tolist()))
    assert torch.equal(metric.counts, total)
    assert int(metric.frames) == 3


def test_points_without_a_position_count_where_they_are_labelled() -> None:
    points = np.full((1, 4), np.nan, np.float32)
    assert count([1], [255], points)[0, 1, 0] == 1


@pytest.mark.parametrize(("labels", "predictions"), [([4], [1]), ([1], [4]), ([-1], [1])])
def test_unknown_ids_are_refused(labels: list[int], predictions: list[int]) -> None:
    with pytest.raises(ValueError, match=r"must be 0\.\.3 or 255"):
        count(labels, predictions)


def test_nothing_labelled_gives_nan() -> None:
    result = scores([0, 0], [1, 2])
    assert math.isnan(result.mean_iou)
    assert math.isnan(result.accuracy)
