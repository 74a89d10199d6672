"""Checks of a bag's folder and files before rosbags opens them, which it does not make itself."""

from __future__ import annotations

import re
import struct
from collections.abc import Collection
from pathlib import Path
from typing import Final

from twodpass_core.bag_files import BAG_SUFFIXES, storage_files
from twodpass_core.bag_in_progress import not_recording
from twodpass_core.data.bags.packed import check_room, packed_files
from twodpass_core.errors import BagError, NoCloudsError
from twodpass_core.mcap_files.check import check_mcap

MAX_METADATA_BYTES: Final = 4 * 2**20
OTHER_IN_URI: Final = re.compile(r"[?#]|%[0-9A-Fa-f]{2}")  # what means something else in a URI than in a path


def checked(path: Path) -> Path:
    """The folder or file that rosbags shall open, after the checks that rosbags does not make itself."""
    if not path.exists():
        raise BagError(f"{path}: does not exist")
    if path.is_file() and path.suffix not in BAG_SUFFIXES:
        raise BagError(f"{path}: is not a ROS 2 bag; a bag is a folder with metadata.yaml, a .mcap or a .db3 file")
    with not_recording(path):
        files, source = storage_files(path), path
    if files and not any(file.stat().st_size for file in files):
        raise NoCloudsError(f"{path}: is empty, nothing was recorded")
    if path.is_dir():
        metadata = path / "metadata.yaml"
        if not metadata.exists():
            if len(files) != 1:
                raise BagError(
                    f"{path}: has no metadata.yaml; `ros2 bag reindex {path}` writes it, or name its files one by one"
                )
            source = files[0]
        elif metadata.stat().st_size > MAX_METADATA_BYTES:
            raise BagError(f"{metadata}: is larger than {MAX_METADATA_BYTES} bytes, which no recorder writes")
        else:
            check_room(packed_files(path))
    for file in files:
        check_file(file)
    return source


def refuse_unlisted(path: Path, listed: Collection[str]) -> None:
    """A recorder that was killed names its last file nowhere."""
    unlisted = [file.name for file in storage_files(path) if file.name not in listed]
    if unlisted:
        raise BagError(
            f"{path}: metadata.yaml does not name {', '.join(unlisted)}: `twodpass recover` or `ros2 bag reindex` puts "
            "that right, or move away what does not belong there"
        )


def check_file(file: Path) -> None:
    """Raise BagError for a file that is damaged, or that rosbags cannot open where it lies."""
    if file.stat().st_size == 0:
        raise BagError(f"{file}: is empty, nothing was recorded")
    if file.suffix == ".mcap":
        check_mcap(file)
    if file.suffix == ".db3":
        _check_sqlite_path(file)
        _check_sqlite(file)


def _check_sqlite_path(path: Path) -> None:
    """Refuse a path that SQLite, to which rosbags hands it as a URI, would take for another."""
    if found := OTHER_IN_URI.search(str(path)):
        raise BagError(
            f"{path}: an sqlite3 bag cannot be read where '{found[0]}' is in its path: move it, or name a symbolic "
            "link to it whose own path is without"
        )


def _check_sqlite(path: Path) -> None:
    """Refuse a file shorter than its header says (sqlite.org/fileformat2): SQLite would read the rest as zeros."""
    with path.open("rb") as file:
        header = file.read(100)
    if len(header) < 100 or not header.startswith(b"SQLite format 3\0"):
        raise BagError(f"{path}: is not an SQLite database")
    (page_bytes,) = struct.unpack_from(">H", header, 16)
    changes, pages = struct.unpack_from(">II", header, 24)
    (valid_for,) = struct.unpack_from(">I", header, 92)
    expected = (65536 if page_bytes == 1 else page_bytes) * pages
    for log in (path.with_name(f"{path.name}-wal"), path.with_name(f"{path.name}-journal")):
        if log.exists() and log.stat().st_size:
            raise BagError(
                f"{path}: was not closed, and {log.name} beside it holds what is still to be put in: "
                f"`sqlite3 {path} 'PRAGMA wal_checkpoint(TRUNCATE)'` does it"
            )
    if changes == valid_for and path.stat().st_size < expected:
        raise BagError(f"{path}: ends at byte {path.stat().st_size} of {expected}: the file is cut off")
