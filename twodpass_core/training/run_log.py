"""The log of a run and its picture."""

from __future__ import annotations

import json
from typing import Any

from lightning.pytorch import Callback, LightningModule, Trainer

from twodpass_core.evaluation.report import finite_or_none
from twodpass_core.files import replacing
from twodpass_core.training.curves import draw_curves, read_log
from twodpass_core.training.folder import RunFolder
from twodpass_core.training.module import TrainingModule

VALIDATION = "val"  # how the names of scores begin


class RunLog(Callback):
    """Adds a line to log.jsonl after every epoch, counted from 1, and draws the curves after validations."""

    def __init__(self, folder: RunFolder) -> None:
        self.folder = folder

    def on_train_epoch_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        assert isinstance(pl_module, TrainingModule)
        if not trainer.is_global_zero:
            return
        validated = pl_module.evaluated_step == trainer.global_step  # if not, these are the scores of an epoch before
        values = {
            name.removesuffix("_epoch"): finite_or_none(float(value))
            for name, value in trainer.callback_metrics.items()
            if not name.endswith("_step") and f"{name}_epoch" not in trainer.callback_metrics
            if validated or not name.startswith(VALIDATION)
        }
        (rate,) = (group["lr"] for group in trainer.optimizers[0].param_groups)
        entry = {"epoch": trainer.current_epoch + 1, "step": trainer.global_step, "learning_rate": rate, **values}
        self._add(entry)
        every = trainer.check_val_every_n_epoch or 1
        if (trainer.current_epoch + 1) % every == 0:
            draw_curves(self.folder.log, self.folder.curves)

    def add_validation(self, trainer: Trainer) -> None:
        """The scores of a validation after the last epoch, to the entry of that epoch."""
        scores = {
            name: finite_or_none(float(value))
            for name, value in trainer.callback_metrics.items()
            if name.startswith(VALIDATION)
        }
        entries = read_log(self.folder.log) if self.folder.log.exists() else []
        last = entries[-1] if entries else {"epoch": trainer.current_epoch, "step": trainer.global_step}
        self._add(last | scores)
        draw_curves(self.folder.log, self.folder.curves)

    def _add(self, entry: dict[str, Any]) -> None:
        before = self.folder.log.read_text(encoding="utf-8") if self.folder.log.exists() else ""
        with replacing(self.folder.log) as path:
            path.write_text(f"{before}{json.dumps(entry, allow_nan=False)}\n", encoding="utf-8")

    def on_train_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        if trainer.is_global_zero:
            draw_curves(self.folder.log, self.folder.curves)
