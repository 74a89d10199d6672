"""`ros2 run twodpass_ros train` is `twodpass train`."""

from __future__ import annotations

import runpy
import subprocess
import sys
from pathlib import Path

import pytest
import yaml

PROGRAMS = Path(__file__).resolve().parents[2] / "scripts/nodes"


def run(*arguments: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run([sys.executable, PROGRAMS / "train", *arguments], capture_output=True, text=True, timeout=120)


def test_arguments_reach_the_command_but_not_those_of_ros(tmp_path: Path) -> None:
    config = tmp_path / "settings.yaml"
    config.write_text("epochs: 5\n")
    done = run(str(config), "--set", "seed=7", "--print-config", "--ros-args", "-r", "__ns:=/vehicle")
    assert done.returncode == 0, done.stderr
    settings = yaml.safe_load(done.stdout)
    assert (settings["epochs"], settings["seed"]) == (5, 7)


def test_an_error_is_one_line_and_the_exit_code() -> None:
    done = run("--set", "epoch=3", "--print-config")
    assert done.returncode == 1
    assert done.stderr.strip() == "error: --set epoch=3: unknown key epoch: did you mean epochs?"


@pytest.mark.parametrize("program", ["train", "segment", "collect"])
def test_a_process_that_loads_data_for_a_program_does_not_start_it_again(program: str) -> None:
    runpy.run_path(str(PROGRAMS / program), run_name="__mp_main__")
