"""Predictions in the form that benchmark servers take: a folder, or a zip of it."""

from __future__ import annotations

import json
import zipfile
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Protocol

import numpy as np
import numpy.typing as npt
import torch

from twodpass_core.classes import UNLABELLED, ClassMap
from twodpass_core.errors import ConfigError
from twodpass_core.files import naming, new_folder, replacing
from twodpass_core.labels.raw import encode_raw_labels

CHUNK = 256  # points whose nearest neighbours are sought at a time

Ids = npt.NDArray[np.uint8]


class Submission(Protocol):
    """Names and bytes of a benchmark's files."""

    def fixed_files(self) -> dict[str, bytes]: ...

    def frame_file(self, frame_id: str, points: npt.NDArray[np.float32], class_id: Ids) -> tuple[str, bytes]: ...


class SemanticKittiSubmission:
    """sequences/NN/predictions/NNNNNN.label, raw ids as uint32; frames are called NN/NNNNNN."""

    def __init__(self, class_map: ClassMap) -> None:
        self.class_map = class_map

    def fixed_files(self) -> dict[str, bytes]:
        return {}

    def frame_file(self, frame_id: str, points: npt.NDArray[np.float32], class_id: Ids) -> tuple[str, bytes]:
        """Points without a class are written as unlabeled, which the benchmark counts as misses."""
        sequence, _, scan = frame_id.partition("/")
        if not sequence.isdecimal() or not scan:
            raise ConfigError(f"frame {frame_id} is not named NN/NNNNNN: SemanticKITTI's benchmark cannot place it")
        raw = self.class_map.raw_labels(class_id)
        return f"sequences/{sequence}/predictions/{scan}.label", encode_raw_labels(raw)


class NuScenesSubmission:
    """lidarseg/SPLIT/TOKEN_lidarseg.bin, class ids 1..16 as uint8, and SPLIT/submission.json; frames by lidar token."""

    def __init__(self, split: str = "test") -> None:
        self.split = split

    def fixed_files(self) -> dict[str, bytes]:
        used = {"camera": False, "lidar": True, "radar": False, "map": False, "external": False}
        meta = {"meta": {f"use_{name}": value for name, value in used.items()}}
        return {f"{self.split}/submission.json": json.dumps(meta, indent=2).encode()}

    def frame_file(self, frame_id: str, points: npt.NDArray[np.float32], class_id: Ids) -> tuple[str, bytes]:
        """The benchmark refuses points without a class: they get that of the nearest point that has one."""
        return f"lidarseg/{self.split}/{frame_id}_lidarseg.bin", complete(points, class_id).tobytes()


def write_submission(
    out: Path, submission: Submission, frames: Iterable[tuple[str, npt.NDArray[np.float32], Ids]]
) -> int:
    """Write id, points and class ids of frames to a folder, or a zip file if its name ends in .zip; gives their number.

    Either appears when it is whole. Raises ConfigError for an `out` that exists, or frames that do not belong there.
    """
    if out.exists():
        raise ConfigError(f"{out} exists: choose another name for the submission")
    number = 0
    with _zip(out) if out.suffix == ".zip" else _folder(out) as write:
        for name, content in submission.fixed_files().items():
            write(name, content)
        for frame_id, points, class_id in frames:
            write(*submission.frame_file(frame_id, points, class_id))
            number += 1
    return number


def complete(points: npt.NDArray[np.float32], class_id: Ids) -> Ids:
    """Class ids (N,) with points that have none (255) given that of the nearest point (N, >=3) that has one.

    Raises:
        ConfigError: no point has a class.
    """
    missing = class_id == UNLABELLED
    if not missing.any():
        return class_id
    if missing.all():
        raise ConfigError("a scan has no point in the volume that the weights are for: the benchmark would refuse it")
    positions = torch.from_numpy(np.nan_to_num(points[:, :3]))
    known, classes = positions[torch.from_numpy(~missing)], class_id[~missing]
    filled = class_id.copy()
    nearest = [torch.cdist(part, known).argmin(dim=1) for part in positions[torch.from_numpy(missing)].split(CHUNK)]
    filled[missing] = classes[torch.cat(nearest).numpy()]
    return filled


@contextmanager
def _folder(out: Path) -> Iterator[Callable[[str, bytes], None]]:
    with new_folder(out) as partial:

        def write(name: str, content: bytes) -> None:
            path = partial / name
            path.parent.mkdir(parents=True, exist_ok=True)
            with naming(path):
                path.write_bytes(content)

        yield write


@contextmanager
def _zip(out: Path) -> Iterator[Callable[[str, bytes], None]]:
    with replacing(out) as partial, zipfile.ZipFile(partial, "w", zipfile.ZIP_DEFLATED) as archive:
        yield archive.writestr
