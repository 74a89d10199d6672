"""The script that measures a GPU asks for what the command line has, in the folder it was told."""

from __future__ import annotations

import os
import shlex
import subprocess
from pathlib import Path

from typer.testing import CliRunner

from twodpass_core.cli import app

ROOT = Path(__file__).resolve().parents[1]
SCRIPT = ROOT / "scripts" / "measure_gpu.sh"
COMMANDS = ("benchmark", "benchmark-training", "benchmark-kernels")


def script(tmp_path: Path, *arguments: str, fails: str = "nothing") -> subprocess.CompletedProcess[str]:
    """Run it with an interpreter and an nvidia-smi that do nothing, or fail in commands that name `fails`."""
    for name in ("python", "nvidia-smi"):
        program = tmp_path / "bin" / name
        program.parent.mkdir(exist_ok=True)
        program.write_text(f'#!/bin/sh\ncase "$*" in *"{fails}"*) exit 3;; esac\n')
        program.chmod(0o755)
    environment = {**os.environ, "PATH": f"{tmp_path / 'bin'}:{os.environ['PATH']}", "PYTHON": "python"}
    return subprocess.run(
        ["bash", str(SCRIPT), *arguments], cwd=tmp_path, env=environment, capture_output=True, text=True, timeout=60
    )


def commands(folder: Path) -> dict[str, list[str]]:
    """What was called for each file: a file begins with its command."""
    return {path.stem: shlex.split(path.read_text().splitlines()[0]) for path in folder.iterdir()}


def test_its_commands_are_those_that_there_are(tmp_path: Path) -> None:
    (tmp_path / "scan.bin").touch()
    done = script(tmp_path, "measured", "scan.bin")
    assert done.returncode == 0, done.stderr
    called = commands(tmp_path / "measured")
    assert len(called) <= 8
    measured = [command[3:] for command in called.values() if command[1:3] == ["-m", "twodpass_core"]]
    assert {command[0] for command in measured} == set(COMMANDS)
    for command in measured:
        assert str(tmp_path / "scan.bin") in command
        parsed = CliRunner().invoke(app, [*command, "--help"])
        assert parsed.exit_code == 0, parsed.output
    tests = [argument for argument in called["tests"] if argument.startswith("test/")]
    assert tests
    assert all((ROOT / path).exists() for path in tests)


def test_without_scans_they_are_simulated(tmp_path: Path) -> None:
    assert script(tmp_path, "measured").returncode == 0
    assert not any(".bin" in argument for command in commands(tmp_path / "measured").values() for argument in command)


def test_what_fails_is_told_and_the_rest_goes_on(tmp_path: Path) -> None:
    done = script(tmp_path, "measured", fails="benchmark-training")
    assert done.returncode == 1
    assert "ended with 3: see" in done.stdout
    assert (tmp_path / "measured" / "kernels.txt").exists()


def test_it_says_how_it_is_called(tmp_path: Path) -> None:
    done = script(tmp_path)
    assert done.returncode == 2
    assert "scripts/measure_gpu.sh FOLDER [SCAN...]" in done.stdout
