"""Multi-scale fusion-to-single knowledge distillation (MSFSKD, section 3.4): the camera teaches the LiDAR network.

At every scale the student's features at the points in the image are fused with the image's, both are classified, and
the student's scores are drawn towards the fused ones. All of this exists in training only, and nothing here knows which
student it is: it reads per-scale features. `PaperDistillation` follows the paper, `AuthorsDistillation` its code.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Literal, NamedTuple, Protocol

import torch
from pydantic import Field, model_validator
from torch import Tensor, nn
from torch.nn import functional as F  # noqa: N812

from twodpass_core.checked import Checked
from twodpass_core.choices import Variant
from twodpass_core.losses import SegmentationLoss, SegmentationTerms, kl_divergence
from twodpass_core.models.image_network import ImageFeatures

AUTHORS_HIDDEN = 128  # hidden channels of the authors' classifiers


class DistillationConfig(Checked):
    """What is distilled, and how. The defaults are the paper's."""

    kind: Literal["msfskd", "none"] = Field("msfskd", description="none: the student is trained alone")
    variant: Variant = Field("paper", description="equations of the paper, or of its authors' code")
    fusion: bool = Field(True, description="the teacher sees both features (eq. 6); if not, the image's alone")
    learner: bool = Field(
        True,
        description="a learned bridge (2D learner) between LiDAR features and the image's; authors: with fusion only",
    )
    width: int = Field(64, ge=1, description="paper: channels that the features of both are reduced to")
    fusion_weight: float = Field(1.0, ge=0, description="weight of the fused predictions' segmentation loss")
    kl_weight: float = Field(0.05, ge=0, description="weight of the distillation, against 1 for segmentation")

    @model_validator(mode="after")
    def _nothing_without_effect(self) -> DistillationConfig:
        if self.variant == "authors":
            if self.width != DistillationConfig.model_fields["width"].default:
                raise ValueError("width is the paper variant's: features of the authors' have the student's width")
            if self.learner and not self.fusion and "learner" in self.model_fields_set:
                raise ValueError("learner without fusion is the paper variant's: set it to false, or fusion to true")
        return self

    @property
    def implied(self) -> frozenset[str]:
        """The settings that have no effect beside the others: left out where settings are written down."""
        if self.variant == "paper":
            return frozenset()
        return frozenset({"width"} if self.fusion or not self.learner else {"width", "learner"})

    def image_width(self, student_width: int) -> int:
        """Channels that the image network must give."""
        return self.width if self.variant == "paper" else student_width


class HasScaleFeatures(Protocol):
    """All that is asked of a student: at each scale the features of its voxels (M, C), and each point's voxel (N,)."""

    @property
    def features(self) -> Tensor: ...

    @property
    def point_to_voxel(self) -> Tensor: ...


@dataclass(frozen=True, eq=False)
class DistillationTerms:
    """Scalars: one of each kind for every scale, unweighted, and the total to be added to the student's own loss."""

    total: Tensor
    fused: tuple[SegmentationTerms, ...]
    lidar: tuple[SegmentationTerms, ...]
    kl: tuple[Tensor, ...]
    extra: Mapping[str, SegmentationTerms]
    """`image`: the 2D decoder (paper). `all_scales`: the classifier of all fused features together (authors)."""

    def named(self) -> dict[str, Tensor]:
        """Every term under a name of its own, for logs."""
        segmentation = {f"scale{i}/fused": terms for i, terms in enumerate(self.fused)}
        segmentation |= {f"scale{i}/lidar": terms for i, terms in enumerate(self.lidar)}
        segmentation |= self.extra
        named = {f"scale{i}/kl": value for i, value in enumerate(self.kl)} | {"total": self.total}
        for name, terms in segmentation.items():
            named |= {f"{name}_cross_entropy": terms.cross_entropy, f"{name}_lovasz": terms.lovasz}
        return named


