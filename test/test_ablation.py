"""The ablation: which trainings it runs, that it goes on where it stopped, and what its table says."""

from __future__ import annotations

import json
import math
from pathlib import Path
from typing import Any

import pytest
import yaml
from training_data import Blobs, tiny_config
from typer.testing import CliRunner

from twodpass_core.cli import app
from twodpass_core.data.source import SourceConfig
from twodpass_core.errors import ConfigError
from twodpass_core.training.ablation import ablate, read_result
from twodpass_core.training.ablation_table import ROWS, AblationResult, AblationRow, RunScores
from twodpass_core.training.config import TrainingConfig
from twodpass_core.training.config_file import load_config
from twodpass_core.training.folder import RunFolder
from twodpass_core.training.run import train

TRAINING, VALIDATION = Blobs(4), Blobs(2, seed=1)


def tiny(**changes: Any) -> TrainingConfig:
    return tiny_config(Path("unused"), **{"epochs": 1, **changes})


def run(folder: Path, seeds: int = 1, config: TrainingConfig | None = None) -> list[AblationResult]:
    return list(ablate(config or tiny(), seeds, folder, training=TRAINING, validation=VALIDATION))


def scores(seed: int, mean_iou: float, **iou: float | None) -> RunScores:
    return RunScores(seed=seed, frames=2, mean_iou=mean_iou, accuracy=0.9, iou=iou)


class FakeTraining:
    """Stands for `train`: leaves what a run leaves, with made-up scores; is stopped in the run `stop_in`."""

    def __init__(self) -> None:
        self.configs: list[TrainingConfig] = []
        self.stop_in: int | None = None

    def __call__(self, config: TrainingConfig, *, resume: bool, **_: object) -> Path:
        folder = RunFolder(config.run)
        folder.checkpoint_for(config, resume=resume)
        folder.begin(config)
        folder.last_checkpoint.touch()
        if len(self.configs) == self.stop_in:
            raise SystemExit(143)
        self.configs.append(config)
        made_up = {"frames": 2, "mean_iou": 0.5 + 0.1 * config.seed, "accuracy": None}
        (folder.path / "scores.json").write_text(json.dumps(made_up))
        (folder.path / "classes.csv").write_text("id,class,points,iou\n1,car,10,0.5000\n2,bus,0,\n")
        folder.weights.touch()
        return folder.weights


@pytest.fixture
def fake(monkeypatch: pytest.MonkeyPatch) -> FakeTraining:
    training = FakeTraining()
    monkeypatch.setattr("twodpass_core.training.ablation.train", training)
    return training


# --- Runs ---------------------------------------------------------------------------------------------------------


def test_four_rows_differ_in_the_distillation_only(tmp_path: Path, fake: FakeTraining) -> None:
    run(tmp_path / "out", seeds=2, config=tiny(epochs=7, seed=5))
    assert [config.seed for config in fake.configs] == [5] * 4 + [6] * 4
    parts = [config.distillation for config in fake.configs[:4]]
    assert [(part.kind, part.fusion, part.learner) for part in parts[:3]] == [
        ("msfskd", True, True),  # what needs most first: a file that is missing costs no training
        ("msfskd", True, False),
        ("msfskd", False, False),
    ]
    assert parts[3].kind == "none"
    same = [config.model_dump(exclude={"run", "distillation", "seed"}) for config in fake.configs]
    assert all(other == same[0] for other in same)
    assert same[0]["validate_every"] == 7  # at the end, and only there


def test_the_result_grows_with_every_run(tmp_path: Path, fake: FakeTraining) -> None:
    results = run(tmp_path / "out")
    assert [sum(len(row.runs) for row in result.rows) for result in results] == [1, 2, 3, 4]
    (baseline,) = results[-1].rows[0].runs
    assert (baseline.seed, baseline.mean_iou, baseline.iou) == (0, 0.5, {"car": 0.5, "bus": None})
    assert math.isnan(baseline.accuracy)
    assert (tmp_path / "out/ablation.md").read_text() == results[-1].markdown() + "\n"
    written = json.loads((tmp_path / "out/ablation.json").read_text())
    assert [row["runs"][0]["mean_iou"] for row in written["rows"]] == [0.5] * 4
    assert written["settings"]["student"]["width"] == 8


def test_done_runs_are_not_repeated_and_more_seeds_are_added(tmp_path: Path, fake: FakeTraining) -> None:
    run(tmp_path / "out")
    killed_before_it_removed_them = tmp_path / "out/fusion/seed0/checkpoints"
    killed_before_it_removed_them.mkdir()
    (*_, result) = run(tmp_path / "out", seeds=2)
    assert [config.seed for config in fake.configs] == [0] * 4 + [1] * 4
    assert [[run.seed for run in row.runs] for row in result.rows] == [[0, 1]] * 4
    assert not list((tmp_path / "out").glob("*/*/checkpoints"))


