"""Simulated streets as data: on the fly, kept, and written in SemanticKITTI's layout."""

from __future__ import annotations

import pickle
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from PIL import Image
from typer.testing import CliRunner

from twodpass_core.cli import app
from twodpass_core.data.augment import AugmentationConfig
from twodpass_core.data.batch import SampleKey, TrainingSet, collate
from twodpass_core.data.frame import Frame, FrameSource
from twodpass_core.data.semantickitti import SemanticKitti
from twodpass_core.data.simulated import SimulatedStreets, SimulationConfig
from twodpass_core.data.source import SourceConfig, open_source
from twodpass_core.errors import ConfigError, ScanError
from twodpass_core.simulation import HDL_64E, Drive, kitti_camera
from twodpass_core.simulation.kitti import write_sequence

SMALL = SimulationConfig(streets=2, frames=2, seconds=1.5, beams=32, columns=256, image_width=160)


@pytest.fixture(scope="module")
def source() -> SimulatedStreets:
    return SimulatedStreets("train", SMALL)


@pytest.fixture(scope="module")
def frame(source: SimulatedStreets) -> Frame:
    return source[1]


def assert_same(one: Frame, other: Frame) -> None:
    assert one.id == other.id
    for name in ("points", "labels", "instances"):
        np.testing.assert_array_equal(getattr(one, name), getattr(other, name))
    for view, same in zip(one.views, other.views, strict=True):
        np.testing.assert_array_equal(view.load_image(), same.load_image())


def test_frames_are_whole(source: SimulatedStreets, frame: Frame) -> None:
    as_protocol: FrameSource = source
    assert as_protocol.ids == ["0001000/000000", "0001000/001500", "0001001/000000", "0001001/001500"]
    assert len(source) == 4
    assert frame.id == source.ids[1]
    assert frame.stamp_ns == 1_500_000_000
    assert frame.labels is not None
    assert frame.instances is not None
    assert 4000 < len(frame.points) <= 32 * 256
    assert 1 <= frame.labels.min() < frame.labels.max() < source.class_map.num_classes
    things = {source.class_map.names.index(name) for name in ("car", "person", "truck", "bicycle", "motorcycle")}
    counted = frame.instances > 0
    assert np.isin(frame.labels[counted], list(things | {5, 7, 8})).all()
    assert counted[frame.labels == 1].all()
    (view,) = frame.views
    assert view.load_image().shape == (view.camera.height, 160, 3)
    assert frame.world_from_lidar is not None
    assert frame.world_from_lidar.translation[2] == pytest.approx(HDL_64E.height)


def test_splits_have_no_street_in_common() -> None:
    many = SimulationConfig(streets=100_000, frames=1)
    streets = [{name.split("/")[0] for name in SimulatedStreets(split, many).ids} for split in ("train", "val", "test")]
    assert len(set.union(*streets)) == sum(map(len, streets)) == 300_000


def test_frame_is_the_same_every_time_and_in_another_process(source: SimulatedStreets, frame: Frame) -> None:
    assert_same(source[1], frame)
    assert_same(pickle.loads(pickle.dumps(source))[1], frame)


def test_kept_frames_are_read_not_made(tmp_path: Path, frame: Frame, monkeypatch: pytest.MonkeyPatch) -> None:
    kept = SimulatedStreets("train", SMALL.model_copy(update={"cache": tmp_path / "kept"}))
    assert_same(kept[1], frame)

    def refuse(*_: object) -> None:
        raise AssertionError("made anew")

    monkeypatch.setattr(Drive, "scan", refuse)
    monkeypatch.setattr(Drive, "picture", refuse)
    assert_same(kept[1], frame)
    (view,) = kept[1].views
    assert isinstance(view.image, Path)
    with pytest.raises(AssertionError, match="made anew"):
        SimulatedStreets("train", SMALL.model_copy(update={"cache": tmp_path / "kept", "columns": 128}))[1]


def test_frames_of_nearly_the_same_time_are_kept_apart(tmp_path: Path) -> None:
    """As with `seconds` of two settings that share a cache."""
    first, second = (
        SimulatedStreets("train", SMALL.model_copy(update={"cache": tmp_path, "seconds": seconds}), cameras=())
        for seconds in (SMALL.seconds, SMALL.seconds + 9e-4)
    )
    assert not np.array_equal(first[1].points, second[1].points)


def test_damaged_kept_frame_is_an_error_that_names_it(tmp_path: Path) -> None:
    kept = SimulatedStreets("train", SMALL.model_copy(update={"cache": tmp_path}), cameras=())
    _ = kept[0]
    (path,) = tmp_path.rglob("*.npz")
    path.write_bytes(path.read_bytes()[:1000])
    with pytest.raises(ScanError, match=path.name):
        _ = kept[0]


