"""Training on real scans: two of them learned by heart, and weights of the authors trained on. Minutes on a CPU."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pytest

from twodpass_core.data.frame import Frame
from twodpass_core.data.semantickitti import SemanticKitti
from twodpass_core.evaluation.evaluate import evaluate
from twodpass_core.official import ImportOptions, import_official
from twodpass_core.segmenter import Segmenter
from twodpass_core.training.config import TrainingConfig
from twodpass_core.training.run import train
from twodpass_core.weights import read_card, save_weights


class FirstFrames:
    """The first frames of a source."""

    def __init__(self, source: SemanticKitti, number: int) -> None:
        self.source, self.number = source, number
        self.kind, self.class_map = source.kind, source.class_map
        self.grid, self.intensity_max = source.grid, source.intensity_max

    @property
    def ids(self) -> Sequence[str]:
        return self.source.ids[: self.number]

    def __len__(self) -> int:
        return self.number

    def __getitem__(self, index: int) -> Frame:
        return self.source[index]


@pytest.fixture
def two_scans(shared_data: Path, tmp_path: Path) -> FirstFrames:
    """Labelled, the first with its image."""
    folder = tmp_path / "00"
    folder.mkdir()
    for path in (shared_data / "semantickitti_00_projected").iterdir():
        (folder / path.name).symlink_to(path)
    (folder / "image_2").symlink_to(shared_data / "semantickitti_00/image_2")
    return FirstFrames(SemanticKitti(folder), 2)


@pytest.mark.slow
@pytest.mark.parametrize(("kind", "epochs"), [("none", 200), ("msfskd", 300)])
def test_two_scans_are_learned_by_heart(two_scans: FirstFrames, kind: str, epochs: int, tmp_path: Path) -> None:
    # It is the norm of all networks' gradient that is clipped: beside an image network of random weights the student
    # learns more slowly than alone.
    labels = np.concatenate([two_scans[index].labels for index in range(2)])
    counts = np.bincount(labels, minlength=two_scans.class_map.num_classes)
    counts[0] = 0
    config = TrainingConfig.model_validate(
        {
            "run": tmp_path / "run",
            "epochs": epochs,
            "validate_every": epochs,
            "data": {"batch_size": 2, "workers": 0},
            "student": {"width": 32, "hidden": 128},
            "distillation": {"kind": kind, "width": 16},
            "augmentation": {"preset": "none", "crop": (480, 160)},
            "loss": {"point_counts": counts.tolist()},
            "optimiser": {"warmup_steps": 5},
            "machine": {"accelerator": "cpu", "devices": 1},
        }
    )
    weights = train(config, training=two_scans, validation=two_scans)
    result = evaluate(Segmenter.from_weights(weights, device="cpu"), [two_scans[0], two_scans[1]])
    assert result.scores.mean_iou >= 0.95
    assert json.loads((config.run / "scores.json").read_text())["mean_iou"] == result.scores.mean_iou
    assert ("2DPASS" in read_card(weights).origin) == (kind == "msfskd")


@pytest.mark.slow
def test_weights_of_the_authors_are_trained_on(shared_data: Path, golden: Path, tmp_path: Path) -> None:
    card, state, _ = import_official(golden / "official_student_semantickitti.ckpt", ImportOptions())
    save_weights(tmp_path / "authors.safetensors", state, card)
    frames = SemanticKitti(shared_data / "semantickitti_00_projected")
    config = TrainingConfig.model_validate(
        {
            "run": tmp_path / "run",
            "epochs": 1,
            "max_steps": 3,
            "start_from": tmp_path / "authors.safetensors",
            "data": {"batch_size": 1, "workers": 2},
            "optimiser": {"learning_rate": 0.01},
            "machine": {"accelerator": "cpu", "devices": 1},
        }
    )
    weights = train(config, training=frames, validation=FirstFrames(frames, 1))
    assert "from authors.safetensors" in read_card(weights).origin
    assert evaluate(Segmenter.from_weights(weights, device="cpu"), [frames[0]]).frames == 1
