"""What happens beside the steps: checkpoints to resume from, the run's log and curves, the best weights."""

from __future__ import annotations

import json
import logging
import signal
from pathlib import Path
from types import FrameType
from typing import Any, NoReturn

from lightning.pytorch import Callback, LightningModule, Trainer
from lightning.pytorch.utilities.exceptions import SIGTERMException

from twodpass_core.evaluation.report import finite_or_none, write_report
from twodpass_core.files import replacing
from twodpass_core.training.curves import draw_curves
from twodpass_core.training.folder import RunFolder
from twodpass_core.training.module import TrainingModule
from twodpass_core.weights import save_weights

logger = logging.getLogger(__name__)

STOP_SIGNALS = (signal.SIGTERM, signal.SIGINT)


class LastCheckpoint(Callback):
    """Saves what a training resumes from: every so many steps, around validations, and when told to stop.

    SIGTERM and the first SIGINT end the training after the optimiser step or validation frame under way, in all
    processes after the same. Between these no process is inside a collective operation, so none is left waiting. A
    validation that is cut short is not made up for when training goes on: the next one is that of the next epoch.
    """

    def __init__(self, path: Path, every_steps: int, validate_every: int | None) -> None:
        """`validate_every`: epochs between validations, None without any."""
        self.path, self.every_steps, self.validate_every = path, every_steps, validate_every
        self._stop: int | None = None
        self._handlers: dict[signal.Signals, Any] = {}

    def on_train_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        for number in STOP_SIGNALS:
            self._handlers[number] = signal.signal(number, self._request_stop)

    def on_train_batch_end(
        self, trainer: Trainer, pl_module: LightningModule, outputs: Any, batch: Any, batch_idx: int
    ) -> None:
        last = batch_idx + 1 == trainer.num_training_batches
        if (batch_idx + 1) % trainer.accumulate_grad_batches and not last:
            return  # a checkpoint would not hold the gradient that has been added up
        validates = self.validate_every and (trainer.current_epoch + 1) % self.validate_every == 0
        if last and not validates:
            return  # the epoch ends at once
        stop = self._stops(trainer)
        if stop or last or trainer.global_step % self.every_steps == 0:
            trainer.save_checkpoint(self.path, weights_only=False)
        if stop:
            self._end(trainer)

    def on_validation_batch_end(self, trainer: Trainer, *_: Any) -> None:
        if self._stops(trainer):  # there is a checkpoint from before the validation
            self._end(trainer)

    def on_train_epoch_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        trainer.save_checkpoint(self.path, weights_only=False)
        if self._stops(trainer):
            self._end(trainer)

    def teardown(self, trainer: Trainer, pl_module: LightningModule, stage: str) -> None:
        for number, handler in self._handlers.items():
            signal.signal(number, handler)
        self._handlers.clear()

    def _request_stop(self, number: int, frame: FrameType | None) -> None:
        self._stop = number
        signal.signal(signal.SIGINT, signal.default_int_handler)  # a second Ctrl-C does not wait

    def _stops(self, trainer: Trainer) -> bool:
        """Whether any process was told to stop. All ask at the same place."""
        stop = self._stop is not None
        return trainer.strategy.reduce_boolean_decision(stop, all=False) if trainer.world_size > 1 else stop

    def _end(self, trainer: Trainer) -> NoReturn:
        number = signal.SIGTERM if self._stop is None else self._stop
        name = signal.Signals(number).name
        if trainer.is_global_zero:
            logger.warning("stopped by %s at step %d, to be resumed from %s", name, trainer.global_step, self.path)
        raise SIGTERMException(128 + number)


class RunLog(Callback):
    """Adds a line to log.jsonl after every epoch, counted from 1, and draws the curves after validations."""

    def __init__(self, folder: RunFolder) -> None:
        self.folder = folder

    def on_train_epoch_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        if not trainer.is_global_zero:
            return
        values = {
            name.removesuffix("_epoch"): finite_or_none(float(value))
            for name, value in trainer.callback_metrics.items()
            if not name.endswith("_step") and f"{name}_epoch" not in trainer.callback_metrics
        }
        (rate,) = (group["lr"] for group in trainer.optimizers[0].param_groups)
        entry = {"epoch": trainer.current_epoch + 1, "step": trainer.global_step, "learning_rate": rate, **values}
        before = self.folder.log.read_text(encoding="utf-8") if self.folder.log.exists() else ""
        with replacing(self.folder.log) as path:
            path.write_text(f"{before}{json.dumps(entry, allow_nan=False)}\n", encoding="utf-8")
        every = trainer.check_val_every_n_epoch or 1
        if (trainer.current_epoch + 1) % every == 0:
            draw_curves(self.folder.log, self.folder.curves)

    def on_train_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        if trainer.is_global_zero:
            draw_curves(self.folder.log, self.folder.curves)


class BestWeights(Callback):
    """Writes the student's weights and the report of its validation, whenever it is the best so far."""

    def __init__(self, folder: RunFolder) -> None:
        self.folder = folder
        self.best = -1.0

    def on_validation_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        assert isinstance(pl_module, TrainingModule)
        evaluation = pl_module.evaluation
        if evaluation is None or not evaluation.scores.mean_iou > self.best:
            return
        self.best = evaluation.scores.mean_iou
        if trainer.is_global_zero:
            write_report(evaluation, self.folder.path)
        self.write(trainer, pl_module)

    def write(self, trainer: Trainer, module: TrainingModule) -> None:
        """Write the weights as they are now."""
        if trainer.is_global_zero:
            save_weights(self.folder.weights, module.deployed_student().state_dict(), module.card)

    def state_dict(self) -> dict[str, Any]:
        return {"best": self.best}

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        self.best = state_dict["best"]
