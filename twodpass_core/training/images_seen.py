"""How many scans of a training were taught by an image: where none was, it is told, and the card says so."""

from __future__ import annotations

import logging
from typing import Any

from lightning.pytorch import Callback, LightningModule, Trainer

from twodpass_core.data.batch import Batch
from twodpass_core.training.module import TrainingModule
from twodpass_core.training.seen import WARN_AFTER, in_all_processes
from twodpass_core.weights import Card
from twodpass_core.wording import counted

logger = logging.getLogger(__name__)


class ImagesSeen(Callback):
    """Counts scans, images and the points in them. Without any, the student learns from its labels alone."""

    def __init__(self, taught: Card, untaught: Card) -> None:
        """The cards of weights that images have had a part in, and of those that they have not."""
        self.taught, self.untaught = taught, untaught
        self.scans = self.images = self.points = 0
        self._warned = False

    def on_train_batch_end(
        self, trainer: Trainer, pl_module: LightningModule, outputs: Any, batch: Batch, batch_idx: int
    ) -> None:
        self.scans += len(batch.frame_ids)
        self.images += 0 if batch.images is None else len(batch.images)
        self.points += len(batch.image_points)
        if self.scans >= WARN_AFTER or batch_idx + 1 == trainer.num_training_batches:
            self._warn_once(trainer)

    def on_validation_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        self.choose_card(trainer, pl_module)

    def state_dict(self) -> dict[str, int]:
        return {"scans": self.scans, "images": self.images, "points": self.points}

    def load_state_dict(self, state_dict: dict[str, int]) -> None:
        self.scans, self.images, self.points = (state_dict[name] for name in ("scans", "images", "points"))

    def choose_card(self, trainer: Trainer, module: LightningModule) -> None:
        """The card that is true of the module's weights by now."""
        assert isinstance(module, TrainingModule)
        module.card = self.taught if in_all_processes(self.points, trainer) else self.untaught

    def _warn_once(self, trainer: Trainer) -> None:
        if self.points or self._warned or not trainer.is_global_zero:
            return
        self._warned = True
        scans = counted(self.scans, "scan")
        if self.images:
            problem = f"no point of the first {scans} falls into one of their {counted(self.images, 'image')}: "
            problem += "is the calibration right?"
        else:
            problem = f"none of the first {scans} has an image: are there any where the data's source looks "
            problem += "for them (SemanticKITTI's are a download of their own), and does `cameras` name them?"
        logger.warning(
            "%s So far the student learns from labels alone, which is not 2DPASS. To leave it at that, set "
            "distillation.kind to none",
            problem,
        )
