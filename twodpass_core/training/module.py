"""2DPASS as a LightningModule: one step, validation on all raw points, and the optimiser."""

from __future__ import annotations

import logging
import math
from typing import Any

import torch
from lightning.pytorch import LightningModule
from torch import Tensor
from torch.optim import SGD, Optimizer
from torch.optim.lr_scheduler import LambdaLR

from twodpass_core.data.batch import Batch
from twodpass_core.data.frame import Frame
from twodpass_core.errors import ConfigError, TrainingError
from twodpass_core.evaluation.evaluate import Evaluation, count_frame
from twodpass_core.models.folded import FoldedStudent
from twodpass_core.models.rounding import rounded_for_bf16
from twodpass_core.models.student import PointVoxelStudent
from twodpass_core.segmenter import DTYPES, Segmenter
from twodpass_core.sparse.backend import make_backend
from twodpass_core.training.config import TrainingConfig
from twodpass_core.training.counts import SegmentationCounts
from twodpass_core.training.network import TrainingNetwork
from twodpass_core.training.schedules import make_schedule
from twodpass_core.weights import Card
from twodpass_core.wording import counted

logger = logging.getLogger(__name__)

MAX_SKIPPED = 20
"""Optimiser steps without a finite gradient, one after the other, that end a training."""
DIVERGED = (
    "the training diverges or the data is damaged. Try a lower optimiser.learning_rate, a warm-up, or "
    "machine.precision fp32"
)


