"""Sources of which only some frames have labels: what training and evaluation make of the others."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Literal

import numpy as np
import numpy.typing as npt

from twodpass_core.classes import IGNORED, ClassMap
from twodpass_core.data.frame import Frame, FrameSource, PartlyLabelled, PartOfData
from twodpass_core.errors import ConfigError
from twodpass_core.sparse.grid import VoxelGrid
from twodpass_core.wording import counted

Unlabelled = Literal["refuse", "skip", "keep"]
"""Frames without labels: refuse says so at once; skip leaves them out; keep trains on them, with every point ignored by
the losses that need labels, so that only the divergence from the image network teaches (eq. 7).
"""

LABEL_OR_LEAVE_OUT = "label them, or set `unlabelled` of this source to skip, or in training to keep"
"""What to do about frames without labels."""


def labelled_frames(source: FrameSource) -> npt.NDArray[np.bool_]:
    """(frames,) which have labels, known without reading them."""
    return source.labelled if isinstance(source, PartlyLabelled) else np.ones(len(source), bool)


def for_training(source: FrameSource, unlabelled: Unlabelled) -> FrameSource:
    """The frames to train on. Raises ConfigError where none has labels, or unlabelled ones are refused."""
    labelled = _with_some(source)
    return UnlabelledIgnored(source) if unlabelled == "keep" else _labelled_only(source, labelled, unlabelled)


def for_evaluation(source: FrameSource, unlabelled: Unlabelled) -> FrameSource:
    """The frames to measure on: only labelled ones. Raises ConfigError as `for_training` does."""
    return _labelled_only(source, _with_some(source), unlabelled)


def _with_some(source: FrameSource) -> npt.NDArray[np.bool_]:
    """(frames,) which have labels: some, else the error tells which part of the data it is that has none."""
    labelled = labelled_frames(source)
    if labelled.any():
        return labelled
    part = source.part if isinstance(source, PartOfData) else ""
    found = counted(len(source), "frame") + (f", {part}," if part else "")
    raise ConfigError(
        f"{found} without any labels: label some of them, {source.ids[0]} for one; those of bags come by "
        "`twodpass labels import`, or, as a network has proposed them, by bag.proposals in settings; those of a "
        "benchmark's split test only its server has: choose another split, or `twodpass submit`"
        if len(source)
        else f"{found} are too few: there must be one at least"
    )


def _labelled_only(source: FrameSource, labelled: npt.NDArray[np.bool_], unlabelled: Unlabelled) -> FrameSource:
    missing = int((~labelled).sum())
    if not missing:
        return source
    if unlabelled == "refuse":
        first = source.ids[int(np.argmin(labelled))]
        raise ConfigError(
            f"{missing} of the {len(source)} frames have no labels, {first} among them: {LABEL_OR_LEAVE_OUT}"
        )
    return LabelledOnly(source, np.flatnonzero(labelled))


@dataclass(frozen=True, eq=False)
class _Within:
    """Frames of another source, of its classes, volume and unit."""

    source: FrameSource

    @property
    def kind(self) -> str:
        return self.source.kind

    @property
    def class_map(self) -> ClassMap:
        return self.source.class_map

    @property
    def grid(self) -> VoxelGrid:
        return self.source.grid

    @property
    def intensity_max(self) -> float:
        return self.source.intensity_max


@dataclass(frozen=True, eq=False)
class LabelledOnly(_Within):
    """The frames `indices` (M,) of a source."""

    indices: npt.NDArray[np.int64]

    @property
    def left_out(self) -> int:
        """How many frames of the source have no labels."""
        return len(self.source) - len(self)

    @property
    def ids(self) -> Sequence[str]:
        ids = self.source.ids
        return [ids[index] for index in self.indices]

    def __len__(self) -> int:
        return len(self.indices)

    def __getitem__(self, index: int) -> Frame:
        return self.source[int(self.indices[index])]


@dataclass(frozen=True, eq=False)
class UnlabelledIgnored(_Within):
    """All frames of a source, those without labels with the ignored class and no instance everywhere."""

    @property
    def ids(self) -> Sequence[str]:
        return self.source.ids

    def __len__(self) -> int:
        return len(self.source)

    def __getitem__(self, index: int) -> Frame:
        frame = self.source[index]
        if frame.labels is not None:
            return frame
        labels = np.full(len(frame.points), IGNORED, np.uint8)
        return replace(frame, labels=labels, instances=np.zeros(len(labels), np.uint16))
