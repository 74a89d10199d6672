"""Samples of a training as they come from its frames."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
from training_data import Blobs

from twodpass_core.data.augment import AugmentationConfig
from twodpass_core.data.batch import SampleKey, TrainingSet
from twodpass_core.data.frame import Frame


class TwoCameras(Blobs):
    """Every frame has its view twice."""

    def __getitem__(self, index: int) -> Frame:
        frame = super().__getitem__(index)
        return replace(frame, views=2 * frame.views, instances=np.arange(len(frame.points), dtype=np.uint16))


class Alike(Blobs):
    """All frames are the same."""

    def __getitem__(self, index: int) -> Frame:
        return super().__getitem__(0)


class Dazzled(Blobs):
    """The first points have absurd intensities, every point is an instance."""

    def __getitem__(self, index: int) -> Frame:
        frame = super().__getitem__(index)
        frame.points[:50, 3], frame.points[50:100, 3] = 1e30, -1e30
        return replace(frame, instances=np.arange(1, 1 + len(frame.points), dtype=np.uint16))


def test_points_are_the_same_with_and_without_images() -> None:
    """Whatever is drawn for image and CutMix: what a teacher adds is then not mixed up with other samples."""
    for cutmix in (False, True):
        config = AugmentationConfig(cutmix=cutmix, crop=None)
        with_images, without = (TrainingSet(TwoCameras(3), config, images=images) for images in (True, False))
        for key in (SampleKey(epoch, index) for epoch in range(2) for index in range(3)):
            assert with_images[key].image is not None
            np.testing.assert_array_equal(with_images[key].points, without[key].points)


def test_a_damaged_intensity_is_bounded_as_in_deployment() -> None:
    for cutmix in (False, True):
        config = AugmentationConfig(preset="none", cutmix=cutmix)
        points = TrainingSet(Dazzled(1), config)[SampleKey(0, 0)].points
        assert (points[:, 3].min(), points[:, 3].max()) == (-4, 4)


def test_cutmix_adds_from_any_frame() -> None:
    samples = TrainingSet(TwoCameras(4), AugmentationConfig(preset="none", cutmix=True), images=False)
    last_added = {samples[SampleKey(epoch, 0)].points[-1].tobytes() for epoch in range(30)}
    assert len(last_added) == 4


def test_each_frame_of_each_epoch_is_changed_in_its_own_way() -> None:
    samples = TrainingSet(Alike(3), AugmentationConfig())
    points = [samples[SampleKey(epoch, index)].points for epoch in range(2) for index in range(3)]
    assert len({array.tobytes() for array in points}) == 6
