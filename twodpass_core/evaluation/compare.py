"""Two sets of weights on the same frames: what, class by class, the later ones do better or worse."""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from twodpass_core.choices import Definition
from twodpass_core.classes import IGNORED, SemanticClass
from twodpass_core.data.frame import Frame
from twodpass_core.evaluation.evaluate import Evaluation, labels_of, predict
from twodpass_core.evaluation.metrics import Scores, count_points, no_counts
from twodpass_core.segmenter import Segmenter

RESAMPLINGS = 1000
INTERVAL = (0.025, 0.975)
MIN_FRAMES = 6
"""With fewer, all frames agree by chance on which weights are better more often than in 5 % of cases: 2 in 2^frames."""


@dataclass(frozen=True)
class Change:
    """Of an IoU, 0 to 1; NaN where there is nothing to count.

    In 95 % of resamplings of the frames (bootstrap) the difference lies between `low` and `high`, which are NaN with
    fewer frames than MIN_FRAMES. Frames of one drive are alike, so that on another drive it may well lie outside.
    """

    before: float
    after: float
    frames: int  # with labelled points of what it is about
    low: float
    high: float

    @property
    def difference(self) -> float:
        return self.after - self.before

    @property
    def is_clear(self) -> bool:
        """Whether nearly all resamplings agree on its sign."""
        return self.low > 0 or self.high < 0

    @property
    def is_unknown(self) -> bool:
        """Whether there is a difference, but too few frames to tell if it is clear."""
        return self.frames < MIN_FRAMES and abs(self.difference) > 0


@dataclass(frozen=True)
class ClassChange:
    """What became of the labelled points of a class."""

    entry: SemanticClass
    points: int
    iou: Change
    mended: int  # labelled right by the later weights only
    broken: int  # by the earlier only
    taken_for: tuple[SemanticClass, float] | None  # what the later take it for most often, and share of its points


@dataclass(frozen=True, eq=False)
class Comparison:
    """Both evaluations, and what changed."""

    before: Evaluation
    after: Evaluation
    mean_iou: Change
    classes: tuple[ClassChange, ...]  # 1..K-1


def compare(
    before: Segmenter,
    after: Segmenter,
    frames: Iterable[Frame],
    *,
    votes: int = 1,
    definition: Definition = "benchmark",
) -> Comparison:
    """Label every frame with both and compare with its labels; see `evaluate`.

    Both know the classes that the frames are labelled in (`check_classes`).

    Raises:
        ScanError: a frame has no labels, or cannot be read; of bags also BagError and LabelError.
    """
    segmenters, num_classes = (before, after), after.class_map.num_classes
    totals = [no_counts(num_classes) for _ in segmenters]
    by_frame: list[list[Tensor]] = [[], []]  # (K, K) of each frame
    mended, broken = (np.zeros(num_classes, np.int64) for _ in segmenters)
    for frame in frames:
        labels = labels_of(frame)
        answers = [predict(segmenter, frame.points, votes, definition) for segmenter in segmenters]
        for total, parts, answer in zip(totals, by_frame, answers, strict=True):
            points, truth, predicted = map(torch.from_numpy, (frame.points, labels, answer))
            counts = count_points(points, truth, predicted, num_classes)
            total += counts
            parts.append(counts.sum(0))
        was_right, is_right = (answer == labels for answer in answers)
        mended += np.bincount(labels[is_right & ~was_right], minlength=len(mended))
        broken += np.bincount(labels[was_right & ~is_right], minlength=len(broken))
    evaluations = [
        Evaluation(after.class_map, total, len(parts), definition)
        for total, parts in zip(totals, by_frame, strict=True)
    ]
    return _comparison(evaluations, by_frame, mended, broken)


def _comparison(
    evaluations: Sequence[Evaluation],
    by_frame: Sequence[Sequence[Tensor]],
    mended: npt.NDArray[np.int64],
    broken: npt.NDArray[np.int64],
) -> Comparison:
    before, after = evaluations
    differences = _resampled_differences(by_frame, after.class_map.num_classes, after.definition)
    scores = before.scores, after.scores
    frames = torch.zeros(after.class_map.num_classes, dtype=torch.int64)  # that have the class
    for counts in by_frame[0]:
        frames += counts.sum(1) > 0
    classes = []
    for row, entry in enumerate(after.class_map.classes[1:]):
        change = _change(scores[0].iou[row], scores[1].iou[row], int(frames[entry.id]), differences[:, row])
        points = scores[1].points[row]
        confusion = _taken_for(after, entry)
        classes.append(ClassChange(entry, points, change, int(mended[entry.id]), int(broken[entry.id]), confusion))
    mean = _change(scores[0].mean_iou, scores[1].mean_iou, after.frames, differences[:, -1])
    return Comparison(before, after, mean, tuple(classes))


def _resampled_differences(
    by_frame: Sequence[Sequence[Tensor]], num_classes: int, definition: Definition
) -> npt.NDArray[np.float64]:
    """(resamplings, K): difference of the IoU of each class 1..K-1 and of their mean, frames drawn with replacement."""
    frames = len(by_frame[0])
    if not frames:
        return np.empty((0, num_classes))
    before, after = (torch.stack(list(parts)).double() for parts in by_frame)
    rng = np.random.default_rng(0)
    rows = []
    for _ in range(RESAMPLINGS):
        times = torch.from_numpy(rng.multinomial(frames, np.full(frames, 1 / frames)).astype(float))
        one, other = (Scores.of(torch.tensordot(times, counts, 1).long(), definition) for counts in (before, after))
        rows.append(np.subtract([*other.iou, other.mean_iou], [*one.iou, one.mean_iou]))
    return np.array(rows)


def _change(before: float, after: float, frames: int, differences: npt.NDArray[np.float64]) -> Change:
    known = differences[np.isfinite(differences)]
    low, high = np.quantile(known, INTERVAL) if frames >= MIN_FRAMES and len(known) else (math.nan, math.nan)
    return Change(before, after, frames, float(low), float(high))


def _taken_for(evaluation: Evaluation, entry: SemanticClass) -> tuple[SemanticClass, float] | None:
    """The class that most points of `entry` are wrongly given, and their share; None where there are none."""
    row = evaluation.counts.sum(0)[entry.id].double()
    wrong = row.clone()
    wrong[[IGNORED, entry.id]] = 0
    most = int(wrong.argmax())
    return (evaluation.class_map.classes[most], float(wrong[most] / row.sum())) if wrong[most] > 0 else None
