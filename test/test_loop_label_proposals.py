"""Labels that a network proposes: kept apart, counted, and labels only when somebody says so."""

from __future__ import annotations

import json
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
from cloud_bag import cloud_message, write_bag
from label_data import POINTS, STAMPS, frames_of, raw_labels, run, write_sequence
from rosbags.rosbag2 import StoragePlugin
from tiny_weights import write_tiny_weights
from typer.testing import CliRunner

from twodpass_core.classes import ClassMap
from twodpass_core.cli import app
from twodpass_core.data.opening import open_evaluation, open_training
from twodpass_core.data.source import SourceConfig
from twodpass_core.errors import ConfigError, LabelError
from twodpass_core.labels.exchange import export_labels, import_labels
from twodpass_core.labels.label_files import find_label_files
from twodpass_core.labels.proposals import propose, unlabelled_scans
from twodpass_core.labels.status import label_status
from twodpass_core.labels.store import LabelStore
from twodpass_core.segmenter import Segmentation


@pytest.fixture
def bag(tmp_path: Path) -> Path:
    return write_bag(tmp_path / "drive", StoragePlugin.MCAP, {"/points": [cloud_message(k) for k in range(4)]})


def test_proposals_go_out_only_when_asked_and_come_back_as_labels(bag: Path, tmp_path: Path) -> None:
    store = LabelStore.beside(bag)
    store.write(STAMPS[0], raw_labels(0))
    store.proposed.write(STAMPS[0], raw_labels(9))
    store.proposed.write(STAMPS[1], raw_labels(1))
    frames = frames_of(bag)
    done = export_labels(frames, tmp_path / "own")
    assert (done.labels, done.proposals) == (1, 0)
    assert find_label_files(tmp_path / "own").keys() == {STAMPS[0]}
    done = export_labels(frames, tmp_path / "both", proposals=True)
    assert (done.labels, done.proposals) == (1, 1)
    assert find_label_files(tmp_path / "both").keys() == {STAMPS[0], STAMPS[1]}
    raw_labels(2).astype("<u4").tofile(tmp_path / "both" / f"{STAMPS[1]}.label")  # corrected
    assert import_labels(frames, tmp_path / "both").new == 1
    assert np.array_equal(store.read(STAMPS[0], POINTS), raw_labels(0))  # type: ignore[arg-type]
    assert np.array_equal(store.read(STAMPS[1], POINTS), raw_labels(2))  # type: ignore[arg-type]


@pytest.mark.parametrize("way", ["export", "prepare"])
def test_proposals_that_nobody_has_touched_become_labels_only_when_accepted(
    bag: Path, tmp_path: Path, way: str
) -> None:
    store = LabelStore.beside(bag)
    for number in range(3):
        store.proposed.write(STAMPS[number], raw_labels(number))
    store.write(STAMPS[2], raw_labels(9))  # somebody's own
    if way == "export":
        export_labels(frames_of(bag), tmp_path / "out", proposals=True)
    else:
        made = CliRunner().invoke(app, ["prepare", str(bag), str(tmp_path / "out"), "--proposals"])
        assert "4 scans, 1 labelled, 2 with proposals, no images" in made.output
    done = import_labels(frames_of(bag), tmp_path / "out")
    assert (done.new, done.unchanged, done.proposed) == (0, 1, 2)
    assert store.stamps() == {STAMPS[2]}
    said = run("import", bag, tmp_path / "out").output
    assert "2 left out: just as the network proposed them; --accept-proposals" in said
    assert store.stamps() == {STAMPS[2]}
    assert "2 new, 0 replaced, 1 unchanged" in run("import", bag, tmp_path / "out", "--accept-proposals").output
    assert store.stamps() == set(STAMPS[:3])
    assert np.array_equal(store.read(STAMPS[2], POINTS), raw_labels(9))  # type: ignore[arg-type]


def test_status_counts_and_finds_what_does_not_fit(bag: Path) -> None:
    store = LabelStore.beside(bag)
    store.write(STAMPS[0], raw_labels(0))
    store.write(STAMPS[1], raw_labels(1, 3))
    store.write(5, raw_labels(1))
    store.proposed.write(STAMPS[0], raw_labels(0))
    store.proposed.write(STAMPS[3], np.full(POINTS, 77))
    (status,) = label_status(frames_of(bag))
    assert (status.bag, status.scans, status.labelled, status.proposed) == (bag, 4, 2, 1)
    ids = ClassMap.load("semantickitti").training_ids(raw_labels(0) & 0xFFFF)
    assert status.points.tolist() == np.bincount(ids, minlength=20).tolist()
    assert len(status.problems) == 3
    for part in ("5.label: the bag has no such scan", f"{STAMPS[1]}.label: 12 bytes", f"{STAMPS[3]}.label: class map"):
        assert any(part in problem for problem in status.problems), part


