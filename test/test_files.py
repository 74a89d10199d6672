"""Writing files and folders whole or not at all; an error names the one that was asked for."""

from __future__ import annotations

import errno
import fcntl
import os
from collections.abc import Callable
from contextlib import AbstractContextManager
from io import FileIO
from pathlib import Path

import numpy as np
import pytest
import typer
from typer.testing import CliRunner

from twodpass_core.cli.edge import ReportingGroup
from twodpass_core.files import naming, new_folder, replacing, try_lock, write_durably

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


def test_what_is_to_last_is_on_the_disk_before_it_has_its_name(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path, done = tmp_path / "manifest.json", list[tuple[str, int]]()
    folder, fsync, replace = tmp_path.stat().st_ino, os.fsync, os.replace

    def watched_fsync(handle: int) -> None:
        fsync(handle)
        status = os.fstat(handle)
        done.append(("folder", 0) if status.st_ino == folder else ("file", status.st_size))

    def watched_replace(source: Path, target: Path) -> None:
        replace(source, target)
        done.append(("replaced", target.stat().st_size))

    monkeypatch.setattr(os, "fsync", watched_fsync)
    monkeypatch.setattr(os, "replace", watched_replace)
    write_durably(path, b"whole")
    assert done == [("file", 5), ("replaced", 5), ("folder", 0)]
    assert path.read_bytes() == b"whole"


def test_a_folder_appears_when_it_is_whole(tmp_path: Path) -> None:
    path = tmp_path / "sequences/00"
    with new_folder(path) as partial:
        (partial / "calib.txt").write_text("P0: 1")
        assert not path.exists()
    assert [entry.name for entry in path.iterdir()] == ["calib.txt"]
    assert list(path.parent.iterdir()) == [path]


def test_a_folder_that_fails_leaves_nothing(tmp_path: Path) -> None:
    def fill() -> None:
        with new_folder(tmp_path / "00") as partial:
            (partial / "calib.txt").write_text("P0: 1")
            FULL.write_bytes(b"rest")

    with pytest.raises(OSError, match="No space left on device") as caught:
        fill()
    assert caught.value.filename == str(tmp_path / "00")
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("writing", [replacing, new_folder])
def test_errors_never_name_what_is_partial(
    tmp_path: Path, writing: Callable[[Path], AbstractContextManager[Path]]
) -> None:
    (tmp_path / "file").write_text("where a folder should be")
    (tmp_path / "full").mkdir()
    (tmp_path / "full/something").touch()

    def write(path: Path, inner: str) -> None:
        with writing(path) as partial:
            (partial / inner).write_text("text")

    for path, inner, named in (
        (tmp_path / "file/out", "", tmp_path / "file/out"),
        (tmp_path / "out", "no/such", tmp_path / "out/no/such"),
    ):
        with pytest.raises(OSError, match=r"directory") as caught:
            write(path, inner)
        assert caught.value.filename == str(named)
    with pytest.raises(OSError, match=r"full") as caught, writing(tmp_path / "full") as partial:
        partial.touch()
    assert caught.value.filename == str(tmp_path / "full")


def test_an_error_that_names_its_file_keeps_it(tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError) as caught, naming(tmp_path):
        (tmp_path / "missing/file").write_bytes(b"")
    assert caught.value.filename == str(tmp_path / "missing/file")


def told(write: Callable[[], None]) -> str:
    app = typer.Typer(cls=ReportingGroup)
    app.callback()(lambda: None)
    app.command("write")(write)
    result = CliRunner().invoke(app, ["write"])
    assert result.exit_code == 1
    return result.output.strip().replace("\n", "")


def test_the_command_line_tells_of_a_file_where_a_folder_is_to_be(tmp_path: Path) -> None:
    file = tmp_path / "file"
    file.touch()
    assert told(lambda: file.mkdir(exist_ok=True)).endswith("file: is there already: choose another name")
    assert told(lambda: (file / "00").mkdir()).endswith("file/00: a part of this path is a file: choose another")


def test_the_command_line_tells_which_file_and_why() -> None:
    def write() -> None:
        with naming(Path("out/0.label")):
            FULL.write_bytes(b"label")

    assert told(write) == "error: out/0.label: No space left on device"


def test_the_command_line_tells_the_file_where_numpy_meets_a_full_disk() -> None:
    def write() -> None:
        with naming(Path("out/0.npy")), FULL.open("wb") as file:
            np.save(file, np.zeros(10**6))

    assert told(write).startswith("error: out/0.npy: ")


def test_the_command_line_tells_both_files_where_there_are_two(tmp_path: Path) -> None:
    (tmp_path / "temporary").touch()
    words = told(lambda: os.replace(tmp_path / "temporary", tmp_path / "missing/checkpoint"))
    assert words == f"error: {tmp_path}/temporary -> {tmp_path}/missing/checkpoint: No such file or directory"


def test_a_file_is_held_by_one_until_it_is_closed(tmp_path: Path) -> None:
    path = tmp_path / "sets.journal"
    with FileIO(path, "xb") as first, FileIO(path) as second:
        assert try_lock(first)
        assert not try_lock(second)
        first.close()
        assert try_lock(second)


def test_where_a_file_system_cannot_lock_nobody_is_kept_out(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(file: FileIO, operation: int) -> None:
        raise OSError(errno.ENOLCK, "No locks available")

    monkeypatch.setattr(fcntl, "flock", refuse)
    with FileIO(tmp_path / "sets.journal", "xb") as file:
        assert try_lock(file)
