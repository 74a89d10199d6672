"""Weights before and after on the same frames: what is counted as changed, and how sure that is."""

from __future__ import annotations

import io
import json
from dataclasses import replace
from pathlib import Path
from typing import Any, cast

import numpy as np
import pytest
from rich.console import Console
from tiny_weights import write_tiny_weights
from training_data import CLASS_MAP, Blobs
from typer.testing import CliRunner

from twodpass_core.classes import UNLABELLED
from twodpass_core.cli import app
from twodpass_core.cli.work.evaluate import report_folders
from twodpass_core.data.frame import Frame
from twodpass_core.errors import ScanError
from twodpass_core.evaluation.compare import MIN_FRAMES, Comparison, compare
from twodpass_core.evaluation.comparison_report import comparison_table, summary, write_comparison
from twodpass_core.evaluation.evaluate import evaluate
from twodpass_core.segmenter import Segmentation, Segmenter


class Answering:
    """Stands in for a Segmenter: right, but for every n-th point, which it gives `wrong`."""

    class_map = CLASS_MAP

    def __init__(self, every: int, wrong: int) -> None:
        self.every, self.wrong = every, wrong

    def segment(self, points: np.ndarray, **_: object) -> Segmentation:
        class_id = np.where(points[:, 2] > 0, 2, 1).astype(np.uint8)
        class_id[:: self.every] = self.wrong
        return Segmentation(class_id, np.ones(len(points), np.float32), None, {})


def compared(before: Answering, after: Answering, frames: list[Frame], **options: Any) -> Comparison:
    return compare(cast(Segmenter, before), cast(Segmenter, after), frames, **options)


FRAMES = [Blobs(MIN_FRAMES)[index] for index in range(MIN_FRAMES)]


def test_both_scores_are_those_of_an_evaluation() -> None:
    before, after = Answering(2, 1), Answering(5, UNLABELLED)
    comparison = compared(before, after, FRAMES)
    for answering, evaluation in ((before, comparison.before), (after, comparison.after)):
        expected = evaluate(cast(Segmenter, answering), FRAMES)
        assert evaluation.counts.equal(expected.counts)
        assert evaluation.frames == MIN_FRAMES
    assert comparison.mean_iou.before == comparison.before.scores.mean_iou
    assert [change.iou.after for change in comparison.classes] == list(comparison.after.scores.iou)
    assert [change.points for change in comparison.classes] == list(comparison.after.scores.points)


def test_mended_and_broken_points_are_counted_by_class() -> None:
    frame = FRAMES[0]
    labels = cast(np.ndarray, frame.labels)
    comparison = compared(Answering(2, 1), Answering(3, 1), [frame])
    even, third = (np.arange(len(labels)) % step == 0 for step in (2, 3))
    low, high = comparison.classes
    assert (low.mended, low.broken) == (0, 0)  # "wrong" is right for these
    assert high.mended == int(np.sum((labels == 2) & even & ~third))
    assert high.broken == int(np.sum((labels == 2) & third & ~even))
    assert high.taken_for is not None
    assert high.taken_for[0].name == "low"
    assert high.taken_for[1] == pytest.approx(np.mean(third[labels == 2]))
    assert low.taken_for is None


def test_a_change_of_every_frame_is_clear_and_none_is_not() -> None:
    better = compared(Answering(2, UNLABELLED), Answering(10, UNLABELLED), FRAMES)
    assert better.mean_iou.is_clear
    assert 0 < better.mean_iou.low <= better.mean_iou.difference <= better.mean_iou.high
    same = compared(Answering(2, 1), Answering(2, 1), FRAMES)
    assert not same.mean_iou.is_clear
    assert (same.mean_iou.low, same.mean_iou.high) == (0, 0)
    worse = compared(Answering(10, UNLABELLED), Answering(2, UNLABELLED), FRAMES)
    assert worse.mean_iou.is_clear
    assert worse.mean_iou.high < 0


def test_frames_that_disagree_make_a_change_unclear() -> None:
    class Alternating(Answering):
        def segment(self, points: np.ndarray, **_: object) -> Segmentation:
            self.every = 7 - self.every
            return super().segment(points)

    comparison = compared(Alternating(2, UNLABELLED), Alternating(5, UNLABELLED), FRAMES)
    assert comparison.mean_iou.low < 0 < comparison.mean_iou.high
    assert not comparison.mean_iou.is_clear


def test_a_change_that_one_in_twenty_resamplings_denies_is_not_clear() -> None:
    class WorseOnce(Answering):
        def segment(self, points: np.ndarray, **_: object) -> Segmentation:
            answer = super().segment(points)
            self.every = 5
            return answer

    comparison = compared(Answering(4, UNLABELLED), WorseOnce(3, UNLABELLED), FRAMES)
    assert comparison.mean_iou.difference > 0.02
    assert comparison.mean_iou.low < 0
    assert compared(Answering(4, UNLABELLED), WorseOnce(3, UNLABELLED), FRAMES).mean_iou == comparison.mean_iou


def test_both_vote_as_often_as_is_asked() -> None:
    class Voting(Answering):
        def segment(self, points: np.ndarray, **options: object) -> Segmentation:
            asked.append(options.get("votes"))
            return super().segment(points)

    asked: list[object] = []
    compared(Voting(4, 1), Voting(4, 1), FRAMES[:1], votes=3)
    assert asked == [3, 3]


