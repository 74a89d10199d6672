"""Writing files whole or not at all; a full disk is told with the file that it had no room for."""

from __future__ import annotations

import errno
from pathlib import Path

import pytest
import typer
from typer.testing import CliRunner

from twodpass_core.cli.edge import ReportingGroup
from twodpass_core.files import naming, replacing

FULL = Path("/dev/full")  # takes nothing: its disk is always full


def test_what_cannot_be_written_whole_leaves_what_was_there(tmp_path: Path) -> None:
    path = tmp_path / "labels.label"
    path.write_text("old")

    def replace() -> None:
        with replacing(path) as partial:
            partial.write_text("half of the new")
            FULL.write_bytes(b"rest")

    with pytest.raises(OSError, match="No space left on device") as caught:
        replace()
    assert caught.value.errno == errno.ENOSPC
    assert caught.value.filename == str(path)
    assert [entry.name for entry in tmp_path.iterdir()] == ["labels.label"]
    assert path.read_text() == "old"


def test_an_error_that_names_its_file_keeps_it(tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError) as caught, naming(tmp_path):
        (tmp_path / "missing/file").write_bytes(b"")
    assert caught.value.filename == str(tmp_path / "missing/file")


def test_the_command_line_tells_which_file_and_why() -> None:
    app = typer.Typer(cls=ReportingGroup)

    @app.callback()
    def group() -> None:
        pass

    @app.command()
    def write() -> None:
        with naming(Path("out/0.label")):
            FULL.write_bytes(b"label")

    result = CliRunner().invoke(app, ["write"])
    assert result.exit_code == 1
    assert result.output.strip() == "error: out/0.label: No space left on device"
