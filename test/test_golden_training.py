"""One training step in the authors' variant against the authors' values: losses, logits, gradients, running statistics.

An array equals the authors' when no element differs by more than 1e-4 of the array's largest magnitude. Gradients jump
where an activation passes 0, and one within rounding of 0 may fall on either side. So where an array differs, the step
is made again with parameters that differ by rounding noise; every array must be equal in one of the runs.
The values are those in the folder TWODPASS_GOLDEN; what its files do not hold is not compared.
"""

from __future__ import annotations

import json
import math
import os
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from twodpass_core.benchmark.machine import using_threads
from twodpass_core.losses import SegmentationLoss, SegmentationTerms
from twodpass_core.models.image_network import ImageFeatures
from twodpass_core.models.msfskd import AuthorsDistillation, DistillationConfig, DistillationTerms, make_distillation
from twodpass_core.models.student import PointVoxelStudent, StudentConfig
from twodpass_core.official.checkpoint import convert_state, official_names
from twodpass_core.sparse.grid import VoxelGrid

TOLERANCE = 1e-4
MAX_RUNS = 12
NOISE = 1e-7  # of a parameter's value: the precision of float32
Arrays = Mapping[str, Tensor]


@dataclass(frozen=True)
class Step:
    """A training step of the tiny case, done."""

    student: PointVoxelStudent
    distillation: AuthorsDistillation
    logits: Tensor
    segmentation: SegmentationTerms
    distilled: DistillationTerms
    total: Tensor


@pytest.fixture(autouse=True)
def _one_thread() -> Iterator[None]:
    """As the authors' values were computed: sums over many rows round alike."""
    with using_threads(1):
        yield


@pytest.fixture
def expected() -> Arrays:
    return load(golden_folder() / "tiny_train.npz")


def test_golden_tiny_logits(expected: Arrays) -> None:
    wanted = {name: array for name, array in expected.items() if name == "logits"}
    assert_equal_in_a_run(lambda step: {"logits": step.logits}, wanted)


def test_golden_tiny_every_loss_term(expected: Arrays) -> None:
    assert_equal_in_a_run(loss_terms, below("loss/", expected))


def test_golden_tiny_every_gradient(expected: Arrays) -> None:
    assert_equal_in_a_run(gradients, in_our_layout(below("grad/", expected)))


def test_golden_tiny_running_statistics(expected: Arrays) -> None:
    assert_equal_in_a_run(lambda step: step.student.state_dict(), in_our_layout(below("after/", expected)))


def assert_equal_in_a_run(arrays_of: Callable[[Step], Arrays], wanted: Arrays) -> None:
    if not wanted:
        pytest.skip("the golden case gives none of these values")
    unequal = wanted
    for run in range(MAX_RUNS):
        ours = arrays_of(make_step(golden_folder(), run))
        assert all(ours[name].shape == authors.shape for name, authors in wanted.items())
        unequal = {name: authors for name, authors in unequal.items() if difference(ours[name], authors) > TOLERANCE}
        if not unequal:
            return
    pytest.fail(f"these differ from the authors' values: {', '.join(unequal)}")


def difference(ours: Tensor, authors: Tensor) -> float:
    """Largest difference of an element, relative to the largest magnitude; infinite where ours is not finite."""
    if not bool(ours.isfinite().all()):
        return math.inf
    return float((ours - authors).abs().max() / authors.abs().max().clamp(min=1e-30))


@cache
def make_step(folder: Path, run: int) -> Step:
    config = json.loads((folder / "tiny_config.json").read_text())
    state, given = load(folder / "tiny_state.npz"), load(folder / "tiny_input.npz")
    student = make_student(config, state)
    class_weights = config["class_weights"] and torch.tensor([weight or 0.0 for weight in config["class_weights"]])
    distillation = make_authors_distillation(config, state, SegmentationLoss(class_weights))
    if run > 0:
        add_noise([*student.parameters(), *distillation.parameters()], torch.Generator().manual_seed(run))

    output = student(given["points"], given["batch_idx"])
    image = ImageFeatures(tuple(given[f"img_scale{scale}"] for scale in config["scales"]), logits=None)
    distilled = distillation(output.scale_features, image, points_in_image(given), given["labels"])
    loss = SegmentationLoss(class_weights, config["student_lovasz_weight"])
    segmentation = loss(output.logits, given["labels"])
    total = segmentation.total + distilled.total
    total.backward()
    return Step(student, distillation, output.logits.detach(), segmentation, distilled, total)


def add_noise(parameters: Iterable[nn.Parameter], generator: torch.Generator) -> None:
    with torch.no_grad():
        for parameter in parameters:
            parameter.mul_(1 + NOISE * torch.randn(parameter.shape, generator=generator))