class TrainingModule(LightningModule):
    """Trains a TrainingNetwork; the student in it is validated exactly as it is evaluated and deployed later."""

    def __init__(self, network: TrainingNetwork, config: TrainingConfig, card: Card) -> None:
        super().__init__()
        self.network, self.config, self.card = network, config, card
        self.counts = SegmentationCounts(card.class_map.num_classes)
        self.evaluation: Evaluation | None = None
        self.evaluated_step = -1
        self.skipped_in_a_row = 0
        self.losses_of_epoch: set[str] = set()
        """Names of those that this epoch has had so far."""
        self._segmenter: Segmenter | None = None
        self._buffers_before: dict[str, Tensor] = {}
        self._generator_state: Tensor | None = None

    # --- Training ----------------------------------------------------------------------------------------------------

    def setup(self, stage: str) -> None:
        """By now the device of this process is known."""
        machine, device = self.config.machine, self.trainer.strategy.root_device
        dtypes = DTYPES[machine.precision], torch.float32  # of training, of validation
        self.network.student.backend = make_backend(machine.backend, device, dtypes, self.config.student.width)

    def on_train_start(self) -> None:
        if self._generator_state is not None:
            torch.set_rng_state(self._generator_state)

    def on_train_epoch_start(self) -> None:
        self.losses_of_epoch.clear()

    def on_train_batch_start(self, batch: Batch, batch_idx: int) -> None:
        if batch_idx % self.config.optimiser.accumulate == 0:
            self._buffers_before = {name: buffer.clone() for name, buffer in self.network.named_buffers()}

    def training_step(self, batch: Batch, batch_idx: int) -> Tensor:
        terms = self.network(batch)
        scans = len(batch.frame_ids)
        for name, value in terms.named().items():
            self.losses_of_epoch.add(f"train/{name}")
            self.log(f"train/{name}", value.detach(), on_step=True, on_epoch=True, batch_size=scans)
        # Lightning divides by `accumulate`, also where the last step of an epoch has fewer parts.
        total: Tensor = terms.total * (self.config.optimiser.accumulate / self.parts_of_step(batch_idx))
        return total

    def parts_of_step(self, batch_idx: int) -> int:
        """Of how many parts the step consists that this part of an epoch belongs to."""
        accumulate = self.config.optimiser.accumulate
        return min(accumulate, int(self.trainer.num_training_batches) - batch_idx // accumulate * accumulate)

    def configure_gradient_clipping(
        self, optimizer: Optimizer, gradient_clip_val: Any = None, gradient_clip_algorithm: Any = None
    ) -> None:
        """Clip the norm; where it is not finite, skip the step. Processes share their gradients and so agree."""
        limit = self.config.optimiser.clip_norm
        norm = torch.nn.utils.clip_grad_norm_(self.parameters(), math.inf if limit is None else limit)
        if bool(norm.isfinite()):
            self.skipped_in_a_row = 0
            return
        # Without gradients SGD leaves a parameter, and its momentum, as they are.
        optimizer.zero_grad(set_to_none=True)
        for name, buffer in self.network.named_buffers():
            buffer.copy_(self._buffers_before[name])
        self.skipped_in_a_row += 1
        logger.warning("step %d is skipped: its gradient is not finite", self.global_step)
        if self.skipped_in_a_row == MAX_SKIPPED:
            raise TrainingError(f"{MAX_SKIPPED} steps in a row had no finite gradient: {DIVERGED}")

    def refuse_divergence(self) -> None:
        """Raise TrainingError where the training has ended without finite gradients."""
        # A few at the start are usual in fp16, whose scale is sought then.
        if self.skipped_in_a_row > max(MAX_SKIPPED, self.global_step) / 2:
            raise TrainingError(
                f"the last {self.skipped_in_a_row} of {self.global_step} steps had no finite gradient: {DIVERGED}"
            )

    def configure_optimizers(self) -> Any:
        settings = self.config.optimiser
        optimiser = SGD(
            self.parameters(),
            lr=settings.learning_rate,
            momentum=settings.momentum,
            nesterov=settings.nesterov,
            weight_decay=settings.weight_decay,
        )
        steps_per_epoch = self.trainer.datamodule.steps_per_epoch  # type: ignore[attr-defined]
        factor = make_schedule(settings, self.config.epochs, steps_per_epoch, self.config.max_steps)
        return {"optimizer": optimiser, "lr_scheduler": {"scheduler": LambdaLR(optimiser, factor), "interval": "step"}}

    def deployed_student(self) -> PointVoxelStudent:
        """The student as the weights file holds it: what is validated is what is written."""
        trained = self.network.student
        with torch.device("meta"):  # no random numbers are drawn
            student = PointVoxelStudent(trained.config, trained.grid, trained.backend)
        # Not a copy: with several GPUs its normalisation may be torch's SyncBatchNorm.
        student.load_state_dict(trained.state_dict(), assign=True)
        return rounded_for_bf16(student)

    # --- Validation --------------------------------------------------------------------------------------------------

    def on_validation_epoch_start(self) -> None:
        self.counts.reset()
        if self.trainer.world_size > 1:
            # Running statistics of batch normalisation differ by process; those of the first are saved.
            for buffer in self.network.buffers():
                torch.distributed.broadcast(buffer, src=0)
        student = FoldedStudent(self.deployed_student(), torch.float32, self.device)
        self._segmenter = Segmenter(self.card, student, self.device)

    def validation_step(self, frame: Frame | None, batch_idx: int) -> None:
        if frame is None:
            return
        assert self._segmenter is not None
        self.counts.update(count_frame(self._segmenter, frame))

    def on_validation_epoch_end(self) -> None:
        self._segmenter = None
        counts, frames = self.counts.compute()
        self.evaluation = Evaluation(self.card.class_map, counts.cpu(), int(frames))
        self.evaluated_step = self.global_step
        scores = self.evaluation.scores
        for name in ("mean_iou", "accuracy", "frequency_weighted_iou"):
            self.log(f"val/{name}", getattr(scores, name), batch_size=1)
        for entry, iou in zip(self.card.class_map.classes[1:], scores.iou, strict=True):
            self.log(f"val_iou/{entry.name}", iou, batch_size=1)

    # --- State -------------------------------------------------------------------------------------------------------

    def on_save_checkpoint(self, checkpoint: dict[str, Any]) -> None:
        checkpoint["torch_generator"] = torch.get_rng_state()
        checkpoint["card"] = self.card.model_dump_json()
        checkpoint["processes"] = self.trainer.world_size
        checkpoint["frames"] = self._frames_trained_on
        checkpoint["skipped_in_a_row"] = self.skipped_in_a_row

    def on_load_checkpoint(self, checkpoint: dict[str, Any]) -> None:
        """Go on from a checkpoint.

        Raises:
            ConfigError: it is of another number of processes, which share the frames out otherwise, or
                of other data.
        """
        before = checkpoint["processes"]
        if before != self.trainer.world_size:
            raise ConfigError(
                f"this run was begun by {counted(before, 'process')}, not {self.trainer.world_size}: resume it with as "
                "many (--devices), or begin another run with start_from=FOLDER/checkpoints/last.ckpt"
            )
        self._refuse_other_data(Card.model_validate_json(checkpoint["card"]), checkpoint["frames"])
        self._generator_state = checkpoint["torch_generator"]
        self.skipped_in_a_row = checkpoint["skipped_in_a_row"]

    @property
    def _frames_trained_on(self) -> int:
        return len(self.trainer.datamodule.training)  # type: ignore[attr-defined]

    def _refuse_other_data(self, before: Card, frames: int) -> None:
        """Where an epoch begins depends on the number of frames, what labels and points mean on the rest."""
        found = [
            what
            for what, old, new in (
                ("classes", before.class_map.names, self.card.class_map.names),
                ("volume", before.grid, self.card.grid),
                ("full scale of the intensity", before.intensity_max, self.card.intensity_max),
                (f"number of frames ({frames}, now {self._frames_trained_on})", frames, self._frames_trained_on),
            )
            if old != new
        ]
        if found:
            raise ConfigError(
                f"data.train has changed since this run was begun, in its {', '.join(found)}: put it back, or begin "
                "another run with start_from=FOLDER/checkpoints/last.ckpt"
            )
