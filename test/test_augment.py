"""Augmentation: whatever changes, each point keeps its label, and its pixel the colour that it had.

Points carry their number as intensity; a pixel's colour in the test image is its row and column.
"""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import numpy.typing as npt
import pytest
from pydantic import ValidationError

from twodpass_core.data import augment as steps
from twodpass_core.data.augment import AugmentationConfig, augment
from twodpass_core.data.sample import TrainingSample

HEIGHT, WIDTH, POINTS = 200, 250, 500
NO_JITTER = {"brightness": 0, "contrast": 0, "saturation": 0}


def coordinate_image(height: int = HEIGHT, width: int = WIDTH) -> npt.NDArray[np.uint8]:
    """Red is the row, green the column."""
    image = np.zeros((height, width, 3), np.uint8)
    image[..., 0], image[..., 1] = np.arange(height)[:, None], np.arange(width)
    return image


def make_points(number: int = POINTS, *, image: bool = True) -> TrainingSample:
    """Every third point is seen. Arrays are read-only, so that a change of them in place is an error."""
    rng = np.random.default_rng(1)
    points = rng.uniform(-20, 20, (number, 4)).astype(np.float32)
    points[:, 3] = np.arange(number)
    seen = np.arange(0, number, 3) if image else np.empty(0, np.int64)
    pixels = rng.integers(0, (HEIGHT, WIDTH), (len(seen), 2))
    labels = (np.arange(number) % 20).astype(np.uint8)
    sample = TrainingSample("00/000000", points, labels, coordinate_image() if image else None, seen, pixels)
    for array in (sample.points, sample.labels, sample.image, sample.image_points, sample.pixels):
        if array is not None:
            array.flags.writeable = False
    return sample


SAMPLE = make_points()
PIXEL_OF_NUMBER = dict(zip(SAMPLE.image_points.tolist(), SAMPLE.pixels.tolist(), strict=True))


def rng(seed: int = 0) -> np.random.Generator:
    return np.random.default_rng(seed)


def assert_faithful(changed: TrainingSample) -> None:
    """Labels are those of the points, and image points lie on pixels of the colour they lay on before."""
    numbers = changed.points[:, 3].astype(int)
    np.testing.assert_array_equal(changed.labels, numbers % 20)
    assert changed.image is not None
    assert changed.points.dtype == np.float32
    assert (np.diff(changed.image_points) > 0).all()
    assert (changed.pixels >= 0).all()
    assert (changed.pixels < changed.image.shape[:2]).all()
    colours = changed.image[changed.pixels[:, 0], changed.pixels[:, 1], :2]
    np.testing.assert_array_equal(colours, [PIXEL_OF_NUMBER[number] for number in numbers[changed.image_points]])


@pytest.mark.parametrize("preset", ["paper", "authors", "none"])
@pytest.mark.parametrize("seed", range(8))
def test_presets_keep_labels_and_pixels(preset: str, seed: int) -> None:
    config = AugmentationConfig.model_validate({"preset": preset, "crop": (120, 80), **NO_JITTER})
    changed = augment(SAMPLE, config, rng(seed))
    assert_faithful(changed)
    assert changed.image is not None
    assert changed.image.shape == (80, 120, 3)
    assert len(changed.points) == POINTS
    assert 0 < len(changed.image_points) < len(SAMPLE.image_points)


def test_no_augmentation_changes_nothing() -> None:
    assert augment(SAMPLE, AugmentationConfig.model_validate({"preset": "none"}), rng()) is SAMPLE


@pytest.mark.parametrize("preset", ["paper", "authors"])
def test_points_alone_are_augmented_too(preset: str) -> None:
    changed = augment(make_points(image=False), AugmentationConfig.model_validate({"preset": preset}), rng())
    assert changed.image is None
    assert len(changed.points) == POINTS
    empty = augment(make_points(0), AugmentationConfig.model_validate({"preset": preset, "crop": (9, 9)}), rng())
    assert empty.points.shape == (0, 4)
    assert empty.pixels.shape == (0, 2)


def test_rotation_is_about_z_by_any_angle() -> None:
    angles = []
    for seed in range(60):
        turned = steps.rotate(SAMPLE, rng(seed))
        assert_faithful(turned)
        np.testing.assert_array_equal(turned.points[:, 2], SAMPLE.points[:, 2])
        (x, y), (x_turned, y_turned) = SAMPLE.points[:, :2].T, turned.points[:, :2].T
        np.testing.assert_allclose(np.hypot(x_turned, y_turned), np.hypot(x, y), rtol=1e-5)
        angle = np.arctan2(x * y_turned - y * x_turned, x * x_turned + y * y_turned)
        np.testing.assert_allclose(np.exp(1j * angle), np.exp(1j * angle[0]), atol=1e-4)
        angles.append(angle[0])
    assert np.histogram(angles, bins=4, range=(-np.pi, np.pi))[0].min() > 3


