"""Stopping a training and going on with it: nothing is lost, and nothing is otherwise than without the stop."""

from __future__ import annotations

import resource
import signal
from pathlib import Path
from typing import Any

import pytest
import torch
from lightning.pytorch import Callback
from training_data import Blobs, tiny_config
from training_runs import STATE, Interrupting, assert_same, load

from twodpass_core.data.frame import Frame
from twodpass_core.errors import ConfigError, ScanError, TrainingError, WeightsError
from twodpass_core.training.checkpoint_io import WholeCheckpoints
from twodpass_core.training.curves import read_log
from twodpass_core.training.folder import RunFolder
from twodpass_core.training.images_seen import ImagesSeen
from twodpass_core.training.last_checkpoint import LastCheckpoint
from twodpass_core.training.loading_processes import STOP_SIGNALS
from twodpass_core.training.machine import trainer_options
from twodpass_core.training.points_seen import PointsSeen
from twodpass_core.training.run import train


class Drawing(Callback):
    """Draws a random number in each step, as a network may."""

    def __init__(self) -> None:
        self.numbers: list[float] = []

    def on_train_batch_start(self, *_: Any) -> None:
        self.numbers.append(float(torch.rand(())))


@pytest.mark.parametrize(
    ("stop_at", "kind"), [(10, "msfskd"), (8, "none")], ids=["within an epoch", "at the end of one"]
)
def test_a_resumed_training_is_bitwise_the_uninterrupted_one(tmp_path: Path, stop_at: int, kind: str) -> None:
    changes = {"epochs": 3, "max_steps": 10, "distillation": {"kind": kind}}
    whole, parts = (tiny_config(tmp_path / name, **changes) for name in ("whole", "parts"))
    train(whole, training=Blobs(8), validation=Blobs(1, seed=1))
    with pytest.raises(SystemExit):
        train(parts, training=Interrupting(8, at=stop_at), validation=Blobs(1, seed=1))
    assert 3 <= load(parts.run)["global_step"] <= 6
    train(parts, training=Blobs(8), validation=Blobs(1, seed=1), resume=True)
    one, other = load(whole.run), load(parts.run)
    assert one["global_step"] == 10
    assert_same({name: one[name] for name in STATE}, {name: other[name] for name in STATE})
    logs = [read_log(config.run / "log.jsonl") for config in (whole, parts)]
    assert logs[0][-1] == logs[1][-1]


def test_a_stop_at_an_epochs_end_leaves_nothing_out_of_the_log(tmp_path: Path) -> None:
    whole, parts = (tiny_config(tmp_path / name, validate_every=2) for name in ("whole", "parts"))
    drawn, drawn_in_parts = Drawing(), Drawing()
    train(whole, training=Blobs(4), validation=Blobs(1), callbacks=[drawn])
    with pytest.raises(SystemExit):
        train(parts, training=Interrupting(4, at=4), validation=Blobs(1), callbacks=[drawn_in_parts])
    assert load(parts.run)["global_step"] == 2
    train(parts, training=Blobs(4), validation=Blobs(1), resume=True, callbacks=[drawn_in_parts])
    assert len(set(drawn.numbers)) == 4
    assert drawn_in_parts.numbers == drawn.numbers
    one, other = load(whole.run), load(parts.run)
    assert_same({name: one[name] for name in STATE}, {name: other[name] for name in STATE})
    assert read_log(whole.run / "log.jsonl") == read_log(parts.run / "log.jsonl")


def test_a_stop_within_an_accumulated_batch_waits_for_its_end(tmp_path: Path) -> None:
    changes: dict[str, Any] = {"epochs": 1, "optimiser": {"accumulate": 2}}
    whole, parts = (tiny_config(tmp_path / name, **changes) for name in ("whole", "parts"))
    train(whole, training=Blobs(7))
    with pytest.raises(SystemExit):
        train(parts, training=Interrupting(7, at=3))
    assert load(parts.run)["global_step"] in (1, 2)
    train(parts, training=Blobs(7), resume=True)
    one, other = load(whole.run), load(parts.run)
    assert_same({name: one[name] for name in STATE}, {name: other[name] for name in STATE})


def test_a_stop_within_a_validation_loses_no_step(tmp_path: Path) -> None:
    """Of five parts in twos, the last of which is a step of its own."""
    config = tiny_config(tmp_path / "run", epochs=3, validate_every=2, optimiser={"accumulate": 2})
    with pytest.raises(SystemExit):
        train(config, training=Blobs(5), validation=Interrupting(4, at=2))
    assert load(config.run)["global_step"] == 2 * 3
    assert [entry["epoch"] for entry in read_log(config.run / "log.jsonl")] == [1]
    train(config, training=Blobs(5), validation=Blobs(4), resume=True)
    assert load(config.run)["global_step"] == 3 * 3


def test_a_checkpoint_is_saved_every_so_many_steps(tmp_path: Path) -> None:
    class Ending(Blobs):
        """The eighth frame that is read is damaged."""

        read = 0

        def __getitem__(self, index: int) -> Frame:
            self.read += 1
            if self.read == 8:
                raise ScanError("damaged")
            return super().__getitem__(index)

    config = tiny_config(tmp_path / "run", checkpoint_steps=2, optimiser={"accumulate": 2})
    with pytest.raises(ScanError, match="damaged"):
        train(config, training=Ending(12))  # after three steps of two frames
    assert load(config.run)["global_step"] == 2


