"""What is labelled of bags, and what is wrong with the labels."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import numpy as np
import numpy.typing as npt

from twodpass_core.data.bags.frames import BagFrames
from twodpass_core.errors import ClassMapError, LabelError
from twodpass_core.labels.raw import raw_ids


@dataclass(frozen=True, eq=False)
class LabelStatus:
    """Of one bag."""

    bag: Path
    scans: int
    labelled: int  # beside the bag or inside the clouds
    proposed: int  # of those without labels
    points: npt.NDArray[np.int64]  # (K,) labelled beside the bag, by class
    problems: tuple[str, ...]


def label_status(frames: BagFrames) -> list[LabelStatus]:
    """Count, and check every label file beside the bags for length and ids. What is wrong is told, not raised."""
    inside = frames.labels_inside
    by_bag: dict[Path, dict[int, int]] = {bag: {} for bag in frames.bags}
    for index in range(len(frames)):
        bag, stamp_ns = frames.origin(index)
        by_bag[bag][stamp_ns] = index
    return [_status(frames, bag, scans, inside) for bag, scans in by_bag.items()]


def _status(frames: BagFrames, bag: Path, scans: dict[int, int], inside: npt.NDArray[np.bool_]) -> LabelStatus:
    store = frames.label_store(bag)
    own, proposed = store.stamps(), store.proposed.stamps()
    points = np.zeros(frames.class_map.num_classes, np.int64)
    problems = []
    for kept in (store, store.proposed):
        for stamp_ns in sorted(kept.stamps()):
            if stamp_ns not in scans:
                problems.append(f"{kept.path(stamp_ns)}: the bag has no such scan")
                continue
            try:
                raw = kept.read(stamp_ns, frames.num_points(scans[stamp_ns]))
                class_id = frames.class_map.training_ids(np.empty(0, np.uint32) if raw is None else raw_ids(raw))
            except (LabelError, ClassMapError) as error:
                path = kept.path(stamp_ns)
                problems.append(str(error) if str(path) in str(error) else f"{path}: {error}")
                continue
            if kept == store and not inside[scans[stamp_ns]]:
                points += np.bincount(class_id, minlength=len(points))
    labelled = {stamp_ns for stamp_ns, index in scans.items() if inside[index] or stamp_ns in own}
    only_proposed = (proposed & scans.keys()) - labelled
    return LabelStatus(bag, len(scans), len(labelled), len(only_proposed), points, tuple(problems))