def test_points_without_an_answer_are_taken_for_nothing() -> None:
    comparison = compared(Answering(3, UNLABELLED), Answering(3, UNLABELLED), FRAMES)
    assert [change.taken_for for change in comparison.classes] == [None, None]


@pytest.mark.filterwarnings("error")
def test_too_few_frames_give_no_verdict(tmp_path: Path) -> None:
    comparison = compared(Answering(2, UNLABELLED), Answering(10, UNLABELLED), FRAMES[1:])
    assert comparison.mean_iou.difference > 0
    assert np.isnan(comparison.mean_iou.low)
    assert not any(change.is_clear for change in (comparison.mean_iou, *(entry.iou for entry in comparison.classes)))
    assert "5 frames cannot tell better from worse, which takes 6 at least." in summary(comparison)
    write_comparison(comparison, tmp_path, before="old", after="new")
    assert json.loads((tmp_path / "comparison.json").read_text())["classes"][0]["low"] is None


def test_a_class_of_few_frames_has_no_verdict_though_others_have() -> None:
    rare = replace(FRAMES[0], labels=np.minimum(cast(np.ndarray, FRAMES[0].labels), 1))
    comparison = compared(Answering(2, UNLABELLED), Answering(10, UNLABELLED), [*FRAMES[1:], rare])
    assert [change.iou.frames for change in comparison.classes] == [6, 5]
    assert "Clearly better: low. Clearly worse: no class. In fewer than 6 frames, too few to tell: high." in summary(
        comparison
    )


def test_resamplings_without_a_class_say_nothing_of_it() -> None:
    """Of so many frames, six that have it are all left out now and then."""
    low = cast(np.ndarray, FRAMES[0].labels) == 1
    without = replace(FRAMES[0], points=FRAMES[0].points[low], labels=np.ones(low.sum(), np.uint8))
    comparison = compared(Answering(2, UNLABELLED), Answering(10, UNLABELLED), [*FRAMES, *[without] * 120])
    assert comparison.classes[1].iou.frames == 6
    assert comparison.classes[1].iou.is_clear


def test_without_frames_there_is_nothing_to_tell() -> None:
    comparison = compared(Answering(2, 1), Answering(2, 1), [])
    assert np.isnan(comparison.mean_iou.difference)
    assert not comparison.mean_iou.is_clear


def test_a_frame_without_labels_is_named() -> None:
    with pytest.raises(ScanError, match="00/000000: has no labels"):
        compared(Answering(2, 1), Answering(2, 1), [replace(FRAMES[0], labels=None)])


def test_the_report_says_what_changed(tmp_path: Path) -> None:
    comparison = compared(Answering(2, 1), Answering(10, 1), FRAMES)
    write_comparison(comparison, tmp_path / "report", before="old", after="new")
    text = (tmp_path / "report/comparison.md").read_text()
    assert "# new against old" in text
    assert summary(comparison) in text
    assert "Clearly better: low, high. Clearly worse: no class." in text
    assert sum(line.startswith("| ") for line in text.splitlines()) == 2 + 2 + 1  # head, rule, classes, mean
    content = json.loads((tmp_path / "report/comparison.json").read_text())
    assert content["mean_iou"]["iou_after"] == comparison.mean_iou.after
    assert content["classes"][1]["mended"] == comparison.classes[1].mended
    assert comparison_table(comparison).row_count == 3


def test_in_a_narrow_terminal_the_names_are_whole() -> None:
    comparison = compared(Answering(2, 1), Answering(10, 1), FRAMES)
    long = replace(comparison.classes[0], entry=comparison.classes[0].entry.model_copy(update={"name": "traffic-sign"}))
    console = Console(width=80, record=True, file=io.StringIO())
    console.print(comparison_table(replace(comparison, classes=(long, *comparison.classes[1:]))))
    assert "traffic-sign" in console.export_text()


def write_sequence(folder: Path) -> None:
    rng = np.random.default_rng(0)
    for name in ("velodyne", "labels"):
        (folder / name).mkdir(parents=True)
    rng.uniform((-50, -50, -3, 0), (50, 50, 2, 1), (500, 4)).astype("<f4").tofile(folder / "velodyne/000000.bin")
    rng.choice([0, 10, 40, 50, 70], 500).astype("<u4").tofile(folder / "labels/000000.label")


def test_the_command_compares_on_every_set(tmp_path: Path) -> None:
    sets = [tmp_path / name for name in ("own", "old")]
    for folder in sets:
        write_sequence(folder)
    weights = [tmp_path / f"{name}.safetensors" for name in ("before", "after")]
    for path in weights:
        write_tiny_weights(path)
    before, after = map(str, weights)
    command = ["evaluate", after, *map(str, sets), "--before", before, "--out", str(tmp_path / "report")]
    result = CliRunner().invoke(app, [*command, "--device", "cpu"])
    assert result.exit_code == 0, result.output
    assert result.output.count("1 frame cannot tell better from worse") == 2
    for name in ("own", "old"):
        assert (tmp_path / "report" / name / "comparison.md").exists()
        assert (tmp_path / "report" / name / "scores.json").exists()


def test_sets_of_one_name_have_folders_of_their_own(tmp_path: Path) -> None:
    sets = [tmp_path / "a/08", tmp_path / "b/08", tmp_path / "c/old"]
    assert report_folders(Path("out"), sets) == [Path("out/0_08"), Path("out/1_08"), Path("out/old")]
    assert report_folders(Path("out"), sets[:1]) == [Path("out")]
    assert report_folders(None, sets) == [None] * 3
