"""Evaluating a network on labelled frames: every raw point counts, and no image is ever opened."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from twodpass_core.choices import Definition
from twodpass_core.classes import ClassMap
from twodpass_core.data.frame import Frame
from twodpass_core.errors import ScanError
from twodpass_core.evaluation.metrics import Scores, count_points, no_counts
from twodpass_core.segmenter import Segmenter


@dataclass(frozen=True, eq=False)
class Evaluation:
    """The counts over all frames, (distance bins, K, K) int64, and what they are counts of."""

    class_map: ClassMap
    counts: Tensor
    frames: int
    definition: Definition = "benchmark"

    @property
    def scores(self) -> Scores:
        """Over all points."""
        return Scores.of(self.counts.sum(0), self.definition)

    @property
    def by_distance(self) -> tuple[Scores, ...]:
        """Of the points in each distance bin."""
        return tuple(Scores.of(counts, self.definition) for counts in self.counts)


def evaluate(
    segmenter: Segmenter,
    frames: Iterable[Frame],
    *,
    votes: int = 1,
    definition: Definition = "benchmark",
) -> Evaluation:
    """Label every frame and compare with its labels.

    Args:
        votes: each scan is segmented this often, rotated about z, and scores are averaged (section 4, supplement A).
        definition: see `choices.Definition`.

    Raises:
        ScanError: a frame has no labels, or cannot be read; of bags also BagError and LabelError.
    """
    counts = no_counts(segmenter.class_map.num_classes)
    number = 0
    for frame in frames:
        counts += count_frame(segmenter, frame, votes, definition)
        number += 1
    return Evaluation(segmenter.class_map, counts, number, definition)


def count_frame(segmenter: Segmenter, frame: Frame, votes: int = 1, definition: Definition = "benchmark") -> Tensor:
    """The counts of one frame, on the CPU. Validation in training and evaluation afterwards both come here."""
    labels = labels_of(frame)
    class_id = predict(segmenter, frame.points, votes, definition)
    points, truth, predicted = map(torch.from_numpy, (frame.points, labels, class_id))
    return count_points(points, truth, predicted, segmenter.class_map.num_classes)


def labels_of(frame: Frame) -> npt.NDArray[np.uint8]:
    """(N,) training ids. Raises ScanError where the frame has none."""
    if frame.labels is None:
        raise ScanError(f"{frame.id}: has no labels to evaluate against")
    return frame.labels


def predict(
    segmenter: Segmenter, points: npt.NDArray[np.float32], votes: int, definition: Definition
) -> npt.NDArray[np.integer]:
    """(N,) class of each point, 0 or 255 for nothing. The authors let the network choose the ignored class 0, too."""
    if definition != "authors":
        return segmenter.segment(points, votes=votes).class_id
    scores = segmenter.segment(points, votes=votes, return_scores=True).scores
    assert scores is not None
    class_id: npt.NDArray[np.integer] = scores.argmax(axis=1)
    return class_id
