"""Which frames make up which batch: a function of the seed and the number of batches seen, and of nothing else.

So a training that is resumed goes on with exactly the batches it would have seen, whatever was loaded ahead.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from lightning.pytorch import LightningDataModule
from torch.utils.data import DataLoader, Dataset, Sampler

from twodpass_core.data.batch import Batch, SampleKey, TrainingSet, collate
from twodpass_core.data.frame import Frame, FrameSource
from twodpass_core.data.mixture import EpochOrder, epoch_order
from twodpass_core.data.sample import TrainingSample
from twodpass_core.errors import ConfigError
from twodpass_core.training.config import TrainingConfig


@dataclass(frozen=True)
class Share:
    """One of the processes that train together."""

    rank: int = 0
    processes: int = 1


class TrainingBatches(Sampler[list[SampleKey]]):
    """The batches of one process. Every epoch has its own order; in an epoch no frame comes twice in any process.

    With several processes, the frames that are left over when all have equally many sit an epoch out.
    """

    def __init__(
        self, order: EpochOrder, batch_size: int, seed: int, share: Share, batches_seen: Callable[[], int]
    ) -> None:
        """`batch_size` is this process's; `batches_seen` tells how many this process has seen in the whole training."""
        if len(order) < share.processes:
            raise ConfigError(f"{len(order)} frames are too few to train on with {share.processes} processes")
        self.order, self.batch_size, self.seed = order, batch_size, seed
        self.share, self.batches_seen = share, batches_seen

    def __len__(self) -> int:
        """Batches in an epoch; the last may be smaller."""
        return math.ceil(len(self.order) // self.share.processes / self.batch_size)

    def __iter__(self) -> Iterator[list[SampleKey]]:
        """The rest of the epoch."""
        epoch, first = divmod(self.batches_seen(), len(self))
        order = self.order.draw(np.random.default_rng([self.seed, epoch]))
        each = len(order) // self.share.processes
        mine = order[self.share.rank * each :][:each].tolist()
        for begin in range(first * self.batch_size, each, self.batch_size):
            yield [SampleKey(epoch, index) for index in mine[begin : begin + self.batch_size]]


class TrainingData(LightningDataModule):
    """The frames that are trained and validated on, shared out over the processes.

    Validation frames are shared out without repeating any, so that every frame counts once.
    """

    def __init__(self, training: TrainingSet, validation: FrameSource | None, config: TrainingConfig) -> None:
        super().__init__()
        self.training, self.validation, self.config = training, validation, config

    def train_dataloader(self) -> DataLoader[TrainingSample]:
        batches = self._batches()
        return DataLoader(self.training, batch_sampler=batches, collate_fn=collate, **self._workers())

    def val_dataloader(self) -> DataLoader[Frame] | list[Any]:
        if self.validation is None:
            return []
        frames = FrameShare(self.validation, self._share())
        return DataLoader(frames, batch_size=None, collate_fn=_same, **self._workers())

    def transfer_batch_to_device(self, batch: Any, device: torch.device, dataloader_idx: int) -> Any:
        """Frames stay as they are: the segmenter takes their points from the host."""
        return batch.to(device) if isinstance(batch, Batch) else batch

    @property
    def steps_per_epoch(self) -> int:
        """Optimiser steps; known once the trainer knows its processes."""
        return math.ceil(len(self._batches()) / self.config.optimiser.accumulate)

    def _batches(self) -> TrainingBatches:
        share, accumulate = self._share(), self.config.optimiser.accumulate
        each, rest = divmod(self.config.data.batch_size, share.processes * accumulate)
        if rest:
            raise ConfigError(
                f"data.batch_size {self.config.data.batch_size} cannot be divided evenly over {share.processes} "
                f"processes and {accumulate} parts (optimiser.accumulate): choose a multiple of their product"
            )
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

    def _workers(self) -> dict[str, Any]:
        workers = self.config.data.workers
        # Processes that are forked while threads run may hang.
        context = "forkserver" if workers else None
        # A generator of its own: torch's is left alone by loading.
        return {"num_workers": workers, "multiprocessing_context": context, "generator": torch.Generator()}


class FrameShare(Dataset[Frame]):
    """Every n-th frame of a source: together, the processes have each frame once."""

    def __init__(self, source: FrameSource, share: Share) -> None:
        self.source, self.indices = source, range(share.rank, len(source), share.processes)

    def __len__(self) -> int:
        return len(self.indices)

    def __getitem__(self, position: int) -> Frame:
        return self.source[self.indices[position]]


def _same(frame: Any) -> Any:
    return frame
