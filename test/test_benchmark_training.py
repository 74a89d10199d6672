"""The training benchmark: its cases train, and the command shows a table."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from typer.testing import CliRunner

from twodpass_core.benchmark.training import TrainingCase, measure_training
from twodpass_core.cli import app
from twodpass_core.segmenter import Precision


def scan(points: int = 400) -> np.ndarray:
    rng = np.random.default_rng(0)
    return rng.uniform((-20, -20, -3, 0), (20, 20, 1, 1), (points, 4)).astype(np.float32)


@pytest.mark.parametrize("precision", ["fp32", "bf16"])
def test_measurements(precision: Precision) -> None:
    save_memory = precision == "bf16"
    case = TrainingCase((scan(), scan(300)), precision, width=8, patch=(64, 48), device="cpu", save_memory=save_memory)
    (result,) = measure_training([case], repeats=1)
    assert result.precision == precision
    assert result.seconds > 0
    assert result.scans_per_second == pytest.approx(2 / result.seconds)
    assert result.peak_memory_mb is None or result.peak_memory_mb > 0


def test_the_command(tmp_path: Path) -> None:
    scan().tofile(tmp_path / "a.bin")
    options = ["--precision", "fp32", "--width", "8", "--patch", "64,48", "--repeats", "1", "--device", "cpu"]
    result = CliRunner().invoke(app, ["benchmark-training", str(tmp_path / "a.bin"), *options])
    assert result.exit_code == 0, result.output
    assert "scans/s" in result.output
