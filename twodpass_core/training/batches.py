"""Which frames make up which batch: a function of the seed and the number of batches seen, and of nothing else.

So a training that is resumed goes on with exactly the batches it would have seen, whatever was loaded ahead.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass

import numpy as np
import torch
from torch.utils.data import DataLoader, Sampler

from twodpass_core.data.batch import Batch, SampleKey, TrainingSet, collate
from twodpass_core.data.frame import Frame, FrameSource
from twodpass_core.data.mixture import EpochOrder
from twodpass_core.errors import ConfigError
from twodpass_core.training.loading_processes import load_ahead
from twodpass_core.wording import counted


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
            processes = counted(share.processes, "process")
            raise ConfigError(f"too few frames to train on: {counted(len(order), 'frame')} for {processes}")
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


class FrameShare:
    """Every n-th frame of a source: together, the processes have each frame once.

    All have equally many entries, so that they are at the same one together: those without a frame left have None.
    """

    def __init__(self, source: FrameSource, share: Share) -> None:
        self.source, self.share = source, share

    def __len__(self) -> int:
        return math.ceil(len(self.source) / self.share.processes)

    def __getitem__(self, position: int) -> Frame | None:
        index = position * self.share.processes + self.share.rank
        return self.source[index] if index < len(self.source) else None


class CollatedBatches:
    """The batch of a list of keys."""

    def __init__(self, samples: TrainingSet) -> None:
        self.samples = samples

    def __getitem__(self, keys: Sequence[SampleKey]) -> Batch:
        return collate([self.samples[key] for key in keys])


def load_batches(
    samples: TrainingSet, batches: TrainingBatches, workers: int, device: torch.device
) -> DataLoader[Batch]:
    """Gives a Batch for each of `batches`, made by `workers` processes ahead of time; see `load_ahead`.

    For a GPU in page-locked memory, so that the host does not wait for a batch's upload.
    """
    return load_ahead(CollatedBatches(samples), batches, workers, pin_memory=device.type == "cuda")


def load_frames(frames: FrameShare, workers: int) -> DataLoader[Frame | None]:
    """Gives them one at a time, as they are; see `load_ahead`."""
    return load_ahead(frames, range(len(frames)), workers)
