"""Instance CutMix (supplement A, after RPVNet): the instances of one scan stand in another one, too."""

from __future__ import annotations

from dataclasses import replace

import numpy as np

from twodpass_core.data.frame import Frame
from twodpass_core.data.sample import TrainingSample, make_sample
from twodpass_core.errors import ScanError
from twodpass_core.sparse.grid import VoxelGrid


def instances_of(frame: Frame, grid: VoxelGrid) -> TrainingSample:
    """All points of a frame, inside the volume, that belong to an instance; without an image.

    Raises:
        ScanError: the frame has no labels, or no instances are known of it.
    """
    if frame.labels is None or frame.instances is None:
        raise ScanError(f"{frame.id}: has no instance labels, so cutmix is not possible with this data: turn it off")
    belongs = frame.instances != 0
    return make_sample(
        replace(frame, points=frame.points[belongs], labels=frame.labels[belongs], instances=None), grid, None
    )


def add_points(sample: TrainingSample, added: TrainingSample) -> TrainingSample:
    """Both samples' points, the added ones last and in no image."""
    return replace(
        sample,
        points=np.concatenate([sample.points, added.points]),
        labels=np.concatenate([sample.labels, added.labels]),
    )
