"""What a run leaves behind of its best validation."""

from __future__ import annotations

import shutil
from typing import Any

from lightning.pytorch import Callback, LightningModule, Trainer
from lightning.pytorch.trainer.states import TrainerFn

from twodpass_core.evaluation.report import write_report
from twodpass_core.files import replacing
from twodpass_core.training.folder import RunFolder
from twodpass_core.training.module import TrainingModule
from twodpass_core.weights import save_weights


class BestWeights(Callback):
    """Writes the student's weights, the report of its validation and a checkpoint, whenever it is the best so far."""

    def __init__(self, folder: RunFolder) -> None:
        self.folder = folder
        self.best = -1.0

    def on_validation_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        assert isinstance(pl_module, TrainingModule)
        evaluation = pl_module.evaluation
        if evaluation is None or not evaluation.scores.mean_iou > self.best:
            return
        self.best = evaluation.scores.mean_iou
        self.write(trainer, pl_module)
        if trainer.state.fn == TrainerFn.FITTING:
            trainer.save_checkpoint(self.folder.best_checkpoint, weights_only=False)
        elif trainer.is_global_zero:  # at the end of the training, whose last checkpoint this is
            with replacing(self.folder.best_checkpoint) as path:
                shutil.copyfile(self.folder.last_checkpoint, path)

    def write(self, trainer: Trainer, module: TrainingModule) -> None:
        """Write the weights as they are now, and what the last validation was like, if there was one."""
        if trainer.is_global_zero:
            if module.evaluation is not None:
                write_report(module.evaluation, self.folder.path)
            save_weights(self.folder.weights, module.deployed_student().state_dict(), module.card)

    def state_dict(self) -> dict[str, Any]:
        return {"best": self.best}

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        self.best = state_dict["best"]
