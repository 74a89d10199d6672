"""The command line as the tests run it, and scans to run it on."""

from __future__ import annotations

from pathlib import Path

import numpy as np
from typer.testing import CliRunner, Result

from twodpass_core.cli import app

OUTSIDE = np.array([[80, 0, 0, 0.5], [0, 0, 0, 0], [np.nan, 1, 1, 0.5]], np.float32)


def twodpass(*arguments: object) -> Result:
    return CliRunner().invoke(app, [str(argument) for argument in arguments])


def one_line(text: str) -> str:
    return " ".join(text.split())


def write_scans(folder: Path) -> Path:
    """Two scans of 303 points each, three of them without an answer."""
    folder.mkdir()
    rng = np.random.default_rng(0)
    for index in range(2):
        inside = rng.uniform((-20, -20, -2, 0), (20, 20, 1, 1), (300, 4))
        np.concatenate([inside, OUTSIDE]).astype("<f4").tofile(folder / f"{index:06d}.bin")
    return folder