def test_a_second_ctrl_c_does_not_wait(tmp_path: Path) -> None:
    handlers = [(number, signal.getsignal(number)) for number in STOP_SIGNALS]
    trainer: Any = None
    LastCheckpoint(tmp_path / "last.ckpt", 1, None).on_train_start(trainer, trainer)
    try:
        signal.raise_signal(signal.SIGINT)
        with pytest.raises(KeyboardInterrupt):
            signal.raise_signal(signal.SIGINT)
    finally:
        for number, handler in handlers:
            signal.signal(number, handler)


def test_after_a_training_signals_do_what_they_did_before(tmp_path: Path) -> None:
    handlers = [signal.getsignal(number) for number in STOP_SIGNALS]
    train(tiny_config(tmp_path / "run", epochs=1), training=Blobs(2))
    assert [signal.getsignal(number) for number in STOP_SIGNALS] == handlers


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_a_signal_saves_a_checkpoint_and_ends_the_training(tmp_path: Path, number: signal.Signals) -> None:
    config = tiny_config(tmp_path / "run", epochs=50)
    handler = signal.getsignal(number)
    with pytest.raises(SystemExit) as stopped:
        train(config, training=Interrupting(8, at=5, number=number))
    assert stopped.value.code == 128 + number
    assert signal.getsignal(number) == handler
    assert 1 <= load(config.run)["global_step"] <= 4


def test_what_was_seen_before_a_stop_counts_afterwards() -> None:
    card: Any = None
    for before, after in ((PointsSeen(1), PointsSeen(1)), (ImagesSeen(card, card), ImagesSeen(card, card))):
        names = list(before.state_dict())
        for count, name in enumerate(names, start=1):
            setattr(before, name, count)
        after.load_state_dict(before.state_dict())
        assert [getattr(after, name) for name in names] == [1, 2, 3]


def test_resuming_what_has_not_begun_begins(tmp_path: Path) -> None:
    train(tiny_config(tmp_path / "run", epochs=1), training=Blobs(2), resume=True)


def test_a_finished_run_is_not_overwritten(tmp_path: Path) -> None:
    train(tiny_config(tmp_path / "run", epochs=1), training=Blobs(2))
    with pytest.raises(ConfigError, match="--resume"):
        train(tiny_config(tmp_path / "run", epochs=1), training=Blobs(2))


def test_resuming_with_other_settings_is_refused(tmp_path: Path) -> None:
    train(tiny_config(tmp_path / "run", epochs=1), training=Blobs(2))
    with pytest.raises(ConfigError, match="optimiser"):
        train(tiny_config(tmp_path / "run", epochs=1, optimiser={"momentum": 0.5}), training=Blobs(2), resume=True)
    other = tiny_config(tmp_path / "run", epochs=1, machine={"sync_batch_norm": True})
    with pytest.raises(ConfigError, match=r"begun with other settings of machine\.sync_batch_norm:"):
        RunFolder(other.run).checkpoint_for(other, resume=True)


def test_a_start_that_failed_is_no_run(tmp_path: Path) -> None:
    config = tiny_config(tmp_path / "run", epochs=1, start_from=tmp_path / "absent.safetensors")
    with pytest.raises(WeightsError, match="absent"):
        train(config, training=Blobs(2))
    assert not config.run.exists()
    with pytest.raises(ConfigError, match="too few"):
        train(tiny_config(tmp_path / "run", epochs=1), training=Blobs(0))
    train(tiny_config(tmp_path / "run", epochs=1), training=Blobs(2))


def test_what_a_run_was_started_from_is_not_needed_to_go_on(tmp_path: Path) -> None:
    weights = train(tiny_config(tmp_path / "first", epochs=1), training=Blobs(2))
    config = tiny_config(tmp_path / "run", epochs=1, start_from=weights)
    train(config, training=Blobs(2))
    weights.unlink()
    train(config, training=Blobs(2), resume=True)


def test_a_damaged_checkpoint_is_named(tmp_path: Path) -> None:
    config = tiny_config(tmp_path / "run", epochs=1)
    train(config, training=Blobs(2))
    last = RunFolder(config.run).last_checkpoint
    last.write_bytes(last.read_bytes()[:-1000])
    with pytest.raises(WeightsError, match=r"last\.ckpt: a damaged file"):
        train(config, training=Blobs(2), resume=True)
    last.write_bytes(b"")
    with pytest.raises(WeightsError, match=r"last\.ckpt: a damaged file, or no checkpoint: \w"):
        train(config, training=Blobs(2), resume=True)
    RunFolder(config.run).config.unlink()
    with pytest.raises(ConfigError, match=r"there is no .*config\.yaml, without which the run cannot go on"):
        train(config, training=Blobs(2), resume=True)
    last.unlink()
    with pytest.raises(ConfigError, match=r"there is no .*last\.ckpt"):
        train(config, training=Blobs(2), resume=True)


def test_a_full_disk_is_named_and_leaves_the_checkpoint_before(tmp_path: Path) -> None:
    config = tiny_config(tmp_path / "run")
    (checkpoints,) = (plugin for plugin in trainer_options(config)["plugins"] if isinstance(plugin, WholeCheckpoints))
    path = tmp_path / "last.ckpt"
    checkpoints.save_checkpoint({"step": 1}, path)
    limits = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (100_000, limits[1]))  # stands in for it
    try:
        with pytest.raises(TrainingError, match=r"last\.ckpt: the checkpoint cannot be written: File too large\. "):
            checkpoints.save_checkpoint({"step": torch.zeros(100_000)}, path)
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, limits)
    assert checkpoints.load_checkpoint(path, weights_only=True) == {"step": 1}
    assert list(tmp_path.iterdir()) == [path]
