"""What a terminal shows of a training."""

from __future__ import annotations

from typing import Any

from lightning.pytorch import LightningModule, Trainer
from lightning.pytorch.callbacks import RichProgressBar

from twodpass_core.training.module import TrainingModule


class TrainingProgress(RichProgressBar):
    """Epochs, counted from 1, and the loss of every n-th batch: to read one, the host waits for the device."""

    def __init__(self, every: int) -> None:
        super().__init__()
        self._every = every
        self._shown: dict[str, int | str | float | dict[str, float]] = {}

    def on_train_batch_end(
        self, trainer: Trainer, pl_module: LightningModule, outputs: Any, batch: Any, batch_idx: int
    ) -> None:
        if not self.is_disabled and batch_idx % self._every == 0:
            assert isinstance(pl_module, TrainingModule)
            self._shown["loss"] = float(outputs["loss"]) * pl_module.parts_of_step(batch_idx)  # a part's share of it
        super().on_train_batch_end(trainer, pl_module, outputs, batch, batch_idx)

    def get_metrics(
        self, trainer: Trainer, pl_module: LightningModule
    ) -> dict[str, int | str | float | dict[str, float]]:
        return self._shown

    def _get_train_description(self, current_epoch: int) -> str:
        return f"Epoch {current_epoch + 1}/{self.trainer.max_epochs}".ljust(len(self.validation_description))
