"""What a training resumes from, saved on the way and when it is told to stop."""

from __future__ import annotations

import logging
import signal
from pathlib import Path
from types import FrameType
from typing import Any, NoReturn

from lightning.pytorch import Callback, LightningModule, Trainer
from lightning.pytorch.utilities.exceptions import SIGTERMException

from twodpass_core.training.loading_processes import STOP_SIGNALS

logger = logging.getLogger(__name__)


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

    def on_train_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        for number in STOP_SIGNALS:
            signal.signal(number, self._request_stop)  # at the end Lightning puts back what it found before the start

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
