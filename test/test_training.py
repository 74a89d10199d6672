"""Training runs of seconds on the CPU: what is left behind, skipping, settings that do not fit."""

from __future__ import annotations

import json
import logging
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from lightning.pytorch import Callback, LightningModule, Trainer
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator  # type: ignore[import-untyped]
from training_data import Blobs, tiny_config
from training_runs import assert_same, load

from twodpass_core.data.frame import Frame
from twodpass_core.data.mixture import AllFrames
from twodpass_core.data.simulated import SimulatedStreets
from twodpass_core.errors import ConfigError, TrainingError
from twodpass_core.evaluation.evaluate import evaluate
from twodpass_core.models.rounding import rounded_for_bf16
from twodpass_core.models.student import PointVoxelStudent
from twodpass_core.segmenter import Segmenter
from twodpass_core.training.batches import Share, TrainingBatches
from twodpass_core.training.config_file import load_config
from twodpass_core.training.curves import read_log
from twodpass_core.training.run import LOG_EVERY, train
from twodpass_core.weights import load_weights, read_card

DISTILLED = {"kind": "msfskd"}


class Damaged(Blobs):
    """Some frames have an intensity of which no gradient comes."""

    def __init__(self, frames: int, damaged: Sequence[int]) -> None:
        super().__init__(frames, intensity_max=1e38)  # nothing is beyond it, so that nothing is cut off
        self.damaged = damaged

    def __getitem__(self, index: int) -> Frame:
        frame = super().__getitem__(index)
        if index in self.damaged:
            frame.points[:, 3] = 3e38
        return frame


# --- A run --------------------------------------------------------------------------------------------------------


def test_the_last_step_of_an_epoch_has_the_gradient_of_all_its_parts(tmp_path: Path) -> None:
    """Five frames in batches of two: the third step has one part, whether batches are computed in parts or not."""
    norms: dict[int, list[float]] = {}

    class Norms(Callback):
        def on_before_optimizer_step(self, trainer: Trainer, pl_module: LightningModule, optimizer: Any) -> None:
            gradients = [p.grad.flatten() for p in pl_module.parameters() if p.grad is not None]
            norms.setdefault(trainer.accumulate_grad_batches, []).append(float(torch.cat(gradients).norm()))

    for accumulate in (1, 2):
        optimiser = {"accumulate": accumulate, "learning_rate": 1e-30, "weight_decay": 0, "clip_norm": None}
        config = tiny_config(
            tmp_path / str(accumulate), epochs=1, optimiser=optimiser, augmentation={"preset": "none", "crop": None}
        )
        train(config, training=Blobs(5), callbacks=[Norms()])
    assert norms[2][2] == pytest.approx(norms[1][2], rel=1e-3)


def test_a_run_leaves_everything_behind(tmp_path: Path) -> None:
    config = tiny_config(tmp_path / "run", distillation=DISTILLED)
    weights = train(config, training=Blobs(4), validation=Blobs(3, seed=1))
    assert weights == tmp_path / "run/weights.safetensors"
    for name in (
        "config.yaml",
        "log.jsonl",
        "curves.png",
        "confusion.png",
        "distance.png",
        "classes.csv",
        "scores.json",
    ):
        assert (tmp_path / "run" / name).stat().st_size > 0
    assert list((tmp_path / "run/tensorboard").glob("events.*"))
    assert load_config(tmp_path / "run/config.yaml") == config
    card = read_card(weights)
    assert card.trained
    assert "2DPASS" in card.origin
    entries = read_log(tmp_path / "run/log.jsonl")
    assert [entry["epoch"] for entry in entries] == [1, 2]
    assert all(np.isfinite(entry["train/loss"]) for entry in entries)
    load(tmp_path / "run", "best")


def test_validation_is_evaluation_afterwards_on_all_raw_points(tmp_path: Path) -> None:
    validation = Blobs(3, seed=1, points=5000)
    config = tiny_config(tmp_path / "run", epochs=1, machine={"precision": "bf16"})
    weights = train(config, training=Blobs(4), validation=validation)
    result = evaluate(Segmenter.from_weights(weights, device="cpu"), [validation[index] for index in range(3)])
    (entry,) = read_log(tmp_path / "run/log.jsonl")
    scored = {
        f"val/{name}": getattr(result.scores, name) for name in ("mean_iou", "accuracy", "frequency_weighted_iou")
    }
    names = [f"val_iou/{semantic.name}" for semantic in validation.class_map.classes[1:]]
    scored |= dict(zip(names, result.scores.iou, strict=True))
    assert {name: entry[name] for name in scored} == pytest.approx(scored, abs=1e-7)
    assert int(result.counts.sum()) == sum(len(validation[index].points) for index in range(3))
    scores = json.loads((tmp_path / "run/scores.json").read_text())
    assert scores["mean_iou"] == result.scores.mean_iou
    assert scores["frames"] == 3


