"""Trainings that were to learn from images and have none: told, and not called 2DPASS afterwards."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from training_data import CAMERA_FROM_LIDAR, Blobs, tiny_config

from twodpass_core.data.frame import Frame
from twodpass_core.geometry.rigid_transform import RigidTransform
from twodpass_core.training import images_seen
from twodpass_core.training.run import train
from twodpass_core.weights import read_card

BEHIND = RigidTransform(np.eye(3), np.array([0, 0, -100.0])) @ CAMERA_FROM_LIDAR


class Mispointed(Blobs):
    """No point is in front of the camera."""

    def __getitem__(self, index: int) -> Frame:
        frame = super().__getitem__(index)
        return replace(frame, views=tuple(replace(view, camera_from_lidar=BEHIND) for view in frame.views))


@pytest.mark.parametrize(
    ("frames", "message"),
    [
        (Blobs(3, images=False), "none of the first 3 scans has an image"),
        (Mispointed(3), "no point of the first 3 scans falls into one of their 3 images: is the calibration right?"),
    ],
)
def test_a_training_that_no_image_has_a_part_in_says_so(
    frames: Blobs, message: str, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    config = tiny_config(tmp_path / "run", distillation={"kind": "msfskd"})
    weights = train(config, training=frames)
    told = [record.getMessage() for record in caplog.records if record.name.startswith("twodpass_core")]
    assert [message in text for text in told] == [True]  # once in two epochs
    assert "without a camera" in read_card(weights).origin
    assert "without a camera" in read_card(train(config, training=frames, resume=True)).origin  # at its end already


def test_the_best_weights_of_a_training_without_images_say_so_too(tmp_path: Path) -> None:
    config = tiny_config(tmp_path / "run", epochs=1, distillation={"kind": "msfskd"})
    weights = train(config, training=Blobs(2, images=False), validation=Blobs(1, seed=1))
    assert "without a camera" in read_card(weights).origin


def test_an_epoch_without_images_has_no_losses_of_them_in_the_log(tmp_path: Path) -> None:
    class Ending(Blobs):
        """Has images in the first epoch alone."""

        seen = 0

        def __getitem__(self, index: int) -> Frame:
            self.seen += 1
            frame = super().__getitem__(index)
            return frame if self.seen <= self.frames else replace(frame, views=())

    config = tiny_config(tmp_path / "run", distillation={"kind": "msfskd"})
    train(config, training=Ending(2))
    first, second = (json.loads(line) for line in (tmp_path / "run/log.jsonl").read_text().splitlines())
    of_images = {name for name in first if name.startswith("train/distillation/")}
    assert {first[name] is None for name in of_images} == {False}
    assert {second[name] for name in of_images} == {None}
    assert second["train/loss"] > 0


def test_it_is_told_before_the_epoch_is_over(
    tmp_path: Path, caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(images_seen, "WARN_AFTER", 4)
    config = tiny_config(tmp_path / "run", epochs=1, distillation={"kind": "msfskd"})
    train(config, training=Blobs(8, images=False))
    assert "none of the first 4 scans" in caplog.text


def test_a_training_with_images_says_nothing(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    config = tiny_config(tmp_path / "run", epochs=1, distillation={"kind": "msfskd"})
    weights = train(config, training=Blobs(2), validation=Blobs(1, seed=1))
    assert not [record for record in caplog.records if record.name.startswith("twodpass_core")]
    assert "2DPASS, paper variant" in read_card(weights).origin
