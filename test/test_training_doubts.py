"""What is likely to be wrong with the data of a training is told, before or while it runs."""

from __future__ import annotations

from collections.abc import Collection
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from cloud_bag import START_NS, cloud_message, write_bag
from rosbags.rosbag2 import StoragePlugin
from training_data import CLASS_MAP, GRID, Blobs, tiny_config
from training_runs import Interrupting

from twodpass_core.data.frame import Frame
from twodpass_core.data.opening import open_evaluation, open_training
from twodpass_core.errors import ConfigError, TrainingError
from twodpass_core.labels.store import LabelStore
from twodpass_core.training import points_seen
from twodpass_core.training.config import DataSettings
from twodpass_core.training.config_file import load_config
from twodpass_core.training.overlap import tell_what_is_in_both
from twodpass_core.training.run import train


class Changed(Blobs):
    """Frames of which something is otherwise."""

    def __init__(self, frames: int, **changes: Any) -> None:
        super().__init__(frames)
        self.changes = changes

    def __getitem__(self, index: int) -> Frame:
        frame = super().__getitem__(index)
        return replace(frame, **{name: change(getattr(frame, name)) for name, change in self.changes.items()})


class ChangedAtTimes(Changed):
    """Of which something is otherwise when they are read for the n-th time, of all."""

    def __init__(self, frames: int, times: Collection[int], **changes: Any) -> None:
        super().__init__(frames, **changes)
        self.times, self.read = times, [""]

    def __getitem__(self, index: int) -> Frame:
        self.read.append(self.ids[index])
        return super().__getitem__(index) if len(self.read) - 1 in self.times else Blobs.__getitem__(self, index)


def bright(points: np.ndarray) -> np.ndarray:
    return points * np.array([1, 1, 1, 255], np.float32)


def test_intensities_of_another_unit_are_told_once(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    train(tiny_config(tmp_path / "right", epochs=1), training=Blobs(4))
    assert "another unit" not in caplog.text
    wrong = Changed(4, points=bright)
    train(tiny_config(tmp_path / "wrong", epochs=1), training=wrong, validation=wrong)
    assert caplog.text.count("its intensity seems to be of another unit than 0..1, which is full scale") == 1


def test_a_single_scan_of_another_unit_is_named(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    frames = ChangedAtTimes(4, times=[4], points=bright)
    train(tiny_config(tmp_path, epochs=1), training=frames)
    assert f"{frames.read[4]}: its intensity seems to be of another unit" in caplog.text


def test_intensities_of_another_unit_in_validation_alone_are_told(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    train(tiny_config(tmp_path, epochs=1), training=Blobs(4), validation=Changed(4, points=bright))
    assert caplog.text.count("its intensity seems to be of another unit than 0..1, which is full scale") == 1


def test_a_process_without_a_frame_to_validate_doubts_nothing(caplog: pytest.LogCaptureFixture) -> None:
    """As where there are fewer frames than processes."""
    trainer: Any = None
    points_seen.PointsSeen(1).on_validation_batch_end(trainer, trainer, None, batch=None, batch_idx=0)
    assert not caplog.text


def test_validation_is_on_what_training_leaves_unless_it_is_said_otherwise() -> None:
    said = {"data": {"validation": {"root": "data"}}}
    assert tiny_config(Path("run"), **said).data.validation.split == "val"  # type: ignore[union-attr]
    assert load_config(None, ["data.validation.split=trainval"]).data.validation.split == "trainval"  # type: ignore[union-attr]


@pytest.mark.parametrize(("held_out", "told"), [(0.0, True), (0.5, False)])
def test_frames_that_are_trained_on_and_validated_on_are_told(
    tmp_path: Path, caplog: pytest.LogCaptureFixture, held_out: float, told: bool
) -> None:
    bag = write_bag(tmp_path / "drive", StoragePlugin.MCAP, {"/points": [cloud_message(k) for k in range(4)]})
    for index in range(4):
        LabelStore.beside(bag).write(START_NS + index * 10**8, np.full(50, 40, np.uint32))
    source = {"kind": "bag", "root": str(bag), "cameras": [], "bag": {"held_out": held_out}}
    settings = DataSettings.model_validate({"train": source, "validation": source})
    assert settings.validation is not None
    tell_what_is_in_both(settings, open_training(settings.train), open_evaluation(settings.validation))
    assert ("4 frames of data.validation are trained on, too, drive/" in caplog.text) == told


def test_a_training_without_a_point_in_the_volume_does_not_end_well(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    config = tiny_config(tmp_path / "run", epochs=1)
    with pytest.raises(
        TrainingError, match="nothing was learned: no point of the first 4 scans is in the network's vol"
    ):
        train(config, training=Changed(4, points=lambda points: points + np.float32(1000)))
    with pytest.raises(TrainingError, match="nothing was learned: no point of the first 4 scans"):
        train(config, training=Changed(4, points=lambda points: points + np.float32(1000)), resume=True)
    assert not (config.run / "weights.safetensors").exists()
    assert "are the points in metres" in caplog.text


def test_a_training_whose_first_scans_have_no_points_learns_from_those_that_follow(
    tmp_path: Path, caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(points_seen, "WARN_AFTER", 2)
    frames = ChangedAtTimes(8, times=[1, 2, 3, 4], points=lambda points: points + np.float32(1000))
    assert train(tiny_config(tmp_path / "run", epochs=1), training=frames).exists()
    assert [caplog.text.count(f"no point of the first {scans} scans") for scans in (2, 4)] == [1, 0]


def test_labels_that_are_all_ignored_are_told_once(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    train(tiny_config(tmp_path / "run", epochs=2), training=Changed(4, labels=np.zeros_like))
    assert "no point of the first 4 scans has a label other than the ignored class" in caplog.text
    assert caplog.text.count("has a label other than the ignored class") == 1


class Elsewhere(Blobs):
    """Of another volume."""

    grid = GRID.model_copy(update={"minimum": (-9.0, -8.0, -2.0)})


RENAMED = CLASS_MAP.model_copy(
    update={
        "classes": (
            CLASS_MAP.classes[0],
            *(entry.model_copy(update={"id": 3 - entry.id}) for entry in reversed(CLASS_MAP.classes[1:])),
        )
    }
)


@pytest.mark.parametrize(
    ("changed", "what"),
    [
        (Blobs(12), r"number of frames \(8, now 12\)"),
        (Blobs(8, class_map=RENAMED), "classes"),
        (Elsewhere(8), "volume"),
        (Blobs(8, intensity_max=255), "full scale of the intensity"),
    ],
)
def test_a_run_does_not_go_on_with_data_that_has_changed(tmp_path: Path, changed: Blobs, what: str) -> None:
    config = tiny_config(tmp_path / "run", epochs=3)
    with pytest.raises(SystemExit):
        train(config, training=Interrupting(8, at=6))
    with pytest.raises(ConfigError, match=f"data.train has changed since this run was begun, in its .*{what}"):
        train(config, training=changed, resume=True)
    train(config, training=Blobs(8), resume=True)
