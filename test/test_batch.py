"""Training samples from frames, and batches of them."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import fields, replace
from pathlib import Path

import numpy as np
import numpy.typing as npt
import pytest
import torch

from twodpass_core.cameras.model import CameraModel
from twodpass_core.classes import ClassMap
from twodpass_core.data.augment import AugmentationConfig
from twodpass_core.data.batch import Batch, SampleKey, TrainingSet, collate
from twodpass_core.data.frame import CameraView, Frame
from twodpass_core.data.kitti_files import read_labels
from twodpass_core.data.sample import TrainingSample, given_points, make_sample, pair
from twodpass_core.data.scan_files import read_scan
from twodpass_core.data.semantickitti import SemanticKitti
from twodpass_core.errors import ScanError
from twodpass_core.geometry.rigid_transform import RigidTransform
from twodpass_core.sparse.grid import KITTI_GRID
from twodpass_core.training.loading_processes import load_ahead

UNCHANGED = AugmentationConfig.model_validate({"preset": "none"})
CAMERA_FROM_LIDAR = RigidTransform(np.array([[0, -1, 0], [0, 0, -1], [1, 0, 0]], np.float64), np.zeros(3))


def coordinate_image(height: int, width: int) -> npt.NDArray[np.uint8]:
    """The colour of a pixel tells its row and column: red and green, blue where they go beyond 255."""
    row, column = np.mgrid[:height, :width]
    return np.stack([row % 256, column % 256, row // 256 * 16 + column // 256], axis=-1).astype(np.uint8)


def decode(colours: npt.NDArray[np.uint8]) -> npt.NDArray[np.int64]:
    """(P, 3) colours -> (P, 2) row, column."""
    red, green, blue = colours.astype(np.int64).T
    return np.stack([red + blue // 16 * 256, green + blue % 16 * 256], axis=1)


class Recorded:
    """A FrameSource of frames given."""

    kind = "given frames"
    class_map = ClassMap.load("semantickitti")
    grid = KITTI_GRID
    intensity_max = 1e6  # intensities are numbers of points here

    def __init__(self, frames: Sequence[Frame]) -> None:
        self.frames = frames

    @property
    def ids(self) -> Sequence[str]:
        return [frame.id for frame in self.frames]

    def __len__(self) -> int:
        return len(self.frames)

    def __getitem__(self, index: int) -> Frame:
        return self.frames[index]


def view(name: str = "front", height: int = 60, width: int = 90) -> CameraView:
    matrix = np.array([[40.0, 0, width / 2], [0, 40.0, height / 2], [0, 0, 1]])
    return CameraView(name, CameraModel(matrix, width, height), CAMERA_FROM_LIDAR, coordinate_image(height, width))


def frame(index: int, number: int = 200, views: tuple[CameraView, ...] | None = None) -> Frame:
    """Points all around, some outside the volume; intensity is their number, labels and instances follow from it."""
    points = np.random.default_rng(index).uniform(-60, 60, (number, 4)).astype(np.float32)
    points[:, 2] /= 30
    points[:, 3] = np.arange(number)
    labels, instances = (np.arange(number) % 20).astype(np.uint8), (np.arange(number) % 7).astype(np.uint16)
    return Frame(f"00/{index:06d}", points, labels, instances, (view(),) if views is None else views)


FRAMES = Recorded([frame(index) for index in range(4)])


def assert_equal(first: Batch | TrainingSample, second: Batch | TrainingSample) -> None:
    for field in fields(first):
        np.testing.assert_array_equal(getattr(first, field.name), getattr(second, field.name))


def test_samples_have_the_points_in_the_volume_with_their_labels() -> None:
    sample = make_sample(FRAMES[0], KITTI_GRID, FRAMES[0].views[0])
    inside = (np.abs(FRAMES[0].points[:, :2]) < 50).all(axis=1)
    np.testing.assert_array_equal(sample.points, FRAMES[0].points[inside])
    np.testing.assert_array_equal(sample.labels, sample.points[:, 3] % 20)
    assert 0 < len(sample.image_points) < len(sample.points)
    assert (sample.points[sample.image_points, 0] > 0).all()  # ahead
    assert sample.image is not None
    pixel = sample.image[sample.pixels[:, 0], sample.pixels[:, 1]]
    x, y, z = sample.points[sample.image_points, :3].T
    np.testing.assert_array_equal(decode(pixel), np.floor(np.stack([30 - 40 * z / x, 45 - 40 * y / x], axis=1)))


@pytest.mark.parametrize("bad", [(np.nan, 1, 1, 0), (1, 1, np.inf, 0), (1, 1, 1, np.nan), (0, 0, 0, 1), (50, 0, 0, 0)])
def test_points_that_are_not_given_to_the_network(bad: tuple[float, ...]) -> None:
    points = np.array([bad, (1, 2, 1, 0)], np.float32)
    assert given_points(points, KITTI_GRID).tolist() == [False, True]


def test_points_in_the_volume_are_the_authors(golden: Path, kitti_scan: Path) -> None:
    expected = np.load(golden / "official_student_semantickitti_scan_00_000000.npz")
    points = read_scan(kitti_scan)
    np.testing.assert_array_equal(given_points(points, KITTI_GRID), np.unpackbits(expected["in_volume"])[: len(points)])


def test_the_same_key_gives_the_same_sample() -> None:
    samples = TrainingSet(FRAMES, AugmentationConfig.model_validate({"preset": "authors", "crop": (40, 30)}), seed=7)
    keys = [SampleKey(epoch, index) for epoch in range(2) for index in range(4)]
    first = {key: samples[key] for key in keys}
    for key in reversed(keys):
        assert_equal(samples[key], first[key])
    again = TrainingSet(FRAMES, samples.augmentation, seed=8)[keys[0]]
    assert not np.array_equal(again.points, first[keys[0]].points)
    assert not np.array_equal(first[SampleKey(0, 0)].points, first[SampleKey(1, 0)].points)


def test_processes_that_load_change_nothing() -> None:
    samples = TrainingSet(FRAMES, AugmentationConfig.model_validate({"crop": (40, 30)}))
    keys = [SampleKey(3, index) for index in (2, 0, 3, 1)]

    def load(processes: int) -> Batch:
        return collate(list(load_ahead(samples, keys, processes)))

    assert_equal(load(0), load(2))


def test_frames_without_an_image_give_points_only() -> None:
    blind = Recorded([frame(0, views=())])
    sample = TrainingSet(blind, UNCHANGED)[SampleKey(0, 0)]
    assert sample.image is None
    assert len(sample.points) > 0
    assert sample.image_points.shape == (0,)
    assert sample.pixels.shape == (0, 2)


def test_images_stay_closed_where_nothing_learns_from_them() -> None:
    unreadable = replace(view(), image=Path("nowhere.png"))
    source = Recorded([frame(0, views=(unreadable,))])
    assert TrainingSet(source, UNCHANGED, images=False)[SampleKey(0, 0)].image is None
    with pytest.raises(ScanError, match=r"nowhere\.png"):
        TrainingSet(source, UNCHANGED)[SampleKey(0, 0)]


def test_of_several_views_each_has_its_turn() -> None:
    sizes = [(60, 90), (40, 90), (60, 50)]
    source = Recorded([frame(0, views=tuple(view(str(size), *size) for size in sizes))])
    samples = TrainingSet(source, UNCHANGED)
    drawn = [samples[SampleKey(epoch, 0)].image for epoch in range(40)]
    assert {image.shape[:2] for image in drawn if image is not None} == set(sizes)


def test_training_needs_labels() -> None:
    source = Recorded([Frame("08/000005", np.ones((5, 4), np.float32))])
    with pytest.raises(ScanError, match="08/000005: has no labels"):
        TrainingSet(source, UNCHANGED)[SampleKey(0, 0)]


@pytest.mark.parametrize("preset", ["paper", "authors"])
def test_a_real_scan_keeps_labels_and_pixels(preset: str, shared_data: Path, kitti_scan: Path) -> None:
    """The colour under every point tells the pixel that the un-augmented point is projected to."""
    recorded = SemanticKitti(shared_data / "semantickitti_00", "test")[0]
    points = recorded.points.copy()
    points[:, 3] = np.arange(len(points))
    labels, _ = read_labels(shared_data / "semantickitti_00/labels/000000.label", len(points), Recorded.class_map)
    (camera_view,) = recorded.views
    image = coordinate_image(camera_view.camera.height, camera_view.camera.width)
    source = Recorded([Frame("00/000000", points, labels, views=(replace(camera_view, image=image),))])
    projected = np.full((len(points), 2), -1)
    seen, pixels = pair(points, camera_view)
    projected[seen] = pixels
    no_jitter = {"preset": preset, "brightness": 0, "contrast": 0, "saturation": 0}
    samples = TrainingSet(source, AugmentationConfig.model_validate(no_jitter))
    for epoch in range(4):
        sample = samples[SampleKey(epoch, 0)]
        numbers = sample.points[:, 3].astype(int)
        np.testing.assert_array_equal(sample.labels, labels[numbers])
        assert sample.image is not None
        assert sample.image.shape == (320, 480, 3)
        assert len(sample.image_points) > 3000
        colours = sample.image[sample.pixels[:, 0], sample.pixels[:, 1]]
        np.testing.assert_array_equal(decode(colours), projected[numbers[sample.image_points]])


def test_cutmix_adds_the_instances_of_another_frame() -> None:
    """Unaugmented here: so the added ones are found again as they were."""
    config = AugmentationConfig.model_validate({"preset": "none", "cutmix": True})
    mixed, plain = (TrainingSet(FRAMES, settings)[SampleKey(0, 1)] for settings in (config, UNCHANGED))
    number = len(plain.points)
    np.testing.assert_array_equal(mixed.points[:number], plain.points)
    np.testing.assert_array_equal(mixed.image_points, plain.image_points)
    np.testing.assert_array_equal(mixed.pixels, plain.pixels)
    added = mixed.points[number:]
    np.testing.assert_array_equal(mixed.labels[number:], added[:, 3] % 20)
    donors = []
    for donor in FRAMES.frames:
        assert donor.instances is not None
        wanted = donor.points[(donor.instances != 0) & given_points(donor.points, KITTI_GRID)]
        donors.append(np.array_equal(wanted, added))
    assert sum(donors) == 1


def test_what_cutmix_adds_is_turned_on_its_own() -> None:
    config = AugmentationConfig.model_validate({"preset": "paper", "cutmix": True, "crop": None, "scale": (1, 1)})
    source = Recorded([frame(0)])  # it is its own donor
    sample = TrainingSet(source, config)[SampleKey(0, 0)]
    number = int(given_points(source[0].points, KITTI_GRID).sum())
    original, scene = ({point[3]: point for point in points} for points in (source[0].points, sample.points[:number]))
    for point in sample.points[number:]:
        assert np.hypot(*point[:2]) == pytest.approx(np.hypot(*original[point[3]][:2]), rel=1e-4)
        for other in (original, scene):
            assert np.abs(point[:2] - other[point[3]][:2]).max() > 1e-3


def test_cutmix_needs_instances() -> None:
    config = AugmentationConfig.model_validate({"cutmix": True})
    source = Recorded([replace(frame(0), instances=None)])
    with pytest.raises(ScanError, match="no instance labels"):
        TrainingSet(source, config)[SampleKey(0, 0)]


def samples_of_all_kinds() -> list[TrainingSample]:
    """With an image, without, empty, with an image that no point is in, with a smaller image."""
    with_image, small = frame(0), frame(4, 50, (view("small", 40, 30),))
    behind = Frame("00/000003", np.array([[-5, 0, 0, 1]], np.float32), np.array([3], np.uint8))
    made = [
        make_sample(with_image, KITTI_GRID, with_image.views[0]),
        make_sample(frame(1, 70), KITTI_GRID, None),
    ]
    made.append(make_sample(frame(2, 0), KITTI_GRID, None))
    return [
        *made,
        make_sample(behind, KITTI_GRID, view()),
        make_sample(small, KITTI_GRID, small.views[0]),
    ]


def test_batches_join_samples() -> None:
    samples = samples_of_all_kinds()
    batch = collate(samples)
    assert batch.frame_ids == tuple(sample.frame_id for sample in samples)
    counts = [len(sample.points) for sample in samples]
    assert batch.sample.tolist() == np.repeat(np.arange(5), counts).tolist()
    assert (batch.points.dtype, batch.labels.dtype, batch.sample.dtype) == (torch.float32, torch.int64, torch.int64)
    for index, sample in enumerate(samples):
        np.testing.assert_array_equal(batch.points[batch.sample == index], sample.points)
        np.testing.assert_array_equal(batch.labels[batch.sample == index], sample.labels)


def test_pixels_of_a_batch_are_those_of_its_samples() -> None:
    samples = samples_of_all_kinds()
    batch = collate(samples)
    assert batch.images is not None
    assert batch.images.shape == (3, 3, 60, 90)
    assert batch.images.dtype == torch.float32
    assert float(batch.images.max()) == pytest.approx(89 / 255)
    image, row, column = batch.pixels.T
    colours = (batch.images[image, :, row, column] * 255).round().to(torch.uint8).numpy()
    np.testing.assert_array_equal(decode(colours), batch.pixels[:, 1:])
    of_sample = np.array([0, 3, 4])[image]  # those with an image
    np.testing.assert_array_equal(batch.sample[batch.image_points], of_sample)
    for index in (0, 4):
        expected = samples[index].points[samples[index].image_points]
        np.testing.assert_array_equal(batch.points[batch.image_points[of_sample == index]], expected)
    assert not (batch.images[2, :, 40:, :] != 0).any()  # the smaller one is filled up with black
    assert not (batch.images[2, :, :, 30:] != 0).any()


def test_batches_without_images() -> None:
    for samples in (
        [make_sample(frame(1, 70), KITTI_GRID, None)],
        [make_sample(frame(2, 0), KITTI_GRID, None)],
    ):
        batch = collate(samples)
        assert batch.images is None
        assert batch.image_points.shape == (0,)
        assert batch.pixels.shape == (0, 3)
        assert batch.to("cpu").images is None


def test_batches_move_to_a_device() -> None:
    batch = collate(samples_of_all_kinds())
    moved = batch.to("meta")
    assert moved.frame_ids == batch.frame_ids
    for field in fields(batch)[1:]:
        assert getattr(moved, field.name).is_meta
        assert getattr(moved, field.name).shape == getattr(batch, field.name).shape
