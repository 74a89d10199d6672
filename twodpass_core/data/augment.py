"""Augmentation of training samples: the points and the image change independently, labels and pixels stay right.

Preset `paper` is supplement A; `authors` is what the published code does beyond and beside that.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Annotated, Any, Final, Literal, TypeAlias

import numpy as np
from PIL import Image, ImageEnhance
from pydantic import Field, model_validator

from twodpass_core.checked import Checked
from twodpass_core.data.sample import TrainingSample
from twodpass_core.geometry.rigid_transform import rotation_about_z

Size: TypeAlias = tuple[Annotated[int, Field(gt=0)], Annotated[int, Field(gt=0)]]
Strength: TypeAlias = Annotated[float, Field(ge=0, le=1)]

PRESETS: Final[Mapping[str, Mapping[str, Any]]] = {
    "paper": {},
    "authors": {"flip": True, "scale_axes": "xy", "shift": 0.1, "dropout": 0.2, "crop_at": "bottom"},
    "none": {
        "rotate": False, "scale": (1, 1), "crop": None, "flip_image": False,
        "brightness": 0, "contrast": 0, "saturation": 0,
    },
}  # fmt: skip


class AugmentationConfig(Checked):
    """What is changed at random in training samples. The preset gives the defaults of the other settings."""

    preset: Literal["paper", "authors", "none"] = Field("paper", description="supplement A, its authors' code, nothing")
    rotate: bool = Field(True, description="the points about z, by any angle")
    flip: bool = Field(False, description="the points along x, y, both or neither, equally likely")
    scale: tuple[float, float] = Field((0.95, 1.05), description="limits of the factor by which points are scaled")
    scale_axes: Literal["xyz", "xy"] = Field("xyz", description="axes that are scaled")
    shift: float = Field(
        0.0, ge=0, le=100, description="standard deviation of a shift of all points along each axis, metres"
    )
    dropout: Strength = Field(0.0, description="largest share of points that is replaced by copies of the first one")
    resize: Size | None = Field(None, description="width, height that images are resized to first; null: as they are")
    crop: Size | None = Field((480, 320), description="width, height of the part of the image that is used; null: all")
    crop_at: Literal["random", "bottom"] = Field("random", description="vertical position of the crop")
    flip_image: bool = Field(True, description="mirror half of the images, drawn at random, left to right")
    brightness: Strength = Field(0.4, description="largest change of the image's brightness, as a share")
    contrast: Strength = Field(0.4, description="largest change of its contrast")
    saturation: Strength = Field(0.4, description="largest change of its saturation")
    cutmix: bool = Field(False, description="adds the instances of another frame, augmented on their own")

    @model_validator(mode="before")
    @classmethod
    def _start_from_the_preset(cls, values: Any) -> Any:
        if not isinstance(values, dict):
            return values
        preset = values.get("preset", "paper")
        return {**(PRESETS.get(preset, {}) if isinstance(preset, str) else {}), **values}

    @property
    def implied(self) -> frozenset[str]:
        """The settings that are as the preset has them: left out where settings are written down."""
        preset = AugmentationConfig(preset=self.preset)
        names = set(AugmentationConfig.model_fields) - {"preset"}
        return frozenset(name for name in names if getattr(self, name) == getattr(preset, name))

    @model_validator(mode="after")
    def _ordered(self) -> AugmentationConfig:
        if not 0 < self.scale[0] <= self.scale[1] <= 10:
            raise ValueError(f"scale must be two factors up to 10, the smaller first, not {self.scale}")
        return self


def augment(sample: TrainingSample, config: AugmentationConfig, rng: np.random.Generator) -> TrainingSample:
    """Points and image of a sample; everything at random comes from `rng`."""
    sample = augment_points(sample, config, rng)
    return sample if sample.image is None else augment_image(sample, config, rng)


def augment_points(sample: TrainingSample, config: AugmentationConfig, rng: np.random.Generator) -> TrainingSample:
    """Moves points, so that some may leave the volume; which points are in the image is kept."""
    if config.dropout:
        sample = drop_out(sample, config.dropout, rng)
    if config.rotate:
        sample = rotate(sample, rng)
    if config.flip:
        sample = flip(sample, rng)
    if config.scale != (1, 1):
        sample = scale(sample, config.scale, config.scale_axes, rng)
    return shift(sample, config.shift, rng) if config.shift else sample


def augment_image(sample: TrainingSample, config: AugmentationConfig, rng: np.random.Generator) -> TrainingSample:
    """Changes the image, and the pixels with it; points outside the crop are no longer image points."""
    if config.resize:
        sample = resize(sample, config.resize)
    if config.crop:
        sample = crop(sample, config.crop, config.crop_at, rng)
    if config.brightness or config.contrast or config.saturation:
        sample = jitter_colours(sample, config.brightness, config.contrast, config.saturation, rng)
    return flip_image(sample, rng) if config.flip_image else sample


def drop_out(sample: TrainingSample, limit: float, rng: np.random.Generator) -> TrainingSample:
    """The authors': a random share, up to `limit`, of the points is overwritten by the first; their number stays."""
    number = len(sample.points)
    dropped = rng.random(number) <= rng.uniform(0, limit)
    return sample.take(np.where(dropped, 0, np.arange(number)))