class Sure:
    """Stands in for a Segmenter: road everywhere, sure of every other point."""

    class_map = ClassMap.load("semantickitti")
    card = SimpleNamespace(intensity_max=1.0)

    def __init__(self) -> None:
        self.votes: list[int] = []

    def segment(self, points: np.ndarray, votes: int = 1) -> Segmentation:
        self.votes.append(votes)
        probability = np.where(np.arange(len(points)) % 2, 0.95, 0.5).astype(np.float32)
        class_id = np.full(len(points), 9, np.uint8)
        class_id[-1], probability[-1] = 255, 0
        return Segmentation(class_id, probability, None, {})


def test_proposals_are_of_sure_points_of_unlabelled_scans(bag: Path) -> None:
    store = LabelStore.beside(bag)
    store.write(STAMPS[0], raw_labels(0))
    store.proposed.write(STAMPS[1], raw_labels(1))
    frames, network = frames_of(bag), Sure()
    indices = unlabelled_scans(frames)
    assert indices == [2, 3]
    assert unlabelled_scans(frames, again=True) == [1, 2, 3]
    made = list(propose(frames, indices, network, votes=12, min_probability=0.9))  # type: ignore[arg-type]
    assert network.votes == [12, 12]
    assert [(proposal.points, proposal.labelled) for proposal in made] == [(POINTS, POINTS // 2 - 1)] * 2
    raw = store.proposed.read(STAMPS[2], POINTS)
    assert raw is not None
    expected = np.where(np.arange(POINTS) % 2, 40, 0)
    expected[-1] = 0
    assert raw.tolist() == expected.tolist()
    assert store.stamps() == {STAMPS[0]}


def test_training_uses_proposals_only_when_asked(bag: Path) -> None:
    store = LabelStore.beside(bag)
    store.write(STAMPS[0], raw_labels(0))
    store.proposed.write(STAMPS[1], raw_labels(1))
    found = {}
    for proposals in (False, True):
        settings = {"kind": "bag", "root": bag, "cameras": [], "unlabelled": "skip", "bag": {"proposals": proposals}}
        found[proposals] = open_training(SourceConfig.model_validate(settings)).ids
    assert [frame_id.split("/")[-1] for frame_id in found[False]] == [str(STAMPS[0])]
    assert [frame_id.split("/")[-1] for frame_id in found[True]] == [str(stamp) for stamp in STAMPS[:2]]


def test_partly_labelled_bags_train_and_evaluate(bag: Path) -> None:
    LabelStore.beside(bag).write(STAMPS[2], raw_labels(2))
    settings = SourceConfig.model_validate({"kind": "bag", "root": bag, "unlabelled": "keep"})
    training, evaluation = open_training(settings, images=False), open_evaluation(settings)
    assert (len(training), len(evaluation)) == (4, 1)
    assert [bool(np.any(training[index].labels)) for index in range(4)] == [False, False, True, False]
    with pytest.raises(ConfigError, match="3 of the 4 frames have no labels, drive/"):
        open_training(SourceConfig.model_validate({"kind": "bag", "root": bag, "cameras": []}))


@pytest.mark.parametrize(
    ("split", "labelled", "part"),
    [("val", 0, "the last 25 % of each bag, which"), ("train", 3, "all but the last 25 %")],
)
def test_where_labels_lie_in_the_other_part_of_a_bag_the_part_is_told(
    bag: Path, split: str, labelled: int, part: str
) -> None:
    LabelStore.beside(bag).write(STAMPS[labelled], raw_labels(0))
    held_out = {"kind": "bag", "root": bag, "split": split, "unlabelled": "skip", "bag": {"held_out": 0.25}}
    with pytest.raises(ConfigError, match=rf"frames?, {part}.*, without any labels: label some of them, drive/\d+ for"):
        open_evaluation(SourceConfig.model_validate(held_out))
    held_out["bag"] = {"held_out": 0.1 if split == "val" else 0.9}
    with pytest.raises(ConfigError, match=r"0 frames, .* `held_out` keeps for validation, are too few"):
        open_evaluation(SourceConfig.model_validate(held_out))


def test_the_commands(bag: Path, tmp_path: Path) -> None:
    weights = tmp_path / "untrained.safetensors"
    write_tiny_weights(weights)
    made = run("propose", bag, "--weights", weights, "--votes", 1, "--min-probability", 0, "--device", "cpu")
    assert made.exit_code == 0, made.output
    assert "labels proposed for 4 scans" in made.output
    log = (tmp_path / "drive_labels/proposed/proposals.jsonl").read_text().splitlines()
    assert json.loads(log[0])["weights"] == str(weights)
    out = write_sequence(tmp_path / "out", STAMPS, {})
    assert "0 labels and 4 proposals written" in run("export", bag, out, "--proposals").output
    assert "4 new" in run("import", bag, out, "--accept-proposals").output
    status = run("status", bag)
    assert status.exit_code == 0, status.output
    LabelStore.beside(bag).write(5, raw_labels(1))
    status = run("status", bag)
    assert status.exit_code == 1
    assert "5.label: the bag has no such scan" in " ".join(status.output.split())
    missing = run("import", bag, tmp_path / "nowhere")
    assert missing.exit_code == 1
    assert "nowhere: does not exist" in missing.output
    file = tmp_path / "file"
    file.write_text("no folder")
    for what in ("import", "export"):
        assert "file: is not a folder" in run(what, bag, file).output


def test_what_is_left_out_of_proposals_is_told_and_that_hardly_a_point_was_sure(bag: Path, tmp_path: Path) -> None:
    store, weights = LabelStore.beside(bag), write_tiny_weights(tmp_path / "untrained.safetensors")
    store.write(STAMPS[0], raw_labels(0))
    store.proposed.write(STAMPS[1], raw_labels(1))

    def propose(*arguments: object) -> str:
        made = run("propose", bag, "--weights", weights, "--votes", 1, "--device", "cpu", *arguments)
        assert made.exit_code == 0, made.output
        return " ".join(made.output.split())

    hardly = "hardly any point reaches --min-probability 1"
    said = propose("--min-probability", 1)
    assert "labels proposed for 2 scans, 0.0% of their points" in said
    assert hardly in said
    assert "left out: 1 scan with labels, 1 scan with proposals, which --again replaces" in said
    said = propose()
    assert "labels proposed for 0 scans left out: 1 scan with labels, 3 scans with proposals, which --again" in said
    assert hardly not in said
    said = propose("--again", "--min-probability", 0)
    assert "labels proposed for 3 scans" in said
    assert said.endswith("left out: 1 scan with labels")


def test_a_proposal_that_is_refused_leaves_nothing_behind(bag: Path, tmp_path: Path) -> None:
    weights = write_tiny_weights(tmp_path / "untrained.safetensors")
    refused = run("propose", bag, "--weights", weights, "--class-map", "nuscenes", "--device", "cpu")
    assert refused.exit_code == 1
    assert "use weights trained for these classes" in refused.output
    assert not LabelStore.beside(bag).folder.exists()


def test_another_topic_is_refused_before_anything_is_logged_or_labelled(tmp_path: Path) -> None:
    clouds = [cloud_message(k) for k in range(2)]
    bag = write_bag(tmp_path / "two", StoragePlugin.MCAP, {"/points": clouds, "/rear/points": clouds})
    log = LabelStore.beside(bag).proposed.folder / "proposals.jsonl"
    options = ("--weights", write_tiny_weights(tmp_path / "untrained.safetensors"), "--votes", 1, "--device", "cpu")
    assert run("propose", bag, *options, "--topic", "/points").exit_code == 0
    of_the_first = log.read_text()
    refused = run("propose", bag, *options, "--topic", "/rear/points")
    assert refused.exit_code == 1
    assert "has labels of /points, and those of /rear/points may have" in " ".join(refused.output.split())
    assert log.read_text() == of_the_first
    asked = Sure()
    rear = frames_of(bag, topic="/rear/points")
    with pytest.raises(LabelError, match="has labels of /points"):
        propose(rear, [0, 1], asked, votes=1, min_probability=0)  # type: ignore[arg-type]
    assert asked.votes == []
