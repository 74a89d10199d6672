"""Room kept free for the end of a recording, where the disk is full to the last byte."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Final

RESERVE: Final = ".reserve"
RESERVE_BYTES: Final = 4 * 2**20  # for the index of a file, and a short journal
STEP_BYTES: Final = 2**20


class Reserve:
    """A file in the bag's folder, of the size of what is written at the end. Raises OSError."""

    def __init__(self, bag: Path) -> None:
        self._path = bag / RESERVE
        self._bytes = 0
        self.cover(0)

    def cover(self, journal_bytes: int) -> None:
        """Have room for a manifest with the sets of a journal of that size."""
        if (wanted := RESERVE_BYTES + journal_bytes) <= self._bytes:
            return
        wanted += STEP_BYTES
        with self._path.open("ab") as file:
            file.write(bytes(wanted - self._bytes))
            file.flush()
            os.fsync(file.fileno())
        self._bytes = wanted

    def release(self) -> None:
        """The end has come."""
        self._path.unlink(missing_ok=True)
