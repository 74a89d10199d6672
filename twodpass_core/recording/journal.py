"""The journal of a recording: a file beside the bag's, while it is recorded, that says which sets were accepted.

It survives a kill, so that recovery can tell what is missing in the bag; its lock tells that the bag is being recorded.
"""

from __future__ import annotations

import errno
import os
from contextlib import suppress
from io import FileIO
from pathlib import Path

from pydantic import ValidationError

from twodpass_core.bag_files import JOURNAL
from twodpass_core.files import try_lock
from twodpass_core.recording.manifest import SetEntry


class Journal:
    """Of a bag that is being recorded. Raises OSError."""

    def __init__(self, bag: Path) -> None:
        self._path = bag / JOURNAL
        self._file = FileIO(self._path, "xb+")
        self.bytes = 0
        try_lock(self._file)

    def add(self, entry: SetEntry) -> None:
        """Write down a set."""
        line = entry.model_dump_json().encode() + b"\n"
        if self._file.write(line) != len(line):
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
        self.bytes += len(line)

    def first(self, number: int) -> list[bytes]:
        """The first sets, each as JSON."""
        self._file.seek(0)
        return self._file.read().split(b"\n")[:number]

    def remove(self) -> None:
        """The recording is complete."""
        self._path.unlink(missing_ok=True)  # somebody may have tidied up
        self._file.close()

    def close(self) -> None:
        """Leave it for recovery."""
        self._file.close()


def read_journal(bag: Path) -> tuple[SetEntry, ...] | None:
    """The sets that were accepted, of a recording that was cut off; None of one that was not."""
    path = bag / JOURNAL
    if not path.exists():
        return None
    entries = []
    for line in path.read_bytes().split(b"\n"):
        with suppress(ValidationError):  # the last line may be cut off
            entries.append(SetEntry.model_validate_json(line))
    return tuple(entries)
