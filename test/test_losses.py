"""Losses against their definitions and the authors' values, and where there is little or nothing to compare."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import Tensor
from torch.nn import functional as F  # noqa: N812

from twodpass_core.losses import (
    SegmentationLoss,
    inverse_frequency_weights,
    kl_divergence,
    lovasz_softmax,
    weighted_cross_entropy,
)

SEMANTIC_KITTI_POINTS = [
    0, 55437630, 320797, 541736, 2578735, 3274484, 552662, 184064, 78858, 240942562, 17294618, 170599734, 6369672,
    230413074, 101130274, 476491114, 9833174, 129609852, 4506626, 1168181,
]  # fmt: skip

labels_and_predictions = st.lists(st.tuples(st.integers(0, 4), st.integers(0, 4)), min_size=1, max_size=40)


def random_case(points: int, classes: int, seed: int = 0) -> tuple[Tensor, Tensor]:
    generator = torch.Generator().manual_seed(seed)
    logits = torch.randn(points, classes, generator=generator) * 3
    return logits, torch.randint(0, classes, (points,), generator=generator)


def lovasz_by_definition(logits: Tensor, labels: Tensor) -> Tensor:
    """The sum over sorted errors of error times the growth of the Jaccard loss, in float64, class by class."""
    kept = labels != 0
    probabilities, labels = logits[kept].double().softmax(1), labels[kept]
    losses = []
    for class_id in labels.unique():
        truth = (labels == class_id).double()
        errors, order = (truth - probabilities[:, class_id]).abs().sort(descending=True)
        truth = truth[order]
        jaccard_loss = 1 - (truth.sum() - truth.cumsum(0)) / (truth.sum() + (1 - truth).cumsum(0))
        losses.append((errors * torch.diff(jaccard_loss, prepend=jaccard_loss.new_zeros(1))).sum())
    return torch.stack(losses).mean()


def test_golden_lovasz(golden: Path) -> None:
    example = json.loads((golden / "misc.json").read_text())["lovasz"]
    loss = lovasz_softmax(torch.tensor(example["logits"]), torch.tensor(example["labels"]))
    assert float(loss) == pytest.approx(example["value"], rel=1e-6)


def test_golden_class_weights(golden: Path) -> None:
    expected = torch.tensor(json.loads((golden / "misc.json").read_text())["ce_weights"])
    weights = inverse_frequency_weights(SEMANTIC_KITTI_POINTS)
    torch.testing.assert_close(weights[1:], expected[1:], rtol=1e-6, atol=0)
    assert weights[0] == 0  # infinite in the authors' file, where nothing reads it


def test_a_class_without_points_weighs_as_much_as_the_rarest() -> None:
    assert inverse_frequency_weights([5, 80, 0, 10]).tolist() == [0, 1, 2, 2]


@pytest.mark.parametrize("counts", [[0, 0, 0], [7, 0, 0], [0, 3, -1], [0]])
def test_class_weights_of_no_points_are_refused(counts: list[int]) -> None:
    with pytest.raises(ValueError, match="number of points"):
        inverse_frequency_weights(counts)


@pytest.mark.parametrize("scale", [None, 1, 1e-4])
def test_cross_entropy_is_the_weighted_mean_over_labelled_points(scale: float | None) -> None:
    logits, labels = random_case(500, 6)
    weights = None if scale is None else scale * torch.tensor([0.0, 1, 2, 3, 0.5, 4])
    expected = F.cross_entropy(logits, labels, weights, ignore_index=0)
    torch.testing.assert_close(weighted_cross_entropy(logits, labels, weights), expected)


@given(labels_and_predictions)
def test_lovasz_of_certain_predictions_is_one_minus_mean_iou(pairs: list[tuple[int, int]]) -> None:
    labels, predictions = torch.tensor(pairs).unbind(1)
    loss = lovasz_softmax(F.one_hot(predictions, 5) * 200.0, labels)
    labelled = [(label, prediction) for label, prediction in pairs if label != 0]
    losses = []
    for class_id in {label for label, _ in labelled}:
        both = sum(pair == (class_id, class_id) for pair in labelled)
        losses.append(1 - both / sum(class_id in pair for pair in labelled))
    assert float(loss) == pytest.approx(sum(losses) / max(len(losses), 1), abs=1e-6)


@pytest.mark.parametrize("points", [1, 2, 50, 50_000])
def test_lovasz_equals_its_definition_with_gradients(points: int) -> None:
    logits, labels = random_case(points, 7, seed=points)
    labels[0] = 3
    ours, theirs = logits.clone().requires_grad_(), logits.double().requires_grad_()
    loss, expected = lovasz_softmax(ours, labels), lovasz_by_definition(theirs, labels)
    loss.backward()
    expected.backward()
    assert loss.item() == pytest.approx(expected.item(), rel=1e-5)
    assert ours.grad is not None
    assert theirs.grad is not None
    torch.testing.assert_close(ours.grad, theirs.grad.float(), rtol=1e-3, atol=1e-3 * float(theirs.grad.abs().max()))


def test_kl_is_summed_over_classes_and_meant_over_points() -> None:
    teacher, student = random_case(300, 20)[0], random_case(300, 20, seed=1)[0]
    distributions = (torch.distributions.Categorical(logits=logits) for logits in (teacher, student))
    expected = torch.distributions.kl_divergence(*distributions).mean()
    torch.testing.assert_close(kl_divergence(teacher, student), expected)
    assert float(kl_divergence(teacher, teacher)) == pytest.approx(0, abs=1e-6)


def test_kl_teaches_the_student_only() -> None:
    teacher, student = (random_case(10, 4, seed)[0].requires_grad_() for seed in (0, 1))
    kl_divergence(teacher, student).backward()
    assert teacher.grad is None
    assert student.grad is not None
    assert bool((student.grad != 0).any())


def test_segmentation_loss_adds_its_terms() -> None:
    logits, labels = random_case(100, 5)
    terms = SegmentationLoss(torch.ones(5), lovasz_weight=0.1)(logits, labels)
    assert float(terms.total) == pytest.approx(float(terms.cross_entropy) + 0.1 * float(terms.lovasz))


def test_segmentation_loss_adds_nothing_to_a_checkpoint() -> None:
    assert SegmentationLoss(torch.ones(5)).state_dict() == {}


def test_any_integer_labels_will_do() -> None:
    logits, labels = random_case(100, 5)
    loss = SegmentationLoss(torch.ones(5))
    totals = {float(loss(logits, labels.to(kind)).total) for kind in (torch.uint8, torch.int32, torch.int64)}
    assert len(totals) == 1


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16])
def test_half_precision_logits_are_computed_in_float32(dtype: torch.dtype) -> None:
    logits, labels = random_case(2000, 5)
    logits = logits.to(dtype)
    loss = SegmentationLoss()
    assert loss(logits, labels).total == loss(logits.float(), labels).total
    assert weighted_cross_entropy(logits, labels, None) == weighted_cross_entropy(logits.float(), labels, None)
    assert lovasz_softmax(logits, labels) == lovasz_softmax(logits.float(), labels)
    assert kl_divergence(logits, logits.flip(0)) == kl_divergence(logits.float(), logits.float().flip(0))


EDGE_CASES = {
    "empty": torch.zeros(0, dtype=torch.long),
    "one point": torch.tensor([2]),
    "one point, unlabelled": torch.tensor([0]),
    "no labelled point": torch.zeros(6, dtype=torch.long),
    "one labelled point": torch.tensor([0, 0, 3, 0]),
    "one class": torch.full((6,), 2),
    "a class that weighs nothing": torch.full((6,), 4),
}
TERMS: dict[str, Callable[[Tensor, Tensor], Tensor]] = {
    "cross entropy": lambda logits, labels: weighted_cross_entropy(logits, labels, torch.tensor([0.0, 1, 2, 3, 0])),
    "lovasz": lambda logits, labels: lovasz_softmax(logits, labels),
    "total": lambda logits, labels: SegmentationLoss()(logits, labels).total,
    "kl": lambda logits, labels: kl_divergence(logits.detach() + 1, logits),
}


@pytest.mark.parametrize("magnitude", [1.0, 1e4])
@pytest.mark.parametrize("term", TERMS)
@pytest.mark.parametrize("case", EDGE_CASES)
def test_edge_cases_are_finite_with_gradients(case: str, term: str, magnitude: float) -> None:
    labels = EDGE_CASES[case]
    logits = (random_case(labels.shape[0], 5)[0] * magnitude).requires_grad_()
    loss = TERMS[term](logits, labels)
    loss.backward()
    assert loss.shape == ()
    assert bool(loss.isfinite())
    assert logits.grad is not None
    assert bool(logits.grad.isfinite().all())
    if term != "kl" and not (labels != 0).any():
        assert loss == 0
        assert not bool(logits.grad.any())


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16, torch.float16])
def test_the_gradient_found_with_the_loss_is_the_losses(dtype: torch.dtype) -> None:
    logits, labels = random_case(300, 5)
    loss = SegmentationLoss(torch.tensor([0.0, 1, 2, 3, 4]), lovasz_weight=0.7)
    at_once, afterwards = (logits.to(dtype).requires_grad_() for _ in range(2))
    terms = loss(at_once, labels)
    *parts, total = loss.terms(afterwards, labels)
    torch.testing.assert_close([terms.cross_entropy, terms.lovasz, terms.total], [*parts, total])
    (2 * terms.total).backward()
    (2 * total).backward()
    torch.testing.assert_close(at_once.grad, afterwards.grad)


def test_a_loss_scaled_for_16_bits_keeps_its_small_gradients() -> None:
    logits, labels = random_case(100_000, 5)
    logits = logits.half().requires_grad_()
    (2.0**14 * SegmentationLoss()(logits, labels).total).backward()
    assert logits.grad is not None
    assert (logits.grad != 0).float().mean() > 0.75


def test_a_loss_without_gradient() -> None:
    logits, labels = random_case(30, 5)
    assert not SegmentationLoss()(logits, labels).total.requires_grad
    with torch.no_grad():
        assert not SegmentationLoss()(logits.requires_grad_(), labels).total.requires_grad


def test_the_parts_of_a_loss_have_no_gradient() -> None:
    """They are for logs: one of them would be 0."""
    logits, labels = random_case(30, 5)
    terms = SegmentationLoss()(logits.requires_grad_(), labels)
    assert terms.total.requires_grad
    assert not terms.cross_entropy.requires_grad
    assert not terms.lovasz.requires_grad
