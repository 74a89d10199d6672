"""The points that a training learns from: where there are none, or their intensities are odd, that is told."""

from __future__ import annotations

import logging
from typing import Any

import numpy as np
import numpy.typing as npt
from lightning.pytorch import Callback, LightningModule, Trainer

from twodpass_core.classes import IGNORED
from twodpass_core.data.batch import Batch
from twodpass_core.data.frame import Frame
from twodpass_core.errors import TrainingError
from twodpass_core.sensor import is_of_another_unit
from twodpass_core.training.seen import WARN_AFTER, in_all_processes
from twodpass_core.wording import counted

logger = logging.getLogger(__name__)

NO_POINTS = (
    "no point of the first {scans} is in the network's volume: are the points in metres, and does "
    "training_from_sensor say where the sensor is?"
)
NO_LABELS = "no point of the first {scans} has a label other than the ignored class: is it the right class map?"


class PointsSeen(Callback):
    """Counts scans, the points in the volume, and those of them that are labelled."""

    def __init__(self, intensity_max: float) -> None:
        self.intensity_max = intensity_max
        self.scans = self.points = self.labelled = 0
        self._warned = self._doubted = False

    def on_train_batch_end(
        self, trainer: Trainer, pl_module: LightningModule, outputs: Any, batch: Batch, batch_idx: int
    ) -> None:
        if self.labelled and self.scans >= WARN_AFTER:  # then all is well, and the host need not wait for the GPU
            return
        intensity, sample = batch.points[:, 3].cpu().numpy(), batch.sample.cpu().numpy()
        for number, frame_id in enumerate(batch.frame_ids):
            self._doubt_intensities(frame_id, intensity[sample == number])
        self.scans += len(batch.frame_ids)
        self.points += len(batch.labels)
        self.labelled += int((batch.labels != IGNORED).sum())
        if self.scans >= WARN_AFTER or batch_idx + 1 == trainer.num_training_batches:
            self._warn_once()

    def on_validation_batch_end(
        self,
        trainer: Trainer,
        pl_module: LightningModule,
        outputs: Any,
        batch: Frame | None,
        batch_idx: int,
        dataloader_idx: int = 0,
    ) -> None:
        if batch is not None and batch_idx == 0:  # the others are of the same source
            self._doubt_intensities(batch.id, batch.points[:, 3])

    def refuse_none(self, trainer: Trainer) -> None:
        """Raise TrainingError where no process has seen a point in the volume."""
        if not in_all_processes(self.points, trainer):
            raise TrainingError(f"nothing was learned: {NO_POINTS.format(scans=counted(self.scans, 'scan'))}")

    def state_dict(self) -> dict[str, int]:
        return {"scans": self.scans, "points": self.points, "labelled": self.labelled}

    def load_state_dict(self, state_dict: dict[str, int]) -> None:
        self.scans, self.points, self.labelled = (state_dict[name] for name in ("scans", "points", "labelled"))

    def _doubt_intensities(self, frame_id: str, intensity: npt.NDArray[np.float32]) -> None:
        if not self._doubted and is_of_another_unit(intensity, self.intensity_max):
            self._doubted = True
            logger.warning(
                "%s: its intensity seems to be of another unit than 0..%g, which is full scale; beyond four times "
                "that it is cut off. Bags are converted by bag.intensity_scale, or by --intensity-scale of "
                "`twodpass prepare`",
                frame_id, self.intensity_max,
            )  # fmt: skip

    def _warn_once(self) -> None:
        if not self._warned and not self.labelled:
            self._warned = True
            logger.warning((NO_LABELS if self.points else NO_POINTS).format(scans=counted(self.scans, "scan")))
