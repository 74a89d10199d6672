"""Distillation: its equations, what learns from what, its options, any student, and batches with little in them."""

from __future__ import annotations

import subprocess
import sys
from collections import Counter
from dataclasses import dataclass

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from pydantic import ValidationError
from torch import Tensor, nn

from twodpass_core.losses import SegmentationLoss, SegmentationTerms
from twodpass_core.models.image_network import ImageFeatures
from twodpass_core.models.msfskd import (
    AuthorsDistillation,
    AuthorsScale,
    DistillationConfig,
    DistillationTerms,
    GatedFusion,
    PaperDistillation,
    PaperScale,
    majority_labels,
    make_distillation,
)

NUM_CLASSES = 5
STUDENT_WIDTHS = (6, 8)  # a student of our own, with features of different widths
VARIANTS = ("paper", "authors")


@dataclass
class Voxels:
    features: Tensor
    point_to_voxel: Tensor


@dataclass
class Batch:
    scales: list[Voxels]
    image: ImageFeatures
    point: Tensor
    labels: Tensor

    def leaves(self) -> list[Tensor]:
        logits = [] if self.image.logits is None else [self.image.logits]
        return [*(voxels.features for voxels in self.scales), *self.image.features, *logits]


def make_batch(config: DistillationConfig, labels: Tensor, point: Tensor, seed: int = 0) -> Batch:
    """Points fall into voxels by threes at the first scale and by fives at the second; features are random."""
    generator = torch.Generator().manual_seed(seed)

    def leaf(rows: int, columns: int) -> Tensor:
        return torch.randn(rows, columns, generator=generator).requires_grad_()

    num_points = labels.shape[0]
    owners = [torch.arange(num_points, dtype=torch.int32) // size for size in (3, 5)]
    counts = [int(owner.max()) + 1 if num_points else 0 for owner in owners]
    scales = [Voxels(leaf(n, width), owner) for n, width, owner in zip(counts, STUDENT_WIDTHS, owners, strict=True)]
    features = tuple(leaf(point.shape[0], config.image_width(width)) for width in STUDENT_WIDTHS)
    logits = leaf(point.shape[0], NUM_CLASSES) if config.variant == "paper" else None
    return Batch(scales, ImageFeatures(features, logits), point, labels)


def usual_batch(config: DistillationConfig) -> Batch:
    generator = torch.Generator().manual_seed(5)
    labels = torch.randint(0, NUM_CLASSES, (200,), generator=generator)
    return make_batch(config, labels, torch.arange(0, 120, 2))


def make(config: DistillationConfig) -> PaperDistillation | AuthorsDistillation:
    torch.manual_seed(0)
    distillation = make_distillation(config, STUDENT_WIDTHS, NUM_CLASSES, SegmentationLoss())
    assert distillation is not None
    return distillation


def run(distillation: nn.Module, batch: Batch) -> DistillationTerms:
    terms: DistillationTerms = distillation(batch.scales, batch.image, batch.point, batch.labels)
    return terms


def total(terms: tuple[SegmentationTerms, ...]) -> float:
    return sum(term.total.item() for term in terms)


def has_gradient(tensor: Tensor) -> bool:
    return tensor.grad is not None and bool((tensor.grad != 0).any())


def test_paper_total_is_the_sum_of_its_equation() -> None:
    config = DistillationConfig(width=7, fusion_weight=0.5)
    terms = run(make(config), usual_batch(config))
    per_scale = 0.5 * total(terms.fused) + total(terms.lidar) + 0.05 * sum(kl.item() for kl in terms.kl)
    assert terms.total.item() == pytest.approx(terms.extra["image"].total.item() + per_scale / 2)


def test_authors_total_leaves_the_lidar_scores_undivided() -> None:
    config = DistillationConfig(variant="authors", fusion_weight=0.5)
    terms = run(make(config), usual_batch(config))
    divided = 0.5 * total(terms.fused) + 0.05 * sum(kl.item() for kl in terms.kl)
    undivided = terms.extra["all_scales"].total.item() + total(terms.lidar)
    assert terms.total.item() == pytest.approx(undivided + divided / 2)


def test_paper_divergence_is_per_point_and_that_of_the_authors_per_element() -> None:
    """Heads that see nothing of their input: the divergence is known."""
    for variant, divisor in (("paper", 1), ("authors", NUM_CLASSES)):
        config = DistillationConfig(variant=variant)
        distillation = make(config)
        fused, lidar = torch.linspace(-1, 1, NUM_CLASSES), torch.linspace(2, -3, NUM_CLASSES)
        with torch.no_grad():
            for name, parameter in distillation.scales.named_parameters():
                if "classifier" in name:
                    parameter.zero_()
                if "classifier" in name and parameter.shape == (NUM_CLASSES,):
                    parameter.copy_(fused if "fused" in name else lidar)
        expected = torch.distributions.kl_divergence(
            torch.distributions.Categorical(logits=fused), torch.distributions.Categorical(logits=lidar)
        )
        for kl in run(distillation, usual_batch(config)).kl:
            assert kl.item() == pytest.approx(expected.item() / divisor, rel=1e-5)


def test_gated_fusion_is_equation_6() -> None:
    fusion, (image, learned) = GatedFusion(4), torch.randn(2, 9, 4)
    merged = fusion.merge(torch.cat([image, learned], dim=1))
    gate = 1 / (1 + torch.exp(-fusion.gate(merged)))
    torch.testing.assert_close(fusion(image, learned), image + gate * merged)


def test_paper_fuses_the_image_with_what_the_learner_makes_of_the_lidar() -> None:
    scale = PaperScale(DistillationConfig(width=7), STUDENT_WIDTHS[0], NUM_CLASSES)
    image, lidar = torch.randn(9, 7), torch.randn(9, STUDENT_WIDTHS[0])
    reduced = scale.reduce(lidar)
    learned = scale.get_submodule("learner")(reduced)
    fused = scale.get_submodule("fusion")(image, learned)
    expected = scale.fused_classifier(fused), scale.lidar_classifier(reduced + learned)
    torch.testing.assert_close(scale(image, lidar), expected)


def test_authors_fusion_is_rectified_and_adds_no_image() -> None:
    scale = AuthorsScale(DistillationConfig(variant="authors"), 6, NUM_CLASSES)
    learner, merge, gate = (scale.get_submodule(name) for name in ("learner", "merge", "gate"))
    image, voxels, voxel = torch.randn(9, 6), torch.randn(4, 6), torch.arange(9) % 4
    merged = merge(torch.cat([image, learner(voxels[voxel]).relu()], dim=1))
    expected = (merged * torch.sigmoid(gate(merged))).relu()
    torch.testing.assert_close(scale(image, voxels, voxel).fused_features, expected)


def test_paper_looks_at_the_points_in_the_image_only() -> None:
    config = DistillationConfig(width=7)
    distillation, batch = make(config), usual_batch(config)
    before = run(distillation, batch).total
    batch.labels[130:] = 1
    for voxels in batch.scales:
        voxels.features = voxels.features.detach().clone()
        voxels.features[voxels.point_to_voxel[130:].long()] += 1
    assert torch.equal(run(distillation, batch).total, before)


@pytest.mark.parametrize("variant", VARIANTS)
def test_divergence_teaches_lidar_and_leaves_the_teacher_alone(variant: str) -> None:
    config = DistillationConfig(variant=variant)
    distillation, batch = make(config), usual_batch(config)
    torch.stack(run(distillation, batch).kl).sum().backward()
    assert all(has_gradient(voxels.features) for voxels in batch.scales)
    assert not any(has_gradient(features) for features in batch.image.features)
    names = {name.split(".")[2] for name, parameter in distillation.named_parameters() if has_gradient(parameter)}
    assert names <= {"reduce", "learner", "lidar_classifier"}


@pytest.mark.parametrize("variant", VARIANTS)
@pytest.mark.parametrize("fusion", [True, False])
def test_fused_predictions_train_the_student_only_through_fusion(variant: str, fusion: bool) -> None:
    config = DistillationConfig(variant=variant, fusion=fusion)
    batch = usual_batch(config)
    torch.stack([term.total for term in run(make(config), batch).fused]).sum().backward()
    assert all(has_gradient(features) for features in batch.image.features)
    assert all(has_gradient(voxels.features) is fusion for voxels in batch.scales)


@pytest.mark.parametrize("variant", VARIANTS)
@pytest.mark.parametrize("fusion", [True, False])
@pytest.mark.parametrize("learner", [True, False])
def test_everything_that_an_option_makes_learns(variant: str, fusion: bool, learner: bool) -> None:
    settings = {"variant": variant, "fusion": fusion, "learner": learner}
    if variant == "authors" and learner and not fusion:  # its LiDAR classifier sees the plain features
        with pytest.raises(ValidationError, match="learner without fusion is the paper variant's"):
            DistillationConfig.model_validate(settings)
        return
    config = DistillationConfig.model_validate(settings)
    distillation, batch = make(config), usual_batch(config)
    run(distillation, batch).total.backward()
    assert all(has_gradient(parameter) for parameter in distillation.parameters())
    assert all(has_gradient(leaf) for leaf in batch.leaves())
    assert any("learner" in name for name in distillation.state_dict()) is learner


def test_without_learner_the_lidar_classifier_sees_the_reduced_features() -> None:
    config = DistillationConfig(learner=False)
    scale = PaperScale(config, STUDENT_WIDTHS[0], NUM_CLASSES)
    image, lidar = torch.randn(3, config.width), torch.randn(3, STUDENT_WIDTHS[0])
    torch.testing.assert_close(scale(image, lidar)[1], scale.lidar_classifier(scale.reduce(lidar)))


def test_a_point_seen_by_two_cameras_counts_twice() -> None:
    config = DistillationConfig()
    once = make_batch(config, torch.tensor([1, 2, 3]), torch.tensor([0, 2]))
    image = once.image
    assert image.logits is not None
    twice = ImageFeatures(tuple(torch.cat([f, f]) for f in image.features), torch.cat([image.logits] * 2))
    distillation = make(config)
    doubled = distillation(once.scales, twice, torch.tensor([0, 2, 0, 2]), once.labels)
    for kl, expected in zip(doubled.kl, run(distillation, once).kl, strict=True):
        torch.testing.assert_close(kl, expected)


EDGE_CASES = {
    "no point in the image": (torch.arange(20) % NUM_CLASSES, torch.zeros(0, dtype=torch.long)),
    "all labels ignored": (torch.zeros(20, dtype=torch.long), torch.arange(9)),
    "one class": (torch.full((20,), 3), torch.arange(9)),
    "one point": (torch.tensor([4]), torch.tensor([0])),
    "one point, not in the image": (torch.tensor([4]), torch.zeros(0, dtype=torch.long)),
    "no point at all": (torch.zeros(0, dtype=torch.long), torch.zeros(0, dtype=torch.long)),
}


@pytest.mark.parametrize("variant", VARIANTS)
@pytest.mark.parametrize("fusion", [True, False])
@pytest.mark.parametrize("case", EDGE_CASES)
def test_edge_cases_are_finite_with_gradients(case: str, variant: str, fusion: bool) -> None:
    config = DistillationConfig(variant=variant, fusion=fusion)
    distillation, batch = make(config), make_batch(config, *EDGE_CASES[case])
    terms = run(distillation, batch)
    terms.total.backward()
    assert all(bool(value.isfinite()) for value in terms.named().values())
    for leaf in [*distillation.parameters(), *batch.leaves()]:
        assert leaf.grad is not None
        assert bool(leaf.grad.isfinite().all())


def test_terms_have_names_of_their_own() -> None:
    for variant, extra in (("paper", "image"), ("authors", "all_scales")):
        config = DistillationConfig(variant=variant)
        terms = run(make(config), usual_batch(config))
        named = terms.named()
        assert len(named) == 1 + 2 * (2 + 2 + 1) + 2
        assert {"total", "scale0/fused_cross_entropy", "scale1/lidar_lovasz", "scale1/kl", f"{extra}_lovasz"} <= {
            *named
        }
        assert named["scale1/lidar_lovasz"] is terms.lidar[1].lovasz
        assert named["scale0/fused_cross_entropy"] is terms.fused[0].cross_entropy


@given(st.lists(st.tuples(st.integers(0, 6), st.integers(0, NUM_CLASSES - 1)), min_size=1, max_size=60))
def test_majority_label_is_the_most_frequent_and_smallest(points: list[tuple[int, int]]) -> None:
    voxel_ids = sorted({voxel for voxel, _ in points})
    point_to_voxel = torch.tensor([voxel_ids.index(voxel) for voxel, _ in points], dtype=torch.int32)
    labels = torch.tensor([label for _, label in points], dtype=torch.uint8)
    voxels = Voxels(torch.zeros(len(voxel_ids), 2), point_to_voxel)
    counts = [Counter(label for owner, label in points if owner == voxel) for voxel in voxel_ids]
    expected = [min(count, key=lambda label: (-count[label], label)) for count in counts]
    assert majority_labels(labels, voxels, NUM_CLASSES).tolist() == expected


def test_paper_variant_wants_the_image_classifier() -> None:
    config = DistillationConfig()
    batch = usual_batch(config)
    with pytest.raises(ValueError, match="paper_image_network"):
        make(config)(batch.scales, ImageFeatures(batch.image.features, None), batch.point, batch.labels)


def test_config() -> None:
    assert make_distillation(DistillationConfig(kind="none"), STUDENT_WIDTHS, NUM_CLASSES, SegmentationLoss()) is None
    assert isinstance(make(DistillationConfig()), PaperDistillation)
    assert DistillationConfig().image_width(128) == 64
    assert DistillationConfig(variant="authors").image_width(128) == 128
    with pytest.raises(ValidationError, match="learnr"):
        DistillationConfig.model_validate({"learnr": True})
    with pytest.raises(ValidationError, match="width is the paper variant's"):
        DistillationConfig(variant="authors", width=32)
    with pytest.raises(ValidationError, match="frozen"):
        DistillationConfig().fusion = False  # type: ignore[misc]


def test_inference_constructs_nothing_of_this() -> None:
    """The deployable does not even import what only training needs."""
    program = (
        "import sys, twodpass_core.segmenter; print([name for name in sys.modules if name.startswith('twodpass')])"
    )
    loaded = subprocess.run([sys.executable, "-c", program], check=True, capture_output=True, text=True).stdout
    assert "twodpass_core.segmenter" in loaded
    assert not any(name in loaded for name in ("msfskd", "image_network", "resnet", "losses"))
