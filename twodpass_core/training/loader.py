"""The batches of a training as Lightning asks for them."""

from __future__ import annotations

import math
from typing import Any

import torch
from lightning.pytorch import LightningDataModule
from torch.utils.data import DataLoader

from twodpass_core.data.batch import Batch, TrainingSet
from twodpass_core.data.frame import Frame, FrameSource
from twodpass_core.data.mixture import epoch_order
from twodpass_core.training.batches import FrameShare, Share, TrainingBatches, load_batches, load_frames
from twodpass_core.training.config import TrainingConfig


class TrainingData(LightningDataModule):
    """The frames that are trained and validated on, shared out over the processes.

    Validation frames are shared out without repeating any, so that every frame counts once.
    """

    def __init__(self, training: TrainingSet, validation: FrameSource | None, config: TrainingConfig) -> None:
        super().__init__()
        self.training, self.validation, self.config = training, validation, config

    def train_dataloader(self) -> DataLoader[Batch]:
        assert self.trainer is not None
        device = self.trainer.strategy.root_device
        return load_batches(self.training, self._batches(), self.config.data.workers, device)

    def val_dataloader(self) -> DataLoader[Frame | None] | list[Any]:
        if self.validation is None:
            return []
        return load_frames(FrameShare(self.validation, self._share()), self.config.data.workers)

    def transfer_batch_to_device(self, batch: Any, device: torch.device, dataloader_idx: int) -> Any:
        """Frames stay as they are: the segmenter takes their points from the host."""
        return batch.to(device, non_blocking=True) if isinstance(batch, Batch) else batch

    @property
    def steps_per_epoch(self) -> int:
        """Optimiser steps; known once the trainer knows its processes."""
        return math.ceil(len(self._batches()) / self.config.optimiser.accumulate)

    def _batches(self) -> TrainingBatches:
        share, accumulate = self._share(), self.config.optimiser.accumulate
        each = self.config.data.batch_size // (share.processes * accumulate)  # divides evenly, see trainer_options
        order = epoch_order(self.training.source)
        return TrainingBatches(order, each, self.config.seed, share, self._batches_seen)

    def _batches_seen(self) -> int:
        """By this process since the training began, runs before a resumption included."""
        assert self.trainer is not None
        seen: int = self.trainer.fit_loop.epoch_loop.batch_progress.total.processed  # type: ignore[attr-defined]
        return seen

    def _share(self) -> Share:
        assert self.trainer is not None
        return Share(self.trainer.global_rank, self.trainer.world_size)
