"""Labels that a network proposes for scans nobody has labelled. They are kept apart, and used only when asked for."""

from __future__ import annotations

import json
import logging
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from datetime import datetime, timezone
from pathlib import Path

import numpy as np

from twodpass_core.classes import IGNORED, check_classes
from twodpass_core.data.bags.frames import BagFrames
from twodpass_core.labels.store import LabelStore
from twodpass_core.segmenter import Segmenter
from twodpass_core.sensor import doubt_of_unit

logger = logging.getLogger(__name__)

LOG = "proposals.jsonl"
"""Beside the proposals: a line for each run that made some, with what they were made by."""


@dataclass(frozen=True)
class Proposal:
    """What was proposed for a scan."""

    frame_id: str
    points: int
    labelled: int  # of them with a class


def unlabelled_scans(frames: BagFrames, *, again: bool = False) -> list[int]:
    """Indices of the scans without labels and, unless `again`, without proposals."""
    proposed = {bag: frames.label_store(bag).proposed.stamps() for bag in frames.bags}
    indices = []
    for index in np.flatnonzero(~frames.labelled).tolist():
        bag, stamp_ns = frames.origin(index)
        if again or stamp_ns not in proposed[bag]:
            indices.append(index)
    return indices


def propose(
    frames: BagFrames, indices: Sequence[int], segmenter: Segmenter, *, votes: int, min_probability: float
) -> Iterator[Proposal]:
    """Label scans by a network, keeping the points it is sure of; the others get the ignored class's raw id.

    Args:
        indices: which frames; see `unlabelled_scans`.
        votes: each scan is segmented this often, rotated about z, and scores are averaged.
        min_probability: of the class, 0 to 1, from which on a point is labelled.

    Raises:
        ConfigError: the weights are for other classes than the frames.
        LabelError: the proposals that are there are of another topic. Both before the first scan is labelled.
    """
    check_classes(segmenter.class_map, frames.class_map)
    for bag in {frames.origin(index)[0] for index in indices}:
        frames.label_store(bag).proposed.refuse_other_topic()
    return _propose(frames, indices, segmenter, votes, min_probability)


def _propose(
    frames: BagFrames, indices: Sequence[int], segmenter: Segmenter, votes: int, min_probability: float
) -> Iterator[Proposal]:
    ignored = frames.class_map.classes[IGNORED].raw_id
    doubt = ""
    for index in indices:
        frame = frames[index]
        if not doubt and (doubt := doubt_of_unit(frame.points[:, 3], segmenter.card.intensity_max)):
            logger.warning("%s: %s; --intensity-scale converts it", frame.id, doubt)
        result = segmenter.segment(frame.points, votes=votes)
        raw = frames.class_map.raw_labels(result.class_id)
        raw[result.probability < min_probability] = ignored
        bag, stamp_ns = frames.origin(index)
        frames.label_store(bag).proposed.write(stamp_ns, raw)
        yield Proposal(frame.id, len(raw), int((raw != ignored).sum()))


def log_run(bags: Iterable[Path], *, weights: str, origin: str, votes: int, min_probability: float) -> None:
    """Write down beside the proposals of each bag what they are made by. Raises OSError."""
    entry = {
        "time": datetime.now(timezone.utc).isoformat(timespec="seconds"),
        "weights": weights,
        "origin": origin,
        "votes": votes,
        "min_probability": min_probability,
    }
    for bag in bags:
        folder = LabelStore.beside(bag).proposed.folder
        folder.mkdir(parents=True, exist_ok=True)
        with (folder / LOG).open("a", encoding="utf-8") as file:
            file.write(json.dumps(entry) + "\n")
