"""Bag indices kept in files beside the bags, so that each bag is read through only once."""

from __future__ import annotations

import hashlib
import json
import logging
import os
from collections.abc import Iterator
from contextlib import suppress
from dataclasses import asdict
from pathlib import Path
from typing import Any, Final

import numpy as np

from twodpass_core.bag_files import storage_files
from twodpass_core.data.bags.index import BagIndex, Malformed, RecordedCalibration, RecordedTransforms, TopicIndex
from twodpass_core.data.bags.indexing import build_index
from twodpass_core.errors import BagError, ConfigError
from twodpass_core.files import expanded, replacing

logger = logging.getLogger(__name__)

FORM: Final = 8  # of the kept file; another one is not read
ARRAYS: Final = ("stamps_ns", "log_ns", "file", "num_points", "nth", "labelled")
POSE_ARRAYS: Final = ("stamps_ns", "poses")


def open_index(path: Path) -> BagIndex:
    """The index of a bag, kept from before if the bag's files have not changed since, else made and kept.

    It lies beside the bag as .NAME.twodpass.npz, or in the user's cache folder where that cannot be written to.

    Raises:
        BagError: the bag is missing, damaged, or stored in a way in which single messages cannot be found again.
    """
    if not path.exists():
        raise BagError(f"{path}: does not exist")
    state = _state(path)
    for place in _places(path):
        if (index := _load(place, path, state)) is not None:
            return index
    index = build_index(path)
    for place in _places(path):
        try:
            _save(place, index, state)
            break
        except OSError as error:
            logger.debug("%s: cannot be written: %s", place, error)
    else:
        logger.warning("%s: its index can be kept nowhere, so the bag is read through every time", path)
    return index


def _places(path: Path) -> Iterator[Path]:
    whole = path.resolve()
    yield whole.parent / f".{whole.name}.twodpass.npz"
    with suppress(ConfigError):  # who has no home folder has no cache
        cache = expanded(os.environ.get("XDG_CACHE_HOME") or "~/.cache")
        yield cache / "twodpass" / f"{hashlib.sha256(str(whole).encode()).hexdigest()[:32]}.npz"


def _state(path: Path) -> list[list[str | int]]:
    """Name, size and time of change of the bag's files."""
    files = [*storage_files(path), *path.glob("metadata.yaml")]
    return [[file.name, (stat := file.stat()).st_size, stat.st_mtime_ns] for file in files]


def _save(place: Path, index: BagIndex, state: list[list[str | int]]) -> None:
    head: dict[str, Any] = {"form": FORM, "state": state, "files": index.files}
    head |= {"everything": index.everything, "topics": [], "calibrations": [], "transforms": []}
    head["malformed"] = {topic: asdict(entry) for topic, entry in index.malformed.items()}
    arrays: dict[str, Any] = {}
    for number, topic in enumerate(index.topics.values()):
        entry = asdict(topic)
        arrays |= {f"topic{number}_{name}": entry.pop(name) for name in ARRAYS}
        head["topics"].append(entry)
    for number, (name, calibration) in enumerate(index.calibrations.items()):
        head["calibrations"].append([name, calibration.frame_id, [len(raw) for raw in calibration.messages]])
        arrays[f"calibration{number}_stamps_ns"] = calibration.stamps_ns
        arrays[f"calibration{number}_messages"] = np.frombuffer(b"".join(calibration.messages), np.uint8)
    for number, moved in enumerate(index.transforms):
        entry = asdict(moved)
        arrays |= {f"transform{number}_{name}": entry.pop(name) for name in POSE_ARRAYS}
        head["transforms"].append(entry)
    arrays["head"] = np.frombuffer(json.dumps(head).encode(), np.uint8)
    place.parent.mkdir(parents=True, exist_ok=True)
    with replacing(place) as partial, partial.open("wb") as file:
        np.savez(file, **arrays)


def _load(place: Path, path: Path, state: list[list[str | int]]) -> BagIndex | None:
    """None where there is none, or none for the bag as it is now."""
    try:
        with np.load(place, allow_pickle=False) as kept:
            head = json.loads(kept["head"].tobytes())
            if head["form"] != FORM or head["state"] != state:
                return None
            return BagIndex(
                path=path,
                files=tuple(head["files"]),
                topics={entry["topic"]: _topic(kept, number, entry) for number, entry in enumerate(head["topics"])},
                calibrations={
                    entry[0]: _calibration(kept, number, *entry[1:])
                    for number, entry in enumerate(head["calibrations"])
                },
                transforms=tuple(
                    RecordedTransforms(**entry, **{name: kept[f"transform{number}_{name}"] for name in POSE_ARRAYS})
                    for number, entry in enumerate(head["transforms"])
                ),
                malformed={topic: Malformed(**entry) for topic, entry in head["malformed"].items()},
                everything=tuple(head["everything"]),
            )
    except FileNotFoundError:
        return None
    except Exception as error:  # numpy and zipfile meet damage in many ways
        logger.warning("%s: cannot be read and is made anew: %s", place, error)
        return None


def _topic(kept: Any, number: int, entry: dict[str, Any]) -> TopicIndex:
    return TopicIndex(**entry, **{name: kept[f"topic{number}_{name}"] for name in ARRAYS})


def _calibration(kept: Any, number: int, frame_id: str, lengths: list[int]) -> RecordedCalibration:
    blob, ends = kept[f"calibration{number}_messages"].tobytes(), np.cumsum(lengths)
    messages = tuple(blob[end - length : end] for end, length in zip(ends, lengths, strict=True))
    return RecordedCalibration(frame_id, kept[f"calibration{number}_stamps_ns"], messages)
