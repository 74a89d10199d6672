"""The benchmark of the recording gives an account of what it sent and of what is in the bag."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from typer.testing import CliRunner

from twodpass_ros.collect_benchmark import app


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
