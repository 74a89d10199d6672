"""Sources of which some frames have no labels: refused, skipped, or kept for their images."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from training_data import Blobs, tiny_config
from training_runs import load

from twodpass_core.data.batch import TrainingSet, collate
from twodpass_core.data.cutmix import instances_of
from twodpass_core.data.frame import Frame, FrameSource
from twodpass_core.data.labelled import for_evaluation, for_training, labelled_frames
from twodpass_core.data.mixture import AllFrames, Mixture
from twodpass_core.data.opening import open_training
from twodpass_core.data.semantickitti import SemanticKitti
from twodpass_core.data.source import SourceConfig
from twodpass_core.errors import ConfigError, ScanError
from twodpass_core.training.batches import Share, TrainingBatches
from twodpass_core.training.network import TrainingNetwork
from twodpass_core.training.run import train
from twodpass_core.weights import read_card


class PartlyLabelled(Blobs):
    """Only some frames have labels."""

    def __init__(self, frames: int, with_labels: Sequence[int], seed: int = 0) -> None:
        super().__init__(frames, seed)
        self.with_labels = with_labels

    @property
    def labelled(self) -> np.ndarray:
        return np.isin(np.arange(self.frames), self.with_labels)

    def __getitem__(self, index: int) -> Frame:
        frame = super().__getitem__(index)
        return frame if index in self.with_labels else replace(frame, labels=None)


def test_unlabelled_frames_are_refused_by_default_with_their_number() -> None:
    source = PartlyLabelled(4, [1, 3])
    for chosen in (for_training, for_evaluation):
        with pytest.raises(ConfigError, match=r"2 of the 4 frames have no labels, 00/000000 .* skip"):
            chosen(source, "refuse")


def test_skipped_ones_are_not_there() -> None:
    for chosen in (for_training(PartlyLabelled(4, [1, 3]), "skip"), for_evaluation(PartlyLabelled(4, [1, 3]), "keep")):
        assert list(chosen.ids) == ["00/000001", "00/000003"]
        assert [chosen[index].id for index in range(len(chosen))] == chosen.ids
        assert (chosen.class_map, chosen.grid, chosen.intensity_max) == (Blobs.class_map, Blobs.grid, 1.0)


def test_kept_ones_are_ignored_everywhere() -> None:
    source = PartlyLabelled(3, [1])
    kept = for_training(source, "keep")
    assert list(kept.ids) == source.ids
    labels = [kept[index].labels for index in range(3)]
    assert all(part is not None and part.dtype == np.uint8 for part in labels)
    assert [bool(np.any(part)) for part in labels] == [False, True, False]
    assert not np.any(kept[0].instances)
    assert len(instances_of(kept[0], kept.grid).points) == 0  # for cutmix
    assert np.array_equal(labels[1], source[1].labels)  # type: ignore[arg-type]


@pytest.mark.parametrize("unlabelled", ["refuse", "skip", "keep"])
def test_no_labels_at_all_are_refused(unlabelled: str) -> None:
    for chosen in (for_training, for_evaluation):
        with pytest.raises(ConfigError, match="labels"):
            chosen(PartlyLabelled(2, []), unlabelled)  # type: ignore[arg-type]


def test_a_source_that_is_labelled_is_as_it_was() -> None:
    source = Blobs(2)
    assert for_training(source, "refuse") is for_training(source, "skip") is for_evaluation(source, "keep") is source
    assert labelled_frames(source).tolist() == [True, True]


def losses(source: FrameSource, kl_weight: float) -> tuple[float, float, torch.Tensor]:
    """The student's own loss, the whole loss, and a gradient of the student, of one batch."""
    config = tiny_config(Path("unused"), distillation={"kind": "msfskd", "kl_weight": kl_weight})
    torch.manual_seed(0)
    network = TrainingNetwork(config, source.class_map, source.grid)
    batches = TrainingBatches(AllFrames(len(source)), len(source), 0, Share(), lambda: 0)
    samples = TrainingSet(source, config.augmentation)
    terms = network(collate([samples[key] for key in next(iter(batches))]))
    terms.total.backward()
    gradient = next(parameter.grad for parameter in network.student.parameters() if parameter.grad is not None)
    return terms.student.total.item(), terms.total.item(), gradient


def test_frames_without_labels_teach_by_their_images_alone() -> None:
    student, total, gradient = losses(for_training(PartlyLabelled(3, [2]), "keep"), kl_weight=1.0)
    assert student > 0
    unlabelled = Mixture([for_training(PartlyLabelled(3, [2]), "keep")], [1])
    unlabelled.sources[0].source.with_labels = []  # type: ignore[attr-defined]
    student, total, gradient = losses(unlabelled, kl_weight=1.0)
    assert student == 0
    assert total > 0
    assert bool(gradient.abs().sum() > 0)
    assert losses(unlabelled, kl_weight=0.0)[1] == 0


def test_training_on_partly_labelled_frames(tmp_path: Path) -> None:
    config = tiny_config(tmp_path / "run", epochs=2, distillation={"kind": "msfskd"})
    source = PartlyLabelled(4, [0])
    weights = train(config, training=for_training(source, "keep"), validation=for_evaluation(source, "skip"))
    assert all(tensor.isfinite().all() for tensor in load(config.run)["state_dict"].values())
    assert "4 frames of blobs (1 labelled)" in read_card(weights).origin


def test_training_on_what_has_no_labels_still_says_so(tmp_path: Path) -> None:
    with pytest.raises(ScanError, match="has no labels to train on"):
        train(tiny_config(tmp_path / "run", epochs=1), training=PartlyLabelled(2, [0]))


def write_sequence(folder: Path, labelled: Sequence[int], scans: int = 3) -> None:
    rng = np.random.default_rng(0)
    for name in ("velodyne", "labels"):
        (folder / name).mkdir(parents=True)
    for scan in range(scans):
        rng.uniform(0, 10, (20, 4)).astype("<f4").tofile(folder / f"velodyne/{scan:06d}.bin")
        if scan in labelled:
            np.full(20, 40, "<u4").tofile(folder / f"labels/{scan:06d}.label")


def test_a_sequence_in_semantickittis_layout_may_be_partly_labelled(tmp_path: Path) -> None:
    write_sequence(tmp_path, [1])
    with pytest.raises(ScanError, match="labels: 2 of 3 scans have no labels, 000000 among them"):
        SemanticKitti(tmp_path)
    skipped, kept = (
        open_training(SourceConfig.model_validate({"root": tmp_path, "unlabelled": unlabelled}))
        for unlabelled in ("skip", "keep")
    )
    assert [frame_id.split("/")[1] for frame_id in skipped.ids] == ["000001"]
    assert [int(np.sum(kept[index].labels != 0)) for index in range(3)] == [0, 20, 0]
    (tmp_path / "labels/000001.label").unlink()
    with pytest.raises(ConfigError, match="3 frames without any labels"):
        open_training(SourceConfig.model_validate({"root": tmp_path, "split": "test"}))
