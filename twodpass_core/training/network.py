"""All that is trained: the student, and the image network and distillation that teach it. Only the student is kept."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from twodpass_core.classes import ClassMap
from twodpass_core.data.batch import Batch
from twodpass_core.errors import ConfigError
from twodpass_core.losses import SegmentationLoss, SegmentationTerms, inverse_frequency_weights
from twodpass_core.models.image_network import ImageNetwork, authors_image_network, paper_image_network
from twodpass_core.models.msfskd import DistillationTerms, make_distillation
from twodpass_core.models.student import PointBranch, PointVoxelStudent, ResidualBlock, StudentConfig
from twodpass_core.sparse.grid import VoxelGrid
from twodpass_core.training.config import TrainingConfig
from twodpass_core.training.recompute import recompute_in_backward

IMAGE_CONVOLUTIONS = (torch.ops.aten.convolution.default,)
"""What is kept of a block of the image network: normalisation and activation are quick to compute again."""


@dataclass(frozen=True, eq=False)
class TrainingTerms:
    """The loss of a batch and what it is made of; scalars."""

    total: Tensor
    student: SegmentationTerms
    distilled: DistillationTerms | None

    def named(self) -> dict[str, Tensor]:
        """Every term under a name of its own, for logs."""
        terms = {
            "loss": self.total,
            "student/cross_entropy": self.student.cross_entropy,
            "student/lovasz": self.student.lovasz,
        }
        if self.distilled is not None:
            terms |= {f"distillation/{name}": value for name, value in self.distilled.named().items()}
        return terms


class TrainingNetwork(nn.Module):
    """A batch in, its loss out. The student never sees an image; without distillation there is only the student."""

    def __init__(self, config: TrainingConfig, class_map: ClassMap, grid: VoxelGrid) -> None:
        """All weights are random. Raises ConfigError where scales or loss.point_counts do not fit."""
        super().__init__()
        architecture = StudentConfig(num_classes=class_map.num_classes, **config.student.model_dump())
        self.student = PointVoxelStudent(architecture, grid)
        weights = _class_weights(config.loss.point_counts, class_map)
        self.loss = SegmentationLoss(weights, config.loss.lovasz_weight)
        distillation_loss = SegmentationLoss(weights)
        widths = [architecture.width] * len(architecture.scales)
        self.distillation = make_distillation(config.distillation, widths, class_map.num_classes, distillation_loss)
        self.image_network = None if self.distillation is None else _image_network(config, architecture)
        self._recompute_in_backward(config.machine.save_memory)

    def forward(self, batch: Batch) -> TrainingTerms:
        """The loss and its parts, () float32 each; without images only the student's."""
        output = self.student(batch.points, batch.sample)
        student = self.loss(output.logits, batch.labels)
        if self.distillation is None or self.image_network is None or batch.images is None:
            return TrainingTerms(student.total, student, None)
        image = self.image_network(batch.images, batch.pixels)
        distilled = self.distillation(output.scale_features, image, batch.image_points, batch.labels)
        return TrainingTerms(student.total + distilled.total, student, distilled)

    def _recompute_in_backward(self, save_memory: bool) -> None:
        """Always what takes next to no time for the memory it would hold; to save memory, what takes some."""
        recompute_in_backward(self.student, "encode")
        recompute_in_backward(self.student, "classify")
        for module in self.student.modules():
            if isinstance(module, PointBranch):
                recompute_in_backward(module)
            if isinstance(module, ResidualBlock):
                recompute_in_backward(module, "forward" if save_memory else "shortcut_branch")
        if self.distillation is not None and self.image_network is not None:
            for scale in self.distillation.scales:
                recompute_in_backward(scale)
            encoder = self.image_network.encoder
            recompute_in_backward(encoder, "stem")
            for layer in encoder.layers():
                for block in layer:
                    kept = () if save_memory and layer is encoder.layer1 else IMAGE_CONVOLUTIONS
                    recompute_in_backward(block, keep=kept)


def _class_weights(point_counts: Sequence[int] | None, class_map: ClassMap) -> Tensor | None:
    if point_counts is None:
        return None
    if len(point_counts) != class_map.num_classes:
        raise ConfigError(
            f"loss.point_counts has {len(point_counts)} numbers, but the data has {class_map.num_classes} classes "
            f"({class_map.name}, the ignored class 0 included): give one for each, or null"
        )
    try:
        return inverse_frequency_weights(point_counts)
    except ValueError as error:
        raise ConfigError(f"loss.point_counts: {error}") from error


def _image_network(config: TrainingConfig, architecture: StudentConfig) -> ImageNetwork:
    width = config.distillation.image_width(architecture.width)
    if config.distillation.variant == "paper":
        return paper_image_network(architecture.scales, width, architecture.num_classes)
    return authors_image_network(architecture.scales, width)
