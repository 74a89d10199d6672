"""The log of a run and its picture."""

from __future__ import annotations

import json
from collections.abc import Mapping
from contextlib import suppress
from typing import Any

from lightning.pytorch import Callback, LightningModule, Trainer

from twodpass_core.evaluation.report import finite_or_none
from twodpass_core.files import replacing
from twodpass_core.training.curves import draw_curves, read_log
from twodpass_core.training.folder import RunFolder
from twodpass_core.training.module import TrainingModule

TRAINING, VALIDATION = "train/", "val"  # how the names of losses and of scores begin


class RunLog(Callback):
    """Adds a line to log.jsonl after every epoch, counted from 1, and draws the curves after validations."""

    def __init__(self, folder: RunFolder) -> None:
        self.folder = folder

    def on_train_epoch_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        assert isinstance(pl_module, TrainingModule)
        if not trainer.is_global_zero:
            return
        # Lightning keeps what was logged in an epoch before.
        validated = pl_module.evaluated_step == trainer.global_step
        values = {
            (own := _own_name(name)): None if _is_old(own, pl_module) else finite_or_none(float(value))
            for name, value in trainer.callback_metrics.items()
            if not _is_of_a_step(name, trainer.callback_metrics)
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
        if not trainer.is_global_zero:
            return
        scores = {
            name: finite_or_none(float(value))
            for name, value in trainer.callback_metrics.items()
            if name.startswith(VALIDATION)
        }
        entries = read_log(self.folder.log) if self.folder.log.exists() else []
        is_logged = bool(entries) and entries[-1]["step"] == trainer.global_step
        last = entries[-1] if is_logged else {"epoch": trainer.current_epoch, "step": trainer.global_step}
        self._add(last | scores)
        draw_curves(self.folder.log, self.folder.curves)

    def _add(self, entry: dict[str, Any]) -> None:
        lines = self.folder.log.read_text(encoding="utf-8").splitlines() if self.folder.log.exists() else []
        if lines and _epoch_of(lines[-1]) == entry["epoch"]:
            lines.pop()  # of the same epoch, before it was validated
        with replacing(self.folder.log) as path:
            path.write_text("\n".join([*lines, json.dumps(entry, allow_nan=False), ""]), encoding="utf-8")

    def on_train_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        if trainer.is_global_zero:
            draw_curves(self.folder.log, self.folder.curves)


def _is_of_a_step(name: str, metrics: Mapping[str, Any]) -> bool:
    """Lightning has losses by step, by epoch with a suffix, and once more."""
    return name.startswith(TRAINING) and (name.endswith("_step") or f"{name}_epoch" in metrics)


def _is_old(name: str, module: TrainingModule) -> bool:
    """Whether it is a loss that this epoch has not had, as those of images where it had none."""
    return name.startswith(TRAINING) and name not in module.losses_of_epoch


def _own_name(name: str) -> str:
    return name.removesuffix("_epoch") if name.startswith(TRAINING) else name


def _epoch_of(line: str) -> int | None:
    with suppress(ValueError, KeyError, TypeError):  # a damaged one
        return int(json.loads(line)["epoch"])
    return None
