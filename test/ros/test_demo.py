"""The demo as a user runs it: its own process, the node in another, DDS between them."""

from __future__ import annotations

import contextlib
import os
import re
import signal
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest
from PIL import Image
from tiny_weights import tiny_card, write_tiny_weights

from twodpass_core.classes import ClassMap
from twodpass_core.data.scans import open_scans
from twodpass_core.errors import ScanError

pytest.importorskip("rclpy", reason="needs ROS 2: source .venv/ros2.sh")
pytest.importorskip("twodpass_ros.msg", reason="needs the built messages: make setup")

REPOSITORY = Path(__file__).resolve().parents[2]
TIMEOUT = 240.0


def command(*arguments: str | Path) -> list[str]:
    return [sys.executable, "-m", "twodpass_ros.demo", *map(str, arguments)]


def run(*arguments: str | Path) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        command(*arguments), cwd=REPOSITORY, capture_output=True, text=True, timeout=TIMEOUT,
        env=os.environ | {"COLUMNS": "160"},
    )  # fmt: skip


def nodes_started_in(folder: Path) -> list[str]:
    """Command lines of the nodes that run with weights from the folder."""
    found = []
    for path in Path("/proc").glob("[0-9]*/cmdline"):
        with contextlib.suppress(OSError):  # ended meanwhile
            found.append(path.read_bytes().replace(b"\0", b" ").decode(errors="replace"))
    return [line for line in found if "twodpass_ros.segment" in line and str(folder) in line]


@pytest.fixture
def scan_files(tmp_path: Path) -> list[Path]:
    """Two small scans of five columns, some points outside the network's volume."""
    paths = []
    for number in range(2):
        rng = np.random.default_rng(number)
        points = rng.uniform((-60, -60, -2, 0, 0), (60, 60, 1, 255, 31), (2000, 5)).astype(np.float32)
        paths.append(tmp_path / f"{number:06d}.bin")
        points.tofile(paths[-1])
    return paths


@pytest.fixture
def weights(tmp_path: Path) -> Path:
    """In this test's folder, by which its node is known."""
    return write_tiny_weights(tmp_path / "tiny.safetensors")


def test_users_scans_come_back_labelled(tmp_path: Path, scan_files: list[Path], weights: Path) -> None:
    out = tmp_path / "out"
    options: list[str | Path] = [
        "--weights",
        weights,
        "--device",
        "cpu",
        "--columns",
        "5",
        "--intensity-scale",
        "1e-05",
    ]
    result = run(*scan_files, "--out", out, *options)
    assert result.returncode == 0, result.stdout + result.stderr
    assert "    2 scans in, 2 labelled clouds out: every point, same order, unchanged\n" in result.stdout
    assert "000001: 2,000 points in and out" in result.stdout
    assert "000000: intensity goes up to 0.00255, in the weights' training data to 1: " in result.stdout
    assert "UNTRAINED" in result.stdout
    assert "No --weights given" not in result.stdout
    assert "unlabelled" in result.stdout
    assert "round trip over DDS" in result.stdout
    (picture,) = out.glob("*.png")
    assert str(picture) in result.stdout
    with Image.open(picture) as image:
        assert min(image.size) > 500
    assert nodes_started_in(tmp_path) == []


def test_without_scans_and_weights_a_street_is_simulated_and_known(tmp_path: Path) -> None:
    result = run("--frames", "1", "--out", tmp_path, "--device", "cpu")
    assert result.returncode == 0, result.stdout + result.stderr
    assert "1 scan in, 1 labelled cloud out" in result.stdout
    assert "simulated street" in result.stdout
    assert "No --weights given" not in result.stdout
    assert "intensity goes" not in result.stdout
    assert "UNTRAINED" not in result.stdout
    (right,) = re.findall(r"the node is right on ([0-9.]+)% of [0-9,]+ points", result.stdout)
    assert float(right) > 60
    assert sorted(path.name for path in tmp_path.glob("*.png")) == [
        "street_000000_labels.png",
        "street_000000_truth.png",
    ]