def loss_terms(step: Step) -> Arrays:
    """By the authors' names."""
    segmentation = {"main": step.segmentation, "fused_all": step.distilled.extra["all_scales"]}
    segmentation |= {f"scale_idx{i}_fuse": terms for i, terms in enumerate(step.distilled.fused)}
    segmentation |= {f"scale_idx{i}_seg3d": terms for i, terms in enumerate(step.distilled.lidar)}
    terms = {"total": step.total} | {f"scale_idx{i}_kl": kl for i, kl in enumerate(step.distilled.kl)}
    for name, pair in segmentation.items():
        terms |= {f"{name}_ce": pair.cross_entropy, f"{name}_lovasz": pair.lovasz}
    return {name: term.detach() for name, term in terms.items()}


def gradients(step: Step) -> dict[str, Tensor]:
    parameters = [*step.student.named_parameters(), *step.distillation.named_parameters()]
    return {name: parameter.grad for name, parameter in parameters if parameter.grad is not None}


def below(prefix: str, arrays: Arrays) -> Arrays:
    return {name.removeprefix(prefix): array for name, array in arrays.items() if name.startswith(prefix)}


def in_our_layout(authors: Arrays) -> Arrays:
    """The authors' arrays, all of them, by our names."""
    step = make_step(golden_folder(), 0)
    num_blocks = len(step.student.config.scales)
    student = official_names(step.student.state_dict(), num_blocks)
    fusion = official_fusion_names(step.distillation)
    unknown = authors.keys() - {*student.values(), *fusion.values()}
    assert not unknown
    converted = convert_state(authors, [name for name, key in student.items() if key in authors], num_blocks)
    return converted | {name: authors[key] for name, key in fusion.items() if key in authors}


def golden_folder() -> Path:
    named = os.environ.get("TWODPASS_GOLDEN")
    folder = Path(named or Path(__file__).resolve().parents[2] / "shared/golden")
    if not folder.is_dir() and not named:
        pytest.skip("needs the authors' values, which are not beside this checkout; TWODPASS_GOLDEN names their folder")
    return folder


def load(path: Path) -> Arrays:
    with np.load(path) as arrays:
        return {name: torch.from_numpy(np.asarray(arrays[name])) for name in arrays.files}


def make_student(config: Mapping[str, Any], state: Arrays) -> PointVoxelStudent:
    grid = VoxelGrid(minimum=config["volume_min"], maximum=config["volume_max"], cells=config["grid"])
    hidden = state["model_3d.classifier.0.weight"].shape[0]
    shape = StudentConfig(scales=config["scales"], width=config["width"], num_classes=config["classes"], hidden=hidden)
    student = PointVoxelStudent(shape, grid)
    student.load_state_dict(convert_state(state, student.state_dict(), len(shape.scales)))
    return student.train()


def make_authors_distillation(config: Mapping[str, Any], state: Arrays, loss: SegmentationLoss) -> AuthorsDistillation:
    weights = {"fusion_weight": config["fusion_weight"], "kl_weight": config["kl_weight"]}
    chosen = DistillationConfig(variant="authors", **weights)
    distillation = make_distillation(chosen, [config["width"]] * len(config["scales"]), config["classes"], loss)
    assert isinstance(distillation, AuthorsDistillation)
    distillation.load_state_dict({ours: state[name] for ours, name in official_fusion_names(distillation).items()})
    return distillation


def official_fusion_names(distillation: AuthorsDistillation) -> dict[str, str]:
    """The authors' name of each of our distillation's parameters."""
    modules = {
        "learner": "leaners.{}.0",
        "merge": "fcs1.{}.0",
        "gate": "fcs2.{}.0",
        "lidar_classifier": "multihead_3d_classifier.{}",
        "fused_classifier": "multihead_fuse_classifier.{}",
    }
    names = {}
    for name, _ in distillation.named_parameters():
        module, *rest = name.split(".")
        if module == "scales":
            index, part, *rest = rest
            names[name] = ".".join(["fusion", modules[part].format(index), *rest])
        else:
            names[name] = ".".join(["fusion.classifier", *rest])
    return names


def points_in_image(given: Arrays) -> Tensor:
    """(P,) indices into the batch: sample by sample, the points that p2i0, p2i1, ... name within their sample."""
    batch_size = int(given["batch_idx"].max()) + 1
    rows = [(given["batch_idx"] == sample).nonzero().squeeze(1) for sample in range(batch_size)]
    return torch.cat([rows[sample][given[f"p2i{sample}"]] for sample in range(batch_size)])
