"""The network of a training: what of the settings reaches its losses, and what is logged of them."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from training_data import Blobs, tiny_config

from twodpass_core.data.batch import SampleKey, TrainingSet, collate
from twodpass_core.losses import SegmentationTerms, inverse_frequency_weights
from twodpass_core.training.network import TrainingNetwork, TrainingTerms


def terms_of_a_batch(**loss: object) -> TrainingTerms:
    config, source = tiny_config(Path("unused"), distillation={"kind": "msfskd"}, loss=loss), Blobs(2)
    torch.manual_seed(0)
    network = TrainingNetwork(config, source.class_map, source.grid)
    samples = TrainingSet(source, config.augmentation)
    with torch.no_grad():
        terms: TrainingTerms = network(collate([samples[SampleKey(0, index)] for index in range(2)]))
    return terms


def teachers(terms: TrainingTerms) -> list[SegmentationTerms]:
    assert terms.distilled is not None
    return [*terms.distilled.fused, *terms.distilled.lidar, *terms.distilled.extra.values()]


def test_the_weight_of_lovasz_is_the_students_alone() -> None:
    terms = terms_of_a_batch(lovasz_weight=0.1)
    assert float(terms.student.total) == pytest.approx(float(terms.student.cross_entropy + 0.1 * terms.student.lovasz))
    for teacher in teachers(terms):
        assert float(teacher.total) == pytest.approx(float(teacher.cross_entropy + teacher.lovasz))


def test_classes_are_weighted_for_student_and_teachers() -> None:
    counts = [0, 1000, 1]
    assert inverse_frequency_weights(counts).tolist() == pytest.approx([0, 1, 10])
    weighted, plain = terms_of_a_batch(point_counts=counts), terms_of_a_batch()
    for one, other in zip([weighted.student, *teachers(weighted)], [plain.student, *teachers(plain)], strict=True):
        assert float(one.lovasz) == pytest.approx(float(other.lovasz))
        assert float(one.cross_entropy) != pytest.approx(float(other.cross_entropy), rel=1e-3)


def test_what_is_logged() -> None:
    terms = terms_of_a_batch()
    assert terms.distilled is not None
    assert float(terms.total) == pytest.approx(float(terms.student.total + terms.distilled.total))
    named = terms.named()
    assert named["loss"] is terms.total
    assert named["student/cross_entropy"] is terms.student.cross_entropy
    assert named["student/lovasz"] is terms.student.lovasz
    assert named["distillation/scale1/kl"] is terms.distilled.kl[1]
