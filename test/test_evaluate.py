"""Evaluation: all raw points, no image, several definitions, reports, and the command."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from drive_bag import drive, scan_ns
from matplotlib.figure import Figure
from tiny_weights import write_tiny_weights
from training_data import CLASS_MAP, GRID, Blobs
from typer.testing import CliRunner

from twodpass_core.classes import ClassMap, check_classes
from twodpass_core.cli import app
from twodpass_core.cli.work.evaluation_data import evaluation_sources, submission_settings
from twodpass_core.data.bags.config import BagConfig
from twodpass_core.data.frame import CameraView
from twodpass_core.errors import ConfigError, ScanError
from twodpass_core.evaluation import report
from twodpass_core.evaluation.evaluate import evaluate
from twodpass_core.evaluation.report import draw_confusion, write_report
from twodpass_core.labels.store import LabelStore
from twodpass_core.models.student import PointVoxelStudent, StudentConfig
from twodpass_core.segmenter import Segmenter
from twodpass_core.weights import Card, save_weights


@pytest.fixture(scope="module")
def segmenter(tmp_path_factory: pytest.TempPathFactory) -> Segmenter:
    path = tmp_path_factory.mktemp("weights") / "blobs.safetensors"
    architecture = StudentConfig(scales=(2, 4), width=8, num_classes=CLASS_MAP.num_classes)
    torch.manual_seed(0)
    student = PointVoxelStudent(architecture, GRID)
    card = Card(
        architecture=architecture,
        grid=GRID,
        class_map=CLASS_MAP,
        intensity_max=1,
        trained=False,
        origin="random numbers",
        licence="CC0-1.0",
    )
    save_weights(path, student.state_dict(), card)
    scores = Segmenter.from_weights(path, device="cpu").segment(Blobs(1)[0].points, return_scores=True).scores
    assert scores is not None
    # No class is ahead everywhere: the labels hang on every point's scores.
    student.state_dict()["classifier.2.bias"].sub_(torch.from_numpy(np.median(scores[scores.any(axis=1)], axis=0)))
    save_weights(path, student.state_dict(), card)
    return Segmenter.from_weights(path, device="cpu")


def test_every_raw_point_counts(segmenter: Segmenter) -> None:
    frame = Blobs(1)[0]
    evaluation = evaluate(segmenter, [frame])
    assert int(evaluation.counts.sum()) == len(frame.points)
    outside = ~np.all(np.abs(frame.points[:, :2]) < 8, axis=1)
    assert outside.any()
    class_id = segmenter.segment(frame.points).class_id
    expected = [int((class_id[frame.labels == index] == index).sum()) for index in (1, 2)]
    assert evaluation.counts.sum(0).diagonal()[1:].tolist() == expected
    assert evaluation.frames == 1


def test_the_authors_leave_out_what_the_network_calls_class_0(segmenter: Segmenter) -> None:
    frame = Blobs(1)[0]
    scores = segmenter.segment(frame.points, return_scores=True).scores
    assert scores is not None
    predicted = scores.argmax(axis=1)  # 0 outside the volume
    evaluation = evaluate(segmenter, [frame], definition="authors")
    labels = frame.labels
    assert labels is not None
    assert sum(evaluation.scores.points) == int(((labels > 0) & (predicted > 0)).sum())


def test_no_image_is_opened(segmenter: Segmenter, monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(view: CameraView) -> np.ndarray:
        raise AssertionError(f"{view.name}: opened")

    monkeypatch.setattr(CameraView, "load_image", refuse)
    evaluate(segmenter, [Blobs(1)[0]])


def test_votes_are_those_of_the_segmenter(segmenter: Segmenter) -> None:
    frame = Blobs(1)[0]
    class_id = segmenter.segment(frame.points, votes=3).class_id
    assert (class_id != segmenter.segment(frame.points).class_id).any()
    assert frame.labels is not None
    predicted = np.bincount(class_id[frame.labels > 0], minlength=256)[: CLASS_MAP.num_classes]
    counts = evaluate(segmenter, [frame], votes=3).counts.sum(0)
    assert counts[1:].sum(0)[1:].tolist() == predicted[1:].tolist()


def test_a_frame_without_labels_is_named(segmenter: Segmenter) -> None:
    with pytest.raises(ScanError, match="00/000000: has no labels"):
        evaluate(segmenter, [replace(Blobs(1)[0], labels=None)])


def test_classes_must_be_the_same() -> None:
    check_classes(CLASS_MAP, CLASS_MAP)
    with pytest.raises(ConfigError, match="the data those of nuscenes"):
        check_classes(CLASS_MAP, ClassMap.load("nuscenes"))


def test_report(segmenter: Segmenter, tmp_path: Path) -> None:
    evaluation = evaluate(segmenter, [Blobs(1)[0]])
    write_report(evaluation, tmp_path / "report")
    rows = (tmp_path / "report/classes.csv").read_text().splitlines()
    assert rows[0] == "id,class,points,iou"
    assert len(rows) == CLASS_MAP.num_classes
    summary = json.loads((tmp_path / "report/scores.json").read_text())
    assert summary["mean_iou"] == evaluation.scores.mean_iou
    for name in ("confusion.png", "distance.png"):
        assert (tmp_path / "report" / name).read_bytes()[:4] == b"\x89PNG"


def test_pictures_say_what_they_show(segmenter: Segmenter, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    shown: list[tuple[str, ...]] = []

    def note(figure: Figure, _: Path) -> None:
        shown.extend((axes.get_title(), axes.get_xlabel(), axes.get_ylabel()) for axes in figure.axes[:1])

    monkeypatch.setattr(report, "save_figure", note)
    write_report(evaluate(segmenter, [Blobs(1)[0]]), tmp_path)
    assert len(shown) == 2
    assert all(map(all, shown))
    assert all("1 frame" in title for title, *_ in shown)


def test_class_names_are_drawn_as_they_are_also_with_dollars(segmenter: Segmenter, tmp_path: Path) -> None:
    classes = [entry.model_copy(update={"name": rf"$\nonsense{{ {entry.name} $"}) for entry in CLASS_MAP.classes]
    odd = CLASS_MAP.model_copy(update={"classes": tuple(classes)})
    draw_confusion(replace(evaluate(segmenter, [Blobs(1)[0]]), class_map=odd), tmp_path / "a.png")
    assert (tmp_path / "a.png").stat().st_size


@pytest.fixture
def sequence(tmp_path: Path) -> Path:
    """A SemanticKITTI sequence of one scan, whose image cannot be read."""
    folder = tmp_path / "08"
    rng = np.random.default_rng(0)
    points = rng.uniform((-50, -50, -3, 0), (50, 50, 2, 1), (2000, 4)).astype("<f4")
    for name in ("velodyne", "labels", "image_2"):
        (folder / name).mkdir(parents=True)
    points.tofile(folder / "velodyne/000000.bin")
    rng.choice([0, 10, 40, 50, 70], 2000).astype("<u4").tofile(folder / "labels/000000.label")
    (folder / "image_2/000000.png").write_bytes(b"not an image")
    return folder


def test_the_commands(sequence: Path, tmp_path: Path) -> None:
    weights, report, out = tmp_path / "untrained.safetensors", tmp_path / "report", tmp_path / "out.zip"
    write_tiny_weights(weights)
    result = CliRunner().invoke(app, ["evaluate", str(weights), str(sequence), "--out", str(report), "--device", "cpu"])
    assert result.exit_code == 0, result.output
    assert "mean IoU" in result.output
    assert (report / "scores.json").exists()
    result = CliRunner().invoke(app, ["evaluate", str(weights), str(sequence), "--out", str(weights)])
    assert "is not a folder: --out is the folder to write to" in result.output
    assert "mean IoU" not in result.output
    result = CliRunner().invoke(app, ["submit", str(weights), str(sequence), str(out), "--votes", "1"])
    assert result.exit_code == 0, result.output
    assert out.exists()


WITHOUT_TRAINING = """
import sys
sys.modules.update(dict.fromkeys(["lightning", "torchmetrics", "tensorboard"]))  # importing what is None fails
from twodpass_core.cli import app
app(["evaluate", "tiny.safetensors", "08", "--before", "tiny.safetensors"], standalone_mode=False)
app(["evaluate", "tiny.safetensors", "settings.yaml", "--out", "report"], standalone_mode=False)
app(["submit", "tiny.safetensors", "settings.yaml", "out.zip", "--votes", "1"], standalone_mode=False)
"""


def test_the_commands_need_nothing_that_only_training_does(sequence: Path, tmp_path: Path) -> None:
    write_tiny_weights(tmp_path / "tiny.safetensors")
    (tmp_path / "settings.yaml").write_text(f"data: {{validation: {{root: {sequence}}}}}")
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join(sys.path)}
    command = [sys.executable, "-c", WITHOUT_TRAINING]
    done = subprocess.run(command, cwd=tmp_path, env=environment, capture_output=True, text=True, timeout=300)
    assert done.returncode == 0, done.stderr
    assert (tmp_path / "report/scores.json").exists(), done.stderr
    assert (tmp_path / "out.zip").exists(), done.stderr


def test_other_classes_are_refused_before_the_first_evaluation(sequence: Path, tmp_path: Path) -> None:
    bag, weights = drive(1).write(tmp_path / "drive"), write_tiny_weights(tmp_path / "untrained.safetensors")
    LabelStore.beside(bag).write(scan_ns(0), np.full(60, 24, np.uint32))
    arguments = ["evaluate", str(weights), str(sequence), str(bag), "--class-map", "nuscenes", "--device", "cpu"]
    for before in ([], ["--before", str(weights)]):
        result = CliRunner().invoke(app, [*arguments, *before])
        assert result.exit_code == 1
        assert "the data those of nuscenes" in " ".join(result.output.split())
        assert "mean IoU" not in result.output


def test_intensities_in_another_unit_are_told_of_once(sequence: Path, tmp_path: Path) -> None:
    scan = sequence / "velodyne/000000.bin"
    points = np.fromfile(scan, "<f4").reshape(-1, 4)
    (points * np.array([1, 1, 1, 255], np.float32)).tofile(scan)
    shutil.copy(scan, sequence / "velodyne/000001.bin")
    shutil.copy(sequence / "labels/000000.label", sequence / "labels/000001.label")
    weights = write_tiny_weights(tmp_path / "untrained.safetensors")
    result = CliRunner().invoke(app, ["evaluate", str(weights), str(sequence), "--before", str(weights)])
    assert result.exit_code == 0, result.output
    assert result.output.count("08/000000: intensity goes up to 255, in the weights' training data to 1:") == 1
    assert result.output.count("intensity goes up") == 1
    assert "bags are converted by --intensity-scale" in " ".join(result.output.split())


def test_sequences_are_chosen_and_frames_without_labels_are_counted(sequence: Path, tmp_path: Path) -> None:
    data, weights = tmp_path / "out", write_tiny_weights(tmp_path / "untrained.safetensors")
    for name in ("00", "03"):
        shutil.copytree(sequence, data / "sequences" / name)
    (data / "sequences/03/labels/000000.label").unlink()

    def told(*arguments: str) -> str:
        result = CliRunner().invoke(app, ["evaluate", str(weights), *arguments, "--device", "cpu"])
        return " ".join(result.output.split())

    told_what_is_there = told(str(data))
    assert "holds 00, 03, not 08 of split val: name those to take, as sequences: [00, 03] in" in told_what_is_there
    assert "left out" not in told(str(data), "--sequences", "00")
    assert "1 of 2 frames left out: without labels" in told(str(data), "--sequences", "00, 03")
    assert "1 of 2 frames left out" in told(str(data), "--sequences", "00,03", "--before", str(weights))
    assert "1 frame without any labels: label some of them, 03/000000 for one" in told(str(data), "--sequences", "03")
    assert "--sequences must be names with commas between" in told(str(data), "--sequences", "00,")
    for nothing in ([str(data), "--kind", "nuscenes"], ["settings.yaml"]):
        assert "no folder in SemanticKITTI's form, to which" in told(*nothing, "--sequences", "00")


def test_settings_stand_for_their_validation_data(sequence: Path, tmp_path: Path) -> None:
    weights, settings = tmp_path / "untrained.safetensors", tmp_path / "settings.yaml"
    write_tiny_weights(weights)
    settings.write_text(f"data: {{validation: {{root: {sequence}}}}}")
    assert CliRunner().invoke(app, ["evaluate", str(weights), str(settings)]).exit_code == 0
    submitted = submission_settings(settings, None, None)
    assert (submitted.root, submitted.split, submitted.cameras) == (sequence, "val", ())
    assert submission_settings(settings, None, "test").split == "test"
    settings.write_text("data: {validation: {root: data, sequences: ['08']}}")
    assert submission_settings(settings, None, None).sequences == ("08",)
    assert submission_settings(settings, None, "test").sequences is None  # else it would be 08 again
    for command in (["evaluate", str(weights), str(settings)], ["submit", str(weights), str(settings), "out.zip"]):
        result = CliRunner().invoke(app, [*command, "--kind", "nuscenes"])
        assert result.exit_code == 1
        assert "--kind is for folders of data" in result.output
    (tmp_path / "drive.mcap").touch()
    for option in (["--split", "test"], ["--kind", "nuscenes"]):
        result = CliRunner().invoke(app, ["evaluate", str(weights), str(tmp_path / "drive.mcap"), *option])
        assert result.exit_code == 1
        assert f"{option[0]} is for folders of data" in " ".join(result.output.split())
    settings.write_text("epochs: 1")
    result = CliRunner().invoke(app, ["evaluate", str(weights), str(settings)])
    assert result.exit_code == 1
    assert "data.validation" in result.output


def test_another_split_than_the_one_that_settings_validate_on(tmp_path: Path) -> None:
    settings = tmp_path / "settings.yaml"
    settings.write_text(
        "data: {validation: {kind: simulation, split: val, simulation: {streets: 1, frames: 1, columns: 64}}}"
    )
    (validation,) = evaluation_sources([settings], None, None, BagConfig())
    (test,) = evaluation_sources([settings], None, "test", BagConfig())
    assert len(validation.ids) == len(test.ids) == 1
    assert validation.ids != test.ids


def test_classes_that_are_nowhere_are_told_to_be_out_of_the_mean(sequence: Path, tmp_path: Path) -> None:
    weights = write_tiny_weights(tmp_path / "untrained.safetensors")
    for definition, told in (("benchmark", True), ("semantic-kitti-api", False)):
        arguments = ["evaluate", str(weights), str(sequence), "--definition", definition]
        output = " ".join(CliRunner().invoke(app, arguments).output.split())
        assert ("classes neither labelled nor predicted are not in the mean" in output) == told


def test_what_has_no_benchmark_is_not_submitted(tmp_path: Path) -> None:
    bag, weights = tmp_path / "drive.mcap", tmp_path / "untrained.safetensors"
    bag.touch()
    for data, kind in ((str(bag), "bag"), ("simulation", "simulation")):
        result = CliRunner().invoke(app, ["submit", str(weights), data, str(tmp_path / "out.zip")])
        assert result.exit_code == 1
        assert f"is of kind {kind}, and benchmarks are for semantickitti and nuscenes" in result.stderr