class PaperDistillation(nn.Module):
    """seg(2D decoder) + (1/L) sum_l [fusion_weight seg(S^2D3D_l) + seg(S^3D_l) + kl_weight D_KL(S^2D3D_l || S^3D_l)].

    Section 3.4, with eq. 6 for S^2D3D and eq. 7 for D_KL. All of it at the points in the image: eq. 5 leaves the others
    to the student's own loss.
    """

    def __init__(
        self, config: DistillationConfig, student_widths: Sequence[int], num_classes: int, loss: SegmentationLoss
    ) -> None:
        super().__init__()
        self.config, self.loss = config, loss
        self.scales = nn.ModuleList(PaperScale(config, width, num_classes) for width in student_widths)

    def forward(
        self, scale_features: Sequence[HasScaleFeatures], image: ImageFeatures, point: Tensor, labels: Tensor
    ) -> DistillationTerms:
        """The features in `image` are those of points `point` (P,) int64, indices into all N; `labels` are (N,)."""
        if image.logits is None:
            raise ValueError("the paper's variant needs the logits of the 2D decoder: use paper_image_network")
        labels = labels.index_select(0, point)
        fused, lidar, kl = [], [], []
        for scale, voxels, image_features in zip(self.scales, scale_features, image.features, strict=True):
            at_points = voxels.features.index_select(0, voxels.point_to_voxel.index_select(0, point))
            fused_logits, lidar_logits = scale(image_features, at_points)
            fused.append(self.loss(fused_logits, labels))
            lidar.append(self.loss(lidar_logits, labels))
            kl.append(kl_divergence(fused_logits, lidar_logits))
        decoder = self.loss(image.logits, labels)
        per_scale = self.config.fusion_weight * _sum(fused) + _sum(lidar) + self.config.kl_weight * sum(kl)
        total = decoder.total + per_scale / len(self.scales)
        return DistillationTerms(total, tuple(fused), tuple(lidar), tuple(kl), {"image": decoder})


class PaperScale(nn.Module):
    """One scale: modality fusion and the two classifiers of fig. 4."""

    def __init__(self, config: DistillationConfig, student_width: int, num_classes: int) -> None:
        super().__init__()
        width = config.width
        self.reduce = nn.Linear(student_width, width)
        self.learner = _mlp(width, width, width) if config.learner else None
        self.fusion = GatedFusion(width) if config.fusion else None
        self.fused_classifier = nn.Linear(width, num_classes)
        self.lidar_classifier = nn.Linear(width, num_classes)

    def forward(self, image: Tensor, lidar: Tensor) -> tuple[Tensor, Tensor]:
        """F^2D (P, width), F^3D (P, C) -> scores S^2D3D (P, K), S^3D (P, K)."""
        lidar = self.reduce(lidar)
        learned = lidar if self.learner is None else self.learner(lidar)
        fused = image if self.fusion is None else self.fusion(image, learned)
        enhanced = lidar if self.learner is None else lidar + learned
        return self.fused_classifier(fused), self.lidar_classifier(enhanced)