def test_a_stopped_run_goes_on(tmp_path: Path, fake: FakeTraining) -> None:
    fake.stop_in = 2
    with pytest.raises(SystemExit):
        run(tmp_path / "out")
    assert (tmp_path / "out/KL/seed0/checkpoints/last.ckpt").exists()
    assert [len(row.runs) for row in read_result(tmp_path / "out", tiny()).rows] == [0, 0, 1, 1]
    fake.stop_in = None
    run(tmp_path / "out")
    assert [config.run.parent.name for config in fake.configs] == list(reversed(list(ROWS)))


def test_other_settings_are_refused_in_the_same_folder(tmp_path: Path, fake: FakeTraining) -> None:
    run(tmp_path / "out")
    run(tmp_path / "out", config=tiny(machine={"precision": "bf16"}))
    with pytest.raises(ConfigError, match=r"other settings of optimiser:.*choose another --out"):
        run(tmp_path / "out", config=tiny(optimiser={"learning_rate": 0.1}))
    assert len(fake.configs) == 4


def test_something_to_validate_on_is_needed(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=r"data\.validation"):
        list(ablate(tiny(), 1, tmp_path / "out", training=TRAINING))
    assert not (tmp_path / "out").exists()


def test_scores_are_those_of_the_same_training_alone(tmp_path: Path) -> None:
    (*_, last) = ablate(tiny(seed=3), 1, tmp_path / "out", training=TRAINING, validation=VALIDATION)
    train(tiny_config(tmp_path / "alone", epochs=1, seed=3), training=TRAINING, validation=VALIDATION)
    (baseline,) = last.rows[0].runs
    expected = json.loads((tmp_path / "alone/scores.json").read_text())
    assert (baseline.seed, baseline.mean_iou, baseline.frames) == (3, expected["mean_iou"], 2)
    assert set(baseline.iou) == {"low", "high"}


# --- The table ----------------------------------------------------------------------------------------------------


def test_table_of_mean_spread_and_gain() -> None:
    rows = (
        AblationRow(name="baseline", runs=(scores(0, 0.50, car=0.6, bus=None), scores(1, 0.52, car=0.8, bus=0.1))),
        AblationRow(name="KL", runs=(scores(0, 0.51, car=0.5, bus=None), scores(1, 0.55, car=0.7, bus=None))),
        AblationRow(name="fusion", runs=(scores(1, 0.54, car=0.9, bus=0.3),)),
        AblationRow(name="learner", runs=()),
    )
    lines = AblationResult(rows=rows, settings={}).markdown().splitlines()
    assert "on 2 validation frames" in lines[2]
    assert "over 2 seeds" in lines[2]
    assert "| baseline |  |  |  | 51.00 ± 1.41 |  | 50.00, 52.00 |" in lines
    assert "| + KL | ✓ |  |  | 53.00 ± 2.83 | +2.00 ± 1.41 | 51.00, 55.00 |" in lines
    assert "| + fusion | ✓ | ✓ |  | 54.00 | +2.00 | 54.00 |" in lines
    assert "| + 2D learner | ✓ | ✓ | ✓ |  |  |  |" in lines
    assert "| car | 70.0 | 60.0 | 90.0 |  |" in lines
    assert "| bus | 10.0 |  | 30.0 |  |" in lines


# --- The command --------------------------------------------------------------------------------------------------


def test_the_shipped_settings_are_valid_and_small() -> None:
    config = load_config(Path(__file__).parents[1] / "config/train/ablation.yaml")
    assert isinstance(config.data.train, SourceConfig)
    assert config.data.train.kind == "simulation"
    assert config.data.validation is not None
    assert config.data.validation.split == "val"
    assert config.student.width <= 32


@pytest.mark.slow  # three runs with an image network
def test_the_command_on_a_simulated_street(tmp_path: Path) -> None:
    street = {"streets": 1, "frames": 2, "beams": 16, "columns": 128, "image_width": 207, "cache": str(tmp_path)}
    settings = tiny(augmentation={"preset": "paper", "crop": (96, 48)}).model_dump(mode="json")
    settings["data"]["train"] = {"kind": "simulation", "simulation": street}
    settings["data"]["validation"] = {"kind": "simulation", "split": "val", "simulation": street}
    (tmp_path / "tiny.yaml").write_text(yaml.safe_dump(settings))
    arguments = ["ablation", str(tmp_path / "tiny.yaml"), "--seeds", "1", "--out", str(tmp_path / "out")]
    done = CliRunner().invoke(app, [*arguments, "--set", "seed=1"])
    assert done.exit_code == 0, done.output
    assert "4 runs done of 4" in done.output
    assert "| + 2D learner | ✓ | ✓ | ✓ |" in done.output
