"""The benchmark of the recording gives an account of what it sent and of what is in the bag."""

from __future__ import annotations

import json
import os
from pathlib import Path

import pytest
from typer.testing import CliRunner

from twodpass_ros.collect_benchmark import app


def test_a_node_that_cannot_start_is_told_at_once_with_its_log(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "message_filters.py").write_text("raise ImportError")
    monkeypatch.setenv("PYTHONPATH", str(tmp_path), prepend=os.pathsep)
    monkeypatch.setattr("twodpass_ros.collect_benchmark.START_TIMEOUT", 1e9)
    done = CliRunner().invoke(app, ["--cameras", "1"])
    assert done.exit_code == 1
    assert "the node has ended. The last lines of" in done.output
    assert "collect needs message_filters, which is not installed" in done.output


@pytest.mark.slow
def test_it_counts_what_was_sent_and_recorded(tmp_path: Path) -> None:
    done = CliRunner().invoke(app, ["--cameras", "1", "--seconds", "3", "--folder", str(tmp_path), "--json"])
    assert done.exit_code == 0, done.output
    report = json.loads(done.stdout)
    assert 1 <= report["recorded"] <= report["sent"]
    assert report["share"] == report["recorded"] / report["sent"]
    assert report["sent"] - report["recorded"] <= report["dropped"].get("/collect/input/points", 0)
    assert report["megabytes_per_set"] == pytest.approx(3.4, abs=0.1)
    assert 0 < report["cpu"] < 4
    assert not list(tmp_path.iterdir())