def test_flips_are_of_all_four_kinds() -> None:
    seen = set()
    for seed in range(30):
        flipped = steps.flip(SAMPLE, rng(seed))
        assert_faithful(flipped)
        signs = np.unique(np.sign(flipped.points[:, :3] * SAMPLE.points[:, :3]), axis=0)
        assert len(signs) == 1
        seen.add(tuple(signs[0].tolist()))
    assert seen == {(1, 1, 1), (-1, 1, 1), (1, -1, 1), (-1, -1, 1)}


@pytest.mark.parametrize("axes", ["xyz", "xy"])
def test_scaling_is_by_one_factor_within_the_limits(axes: str) -> None:
    factors = []
    for seed in range(30):
        scaled = steps.scale(SAMPLE, (0.95, 1.05), "xyz" if axes == "xyz" else "xy", rng(seed))
        assert_faithful(scaled)
        ratio = scaled.points[:, :3] / SAMPLE.points[:, :3]
        factors.append(ratio[0, 0])
        np.testing.assert_allclose(ratio[:, :2], ratio[0, 0], rtol=1e-5)
        np.testing.assert_allclose(ratio[:, 2], ratio[0, 0] if axes == "xyz" else 1, rtol=1e-5)
    assert 0.95 <= min(factors) < 0.97
    assert 1.03 < max(factors) <= 1.05


def test_shift_is_of_all_points_alike() -> None:
    shifts = []
    for seed in range(200):
        moved = steps.shift(SAMPLE, 0.1, rng(seed))
        by = moved.points[:, :3] - SAMPLE.points[:, :3]
        np.testing.assert_allclose(by, np.broadcast_to(by[0], by.shape), atol=1e-5)
        shifts.append(by[0])
    assert_faithful(moved)
    np.testing.assert_allclose(np.std(shifts, axis=0), 0.1, rtol=0.2)


def test_dropout_puts_copies_of_the_first_point_in_the_place_of_some() -> None:
    """With its label and, here, its pixel, as it is in the image."""
    shares = []
    for seed in range(40):
        dropped = steps.drop_out(SAMPLE, 0.2, rng(seed))
        assert_faithful(dropped)
        changed = dropped.points[:, 3] != SAMPLE.points[:, 3]
        assert (dropped.points[changed] == SAMPLE.points[0]).all()
        assert np.isin(np.flatnonzero(changed), dropped.image_points).all()
        shares.append(changed.mean())
    assert 0 <= min(shares) < 0.04
    assert 0.15 < max(shares) < 0.26


def test_points_dropped_for_one_outside_the_image_leave_it() -> None:
    hidden = replace(SAMPLE, image_points=SAMPLE.image_points[1:], pixels=SAMPLE.pixels[1:])
    dropped = steps.drop_out(hidden, 1.0, rng())
    assert_faithful(dropped)
    gone = dropped.points[:, 3] == 0
    assert gone.sum() > 10
    assert not np.isin(np.flatnonzero(gone), dropped.image_points).any()


def test_crops_reach_every_corner() -> None:
    corners = set()
    for seed in range(300):
        part = steps.crop(SAMPLE, (WIDTH - 2, HEIGHT - 2), "random", rng(seed))
        assert part.image is not None
        corners.add(tuple(part.image[0, 0, :2].tolist()))
    assert corners == {(row, column) for row in range(3) for column in range(3)}
    for seed in range(10):
        assert_faithful(steps.crop(SAMPLE, (100, 60), "random", rng(seed)))


def test_a_crop_keeps_all_points_in_it() -> None:
    part = steps.crop(SAMPLE, (100, 60), "random", rng(3))
    assert part.image is not None
    top, left = part.image[0, 0, :2].astype(int)
    inside = ((SAMPLE.pixels >= (top, left)) & (SAMPLE.pixels < (top + 60, left + 100))).all(axis=1)
    np.testing.assert_array_equal(part.image_points, SAMPLE.image_points[inside])


def test_the_authors_crop_is_of_the_bottom_rows() -> None:
    columns = set()
    for seed in range(20):
        part = steps.crop(SAMPLE, (100, 60), "bottom", rng(seed))
        assert_faithful(part)
        assert part.image is not None
        assert (part.image.shape, part.image[0, 0, 0]) == ((60, 100, 3), HEIGHT - 60)
        columns.add(int(part.image[0, 0, 1]))
    assert len(columns) > 10


@pytest.mark.parametrize("size", [(1000, 1000), (1000, 50), (50, 1000), (WIDTH, HEIGHT)])
def test_a_crop_larger_than_the_image_takes_what_there_is(size: tuple[int, int]) -> None:
    part = steps.crop(SAMPLE, size, "random", rng())
    assert_faithful(part)
    assert part.image is not None
    assert part.image.shape == (min(size[1], HEIGHT), min(size[0], WIDTH), 3)


def test_images_are_mirrored_half_of_the_time() -> None:
    mirrored = 0
    for seed in range(200):
        changed = steps.flip_image(SAMPLE, rng(seed))
        assert_faithful(changed)
        assert changed.image is not None
        mirrored += int(changed.image[0, 0, 1] != 0)
        np.testing.assert_array_equal(changed.image_points, SAMPLE.image_points)
    assert 70 < mirrored < 130