def test_without_camera_the_points_are_the_same(frame: Frame) -> None:
    alone = SimulatedStreets("train", SMALL, cameras=())[1]
    assert alone.views == ()
    np.testing.assert_array_equal(alone.points, frame.points)


def test_unknown_split_and_camera_are_refused() -> None:
    with pytest.raises(ConfigError, match="train, val, test"):
        SimulatedStreets("valid", SMALL)
    with pytest.raises(ConfigError, match="image_3"):
        SimulatedStreets("val", SMALL, cameras=("image_3",))


def test_settings_open_it(frame: Frame) -> None:
    opened = open_source(SourceConfig(kind="simulation", simulation=SMALL))
    assert_same(opened[1], frame)
    assert open_source(SourceConfig(kind="simulation", split="val", simulation=SMALL)).ids[0] == "1000000/000000"


def test_samples_for_training_come_of_it(source: SimulatedStreets) -> None:
    training = TrainingSet(source, AugmentationConfig(crop=(96, 40), cutmix=True))
    batch = collate([training[SampleKey(0, 0)], training[SampleKey(0, 2)]])
    assert batch.images is not None
    assert batch.images.shape == (2, 3, 40, 96)
    assert len(batch.image_points) > 50
    assert batch.labels.min() >= 1


def test_written_sequence_is_read_back(tmp_path: Path) -> None:
    drive, camera = Drive(3, replace(HDL_64E, columns=128)), kitti_camera(160)
    stamps_ns = [0, 500_000_000, 1_000_000_000]
    write_sequence(tmp_path / "sequences" / "00", drive, stamps_ns, camera)
    source = SemanticKitti(tmp_path, sequences=["00"])
    assert source.ids == ["00/000000", "00/000001", "00/000002"]
    start = drive.scan(0).pose
    for index, stamp_ns in enumerate(stamps_ns):
        frame, scan = source[index], drive.scan(stamp_ns)
        np.testing.assert_array_equal(frame.points, scan.points)
        np.testing.assert_array_equal(frame.labels, source.class_map.training_ids(scan.raw_labels))
        np.testing.assert_array_equal(frame.instances, scan.instances)
        (view,) = frame.views
        np.testing.assert_array_equal(view.load_image(), drive.picture(stamp_ns, camera).image)
        assert view.camera.matrix == pytest.approx(camera.model.matrix)
        assert view.camera_from_lidar.matrix() == pytest.approx(camera.camera_from_lidar.matrix())
        assert frame.world_from_lidar is not None
        assert start @ frame.world_from_lidar.matrix() == pytest.approx(scan.pose, abs=1e-6)
        assert frame.stamp_ns == stamp_ns


def test_sequence_appears_whole_or_not_at_all(tmp_path: Path) -> None:
    def stamps() -> object:
        yield 0
        raise OSError("disk full")

    drive, camera = Drive(3, replace(HDL_64E, columns=32)), kitti_camera(64)
    with pytest.raises(OSError, match="disk full"):
        write_sequence(tmp_path / "00", drive, stamps(), camera)  # type: ignore[arg-type]
    assert list(tmp_path.iterdir()) == []
    write_sequence(tmp_path / "00", drive, [0], camera)
    before = (tmp_path / "00" / "calib.txt").read_bytes()
    with pytest.raises(ConfigError, match="exists"):
        write_sequence(tmp_path / "00", Drive(4), [0], camera)
    assert (tmp_path / "00" / "calib.txt").read_bytes() == before


def test_simulate_command(tmp_path: Path) -> None:
    arguments = ["simulate", str(tmp_path), "--frames", "2", "--seed", "9", "--format", "kitti"]
    size = ["--columns", "64", "--image-width", "96"]
    result = CliRunner().invoke(app, [*arguments, *size, "--sequence", "08"])
    assert result.exit_code == 0, result.output
    source = SemanticKitti(tmp_path, "val")
    assert len(source) == 2
    np.testing.assert_array_equal(source[1].points, Drive(9, replace(HDL_64E, columns=64)).scan(100_000_000).points)
    with Image.open(tmp_path / "sequences" / "08" / "image_2" / "000001.png") as image:
        assert image.size == (96, 29)
    again = CliRunner().invoke(app, [*arguments, "--sequence", "08"])
    assert again.exit_code == 1
    assert "exists" in again.output
    for wrong in ("../x", "100"):
        assert CliRunner().invoke(app, [*arguments, "--sequence", wrong]).exit_code == 2
    assert CliRunner().invoke(app, [*arguments[:-1], "nuscenes"]).exit_code == 2
