"""The training benchmark: its cases train, and the command shows a table."""

from __future__ import annotations

import json
import sys
from pathlib import Path

import numpy as np
import pytest
import torch
from typer.testing import CliRunner

from twodpass_core.benchmark.training import TrainingCase, measure_training
from twodpass_core.choices import Precision
from twodpass_core.cli import app
from twodpass_core.cli.work.benchmark import batch_of_scans
from twodpass_core.errors import ScanError
from twodpass_core.models.student import StudentConfig

SMALL = StudentConfig(width=8)


def scan(points: int = 400) -> np.ndarray:
    rng = np.random.default_rng(0)
    return rng.uniform((-20, -20, -3, 0), (20, 20, 1, 1), (points, 4)).astype(np.float32)


@pytest.mark.parametrize("precision", ["fp32", "bf16"])
def test_a_step_is_timed_and_its_memory_measured(precision: Precision) -> None:
    save_memory = precision == "bf16"
    case = TrainingCase((scan(), scan(300)), network=SMALL, patch=(32, 32), device="cpu", save_memory=save_memory)
    report = measure_training(case, [precision], repeats=1)
    (result,) = report.measurements
    assert (result.precision, result.backend) == (precision, "torch")
    assert json.loads(json.dumps(report.to_dict()))["measurements"][0]["backend"] == "torch"
    assert result.seconds > 0
    assert result.scans_per_second == pytest.approx(2 / result.seconds)
    assert (result.peak_memory_mb or 0) > 0 or sys.platform != "linux"


def test_a_scan_beside_the_volume_is_refused() -> None:
    with pytest.raises(ScanError, match="none of the scan's 300 points"):
        measure_training(TrainingCase((scan(), scan(300) + np.float32(100)), device="cpu"), ["fp32"], repeats=1)


def test_every_repeat_turns_the_scans() -> None:
    case = TrainingCase((scan(),), device="cpu")
    first, second = (case.batch(repeat).points for repeat in range(2))
    assert (first[:, :3] != second[:, :3]).any()
    torch.testing.assert_close(first[:, :2].norm(dim=1), second[:, :2].norm(dim=1))


def test_a_batch_repeats_the_scans_that_are_given(tmp_path: Path) -> None:
    paths = []
    for points in (300, 400):
        paths.append(tmp_path / f"{points}.bin")
        scan(points).tofile(paths[-1])
    assert [len(points) for points in batch_of_scans(paths, 5)] == [300, 400, 300, 400, 300]
    assert [len(points) for points in batch_of_scans(paths, None)] == [300, 400]


def test_the_command(tmp_path: Path) -> None:
    scan().tofile(tmp_path / "a.bin")
    options = ["--precision", "fp32", "--width", "8", "--scales", "2,4", "--patch", "32,32", "--repeats", "1"]
    command = ["benchmark-training", str(tmp_path / "a.bin"), "--batch", "2", "--device", "cpu", *options]
    result = CliRunner().invoke(app, command)
    assert result.exit_code == 0, result.output
    for word in ("scans/s", "width 8, scales 2,4, images 32x32", "2 scans of 800 points"):
        assert word in result.output
