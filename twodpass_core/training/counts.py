"""What a validation counts, in all processes together."""

from __future__ import annotations

import torch
from torch import Tensor
from torchmetrics import Metric

from twodpass_core.evaluation.metrics import no_counts


class SegmentationCounts(Metric):
    """Counts of points by distance, label and prediction, and of frames. Summed as integers, so exactly."""

    full_state_update = False
    counts: Tensor
    frames: Tensor

    def __init__(self, num_classes: int) -> None:
        super().__init__()
        self.add_state("counts", no_counts(num_classes), dist_reduce_fx="sum")
        self.add_state("frames", torch.tensor(0), dist_reduce_fx="sum")

    def update(self, counts: Tensor) -> None:
        """Add a frame's, (distance bins, K, K) int64 on any device; see `count_frame`."""
        self.counts += counts.to(self.counts.device)
        self.frames += 1

    def compute(self) -> tuple[Tensor, Tensor]:
        """Counts (distance bins, K, K), and frames (), both int64."""
        return self.counts, self.frames
