"""How much of the time a training waits for its data: whether loading keeps up with the device."""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import Any

from lightning.pytorch import Callback, LightningModule, Trainer

NAME = "train/waiting_for_data"


class DataWait(Callback):
    """Shows in TensorBoard which share of each epoch passed between the end of a step and the next batch's arrival.

    Not in log.jsonl, which is the same for a training that was interrupted.
    """

    def __init__(self, now: Callable[[], float] = time.perf_counter) -> None:
        self._now = now
        self._began = self._step_ended = self._waited = 0.0

    def on_train_epoch_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        self._began = self._step_ended = self._now()
        self._waited = 0.0

    def on_train_batch_start(self, trainer: Trainer, pl_module: LightningModule, batch: Any, batch_idx: int) -> None:
        self._waited += self._now() - self._step_ended

    def on_train_batch_end(
        self, trainer: Trainer, pl_module: LightningModule, outputs: Any, batch: Any, batch_idx: int
    ) -> None:
        self._step_ended = self._now()

    def on_train_epoch_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        duration = self._step_ended - self._began  # a validation may have come after
        if trainer.logger is not None and duration > 0:
            trainer.logger.log_metrics({NAME: self._waited / duration}, trainer.global_step)
