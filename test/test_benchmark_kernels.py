"""The table of kernels counts what convolutions compute and move, and shows it beside what the device can do."""

from __future__ import annotations

import io
import json
from importlib.metadata import version
from pathlib import Path

import numpy as np
import pytest
import torch
from rich.console import Console
from typer.testing import CliRunner

from twodpass_core.benchmark import kernels
from twodpass_core.benchmark.kernels import KernelReport, measure_kernels
from twodpass_core.benchmark.machine import Machine
from twodpass_core.cli import app
from twodpass_core.errors import ScanError
from twodpass_core.models.student import StudentConfig

NETWORK = StudentConfig(scales=(2, 4), width=4)


@pytest.fixture(autouse=True)
def quick(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(kernels, "SECONDS", 1e-4)
    monkeypatch.setattr(kernels, "COPIED", {"cpu": 1 << 10})
    monkeypatch.setattr(kernels, "MULTIPLIED", {"cpu": 16})


def three_in_a_row() -> np.ndarray:
    """Three voxels of 0.1 m that touch and one far away; the first two share their voxel of twice the size."""
    return np.array([[0.05, 0.05, 0.05, 0], [0.15, 0.05, 0.05, 0], [0.25, 0.05, 0.05, 0], [30, 0, 0, 0]], np.float32)


def measured() -> KernelReport:
    return measure_kernels(three_in_a_row(), NETWORK, device="cpu", precisions=("fp32", "fp16"))


def test_every_pass_of_every_level_is_measured() -> None:
    report = measured()
    found = [(entry.scale, entry.precision, entry.kind) for entry in report.passes]
    kinds = ("forward", "input gradient", "weight gradient")
    assert found == [(scale, precision, kind) for scale in (1, 2) for precision in ("fp32", "fp16") for kind in kinds]
    assert all(entry.seconds > 0 for entry in report.passes)
    assert set(report.ceilings.flop_per_second) == {"fp32", "fp16"}
    assert report.backend == "torch"


def test_products_and_bytes_are_those_of_the_level() -> None:
    fine, coarse = (next(entry for entry in measured().passes if entry.scale == scale) for scale in (1, 2))
    assert (fine.voxels, fine.pairs) == (4, 4 + 4)  # themselves, and two neighbours both ways
    assert (coarse.voxels, coarse.pairs) == (3, 3 + 2)
    assert fine.useful_flop == 2 * 4 * 4 * 8
    assert fine.dense_flop == 2 * 4 * 4 * 27 * 4
    assert fine.least_bytes == 4 * (2 * 4 * 4 + 27 * 4 * 4) + 4 * 27 * 4
    in_half = next(entry for entry in measured().passes if entry.precision == "fp16")
    assert in_half.least_bytes == 2 * (2 * 4 * 4 + 27 * 4 * 4) + 4 * 27 * 4


def test_the_table_sets_them_beside_the_ceilings() -> None:
    text = io.StringIO()
    Console(file=text, width=130).print(measured().render())
    for word in ("GB/s in a copy", "in fp16", "weight gradient", "backend torch, width 4", version("torch")):
        assert word in text.getvalue()


def test_a_scan_beside_the_volume_is_refused() -> None:
    with pytest.raises(ScanError, match="none of the scan's 4 points"):
        measure_kernels(three_in_a_row() + np.float32(100), NETWORK, device="cpu")


def test_the_command(tmp_path: Path) -> None:
    three_in_a_row().tofile(tmp_path / "scan.bin")
    options = ["--width", "4", "--scales", "2", "--precision", "fp32", "--device", "cpu", "--json"]
    result = CliRunner().invoke(app, ["benchmark-kernels", str(tmp_path / "scan.bin"), *options])
    assert result.exit_code == 0, result.output
    report = json.loads(result.stdout)
    assert report["backend"] == "torch"
    assert [entry["kind"] for entry in report["passes"]] == ["forward", "input gradient", "weight gradient"]


def test_a_machine_names_itself_and_its_packages() -> None:
    machine = Machine.of(torch.device("cpu"))
    assert machine.versions["torch"] == version("torch")
    assert str(machine).startswith(f"{machine.device}, torch {version('torch')}")
    assert "thread" in str(machine)
