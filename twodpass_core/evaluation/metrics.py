"""What predictions are worth against labels: IoU as the benchmarks count it, over all points and by distance.

Everything follows from one tensor of counts, (distance bins, true class, predicted class), which adds up exactly over
scans and processes.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import torch
from torch import Tensor

from twodpass_core.choices import Definition
from twodpass_core.classes import IGNORED, UNLABELLED

DISTANCES = (0.0, 10.0, 20.0, 30.0, 40.0, 50.0)
"""Metres: where distance bins begin; the last has no end (fig. 6a)."""


@dataclass(frozen=True)
class Scores:
    """All from 0 to 1; NaN where there is nothing to count. One entry for each of the classes 1 to K - 1."""

    iou: tuple[float, ...]
    points: tuple[int, ...]  # labelled points of each class
    mean_iou: float
    accuracy: float
    frequency_weighted_iou: float

    @classmethod
    def of(cls, counts: Tensor, definition: Definition = "benchmark") -> Scores:
        """Scores of counts (K, K) int64, true class by predicted class."""
        counts = counts[1:].double()  # of labelled points
        answered = counts[:, 1:]
        correct, predicted = answered.diagonal(), answered.sum(0)
        labelled = (answered if definition == "authors" else counts).sum(1)
        union = labelled + predicted - correct
        iou = correct / union
        if definition == "semantic-kitti-api":
            iou = iou.nan_to_num(0.0)
        counted = predicted.sum() if definition == "semantic-kitti-api" else labelled.sum()
        return cls(
            iou=tuple(iou.tolist()),
            points=tuple(int(n) for n in labelled.tolist()),
            mean_iou=float(iou.nanmean()),
            accuracy=float(correct.sum() / counted),
            frequency_weighted_iou=float((labelled * iou).nansum() / labelled.sum()),
        )


def no_counts(num_classes: int) -> Tensor:
    """What `count_points` gives of no points, to add up from."""
    return torch.zeros(len(DISTANCES), num_classes, num_classes, dtype=torch.int64)


def count_points(points: Tensor, labels: Tensor, class_id: Tensor, num_classes: int) -> Tensor:
    """(distance bins, K, K) int64: how many points are at that distance, of that true and that predicted class.

    Args:
        points: (N, >=3), metres. A point's distance is its horizontal one from the sensor.
        labels, class_id: (N,) of any integer type; UNLABELLED is nothing, as is IGNORED.

    Raises:
        ValueError: a label or prediction is neither a class nor 255.
    """
    labels, class_id = _known(labels, num_classes, "label"), _known(class_id, num_classes, "prediction")
    edges = torch.tensor(DISTANCES[1:], device=points.device)
    # A point that is not finite has no distance, but its label, if any, counts.
    distance = torch.linalg.vector_norm(points[:, :2].float(), dim=1).nan_to_num(0.0)
    distance_bin = torch.bucketize(distance, edges, right=True)
    flat = (distance_bin * num_classes + labels) * num_classes + class_id
    shape = len(DISTANCES), num_classes, num_classes
    return torch.bincount(flat, minlength=math.prod(shape)).view(shape)


def _known(ids: Tensor, num_classes: int, what: str) -> Tensor:
    ids = ids.long()
    ids = ids.masked_fill(ids == UNLABELLED, IGNORED)
    if ids.numel() and not 0 <= int(ids.min()) <= int(ids.max()) < num_classes:
        raise ValueError(f"every {what} must be 0..{num_classes - 1} or {UNLABELLED}")
    return ids
