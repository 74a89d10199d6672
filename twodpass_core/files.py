"""Writing files and folders whole or not at all, holding them alone; paths as people write them."""

from __future__ import annotations

import fcntl
import os
import shutil
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from io import FileIO
from pathlib import Path
from typing import Annotated

from pydantic import AfterValidator

from twodpass_core.errors import ConfigError


def expanded(path: str | Path) -> Path:
    """The path with `~` and `~user` in place of their folders. Raises ConfigError where there is no such user."""
    try:
        return Path(path).expanduser()
    except RuntimeError:
        raise ConfigError(f"{path}: there is no such user, or it has no home folder") from None


def _expanded_or_refused(path: Path) -> Path:
    try:
        return expanded(path)
    except ConfigError as error:
        raise ValueError(str(error)) from None  # which pydantic tells with the name of the setting


UserPath = Annotated[Path, AfterValidator(_expanded_or_refused)]
"""In settings: a path in which `~` is the user's folder."""


@contextmanager
def naming(path: Path, *, instead_of: Path | None = None) -> Iterator[None]:
    """An OSError from inside that names no file, as that of a full disk, is made to name `path`.

    One that names `instead_of`, the partial file or folder that will become `path`, or something in it, is made to name
    what that will be.
    """
    try:
        yield
    except OSError as error:
        if error.strerror is None:  # numpy's, which say in other words that a disk is full
            error.strerror = str(error)
        if error.filename is None:
            error.filename = str(path)
        elif instead_of is not None and (named := Path(str(error.filename))).is_relative_to(instead_of):
            error.filename = str(path / named.relative_to(instead_of))
        raise


@contextmanager
def replacing(path: Path) -> Iterator[Path]:
    """A path beside `path` to write to; it takes the place of `path` at the end, and is removed after an error.

    Raises OSError, naming `path`, where the folder is missing or cannot be written to.
    """
    partial = _partial(path)
    try:
        with naming(path, instead_of=partial):
            yield partial
            os.replace(partial, path)
    finally:
        with suppress(OSError):  # an error on its way is not to be hidden by this one
            partial.unlink()


@contextmanager
def new_folder(path: Path) -> Iterator[Path]:
    """A folder beside `path` to fill; it becomes `path` at the end, and is removed after an error.

    Folders above are made if missing. Raises OSError, naming `path` or what would be in it, where that cannot be
    written, or `path` has come to be something else meanwhile.
    """
    partial = _partial(path)
    try:
        with naming(path, instead_of=partial):
            partial.mkdir(parents=True)
            yield partial
            partial.rename(path)
    finally:
        shutil.rmtree(partial, ignore_errors=True)


def sync_folder(folder: Path) -> None:
    """Put the names of new and replaced files on the disk. Raises OSError."""
    handle = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)


def write_durably(path: Path, content: bytes) -> None:
    """Put a file on the disk, whole or not at all; it replaces what was there. Raises OSError."""
    with replacing(path) as partial, partial.open("wb") as file:
        file.write(content)
        file.flush()
        os.fsync(file.fileno())
    sync_folder(path.parent)


def try_lock(file: int | FileIO) -> bool:
    """Whether nobody else holds the file or folder, which now is held by this process until it is closed.

    True also where the file system cannot lock.
    """
    try:
        fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    except OSError:
        return True
    return True


def _partial(path: Path) -> Path:
    return path.with_name(f".{path.name}.{os.getpid()}.partial")
