"""`twodpass segment`: scans in, label files out, and what is told of those that fail."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from cli_runs import one_line, twodpass, write_scans
from cloud_bag import cloud_message, write_bag
from PIL import Image
from rosbags.rosbag2 import StoragePlugin
from tiny_weights import tiny_card, write_tiny_weights

from twodpass_core.classes import ClassMap
from twodpass_core.data.scan_files import read_scan
from twodpass_core.errors import ScanError
from twodpass_core.segmenter import Segmentation, Segmenter


@pytest.fixture(scope="module")
def weights(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_tiny_weights(tmp_path_factory.mktemp("weights") / "tiny.safetensors")


@pytest.fixture
def scans(tmp_path: Path) -> Path:
    return write_scans(tmp_path / "scans")


def points_of(path: Path) -> np.ndarray:
    return np.fromfile(path, "<f4").reshape(-1, 4)


def test_labels_are_those_of_the_segmenter(weights: Path, scans: Path, tmp_path: Path) -> None:
    result = twodpass("segment", scans, "--weights", weights, "--out", tmp_path / "out", "--probabilities")
    assert result.exit_code == 0, result.output
    segmenter = Segmenter.from_weights(weights, device="cpu")
    for name in ("000000", "000001"):
        expected = segmenter.segment(points_of(scans / f"{name}.bin"))
        labels = np.fromfile(tmp_path / "out" / f"{name}.label", "<u4")
        assert np.array_equal(labels, segmenter.class_map.raw_labels(expected.class_id))
        assert len(labels) == 303
        assert not labels[300:].any()
        assert labels[:300].all()
        probability = np.load(tmp_path / "out" / f"{name}.probability.npy")
        assert probability == pytest.approx(expected.probability)
        assert not probability[300:].any()
    assert len(list((tmp_path / "out").iterdir())) == 4


def test_the_summary_counts_every_point(weights: Path, scans: Path, tmp_path: Path) -> None:
    output = one_line(twodpass("segment", scans, "-w", weights, "-o", tmp_path / "out").output)
    assert "2 scans, 606 points" in output
    assert "unlabelled │ 0 │ 6 │ 1.0%" in output
    assert "ms per scan on cpu" in output


def test_another_unit_of_intensity_is_told_once(weights: Path, scans: Path, tmp_path: Path) -> None:
    for path in scans.iterdir():
        (points_of(path) * np.array([1, 1, 1, 255], "<f4")).tofile(path)
    result = twodpass("segment", scans, "-w", weights, "-o", tmp_path / "a")
    assert one_line(result.stderr).count("--intensity-scale") == 1
    result = twodpass("segment", scans, "-w", weights, "-o", tmp_path / "b", "--intensity-scale", 1 / 255)
    assert "--intensity-scale" not in result.stderr


def test_pictures_are_drawn(weights: Path, scans: Path, tmp_path: Path) -> None:
    assert twodpass("segment", scans, "-w", weights, "-o", tmp_path / "out", "--picture").exit_code == 0
    with Image.open(tmp_path / "out" / "000001.png") as image:
        assert image.width > 500


def test_a_name_that_is_no_text_is_drawn_with_a_question_mark(weights: Path, scans: Path, tmp_path: Path) -> None:
    scan = (scans / "000000.bin").rename(tmp_path / os.fsdecode(b"a\xff.bin"))
    result = twodpass("segment", scan, "-w", weights, "-o", tmp_path / "out", "--picture")
    assert result.exit_code == 0, result.output
    assert (tmp_path / "out" / os.fsdecode(b"a\xff.png")).exists()
    command = [sys.executable, "-m", "twodpass_core", "render", str(scan), "-o", str(tmp_path / "a.png")]
    assert subprocess.run(command, check=True, capture_output=True).stdout.startswith(b"a\xff, 303 points: drawn")


def test_without_weights_named_those_that_come_with_twodpass_are_used(scans: Path, tmp_path: Path) -> None:
    result = twodpass("segment", scans, "-o", tmp_path / "a")
    assert result.exit_code == 0, result.output
    assert "UNTRAINED" not in result.output
    assert "know simulated streets only" in one_line(result.stderr)
    assert json.loads(twodpass("info", "--json").stdout)["trained"]


def test_untrained_weights_are_called_so(weights: Path, scans: Path, tmp_path: Path) -> None:
    assert "UNTRAINED" in twodpass("segment", scans, "-w", weights, "-o", tmp_path / "a").stdout
    assert "UNTRAINED" in twodpass("info", weights).stdout
    trained = write_tiny_weights(tmp_path / "trained.safetensors", tiny_card(trained=True))
    assert "UNTRAINED" not in twodpass("segment", scans, "-w", trained, "-o", tmp_path / "b").output
    assert "UNTRAINED" not in twodpass("info", trained).output


def test_sensor_frame_and_intensity_are_converted(weights: Path, scans: Path, tmp_path: Path) -> None:
    points = points_of(scans / "000000.bin")
    turned = points.copy()
    turned[:300] = np.stack([points[:300, 1], -points[:300, 0], points[:300, 2] + 1, points[:300, 3] * 200], axis=1)
    turned.tofile(tmp_path / "000000.bin")
    options = ("--sensor-transform", f"0,0,-1,0,0,{np.pi / 2}", "--intensity-scale", "0.005")
    for name, arguments in (("plain", [scans / "000000.bin"]), ("turned", [tmp_path / "000000.bin", *options])):
        assert twodpass("segment", *arguments, "-w", weights, "-o", tmp_path / "out" / name).exit_code == 0
    plain, converted = (np.fromfile(tmp_path / "out" / name / "000000.label", "<u4") for name in ("plain", "turned"))
    assert (plain == converted).mean() > 0.98
    assert not converted[300:].any()


def test_votes_are_the_segmenters(weights: Path, scans: Path, tmp_path: Path) -> None:
    result = twodpass("segment", scans / "000000.bin", "-w", weights, "-o", tmp_path / "out", "--votes", "3")
    assert result.exit_code == 0
    expected = Segmenter.from_weights(weights, device="cpu").segment(points_of(scans / "000000.bin"), votes=3)
    labels = np.fromfile(tmp_path / "out" / "000000.label", "<u4")
    assert np.array_equal(labels, ClassMap.load("semantickitti").raw_labels(expected.class_id))


def test_nothing_is_replaced_unasked(weights: Path, scans: Path, tmp_path: Path) -> None:
    out = tmp_path / "out"
    out.mkdir()
    (out / "000001.label").write_text("precious")
    result = twodpass("segment", scans, "-w", weights, "-o", out)
    assert result.exit_code == 1
    assert "000001.label exists" in one_line(result.stderr)
    assert "--overwrite" in result.stderr
    assert [path.name for path in out.iterdir()] == ["000001.label"]
    assert (out / "000001.label").read_text() == "precious"
    assert twodpass("segment", scans, "-w", weights, "-o", out, "--overwrite").exit_code == 0
    assert (out / "000001.label").stat().st_size == 4 * 303


@pytest.mark.parametrize("place", ["folder", "file", "sequence"])
def test_results_do_not_go_among_the_scans(place: str, weights: Path, scans: Path, tmp_path: Path) -> None:
    given, out = scans, scans
    if place == "file":
        given = scans / "000000.bin"
    if place == "sequence":
        given, out = tmp_path, scans.rename(tmp_path / "velodyne")
    before = sorted(out.iterdir())
    result = twodpass("segment", given, "-w", weights, "-o", out, "--overwrite")
    assert result.exit_code == 1
    assert "holds the scans" in one_line(result.stderr)
    assert sorted(out.iterdir()) == before


def test_a_bad_scan_does_not_stop_the_others(weights: Path, scans: Path, tmp_path: Path) -> None:
    np.save(scans / "000000a.npy", np.zeros((5, 2), np.float32))
    result = twodpass("segment", scans, "-w", weights, "-o", tmp_path / "out")
    assert result.exit_code == 1
    assert "000000a.npy" in one_line(result.stderr)
    assert "not labelled: 1 of 3 scans" in one_line(result.stdout)
    assert sorted(path.name for path in (tmp_path / "out").iterdir()) == ["000000.label", "000001.label"]


@pytest.mark.parametrize("error", [torch.cuda.OutOfMemoryError, MemoryError])
def test_full_memory_does_not_stop_the_others(
    error: type[Exception], weights: Path, scans: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    segment = Segmenter.segment

    def full_at_first(self: Segmenter, *arguments: Any, **options: Any) -> Segmentation:
        monkeypatch.setattr(Segmenter, "segment", segment)
        raise error("tried to allocate 2 GiB")

    monkeypatch.setattr(Segmenter, "segment", full_at_first)
    result = twodpass("segment", scans, "-w", weights, "-o", tmp_path / "out")
    assert result.exit_code == 1
    assert "000000: the memory is full: tried to allocate 2 GiB" in one_line(result.stderr)
    assert [path.name for path in (tmp_path / "out").iterdir()] == ["000001.label"]


def test_a_scan_that_does_not_fit_into_memory_is_told_by_name(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def full(*arguments: Any) -> Any:
        raise MemoryError("Unable to allocate 80. GiB")

    scan = write_scans(tmp_path / "scans") / "000000.bin"
    monkeypatch.setattr(np, "fromfile", full)
    with pytest.raises(ScanError, match=r"000000\.bin: the memory is full: Unable to allocate 80"):
        read_scan(scan)


def test_a_long_path_stays_in_one_piece(weights: Path, scans: Path, tmp_path: Path) -> None:
    out = tmp_path / "/".join(["a_folder_with_a_long_name"] * 5)
    assert f"written to {out}\n" in twodpass("segment", scans, "-w", weights, "-o", out).stdout


def test_a_file_that_is_called_as_a_scan_of_a_bag_is_refused(weights: Path, scans: Path, tmp_path: Path) -> None:
    bag = write_bag(tmp_path / "drive", StoragePlugin.MCAP, {"/points": [cloud_message(0), cloud_message(1)]})
    file = (scans / "000001.bin").rename(tmp_path / "drive_000001.bin")
    result = twodpass("segment", bag, file, "-w", weights, "-o", tmp_path / "out")
    assert result.exit_code == 1
    assert f"{bag} and {file} both have a scan called drive_000001" in one_line(result.stderr)
    assert not (tmp_path / "out").exists()


def test_where_every_scan_is_bad_there_is_no_table(weights: Path, tmp_path: Path) -> None:
    np.save(tmp_path / "bad.npy", np.zeros((5, 2), np.float32))
    result = twodpass("segment", tmp_path / "bad.npy", "-w", weights, "-o", tmp_path / "out")
    assert result.exit_code == 1
    assert "bad.npy: holds" in one_line(result.stderr)
    assert result.stdout.splitlines()[0] == "not labelled: 1 of 1 scan"


def test_scans_that_fail_alike_are_told_once_and_counted(weights: Path, tmp_path: Path) -> None:
    cut_off = [cloud_message(index) for index in range(5)]
    for message in cut_off:
        message.data = message.data[:-3]
    bag = write_bag(tmp_path / "drive", StoragePlugin.MCAP, {"/points": [*cut_off, cloud_message(5)]})
    result = twodpass("segment", bag, "-w", weights, "-o", tmp_path / "out")
    assert result.stderr.count("error: ") == 1
    assert "4 more scans like this: " in one_line(result.stderr)
    assert [path.name for path in (tmp_path / "out").iterdir()] == ["drive_000005.label"]