def test_what_is_not_a_number_is_null_in_the_log(tmp_path: Path) -> None:
    train(tiny_config(tmp_path / "run", epochs=1), training=Blobs(2), validation=Blobs(1, points=0))

    def refuse(name: str) -> None:
        raise AssertionError(f"{name} is no JSON")

    (line,) = (tmp_path / "run/log.jsonl").read_text().splitlines()
    assert json.loads(line, parse_constant=refuse)["val/mean_iou"] is None


def test_training_learns(tmp_path: Path) -> None:
    config = tiny_config(tmp_path / "run", epochs=30, optimiser={"learning_rate": 0.1}, validate_every=30)
    train(config, training=Blobs(4), validation=Blobs(2, seed=1))
    assert json.loads((tmp_path / "run/scores.json").read_text())["accuracy"] > 0.7
    events = EventAccumulator(str(tmp_path / "run/tensorboard"))
    events.Reload()
    assert len(events.Scalars("train/loss_step")) == 60 // LOG_EVERY


def test_the_loss_of_an_epoch_is_the_mean_over_its_scans(tmp_path: Path) -> None:
    """Of three, the last of which is a batch of its own."""
    losses: list[float] = []

    class Losses(Callback):
        def on_train_batch_end(self, trainer: Trainer, *_: Any) -> None:
            losses.append(float(trainer.callback_metrics["train/loss_step"]))

    train(tiny_config(tmp_path / "run", epochs=1), training=Blobs(3), callbacks=[Losses()])
    (entry,) = read_log(tmp_path / "run/log.jsonl")
    assert entry["train/loss"] == pytest.approx((2 * losses[0] + losses[1]) / 3)


def test_without_validation_the_last_weights_are_kept(tmp_path: Path) -> None:
    weights = train(tiny_config(tmp_path / "run", epochs=1), training=Blobs(2))
    state = load(tmp_path / "run")["state_dict"]
    card, written = load_weights(weights)
    student = PointVoxelStudent(card.architecture, card.grid)
    student.load_state_dict({name: state[f"network.student.{name}"] for name in written})
    assert_same(written, rounded_for_bf16(student).state_dict())


@pytest.mark.parametrize("variant", ["paper", "authors"])
@pytest.mark.parametrize("precision", ["fp32", "bf16", "fp16"])
def test_variants_and_precisions_train(tmp_path: Path, variant: str, precision: str) -> None:
    config = tiny_config(
        tmp_path / "run",
        epochs=1,
        distillation={**DISTILLED, "variant": variant, "width": 64},
        machine={"precision": precision},
    )
    train(config, training=Blobs(2))
    state = load(tmp_path / "run")["state_dict"]
    assert all(tensor.isfinite().all() for tensor in state.values())
    assert all(tensor.dtype in (torch.float32, torch.int64) for tensor in state.values())


def test_fp16_finds_a_scale_for_its_gradients_and_keeps_it(tmp_path: Path) -> None:
    changes: dict[str, Any] = {"data": {"batch_size": 1}, "machine": {"precision": "fp16"}, "checkpoint_steps": 1}
    train(tiny_config(tmp_path / "run", epochs=1, **changes), training=Damaged(3, [0, 1, 2]))
    assert load(tmp_path / "run")["MixedPrecision"]["scale"] == 65536 / 2**3  # halved at every step that is skipped
    train(tiny_config(tmp_path / "whole", epochs=1, **changes), training=Blobs(3))
    assert load(tmp_path / "whole")["MixedPrecision"]["_growth_tracker"] > 0


class FewPoints(Blobs):
    """All frames but the first have few points."""

    def __getitem__(self, index: int) -> Frame:
        return super().__getitem__(index) if index else Blobs(1)[0]


@pytest.mark.parametrize("points", [0, 1, 2])
def test_frames_of_few_points_do_not_stop_a_training(tmp_path: Path, points: int) -> None:
    config = tiny_config(tmp_path / "run", epochs=1, distillation=DISTILLED, data={"batch_size": 1})
    train(config, training=FewPoints(3, points=points))
    assert all(tensor.isfinite().all() for tensor in load(tmp_path / "run")["state_dict"].values())


def test_accumulation_takes_the_same_number_of_steps_of_smaller_parts(tmp_path: Path) -> None:
    train(tiny_config(tmp_path / "run", epochs=1, optimiser={"accumulate": 2}), training=Blobs(6))
    assert load(tmp_path / "run")["global_step"] == 3


