"""What a terminal shows of a training."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from matplotlib.figure import Figure
from training_data import Blobs, tiny_config
from typer.testing import CliRunner

from twodpass_core.cli import app
from twodpass_core.training import curves, run
from twodpass_core.training.curves import read_log
from twodpass_core.training.run import train


def test_epochs_from_1_and_the_loss_of_whole_batches(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    changes = {"data": {"batch_size": 2}, "optimiser": {"accumulate": 2, "learning_rate": 1e-30}, "epochs": 1}
    train(tiny_config(tmp_path / "run", **changes), training=Blobs(2))
    shown = capsys.readouterr().out
    assert "Epoch 1/1" in shown
    (entry,) = read_log(tmp_path / "run/log.jsonl")
    loss = float(shown.split("loss:")[-1].split()[0])
    assert loss == pytest.approx(entry["train/loss"], rel=0.2)  # of the first half of the batch


@pytest.mark.parametrize("epochs", [1, 3, 40])
def test_curves_are_marked_at_whole_epochs(epochs: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    drawn: list[Figure] = []
    monkeypatch.setattr(curves, "save_figure", lambda figure, _: drawn.append(figure))
    entries = [{"epoch": epoch, "train/loss": 1.0, "learning_rate": 0.1} for epoch in range(1, epochs + 1)]
    (tmp_path / "log.jsonl").write_text("\n".join(map(json.dumps, entries)))
    curves.draw_curves(tmp_path / "log.jsonl", tmp_path / "curves.png")
    for axes in drawn[0].axes:
        assert all(tick == int(tick) for tick in axes.get_xticks())


@pytest.mark.parametrize(
    ("scores", "told"),
    [(None, ""), ('{"mean_iou": null}', ""), ('{"mean_iou": 0.456}', ", mean IoU 45.60 % on data.validation")],
)
def test_at_the_end_the_files_and_the_score_are_told(
    scores: str | None, told: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    if scores is not None:
        (tmp_path / "scores.json").write_text(scores)
    monkeypatch.setattr(run, "train", lambda config, *, resume: config.run / "weights.safetensors")
    result = CliRunner().invoke(app, ["train", "simulation", "--set", f"run={tmp_path}"])
    expected = f"weights: {tmp_path}/weights.safetensors{told}; log, curves and checkpoints: {tmp_path}"
    assert result.stdout.splitlines() == [expected]
