"""The command line, as a user meets it: files in, files out, one line for an error."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image
from tiny_weights import tiny_card, write_tiny_weights
from typer.testing import CliRunner, Result

from twodpass_core.classes import ClassMap
from twodpass_core.cli import app
from twodpass_core.segmenter import Segmentation, Segmenter
from twodpass_core.weights import Card, load_weights

OUTSIDE = np.array([[80, 0, 0, 0.5], [0, 0, 0, 0], [np.nan, 1, 1, 0.5]], np.float32)


def twodpass(*arguments: object) -> Result:
    return CliRunner().invoke(app, [str(argument) for argument in arguments])


def one_line(text: str) -> str:
    return " ".join(text.split())


@pytest.fixture(scope="module")
def weights(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_tiny_weights(tmp_path_factory.mktemp("weights") / "tiny.safetensors")


@pytest.fixture
def scans(tmp_path: Path) -> Path:
    """A folder with two scans of 303 points each, three of them without an answer."""
    folder = tmp_path / "scans"
    folder.mkdir()
    rng = np.random.default_rng(0)
    for index in range(2):
        inside = rng.uniform((-20, -20, -2, 0), (20, 20, 1, 1), (300, 4))
        np.concatenate([inside, OUTSIDE]).astype("<f4").tofile(folder / f"{index:06d}.bin")
    return folder


def points_of(path: Path) -> np.ndarray:
    return np.fromfile(path, "<f4").reshape(-1, 4)


def test_a_full_gpu_does_not_stop_the_others(
    weights: Path, scans: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    segment = Segmenter.segment

    def full_at_first(self: Segmenter, *arguments: Any, **options: Any) -> Segmentation:
        monkeypatch.setattr(Segmenter, "segment", segment)
        raise torch.cuda.OutOfMemoryError("tried to allocate 2 GiB")

    monkeypatch.setattr(Segmenter, "segment", full_at_first)
    result = twodpass("segment", scans, "-w", weights, "-o", tmp_path / "out")
    assert result.exit_code == 1
    assert "000000: the GPU's memory is full: tried to allocate 2 GiB" in one_line(result.stderr)
    assert [path.name for path in (tmp_path / "out").iterdir()] == ["000001.label"]


def test_help_is_there_without_torch() -> None:
    code = "import sys; from twodpass_core.cli import app; assert not {'torch', 'matplotlib'} & sys.modules.keys()"
    subprocess.run([sys.executable, "-c", code], check=True)
    for command in ("segment", "import-weights", "info", "render", "benchmark"):
        assert command in twodpass("--help").output
        assert twodpass(command, "--help").exit_code == 0


def test_version() -> None:
    result = twodpass("--version")
    assert result.exit_code == 0
    assert result.output.startswith("twodpass")


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


def test_votes(weights: Path, scans: Path, tmp_path: Path) -> None:
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


def test_where_every_scan_is_bad_there_is_no_table(weights: Path, tmp_path: Path) -> None:
    np.save(tmp_path / "bad.npy", np.zeros((5, 2), np.float32))
    result = twodpass("segment", tmp_path / "bad.npy", "-w", weights, "-o", tmp_path / "out")
    assert result.exit_code == 1
    assert "bad.npy: holds" in one_line(result.stderr)
    assert result.stdout.splitlines()[0] == "not labelled: 1 of 1 scan"


@pytest.mark.parametrize(
    ("arguments", "reason"),
    [
        (["segment", "absent.bin", "-w", "{weights}", "-o", "{out}"], "absent.bin: does not exist"),
        (["segment", "{scans}", "-w", "absent.safetensors", "-o", "{out}"], "absent.safetensors: cannot be read"),
        (["segment", "{scans}", "-w", "{weights}", "-o", "{weights}"], "is not a folder"),
        (["segment", "{scans}", "-w", "{weights}", "-o", "{out}", "--columns", "7"], "7 float32 columns"),
        (["segment", "{scans}", "-w", "{weights}", "-o", "{out}", "--device", "toaster"], "toaster"),
        (["segment", "{scans}", "-w", "{weights}", "-o", "{out}", "--backend", "abacus"], "abacus"),
        (["segment", "{scans}", "-w", "{weights}", "-o", "{out}", "--sensor-transform", "1,2"], "--sensor-transform"),
        (["segment", "{scans}", "-w", "{weights}", "-o", "{out}", "--intensity-scale", "0"], "intensity_scale"),
        (["info", "{scans}/000000.bin"], "not a safetensors file"),
        (["import-weights", "{scans}/000000.bin", "{out}.safetensors"], "not a PyTorch checkpoint"),
        (["import-weights", "absent.ckpt", "{out}.pt"], "ends in .safetensors"),
        (["import-weights", "a", "{out}.safetensors", "--scales", "2,x"], "--scales must be numbers"),
        (["import-weights", "a", "{out}.safetensors", "--class-map", "moon"], "moon: no such class map"),
        (["render", "{scans}", "-o", "{out}.png", "--index", "2"], "has 2, counted from 0"),
        (["render", "{scans}", "-o", "{out}.png", "--labels", "{weights}"], "not the labels of this scan"),
        (["render", "{scans}", "-o", "{scans}/000000.bin", "--overwrite"], "ends in .png"),
        (["import-weights", "{weights}", "{weights}", "--overwrite"], "is the checkpoint itself"),
        (["import-weights", "a", "{weights}"], "exists"),
    ],
)
def test_errors_are_one_line(arguments: list[str], reason: str, weights: Path, scans: Path, tmp_path: Path) -> None:
    places = {"weights": weights, "scans": scans, "out": tmp_path / "out"}
    result = twodpass(*(argument.format(**places) for argument in arguments))
    assert result.exit_code == 1
    assert result.stderr.startswith("error: ")
    assert reason in one_line(result.stderr)
    assert len(result.stderr.splitlines()) == 1
    assert not list(tmp_path.glob("out.*"))


@pytest.mark.parametrize("how", ["option", "environment"])
def test_debug_gives_the_traceback(how: str, monkeypatch: pytest.MonkeyPatch) -> None:
    if how == "environment":
        monkeypatch.setenv("TWODPASS_DEBUG", "1")
    result = twodpass(*(["--debug"] if how == "option" else []), "info", "absent.safetensors")
    assert "absent.safetensors" in str(result.exception)


def test_a_checkpoint_given_as_weights_names_the_command(scans: Path, tmp_path: Path) -> None:
    torch.save({"a": torch.zeros(3)}, tmp_path / "best.ckpt")
    result = twodpass("segment", scans, "-w", tmp_path / "best.ckpt", "-o", tmp_path / "out")
    assert result.exit_code == 1
    assert "twodpass import-weights" in one_line(result.stderr)


def test_info(weights: Path) -> None:
    output = one_line(twodpass("info", weights).output)
    assert "8 channels, scales 2, 4" in output
    assert "(-50, -50, -4) .. (50, 50, 2) m" in output
    assert "(0.1, 0.1, 0.1) m" in output
    assert "Apache-2.0" in output
    assert Card.model_validate(json.loads(twodpass("info", weights, "--json").stdout)) == load_weights(weights)[0]


def test_import_says_what_it_took_and_what_not(golden: Path, tmp_path: Path) -> None:
    out = tmp_path / "w.safetensors"
    arguments = ("import-weights", golden / "tiny_lightning138.ckpt", out, "--volume-min", "-40,-40,-3")
    result = twodpass(*arguments, "--intensity-max", "255", "--licence", "as is")
    assert result.exit_code == 0, result.output
    output = one_line(result.output)
    assert "240 tensors imported" in output
    assert "skipped 1 tensor of model_3d.criterion.*" in output
    assert "easydict.EasyDict" in output
    assert "from the option: volume minimum, intensity" in output
    card, _ = load_weights(out)
    assert card.grid.minimum == (-40.0, -40.0, -3.0)
    assert (card.intensity_max, card.licence) == (255, "as is")
    assert twodpass(*arguments).exit_code == 1


def test_benchmark(weights: Path, scans: Path) -> None:
    arguments = ("benchmark", scans, "-w", weights, "--repeats", "1", "--peer", "unfolded")
    output = one_line(twodpass(*arguments).stdout)
    for expected in ("303 points, 301 in the volume", "UNTRAINED", "voxelise", "total", "unfolded", "of the labels"):
        assert expected in output
    result = twodpass(*arguments, "--json", "--precision", "fp32", "--threads", "1")
    report = json.loads(result.stdout)
    assert report["machine"]["threads"] == 1
    assert report["machine"]["versions"]["torch"]
    assert [(entry["name"], entry["backend"]) for entry in report["measurements"]] == [
        ("unfolded", "torch"),
        ("fp32", "torch"),
    ]


@pytest.mark.slow
def test_benchmark_without_arguments_uses_a_simulated_scan_and_random_weights() -> None:
    result = twodpass("benchmark", "--repeats", "1", "--precision", "fp32")
    assert result.exit_code == 0, result.output
    assert "semantickitti, width 64, scales 2,4,8,16, UNTRAINED" in one_line(result.stdout)


def test_a_scan_without_intensity_is_drawn_and_on_demand_labelled_and_timed(weights: Path, tmp_path: Path) -> None:
    scan = tmp_path / "bare.pcd"
    header = "FIELDS x y z\nSIZE 4 4 4\nTYPE F F F\nWIDTH 9\nHEIGHT 1\nDATA ascii\n"
    scan.write_text(header + "\n".join(f"{number}.5 1 0" for number in range(9)))
    assert twodpass("render", scan, "-o", tmp_path / "bare.png").exit_code == 0
    for command in (["segment", scan, "-o", tmp_path / "out"], ["benchmark", scan, "--repeats", 1, "--device", "cpu"]):
        refused = twodpass(*command, "-w", weights)
        assert "--intensity-field" in refused.stderr
        assert twodpass(*command, "-w", weights, "--intensity-field", "none").exit_code == 0


def test_render_with_labels(scans: Path, tmp_path: Path) -> None:
    labels = np.full(303, 40 | 7 << 16, "<u4")  # road, of instance 7
    labels.tofile(tmp_path / "000000.label")
    scan = scans / "000000.bin"
    drawn = twodpass("render", scan, "--labels", tmp_path / "000000.label", "-o", tmp_path / "road.png")
    assert drawn.stdout == f"000000, 303 points: drawn in {tmp_path}/road.png\n"
    assert twodpass("render", scan, "-o", tmp_path / "grey.png").exit_code == 0
    road = np.array(ClassMap.load("semantickitti").colour_table[9])
    for name, present in (("road", True), ("grey", False)):
        with Image.open(tmp_path / f"{name}.png") as image:
            pixels = np.asarray(image.convert("RGB")).reshape(-1, 3)
        assert (pixels == road).all(axis=1).any() == present
