"""What callbacks that tell of the frames they have seen share."""

from __future__ import annotations

from typing import Final

import torch
from lightning.pytorch import Trainer

WARN_AFTER: Final = 100
"""Scans, unless an epoch has less."""


def in_all_processes(count: int, trainer: Trainer) -> int:
    """The sum of what each process has counted. All ask at the same place."""
    counted = torch.tensor(count, device=trainer.strategy.root_device)
    return int(trainer.strategy.reduce(counted, reduce_op="sum"))