def test_a_batch_that_cannot_be_divided_is_refused(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="batch_size 2 cannot be divided"):
        train(tiny_config(tmp_path / "run", optimiser={"accumulate": 3}), training=Blobs(6))


def test_a_warm_up_longer_than_the_training_is_told(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    for steps, told in ((1, False), (2, True)):
        train(tiny_config(tmp_path / f"{steps}", epochs=1, optimiser={"warmup_steps": steps}), training=Blobs(4))
        assert ("set optimiser.warmup_steps to a few" in caplog.text) == told


# --- Gradients that are not finite --------------------------------------------------------------------------------


def test_a_step_without_finite_gradient_is_skipped_and_said_so(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    config = tiny_config(tmp_path / "run", epochs=1, data={"batch_size": 1})
    with caplog.at_level(logging.WARNING):
        train(config, training=Damaged(4, [2]))
    assert "is skipped: its gradient is not finite" in caplog.text
    state = load(tmp_path / "run")
    assert all(tensor.isfinite().all() for tensor in state["state_dict"].values())


def test_skipped_steps_change_nothing_and_too_many_end_the_training(tmp_path: Path) -> None:
    config = tiny_config(tmp_path / "run", epochs=50, data={"batch_size": 1}, checkpoint_steps=1)
    with pytest.raises(TrainingError, match="learning_rate"):
        train(config, training=Damaged(2, [0, 1]))
    short = tiny_config(tmp_path / "short", epochs=6, data={"batch_size": 1})
    with pytest.raises(TrainingError, match="the last 12 of 12 steps had no finite gradient: the training diverges"):
        train(short, training=Damaged(2, [0, 1]))
    with pytest.raises(TrainingError, match="the last 12 of 12 steps"):
        train(short, training=Damaged(2, [0, 1]), resume=True)
    assert not (short.run / "weights.safetensors").exists()
    fresh = tiny_config(tmp_path / "fresh", epochs=1, data={"batch_size": 1}, checkpoint_steps=1)
    train(fresh, training=Damaged(2, [0, 1]))
    assert_same(load(config.run)["state_dict"], load(fresh.run)["state_dict"])


# --- Settings that the data decides about -------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("counts", "message"),
    [
        ([1, 2], r"loss\.point_counts has 2 numbers, but the data has 3 classes"),
        ([5, 0, 0], r"loss\.point_counts: .*some above 0"),
    ],
)
def test_point_counts_that_do_not_fit_are_refused(counts: list[int], message: str, tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=message):
        train(tiny_config(tmp_path / "run", loss={"point_counts": counts}), training=Blobs(2))


def test_validation_data_of_other_classes_is_refused(tmp_path: Path) -> None:
    streets = SimulatedStreets("val")
    with pytest.raises(ConfigError, match=r"data\.train has the classes of blobs, data\.validation those of semantick"):
        train(tiny_config(tmp_path / "run"), training=Blobs(2), validation=streets)


# --- The order of frames ------------------------------------------------------------------------------------------


def batches(share: Share, seen: int = 0, frames: int = 11) -> list[list[tuple[int, int]]]:
    return [[tuple(key) for key in batch] for batch in TrainingBatches(AllFrames(frames), 2, 7, share, lambda: seen)]  # type: ignore[misc]


def test_no_frame_comes_twice_in_an_epoch() -> None:
    for epoch in range(3):
        shares = [batches(Share(rank, 2), seen=3 * epoch) for rank in range(2)]
        keys = [key for share in shares for batch in share for key in batch]
        assert len({index for _, index in keys}) == len(keys) == 10
        assert {key[0] for key in keys} == {epoch}
        assert [len(batch) for batch in shares[0]] == [len(batch) for batch in shares[1]]


def test_every_epoch_has_its_own_order_and_one_process_sees_all() -> None:
    first, second = batches(Share()), batches(Share(), seen=6)
    assert sorted(index for batch in first for _, index in batch) == list(range(11))
    assert [index for batch in first for _, index in batch] != [index for batch in second for _, index in batch]


@pytest.mark.parametrize("processes", [1, 2, 3])
def test_an_epoch_has_as_many_batches_as_it_is_said_to_have(processes: int) -> None:
    for frames in range(processes, 12):
        said = TrainingBatches(AllFrames(frames), 2, 7, Share(processes - 1, processes), lambda: 0)
        assert len(said) == len(list(said)) > 0


def test_every_process_needs_a_frame() -> None:
    with pytest.raises(ConfigError, match="too few frames to train on: 1 frame for 2 processes"):
        batches(Share(0, 2), frames=1)


def test_what_was_seen_of_an_epoch_is_left_out() -> None:
    assert batches(Share(), seen=2) == batches(Share())[2:]