@pytest.mark.parametrize(("weights", "notes"), [(None, 1), (Path("default"), 0)])
def test_users_scans_with_the_weights_that_come_along_are_warned_of_unless_these_are_asked_for(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], weights: Path | None, notes: int
) -> None:
    from twodpass_ros.demo import run_demo

    scan_file = tmp_path / "scan.bin"
    scan_file.write_bytes(bytes(16))
    scans = open_scans([scan_file])
    scan_file.unlink()
    with pytest.raises(ScanError):  # before the node is started
        run_demo(scans, weights, tmp_path, 1)
    output = capsys.readouterr().out
    assert output.count("No --weights given: using those that come with twodpass, which know") == notes
    assert "default.safetensors: semantickitti, " in output


def test_with_weights_of_other_classes_and_another_unit_the_street_is_converted_and_not_compared(
    tmp_path: Path,
) -> None:
    class_map = ClassMap.load("nuscenes")
    architecture = tiny_card().architecture.model_copy(update={"num_classes": class_map.num_classes})
    card = tiny_card().model_copy(update={"architecture": architecture, "class_map": class_map, "intensity_max": 255.0})
    weights = write_tiny_weights(tmp_path / "nuscenes.safetensors", card)
    result = run("--frames", "1", "--weights", weights, "--out", tmp_path, "--device", "cpu")
    assert result.returncode == 0, result.stdout + result.stderr
    assert (
        "the truth is in classes of semantickitti, the labels in those of nuscenes: they are not compared"
        in result.stdout
    )
    assert "the node is right on" not in result.stdout
    assert "intensity goes" not in result.stdout


def test_a_node_that_cannot_start_is_shown_with_its_log(tmp_path: Path, scan_files: list[Path], weights: Path) -> None:
    result = run(scan_files[0], "--weights", weights, "--columns", "5", "--out", tmp_path, "--intensity-scale", "-1")
    assert result.returncode == 1
    assert "The demo failed: the node" in result.stdout
    assert "intensity_scale must be a number above 0" in result.stdout
    assert "Traceback" not in result.stderr
    assert nodes_started_in(tmp_path) == []


@pytest.mark.parametrize("arguments", [["missing.bin"], ["--weights", "missing.safetensors"]])
def test_missing_files_are_named(tmp_path: Path, arguments: list[str]) -> None:
    result = run(*arguments, "--out", tmp_path)
    assert result.returncode == 1
    assert "The demo failed:" in result.stdout
    assert "missing." in result.stdout
    assert "Traceback" not in result.stderr


def test_stopping_the_demo_stops_the_node(tmp_path: Path, weights: Path) -> None:
    demo = subprocess.Popen(
        command("--frames", "1000", "--weights", weights, "--out", tmp_path, "--device", "cpu"), cwd=REPOSITORY,
        stdout=subprocess.DEVNULL, start_new_session=True,
    )  # fmt: skip
    try:
        deadline = time.monotonic() + TIMEOUT
        while not nodes_started_in(tmp_path):
            assert time.monotonic() < deadline, "the demo has not started the node"
            time.sleep(0.2)
        assert demo.poll() is None
        demo.send_signal(signal.SIGTERM)
        assert demo.wait(60.0) == 128 + signal.SIGTERM
        assert nodes_started_in(tmp_path) == []
    finally:
        if demo.poll() is None:
            os.killpg(demo.pid, signal.SIGKILL)
            demo.wait()


def test_the_sensors_pose_goes_to_the_node(tmp_path: Path, scan_files: list[Path], weights: Path) -> None:
    options: list[str | Path] = ["--weights", weights, "--columns", "5", "--out", tmp_path, "--device", "cpu"]
    result = run(scan_files[0], *options, "--sensor-transform", "0,0,-100,0,0,1.5708")
    assert result.returncode == 0, result.stdout + result.stderr
    assert "2,000 points in and out, 0 of them in the network's volume" in result.stdout
    result = run(scan_files[0], *options, "--sensor-transform", "0,0,1.7")
    assert result.returncode == 1
    assert "The demo failed: --sensor-transform" in result.stdout


def test_options_of_scans_are_refused_where_there_are_none() -> None:
    result = run("--topic", "/points")
    assert result.returncode == 1
    assert "--topic /points: among the scans is no ROS 2 bag" in result.stdout
