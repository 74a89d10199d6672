"""The losses of 2DPASS: weighted cross entropy, Lovasz-softmax, and the divergence that carries knowledge over (eq. 7).

All are computed in float32 and are finite, with gradients, whatever the batch holds; without points a loss is 0.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn
from torch.autograd import Function
from torch.autograd.function import once_differentiable
from torch.nn import functional as F  # noqa: N812

from twodpass_core.classes import IGNORED


@dataclass(frozen=True, eq=False)
class SegmentationTerms:
    """Scalars: both parts unweighted and without a gradient, and the total that is trained on."""

    cross_entropy: Tensor
    lovasz: Tensor
    total: Tensor


class SegmentationLoss(nn.Module):
    """Cross entropy, weighted by class, plus `lovasz_weight` times Lovasz-softmax. Label IGNORED does not count."""

    class_weights: Tensor | None

    def __init__(self, class_weights: Tensor | None = None, lovasz_weight: float = 1.0) -> None:
        super().__init__()
        self.register_buffer("class_weights", class_weights, persistent=False)
        self.lovasz_weight = lovasz_weight

    def forward(self, logits: Tensor, labels: Tensor) -> SegmentationTerms:
        """Logits (N, K), labels (N,) of any integer type."""
        return SegmentationTerms(*_GradientAtOnce.apply(logits, labels, self))  # type: ignore[no-untyped-call]

    def terms(self, logits: Tensor, labels: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """Cross entropy, Lovasz-softmax and the total, all with gradients."""
        cross_entropy = weighted_cross_entropy(logits, labels, self.class_weights)
        lovasz = lovasz_softmax(logits, labels)
        return cross_entropy, lovasz, cross_entropy + self.lovasz_weight * lovasz


class _GradientAtOnce(Function):
    """Finds the gradient along with the loss and keeps it alone, not the five tensors of the logits' size behind it."""

    @staticmethod
    def forward(ctx: Any, logits: Tensor, labels: Tensor, loss: SegmentationLoss) -> tuple[Tensor, Tensor, Tensor]:
        with torch.enable_grad():
            # In float32, so that the scale which keeps fp16's gradients from vanishing comes before they are rounded.
            leaf = logits.detach().float().requires_grad_(ctx.needs_input_grad[0])
            cross_entropy, lovasz, total = loss.terms(leaf, labels)
        if ctx.needs_input_grad[0]:
            ctx.save_for_backward(*torch.autograd.grad(total, leaf))
        detached = cross_entropy.detach(), lovasz.detach(), total.detach()
        ctx.mark_non_differentiable(*detached[:2])
        return detached

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, *grads: Tensor) -> tuple[Tensor | None, ...]:
        (gradient,) = ctx.saved_tensors
        return gradient * grads[2], None, None  # autograd rounds it to the logits' type


def weighted_cross_entropy(logits: Tensor, labels: Tensor, class_weights: Tensor | None) -> Tensor:
    """Mean over the labelled points, each counted with the weight of its class."""
    labels = labels.long()
    weights = logits.new_ones(logits.shape[1], dtype=torch.float32) if class_weights is None else class_weights
    total = F.cross_entropy(logits.float(), labels, weights, ignore_index=IGNORED, reduction="sum")
    weight = weights[labels].masked_fill(labels == IGNORED, 0).sum()
    return total / torch.where(weight > 0, weight, 1)


def lovasz_softmax(logits: Tensor, labels: Tensor) -> Tensor:
    """Convex surrogate of 1 - mean IoU over the classes present, all points together (Berman et al., CVPR 2018)."""
    # Unlabelled points and absent classes are masked, not left out: a GPU's host need not wait for their number.
    labelled = labels != IGNORED
    foreground = (labels == torch.arange(logits.shape[1], device=labels.device)[:, None]) & labelled
    present = foreground.any(dim=1)
    probabilities = logits.float().softmax(dim=1).t().contiguous()
    errors = (foreground.float() - probabilities).abs().where(labelled, 0)
    slopes = torch.zeros_like(errors)
    for class_id in range(logits.shape[1]):
        if class_id != IGNORED:
            slopes[class_id] = _lovasz_slopes(errors[class_id].detach(), foreground[class_id])
    loss: Tensor = (errors * slopes).sum(dim=1).where(present, 0).sum() / present.sum().clamp(min=1)
    return loss


def _lovasz_slopes(errors: Tensor, foreground: Tensor) -> Tensor:
    """(N,): how much the Jaccard loss of a class grows when a point joins those with larger errors as a wrong one."""
    # Non-negative floats are in the order of their bits, and one row of integers sorts several times faster on the CPU.
    order = (-errors.view(torch.int32)).argsort(stable=True)
    is_foreground = foreground[order]
    missed = is_foreground.cumsum(0, dtype=torch.int32)
    size = missed[-1:].clamp(min=1)
    rank = torch.arange(1, errors.shape[0] + 1, device=errors.device, dtype=torch.int32)
    intersection, union = size - missed, size + rank - missed
    # The difference of two successive values of 1 - intersection / union, without the cancellation.
    growth = torch.where(is_foreground, 1, intersection / (union - 1)) / union
    return torch.empty_like(errors).scatter_(0, order, growth)


def kl_divergence(teacher_logits: Tensor, student_logits: Tensor) -> Tensor:
    """Eq. 7: D_KL(teacher || student), summed over the classes, mean over the points. The teacher gets no gradient."""
    teacher = teacher_logits.detach().float().log_softmax(dim=1)
    student = student_logits.float().log_softmax(dim=1)
    return F.kl_div(student, teacher, reduction="sum", log_target=True) / max(student.shape[0], 1)


def inverse_frequency_weights(point_counts: Sequence[int]) -> Tensor:
    """(K,) float32 class weights: cube root of (points of the most frequent class / points of the class).

    The ignored class weighs 0; a class without points as much as the rarest that has some.

    Raises:
        ValueError: a count is negative, or no class has points.
    """
    counts = torch.tensor(point_counts, dtype=torch.float64)
    counts[IGNORED] = 0
    if not bool((counts >= 0).all()) or not bool((counts > 0).any()):
        raise ValueError(f"class weights need the number of points of each class, some above 0, not {point_counts}")
    rarest = counts[counts > 0].min()
    weights = (counts.max() / counts.clamp(min=rarest)) ** (1 / 3)
    weights[IGNORED] = 0
    return weights.float()