@pytest.mark.parametrize("size", [(125, 100), (100, 160), (500, 400)])
def test_resized_images_keep_points_where_they_were(size: tuple[int, int]) -> None:
    """Colours run evenly, so that bilinear filtering changes them by less than the pixels that it joins."""
    changed = steps.resize(SAMPLE, size)
    assert changed.image is not None
    assert changed.image.shape == (size[1], size[0], 3)
    np.testing.assert_array_equal(changed.image_points, SAMPLE.image_points)
    assert (changed.pixels < changed.image.shape[:2]).all()
    colours = changed.image[changed.pixels[:, 0], changed.pixels[:, 1], :2].astype(int)
    joined = np.maximum(np.array([HEIGHT / size[1], WIDTH / size[0]]), 1)
    assert (np.abs(colours - SAMPLE.pixels) <= joined).all()


def test_resizing_as_the_authors_do_for_nuscenes() -> None:
    """1600 x 900 to 400 x 240: a pixel's row times 240/900, its column times 400/1600, rounded down."""
    pixels = np.array([[0, 0], [899, 1599], [450, 800], [3, 3], [4, 4]])
    sample = replace(SAMPLE, image=np.zeros((900, 1600, 3), np.uint8), image_points=np.arange(5), pixels=pixels)
    assert steps.resize(sample, (400, 240)).pixels.tolist() == [[0, 0], [239, 399], [120, 200], [0, 0], [1, 1]]


def test_colours_are_jittered_and_pixels_stay() -> None:
    means = []
    for seed in range(60):
        changed = steps.jitter_colours(SAMPLE, 0.4, 0.4, 0.4, rng(seed))
        assert changed.image is not None
        assert changed.image.shape == (HEIGHT, WIDTH, 3)
        assert changed.pixels is SAMPLE.pixels
        brightened = steps.jitter_colours(SAMPLE, 0.4, 0, 0, rng(seed)).image
        assert brightened is not None
        means.append(brightened[:100, :100].mean() / coordinate_image()[:100, :100].mean())
    assert 0.58 < min(means) < 0.65
    assert 1.3 < max(means) < 1.41
    np.testing.assert_array_equal(steps.jitter_colours(SAMPLE, 0, 0, 0, rng()).image, coordinate_image())


def test_each_kind_of_jitter() -> None:
    image = np.tile(np.array([[[200, 50, 50], [20, 20, 120]]], np.uint8), (10, 10, 1))
    sample = replace(SAMPLE, image=image)

    def changed(**strength: float) -> npt.NDArray[np.float64]:
        config = AugmentationConfig.model_validate({"preset": "none", **strength})
        return np.asarray(augment(sample, config, rng(5)).image, np.float64)

    before, brighter = image.astype(float), changed(brightness=0.4)
    np.testing.assert_allclose(brighter, before * (brighter[0, 0, 0] / 200), atol=1)
    contrasted = changed(contrast=0.4)
    assert np.ptp(contrasted[0, :2], axis=0).tolist() != np.ptp(before[0, :2], axis=0).tolist()
    assert contrasted.mean() == pytest.approx(before.mean(), rel=0.05)
    saturated = changed(saturation=0.4)
    grey = [0.299, 0.587, 0.114]
    np.testing.assert_allclose(saturated @ grey, before @ grey, atol=2)
    assert (np.ptp(saturated, axis=2) != np.ptp(before, axis=2)).all()


def test_presets_are_those_of_the_paper_and_of_the_authors() -> None:
    paper, authors = AugmentationConfig(), AugmentationConfig.model_validate({"preset": "authors"})
    assert (paper.rotate, paper.scale, paper.scale_axes) == (True, (0.95, 1.05), "xyz")
    assert (paper.flip, paper.shift, paper.dropout) == (False, 0, 0)
    assert (paper.crop, paper.crop_at, paper.flip_image, paper.resize) == ((480, 320), "random", True, None)
    assert (authors.rotate, authors.scale, authors.scale_axes) == (True, (0.95, 1.05), "xy")
    assert (authors.flip, authors.shift, authors.dropout) == (True, 0.1, 0.2)
    assert (authors.crop, authors.crop_at, authors.flip_image) == ((480, 320), "bottom", True)
    assert (authors.brightness, authors.contrast, authors.saturation) == (0.4, 0.4, 0.4)


def test_settings_override_their_preset_and_survive_being_written() -> None:
    config = AugmentationConfig.model_validate({"preset": "authors", "flip": False, "cutmix": True})
    assert (config.flip, config.shift, config.cutmix) == (False, 0.1, True)
    assert AugmentationConfig.model_validate_json(config.model_dump_json()) == config


@pytest.mark.parametrize(
    "settings",
    [
        {"preset": "strong"},
        {"scale": (1.05, 0.95)},
        {"scale": (0, 1)},
        {"crop": (0, 10)},
        {"dropout": 1.5},
        {"hue": 0.1},
    ],
)
def test_settings_are_checked(settings: dict[str, object]) -> None:
    with pytest.raises(ValidationError):
        AugmentationConfig.model_validate(settings)
