"""Training samples as a torch data set, and several of them as one batch."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, fields, replace
from typing import Any, NamedTuple

import numpy as np
import torch
from torch import Tensor
from torch.utils.data import Dataset

from twodpass_core.data.augment import AugmentationConfig, augment, augment_points
from twodpass_core.data.cutmix import add_points, instances_of
from twodpass_core.data.frame import FrameSource
from twodpass_core.data.mixture import epoch_order
from twodpass_core.data.sample import TrainingSample, make_sample
from twodpass_core.sensor import bound_intensity


class SampleKey(NamedTuple):
    """A frame in an epoch. The same key gives the same sample, whichever process makes it and when."""

    epoch: int
    frame: int


class TrainingSet(Dataset[TrainingSample]):
    """The frames of a source as augmented samples, each paired with one of its views, drawn at random.

    One, as the authors do with nuScenes' six: over the epochs a frame meets all of its views, and the time and memory
    of a step do not grow with their number.
    """

    def __init__(
        self, source: FrameSource, augmentation: AugmentationConfig, seed: int = 0, images: bool = True
    ) -> None:
        """`images`: False leaves them closed, where nothing learns from them."""
        self.source, self.augmentation, self.seed, self.images = source, augmentation, seed, images

    def __len__(self) -> int:
        return len(self.source)

    def __getitem__(self, key: SampleKey) -> TrainingSample:
        """Raises ScanError where the frame, its image or the frame it is mixed with cannot be read or has no labels.

        Of bags also BagError and LabelError.
        """
        augmenting, choosing, mixing = (self._rng(key, part) for part in range(3))
        frame = self.source[key.frame]
        view = frame.views[choosing.integers(len(frame.views))] if self.images and frame.views else None
        sample = make_sample(frame, self.source.grid, view)
        bound_intensity(sample.points, self.source.intensity_max)
        sample = augment(sample, self.augmentation, augmenting)
        if self.augmentation.cutmix:
            other = instances_of(self.source[epoch_order(self.source).draw_one(mixing)], self.source.grid)
            bound_intensity(other.points, self.source.intensity_max)
            sample = add_points(sample, augment_points(other, self.augmentation, mixing))
        return sample

    def _rng(self, key: SampleKey, part: int) -> np.random.Generator:
        """One for each part: the points of a sample are the same whether or not it has an image."""
        return np.random.default_rng([self.seed, key.epoch, key.frame, part])


@dataclass(frozen=True, eq=False)
class Batch:
    """B samples, I of them with an image. Points and pixels are those of all samples, one after the other."""

    frame_ids: tuple[str, ...]  # (B,)
    points: Tensor  # (N, 4) float32 x, y, z, intensity
    sample: Tensor  # (N,) int64 which sample each point is of
    labels: Tensor  # (N,) int64 training ids, 0 ignored
    images: Tensor | None  # (I, 3, H, W) float32 RGB in 0..1; smaller ones have black added at the right and bottom
    image_points: Tensor  # (P,) int64 which of the N points
    pixels: Tensor  # (P, 3) int64 image, row, column of each of these

    def to(self, device: torch.device | str, non_blocking: bool = False) -> Batch:
        """The same on a device."""
        return self._changed(lambda tensor: tensor.to(device, non_blocking=non_blocking))

    def pin_memory(self) -> Batch:
        """The same in page-locked memory, from which copies to a GPU do not block."""
        return self._changed(Tensor.pin_memory)

    def _changed(self, change: Callable[[Tensor], Tensor]) -> Batch:
        values = {field.name: getattr(self, field.name) for field in fields(self)}
        changed: dict[str, Any] = {name: change(value) for name, value in values.items() if isinstance(value, Tensor)}
        return replace(self, **changed)


def collate(samples: Sequence[TrainingSample]) -> Batch:
    """One batch of samples; those without image contribute points only."""
    starts = np.cumsum([0, *(len(sample.points) for sample in samples)])
    with_image = [(start, sample) for start, sample in zip(starts, samples, strict=False) if sample.image is not None]
    image_points = [start + sample.image_points for start, sample in with_image]
    pixels = [np.insert(sample.pixels, 0, index, axis=1) for index, (_, sample) in enumerate(with_image)]
    return Batch(
        frame_ids=tuple(sample.frame_id for sample in samples),
        points=torch.from_numpy(np.concatenate([sample.points for sample in samples])),
        sample=torch.from_numpy(np.repeat(np.arange(len(samples)), np.diff(starts))),
        labels=torch.from_numpy(np.concatenate([sample.labels for sample in samples]).astype(np.int64)),
        images=_stack([sample.image for _, sample in with_image if sample.image is not None]),
        image_points=torch.from_numpy(np.concatenate([np.empty(0, np.int64), *image_points])),
        pixels=torch.from_numpy(np.concatenate([np.empty((0, 3), np.int64), *pixels])),
    )


def _stack(images: Sequence[np.ndarray]) -> Tensor | None:
    if not images:
        return None
    height, width = (max(image.shape[axis] for image in images) for axis in (0, 1))
    stacked = np.zeros((len(images), height, width, 3), np.uint8)
    for index, image in enumerate(images):
        stacked[index, : image.shape[0], : image.shape[1]] = image
    return torch.from_numpy(stacked).permute(0, 3, 1, 2).to(torch.float32) / 255