def rotate(sample: TrainingSample, rng: np.random.Generator) -> TrainingSample:
    """About z, by any angle."""
    rotation = rotation_about_z(rng.uniform(0, 2 * np.pi)).astype(np.float32)
    return sample.with_xyz(sample.points[:, :3] @ rotation.T)


def flip(sample: TrainingSample, rng: np.random.Generator) -> TrainingSample:
    """Along x, y, both or neither."""
    signs = np.array([*rng.choice([-1, 1], size=2), 1], np.float32)
    return sample.with_xyz(sample.points[:, :3] * signs)


def scale(
    sample: TrainingSample, limits: tuple[float, float], axes: Literal["xyz", "xy"], rng: np.random.Generator
) -> TrainingSample:
    """By one factor."""
    factor = rng.uniform(*limits)
    return sample.with_xyz(
        sample.points[:, :3] * np.array([factor, factor, factor if axes == "xyz" else 1], np.float32)
    )


def shift(sample: TrainingSample, deviation: float, rng: np.random.Generator) -> TrainingSample:
    """All points alike, on each axis, metres."""
    return sample.with_xyz(sample.points[:, :3] + rng.normal(0, deviation, size=3).astype(np.float32))


def resize(sample: TrainingSample, size: tuple[int, int]) -> TrainingSample:
    """To width, height, bilinear."""
    image = _image(sample)
    (height, width), (new_width, new_height) = image.shape[:2], size
    resized = np.asarray(Image.fromarray(image).resize(size, Image.Resampling.BILINEAR))
    return sample.with_image(resized, sample.pixels * (new_height, new_width) // (height, width))


def crop(
    sample: TrainingSample, size: tuple[int, int], at: Literal["random", "bottom"], rng: np.random.Generator
) -> TrainingSample:
    """A part of that width and height, or as much of it as the image has."""
    image = _image(sample)
    width, height = min(size[0], image.shape[1]), min(size[1], image.shape[0])
    lowest = image.shape[0] - height
    left = int(rng.integers(image.shape[1] - width, endpoint=True))
    top = lowest if at == "bottom" else int(rng.integers(lowest, endpoint=True))
    pixels = sample.pixels - (top, left)
    inside = np.asarray(((pixels >= 0) & (pixels < (height, width))).all(axis=1))
    return sample.with_image(image[top : top + height, left : left + width], pixels, inside)


def jitter_colours(
    sample: TrainingSample, brightness: float, contrast: float, saturation: float, rng: np.random.Generator
) -> TrainingSample:
    """Each by a factor between 1 - strength and 1 + strength, in random order."""
    picture = Image.fromarray(_image(sample))
    steps = [
        (ImageEnhance.Brightness, brightness),
        (ImageEnhance.Contrast, contrast),
        (ImageEnhance.Color, saturation),
    ]
    for index in rng.permutation(len(steps)):
        enhance, strength = steps[index]
        picture = enhance(picture).enhance(rng.uniform(1 - strength, 1 + strength))
    return sample.with_image(np.asarray(picture), sample.pixels)


def flip_image(sample: TrainingSample, rng: np.random.Generator) -> TrainingSample:
    """Left to right, every other one."""
    if rng.random() < 0.5:
        return sample
    image = _image(sample)
    mirrored = sample.pixels * (1, -1) + (0, image.shape[1] - 1)
    return sample.with_image(image[:, ::-1], mirrored)


def _image(sample: TrainingSample) -> np.ndarray:
    if sample.image is None:
        raise ValueError(f"{sample.frame_id}: has no image to change")
    return sample.image
