"""Labels kept beside bags, to and from label files."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass
from pathlib import Path
from typing import Literal, get_args

import numpy as np

from twodpass_core.classes import IGNORED
from twodpass_core.data.bags.frames import BagFrames
from twodpass_core.errors import ClassMapError, ConfigError, LabelError
from twodpass_core.labels.label_files import find_label_files, label_places, refuse_other_topics
from twodpass_core.labels.raw import RawLabels, raw_ids, read_raw_labels, write_raw_labels
from twodpass_core.labels.store import LabelStore

Kind = Literal["new", "replaced", "unchanged", "empty", "proposed"]


@dataclass(frozen=True)
class Imported:
    """How many label files of each kind there were."""

    new: int
    replaced: int
    unchanged: int
    empty: int  # no point has a class: nobody has labelled these yet, so they are not taken
    proposed: int  # as the network proposed them: not taken, unless proposals are accepted


@dataclass(frozen=True)
class Exported:
    """How many files were written, and how many labelled scans have no place in the folder's sequences."""

    labels: int
    proposals: int
    left_out: int


def import_labels(
    frames: BagFrames, folder: Path, *, overwrite: bool = False, accept_proposals: bool = False
) -> Imported:
    """Take the label files in a folder over into the stores beside the bags. All are checked before any is written.

    Args:
        overwrite: labels that are there and differ are replaced.
        accept_proposals: files that are just what the network has proposed are labels, too.

    Raises:
        LabelError: a file is of no scan of the bags or not of its length, or would replace other labels unasked; the
            files, or the labels there, are of another topic.
        ClassMapError: a label is no raw id of the frames' class map.
    """
    refuse_other_topics(folder, frames.cloud_topics)
    scans, inside = scans_by_stamp(frames), frames.labels_inside
    for bag in frames.bags:
        frames.label_store(bag).refuse_other_topic()
    kinds: Counter[Kind] = Counter()
    wanted: list[tuple[int, Path, int]] = []
    for stamp_ns, path in find_label_files(folder).items():
        if stamp_ns not in scans:
            raise LabelError(
                f"{path}: is of the scan at {stamp_ns} ns, which is not in {', '.join(map(str, frames.bags))}: "
                "give the bag that they are of, too, or only this one's sequence, as OUT/sequences/NN"
            )
        num_points = frames.num_points(scans[stamp_ns])
        if inside[scans[stamp_ns]]:
            own = frames.raw_labels(scans[stamp_ns])
            if own is None or not np.array_equal(_read(path, num_points), own):
                raise LabelError(
                    f"{path}: differs from the labels inside the cloud at {stamp_ns} ns, which are used instead of any "
                    "others"
                )
            kinds["unchanged"] += 1
            continue
        kind = _kind(frames, scans[stamp_ns], path, num_points, accept_proposals)
        if kind == "replaced" and not overwrite:
            raise LabelError(f"{path}: differs from the labels kept beside the bag: --overwrite replaces those")
        if kind in ("new", "replaced"):
            wanted.append((scans[stamp_ns], path, num_points))
        kinds[kind] += 1
    for index, path, num_points in wanted:
        bag, stamp_ns = frames.origin(index)
        frames.label_store(bag).write(stamp_ns, _read(path, num_points))
    return Imported(**{kind: kinds[kind] for kind in get_args(Kind)})


def export_labels(frames: BagFrames, folder: Path, *, proposals: bool = False, overwrite: bool = False) -> Exported:
    """Write the labels kept beside the bags as label files, for a labelling tool or another machine.

    Into the sequences that the bags were prepared as, else as STAMP_NS.label into a folder, made if missing.

    Args:
        proposals: also those of the network, where a scan has no labels.

    Raises:
        LabelError: labels are not of their scan's length, a file with others is there and may not be replaced, or the
            folder is a file, or of another topic.
        ConfigError: there is nothing to write.
    """
    if folder.exists() and not folder.is_dir():
        raise LabelError(f"{folder}: is not a folder")
    refuse_other_topics(folder, frames.cloud_topics)
    scans = scans_by_stamp(frames)
    places = label_places(folder, scans)
    labelled = (
        stamp_ns for stamp_ns, index in scans.items() if frames.label_store(frames.origin(index)[0]).has(stamp_ns)
    )
    left_out = sum(stamp_ns not in places for stamp_ns in labelled)
    wanted: list[tuple[Path, LabelStore, int, int]] = []
    proposed = 0
    for stamp_ns, path in places.items():
        store = frames.label_store(frames.origin(scans[stamp_ns])[0])
        if not store.has(stamp_ns):
            store = store.proposed
            if not proposals or not store.has(stamp_ns):
                continue
            proposed += 1
        num_points = frames.num_points(scans[stamp_ns])
        if path.exists() and not overwrite:
            there = read_raw_labels(path, num_points)
            if there is not None and not _is(store, stamp_ns, there):
                raise LabelError(f"{path}: is there with other labels: --overwrite replaces them")
        wanted.append((path, store, stamp_ns, num_points))
    if not wanted and left_out:
        raise ConfigError(
            f"{folder}: its sequences are of other scans than the {left_out} labelled ones: give another folder"
        )
    if not wanted:
        raise ConfigError(
            f"there are no labels to write beside {', '.join(map(str, frames.bags))}"
            + ("" if proposals else "; proposals, if any, are written with --proposals")
        )
    for path, store, stamp_ns, num_points in wanted:
        path.parent.mkdir(parents=True, exist_ok=True)
        write_raw_labels(path, _read(store.path(stamp_ns), num_points))
    return Exported(len(wanted) - proposed, proposed, left_out)


def scans_by_stamp(frames: BagFrames) -> dict[int, int]:
    """Index of each frame by time stamp. Raises LabelError where two bags have one of the same."""
    scans: dict[int, int] = {}
    for index in range(len(frames)):
        bag, stamp_ns = frames.origin(index)
        if stamp_ns in scans:
            other, _ = frames.origin(scans[stamp_ns])
            raise LabelError(f"{bag} and {other} both have a scan at {stamp_ns} ns: give one of them at a time")
        scans[stamp_ns] = index
    return scans


def _kind(frames: BagFrames, index: int, path: Path, num_points: int, accept_proposals: bool) -> Kind:
    """Of a label file, checked for length and ids, against what is kept."""
    raw = _read(path, num_points)
    try:
        labelled = frames.class_map.training_ids(raw_ids(raw)) != IGNORED
    except ClassMapError as error:
        raise ClassMapError(f"{path}: {error}") from error
    if not labelled.any():
        return "empty"
    bag, stamp_ns = frames.origin(index)
    store = frames.label_store(bag)
    if _is(store, stamp_ns, raw):
        return "unchanged"
    if not accept_proposals and _is(store.proposed, stamp_ns, raw):
        return "proposed"
    return "replaced" if store.path(stamp_ns).exists() else "new"


def _is(store: LabelStore, stamp_ns: int, raw: RawLabels) -> bool:
    """Whether a store has just these labels for a scan."""
    try:
        kept = store.read(stamp_ns, len(raw))
    except LabelError:
        return False  # of another length, so of no use
    return kept is not None and np.array_equal(kept, raw)


def _read(path: Path, num_points: int) -> RawLabels:
    raw = read_raw_labels(path, num_points)
    if raw is None:
        raise LabelError(f"{path}: is gone")
    return raw
