"""The folder of a run: one training at a time, its log, and what is the best of it."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from training_data import Blobs, tiny_config
from training_runs import load

from twodpass_core.errors import ConfigError
from twodpass_core.training.curves import read_log
from twodpass_core.training.folder import RunFolder
from twodpass_core.training.run import train


def test_scores_are_of_the_epochs_that_were_validated_and_of_the_end(tmp_path: Path) -> None:
    config = tiny_config(tmp_path / "run", epochs=3, validate_every=2)
    train(config, training=Blobs(4), validation=Blobs(3, seed=1))
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
    assert load(config.run, "best")["global_step"] == load(config.run)["global_step"] == entry["step"]


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
