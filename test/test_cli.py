"""The command line, as a user meets it: files in, files out, one line for an error."""

from __future__ import annotations

import json
import math
import re
import signal
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import torch
import typer
from cli_runs import one_line, twodpass, write_scans
from cloud_bag import cloud_message, write_bag
from PIL import Image
from recording_data import wait_for
from rosbags.rosbag2 import StoragePlugin
from tiny_weights import write_tiny_weights
from typer.main import get_command

from twodpass_core import __version__
from twodpass_core.classes import ClassMap
from twodpass_core.cli import app
from twodpass_core.cli.edge import not_nan
from twodpass_core.pretrained import default_weights
from twodpass_core.weights import Card, load_weights


@pytest.fixture(scope="module")
def weights(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_tiny_weights(tmp_path_factory.mktemp("weights") / "tiny.safetensors")


@pytest.fixture
def scans(tmp_path: Path) -> Path:
    return write_scans(tmp_path / "scans")


def test_help_is_there_without_torch() -> None:
    code = "import sys; from twodpass_core.cli import app; assert not {'torch', 'matplotlib'} & sys.modules.keys()"
    subprocess.run([sys.executable, "-c", code], check=True)
    for command in ("segment", "import-weights", "info", "render", "benchmark"):
        assert command in twodpass("--help").output
        assert twodpass(command, "--help").exit_code == 0


def test_a_command_is_in_the_module_of_its_name() -> None:
    """Or of the family's: benchmark-training is in benchmark."""
    for command in app.registered_commands:
        function = command.callback
        assert function is not None
        module = function.__module__.removeprefix("twodpass_core.cli.")
        assert function.__name__ == module or function.__name__.startswith(f"{module}_")


@pytest.mark.parametrize("command", ["prepare", "segment", "labels status", "labels propose", "benchmark-training"])
def test_what_may_be_several_is_shown_so_once(command: str) -> None:
    usage = twodpass(*command.split(), "--help").output.partition("Usage:")[2].strip().splitlines()[0]
    assert usage.count("...") == 1


def test_arguments_that_may_be_several_have_no_default() -> None:
    """click before 8.3 refuses any but None, whatever command is called."""
    commands = [get_command(app)]
    for command in commands:
        commands += getattr(command, "commands", {}).values()
    several = [argument for command in commands for argument in command.params if argument.nargs == -1]
    assert "bags" in [argument.name for argument in several]
    assert [argument.name for argument in several if argument.default is not None] == []


@pytest.mark.parametrize(
    "arguments",
    [
        ["simulate", "out", "--period", "nan"],
        ["labels", "propose", "drive", "-w", "default", "--min-probability", "nan"],
    ],
)
def test_what_is_not_a_number_is_within_no_bounds(arguments: list[str]) -> None:
    """Said by the option itself too: not all versions of click notice."""
    result = twodpass(*arguments)
    assert result.exit_code == 2
    assert not_nan(0.5) == 0.5
    with pytest.raises(typer.BadParameter, match="not a number"):
        not_nan(math.nan)


def test_seeds_beyond_which_streets_repeat_are_refused(tmp_path: Path) -> None:
    assert twodpass("simulate", tmp_path, "--frames", "1", "--seed", 2**32).exit_code == 2


def test_version() -> None:
    result = twodpass("--version")
    assert result.exit_code == 0
    assert result.output == f"twodpass {__version__}\n"


@pytest.mark.parametrize(
    ("arguments", "reason"),
    [
        (["segment", "absent.bin", "-w", "{weights}", "-o", "{out}"], "absent.bin: does not exist"),
        (["segment", "{scans}", "-w", "absent.safetensors", "-o", "{out}"], "absent.safetensors: cannot be read"),
        (["segment", "{scans}", "-w", "{weights}", "-o", "{weights}"], "is not a folder"),
        (["segment", "{scans}", "-w", "{weights}", "-o", "{out}", "--columns", "7"], "7 float32 columns"),
        (["segment", "{scans}", "-w", "{weights}", "-o", "{out}", "--device", "toaster"], "toaster"),
        (["segment", "{scans}", "-w", "{weights}", "-o", "{out}", "--sensor-transform", "1,2"], "--sensor-transform"),
        (["segment", "{scans}", "-w", "{weights}", "-o", "{out}", "--intensity-scale", "0"], "intensity_scale"),
        (["info", "{scans}/000000.bin"], "not a safetensors file"),
        (["evaluate", "{weights}", "nowhere"], "nowhere: does not exist: give a folder of data, a bag, or settings: a"),
        (["evaluate", "{weights}", "~nobody-of-that-name/data"], "there is no such user"),
        (["evaluate", "{weights}", "{scans}", "--sensor-transform", "0,0,1,0,0,0"], "no bag, to which --sensor-transf"),
        (["benchmark-training", "--patch", "0,0"], "--patch must be a width and a height above 0"),
        (["recover", "{out}[/b]"], "[/b]: does not exist"),
        (["import-weights", "{scans}/000000.bin", "{out}.safetensors"], "not a PyTorch checkpoint"),
        (["import-weights", "absent.ckpt", "{out}.pt"], "ends in .safetensors"),
        (["import-weights", "a", "{out}.safetensors", "--scales", "2,x"], "--scales must be whole numbers"),
        (["import-weights", "a", "{out}.safetensors", "--class-map", "moon"], "moon: no such class map"),
        (["render", "{scans}", "-o", "{out}.png", "--index", "2"], "has 2, counted from 0"),
        (["render", "{scans}", "-o", "{out}.png", "--labels", "{weights}"], "these are not its labels"),
        (["render", "{scans}", "-o", "{out}.png", "--class-map", "nuscenes"], "give --labels"),
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


@pytest.mark.parametrize(
    ("arguments", "choices"),
    [
        (["segment", "a.bin", "-o", "out", "--backend", "abacus"], ("auto", "torch", "torchsparse", "triton")),
        (["segment", "a.bin", "-o", "out", "--precision", "fp8"], ("fp32", "bf16", "fp16")),
        (["benchmark", "--backend", "torch", "--backend", "abacus"], ("auto", "torch", "torchsparse", "triton")),
        (["benchmark", "--peer", "abacus"], ("auto", "none", "unfolded", "spconv", "torchsparse")),
        (["benchmark-training", "--variant", "own"], ("paper", "authors")),
        (["evaluate", "default", "data", "--kind", "kitti"], ("semantickitti", "nuscenes", "bag")),
        (["evaluate", "default", "data", "--definition", "own"], ("benchmark", "semantic-kitti-api", "authors")),
        (["submit", "default", "data", "out", "--kind", "bag"], ("semantickitti", "nuscenes")),
        (["simulate", "out", "--format", "nuscenes"], ("kitti",)),
    ],
)
def test_what_is_none_of_the_choices_is_refused_with_them(arguments: list[str], choices: tuple[str, ...]) -> None:
    result = twodpass(*arguments)
    assert result.exit_code == 2
    assert arguments[-1] in result.output
    assert set(choices) <= set(re.findall(r"[\w-]+", result.output))


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


def test_info_shows_the_card_and_where_the_weights_are(weights: Path) -> None:
    assert f"\n{weights}\n" in twodpass("info", weights).output
    assert f"\n{default_weights()}\n" in twodpass("info").output
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


def test_benchmark_prints_a_table_or_json(weights: Path, scans: Path) -> None:
    arguments = ("benchmark", scans, "-w", weights, "--repeats", "1", "--peer", "unfolded")
    output = one_line(twodpass(*arguments).stdout)
    for expected in ("303 points, 300 in the volume", "UNTRAINED", "voxelise", "total", "unfolded", "of the labels"):
        assert expected in output
    before = torch.get_num_threads()
    result = twodpass(*arguments, "--json", "--precision", "fp32", "--threads", "1")
    assert torch.get_num_threads() == before
    report = json.loads(result.stdout)
    assert report["machine"]["threads"] == 1
    assert report["machine"]["versions"]["torch"]
    assert [(entry["name"], entry["backend"]) for entry in report["measurements"]] == [
        ("unfolded", "torch"),
        ("fp32", "torch"),
    ]


def test_benchmark_of_the_weights_that_come_with_twodpass(scans: Path) -> None:
    result = twodpass("benchmark", scans, "-w", "default", "--repeats", "1", "--precision", "fp32")
    assert "width 32" in one_line(result.stdout)


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
        assert "intensity_field" in refused.stderr
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


def test_render_reads_no_other_scan(scans: Path, tmp_path: Path) -> None:
    (scans / "000000.bin").write_bytes(b"1234567")
    assert twodpass("render", scans, "--index", 1, "-o", tmp_path / "a.png").exit_code == 0
    damaged = cloud_message(0)
    damaged.data = damaged.data[:-3]
    bag = write_bag(tmp_path / "drive", StoragePlugin.MCAP, {"/points": [damaged, cloud_message(1)]})
    result = twodpass("render", bag, "--index", 1, "-o", tmp_path / "b.png")
    assert result.stdout.startswith("drive_000001, 50 points: drawn")
    for index, reason in ((0, "cloud 0 of /points"), (2, "there is no scan 2: the input has 2")):
        assert reason in one_line(twodpass("render", bag, "--index", index, "-o", tmp_path / "c.png").stderr)


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_a_signal_leaves_nothing_half_written(number: signal.Signals, tmp_path: Path) -> None:
    command = [sys.executable, "-m", "twodpass_core", "simulate", str(tmp_path), "--frames", "1000", "--columns", "64"]

    def heed_signals() -> None:
        """What a script runs in the background ignores SIGINT, and so would these tests' children."""
        signal.signal(number, signal.SIG_DFL)

    with subprocess.Popen(command, stderr=subprocess.PIPE, preexec_fn=heed_signals) as process:
        wait_for(lambda: any(tmp_path.glob("sequences/.00.*.partial")))
        process.send_signal(number)
        assert process.wait(30) == 128 + number
    assert not list(tmp_path.glob("sequences/*"))
    assert not list(tmp_path.glob("sequences/.*"))


@pytest.mark.parametrize(
    "options",
    [
        ("simulate", "out", "--image-width", "1000000"),
        ("simulate", "out", "--period", "inf"),
        ("benchmark", "--threads", "100000"),
    ],
)
def test_numbers_that_no_machine_can_take_are_refused(options: tuple[str, ...]) -> None:
    result = twodpass(*options)
    assert result.exit_code == 2
    assert options[-2] in result.stderr
