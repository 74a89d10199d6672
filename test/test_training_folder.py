"""The folder of a run: one training at a time, its log, and what is the best of it."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from lightning.pytorch import Callback, LightningModule, Trainer
from training_data import Blobs, tiny_config
from training_runs import Interrupting, load

from twodpass_core.data.frame import Frame
from twodpass_core.errors import ConfigError
from twodpass_core.training.curves import read_log
from twodpass_core.training.folder import RunFolder
from twodpass_core.training.module import TrainingModule
from twodpass_core.training.run import train


def test_scores_are_of_the_epochs_that_were_validated_and_of_the_end(tmp_path: Path) -> None:
    config = tiny_config(tmp_path / "run", epochs=3, validate_every=2)
    frames: list[int] = []

    class Frames(Callback):
        def on_validation_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
            assert isinstance(pl_module, TrainingModule)
            assert pl_module.evaluation is not None
            frames.append(pl_module.evaluation.frames)

    train(config, training=Blobs(4), validation=Blobs(3, seed=1), callbacks=[Frames()])
    assert frames == [3, 3]
    entries = read_log(config.run / "log.jsonl")
    assert [entry["epoch"] for entry in entries] == [1, 2, 3]
    assert ["val/mean_iou" in entry for entry in entries] == [False, True, True]
    best = max(entries[1:], key=lambda entry: entry["val/mean_iou"])
    scores = json.loads((config.run / "scores.json").read_text())
    assert scores["mean_iou"] == pytest.approx(best["val/mean_iou"], abs=1e-6)
    assert load(config.run, "best")["global_step"] == best["step"]


def test_the_end_is_the_best_where_nothing_else_was_validated(tmp_path: Path) -> None:
    config = tiny_config(tmp_path / "run", epochs=1, validate_every=5)
    train(config, training=Blobs(4), validation=Blobs(3, seed=1))
    (entry,) = read_log(config.run / "log.jsonl")
    assert "val/mean_iou" in entry
    assert load(config.run)["global_step"] == entry["step"]
    folder = RunFolder(config.run)
    assert folder.best_checkpoint.read_bytes() == folder.last_checkpoint.read_bytes()


class OutOfSight(Blobs):
    """All points are outside the volume, and so missed."""

    def __getitem__(self, index: int) -> Frame:
        frame = super().__getitem__(index)
        return replace(frame, points=frame.points + np.float32(100))


def test_of_equally_good_weights_the_first_are_the_best(tmp_path: Path) -> None:
    config = tiny_config(tmp_path / "run")
    train(config, training=Blobs(2), validation=OutOfSight(1, seed=1))
    assert [entry["val/mean_iou"] for entry in read_log(config.run / "log.jsonl")] == [0, 0]
    best = load(config.run, "best")
    assert best["global_step"] == 1
    assert best.keys() == load(config.run).keys()


@pytest.mark.parametrize(("validation", "score"), [(OutOfSight(3, seed=1), 0), (Blobs(3, points=0), None)])
def test_the_best_stays_the_best_where_a_run_goes_on_in_another_place(
    tmp_path: Path, validation: Blobs, score: float | None
) -> None:
    config = tiny_config(tmp_path / "run", epochs=3)
    with pytest.raises(SystemExit):
        train(config, training=Interrupting(8, at=10), validation=Blobs(3, seed=1))
    (before,) = read_log(config.run / "log.jsonl")
    config.run.rename(tmp_path / "moved")
    config = tiny_config(tmp_path / "moved", epochs=3)
    train(config, training=Blobs(8), validation=validation, resume=True)
    assert [entry["val/mean_iou"] for entry in read_log(config.run / "log.jsonl")[1:]] == [score, score]
    assert load(config.run, "best")["global_step"] == before["step"]
    scores = json.loads((config.run / "scores.json").read_text())
    assert scores["mean_iou"] == pytest.approx(before["val/mean_iou"], abs=1e-6)


def test_two_trainings_do_not_share_a_folder(tmp_path: Path) -> None:
    config = tiny_config(tmp_path / "run")
    with RunFolder(config.run).held(), pytest.raises(ConfigError, match="run is in use by another training"):
        train(config, training=Blobs(4))
    assert not config.run.exists()
    train(config, training=Blobs(4))


def test_a_damaged_line_of_the_log_is_left_out(tmp_path: Path) -> None:
    log = tmp_path / "log.jsonl"
    log.write_bytes(b'{"epoch": 1}\n{"epo\n[2]\n\xff\xfe\n{"epoch": 3}\n')
    assert [entry["epoch"] for entry in read_log(log)] == [1, 3]


def test_a_finished_run_whose_log_is_gone_can_be_validated_again(tmp_path: Path) -> None:
    config = tiny_config(tmp_path / "run", epochs=1, validate_every=5)
    train(config, training=Blobs(4), validation=Blobs(3, seed=1))
    (before,) = read_log(config.run / "log.jsonl")
    (config.run / "log.jsonl").unlink()
    train(config, training=Blobs(4), validation=Blobs(3, seed=1), resume=True)
    (entry,) = read_log(config.run / "log.jsonl")
    assert {name: entry[name] for name in ("epoch", "step")} == {"epoch": 1, "step": before["step"]}
    assert entry["val/mean_iou"] == pytest.approx(before["val/mean_iou"])


@pytest.mark.parametrize(
    "change",
    [
        {"train": {"kind": "simulation", "split": "val"}},
        {"train": {"kind": "simulation", "simulation": {"streets": 5}}},
        {"validation": {"kind": "simulation", "split": "val"}},
    ],
)
def test_a_run_goes_on_with_the_data_it_was_begun_with(tmp_path: Path, change: dict[str, Any]) -> None:
    data = {"train": {"kind": "simulation", "simulation": {"cache": tmp_path}}}
    train(tiny_config(tmp_path / "run", epochs=1, data=data), training=Blobs(2))
    elsewhere = {"train": {"kind": "simulation", "simulation": {"cache": tmp_path / "moved"}}, "workers": 1}
    train(tiny_config(tmp_path / "run", epochs=1, data=elsewhere), training=Blobs(2), resume=True)
    with pytest.raises(ConfigError, match=r"settings of epochs: .* start_from=.*/run/checkpoints/last\.ckpt$"):
        train(tiny_config(tmp_path / "run", epochs=2, data=data), training=Blobs(2), resume=True)
    with pytest.raises(ConfigError, match=rf"begun with other settings of data\.{next(iter(change))}: "):
        train(tiny_config(tmp_path / "run", epochs=1, data=data | change), training=Blobs(2), resume=True)


def test_an_epoch_has_one_line_in_the_log(tmp_path: Path) -> None:
    config = tiny_config(tmp_path / "run", epochs=3, validate_every=2)
    for resume in (False, True, True):
        train(config, training=Blobs(2), validation=Blobs(1), resume=resume)
        lines = [json.loads(line) for line in (tmp_path / "run/log.jsonl").read_text().splitlines()]
        assert [line["epoch"] for line in lines] == [1, 2, 3]
        assert ["val/mean_iou" in line for line in lines] == [False, True, True]


def test_a_home_folder_is_one_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.chdir(tmp_path)
    assert train(tiny_config(Path("~/run"), epochs=1), training=Blobs(2)) == tmp_path / "run/weights.safetensors"
    assert not (tmp_path / "~").exists()
    with pytest.raises(ValueError, match="no such user"):
        tiny_config(Path("~nobody-of-that-name/run"))