class GatedFusion(nn.Module):
    """Eq. 6: F^2D3De = F^2D + sigmoid(MLP(F^2D3D)) * F^2D3D, where F^2D3D = MLP([F^2D, F^learner])."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.merge = _mlp(2 * width, width, width)
        self.gate = _mlp(width, width, width)

    def forward(self, image: Tensor, learned: Tensor) -> Tensor:
        """F^2D and F^learner of P points in the image, (P, D) each -> F^2D3De (P, D)."""
        merged = self.merge(torch.cat([image, learned], dim=1))
        out: Tensor = image + torch.sigmoid(self.gate(merged)) * merged
        return out


class AuthorsDistillation(nn.Module):
    """seg(all scales) + sum_l seg(S^3D_l) + (1/L) sum_l [fusion_weight seg(S^2D3D_l) + kl_weight D_KL / K].

    Where it departs from section 3.4: the LiDAR scores S^3D are of all voxels (eq. 5 leaves out those outside the
    image), of the plain 3D features, against the voxel's most frequent label, and not divided by the L scales. D_KL
    (eq. 7) is a mean over the K classes, too. Fusion (eq. 6) does not add the image's features. One more classifier
    sees the fused features of all scales; the 2D decoder has none.
    """

    def __init__(
        self, config: DistillationConfig, student_widths: Sequence[int], num_classes: int, loss: SegmentationLoss
    ) -> None:
        super().__init__()
        self.config, self.num_classes, self.loss = config, num_classes, loss
        self.scales = nn.ModuleList(AuthorsScale(config, width, num_classes) for width in student_widths)
        self.all_scales_classifier = _mlp(sum(student_widths), AUTHORS_HIDDEN, num_classes)

    def forward(
        self, scale_features: Sequence[HasScaleFeatures], image: ImageFeatures, point: Tensor, labels: Tensor
    ) -> DistillationTerms:
        """The features in `image` are those of points `point` (P,) int64, indices into all N; `labels` are (N,)."""
        point_labels = labels.index_select(0, point)
        fused, lidar, kl, fused_features = [], [], [], []
        for scale, voxels, image_features in zip(self.scales, scale_features, image.features, strict=True):
            scores = scale(image_features, voxels.features, voxels.point_to_voxel.index_select(0, point))
            fused.append(self.loss(scores.fused, point_labels))
            lidar.append(self.loss(scores.voxels, majority_labels(labels, voxels, self.num_classes)))
            kl.append(kl_divergence(scores.fused, scores.points) / self.num_classes)
            fused_features.append(scores.fused_features)
        all_scales = self.loss(self.all_scales_classifier(torch.cat(fused_features, dim=1)), point_labels)
        shared = (self.config.fusion_weight * _sum(fused) + self.config.kl_weight * sum(kl)) / len(self.scales)
        total = all_scales.total + _sum(lidar) + shared
        return DistillationTerms(total, tuple(fused), tuple(lidar), tuple(kl), {"all_scales": all_scales})


class AuthorsScores(NamedTuple):
    """LiDAR logits of the voxels (M, K) and image points (P, K), fused logits (P, K) and features (P, C)."""

    voxels: Tensor
    points: Tensor
    fused: Tensor
    fused_features: Tensor


class AuthorsScale(nn.Module):
    """One scale: fusion without the residual of eq. 6, relu(sigmoid(MLP(F^2D3D)) * F^2D3D), and two classifiers."""

    def __init__(self, config: DistillationConfig, width: int, num_classes: int) -> None:
        super().__init__()
        self.learner = nn.Linear(width, width) if config.learner and config.fusion else None
        self.merge = nn.Linear(2 * width, width) if config.fusion else None
        self.gate = nn.Linear(width, width) if config.fusion else None
        self.fused_classifier = _mlp(width, AUTHORS_HIDDEN, num_classes)
        self.lidar_classifier = _mlp(width, AUTHORS_HIDDEN, num_classes)

    def forward(self, image: Tensor, voxels: Tensor, voxel: Tensor) -> AuthorsScores:
        """F^2D (P, C) of the image points, F^3D (M, C) of all voxels, and the voxel of each image point (P,)."""
        logits = self.lidar_classifier(voxels)
        fused_features = self._fuse(image, voxels.index_select(0, voxel))
        fused = self.fused_classifier(fused_features)
        return AuthorsScores(logits, logits.index_select(0, voxel), fused, fused_features)

    def _fuse(self, image: Tensor, lidar: Tensor) -> Tensor:
        if self.merge is None or self.gate is None:
            return image
        learned = lidar if self.learner is None else F.relu(self.learner(lidar))
        merged = self.merge(torch.cat([image, learned], dim=1))
        return F.relu(merged * torch.sigmoid(self.gate(merged)))


def make_distillation(
    config: DistillationConfig, student_widths: Sequence[int], num_classes: int, loss: SegmentationLoss
) -> PaperDistillation | AuthorsDistillation | None:
    """The distillation for a student with these feature widths, one for each scale; None if the config says so."""
    if config.kind == "none":
        return None
    variant = PaperDistillation if config.variant == "paper" else AuthorsDistillation
    return variant(config, student_widths, num_classes, loss)


def majority_labels(labels: Tensor, voxels: HasScaleFeatures, num_classes: int) -> Tensor:
    """(M,) int64: the label most of a voxel's points have, the smallest of several. Unlabelled points vote, too."""
    num_voxels = voxels.features.shape[0]
    ballots = voxels.point_to_voxel.long() * num_classes + labels
    # bincount would have a GPU's host wait.
    votes = torch.zeros(num_voxels * num_classes, dtype=torch.int64, device=labels.device)
    return votes.scatter_add_(0, ballots, torch.ones_like(ballots)).view(num_voxels, num_classes).argmax(dim=1)


def _sum(terms: Sequence[SegmentationTerms]) -> Tensor:
    return torch.stack([term.total for term in terms]).sum()


def _mlp(channels_in: int, hidden: int, channels: int) -> nn.Sequential:
    return nn.Sequential(nn.Linear(channels_in, hidden), nn.ReLU(), nn.Linear(hidden, channels))
