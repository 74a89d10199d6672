"""The benchmark of the node's overhead: publisher, node and reader in three processes."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

REPOSITORY = Path(__file__).resolve().parents[2]
TIMEOUT = 240.0
STAGES = {"round_trip", "segment", "decode", "encode", "transport", "overhead"}


def run(*arguments: str | Path) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-m", "twodpass_ros.benchmark", *map(str, arguments)]
    environment = os.environ | {"COLUMNS": "160"}
    return subprocess.run(command, cwd=REPOSITORY, capture_output=True, text=True, timeout=TIMEOUT, env=environment)


def test_times_of_each_scan_add_up(tmp_path: Path, weights: Path) -> None:
    scan = tmp_path / "scan.bin"
    np.random.default_rng(0).uniform(-20, 20, (700, 4)).astype(np.float32).tofile(scan)
    result = run(scan, "--weights", weights, "--scans", "3", "--points", "2000", "--device", "cpu", "--json")
    assert result.returncode == 0, result.stdout + result.stderr
    report = json.loads(result.stdout)
    assert set(report) == {"points", "source", "device", "precision", "timings", "median_ms", "min_ms", "p95_ms"}
    assert (report["points"], report["device"], report["precision"]) == (2000, "cpu", "fp32")
    assert report["source"] == "scan.bin, which has 700"
    assert len(report["timings"]) == 3
    for timing in report["timings"]:
        assert set(timing) == STAGES
        assert min(timing.values()) > 0.0
        assert timing["round_trip"] == pytest.approx(timing["segment"] + timing["overhead"])
        assert timing["overhead"] == pytest.approx(timing["decode"] + timing["encode"] + timing["transport"])
    for name in STAGES:
        times = sorted(timing[name] for timing in report["timings"])
        assert report["min_ms"][name] == times[0]
        assert report["median_ms"][name] == times[1]
        assert times[1] <= report["p95_ms"][name] <= times[2]


def test_node_that_cannot_start_is_told_with_its_log() -> None:
    result = run("--weights", "default", "--points", "10", "--device", "cuda:99")
    assert result.returncode == 1
    assert result.stderr.startswith("error: the node")
    assert "cuda:99" in result.stderr
    assert "Traceback" not in result.stderr


def test_missing_scan_is_named() -> None:
    result = run("missing.bin")
    assert result.returncode == 1
    assert "missing.bin: does not exist" in result.stderr
