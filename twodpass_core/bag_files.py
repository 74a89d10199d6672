"""The files of a bag: those that hold its messages, and one that is there while `collect` records it."""

from __future__ import annotations

from pathlib import Path
from typing import Final

BAG_SUFFIXES: Final = (".mcap", ".db3")
JOURNAL: Final = "sets.journal"
"""The name, beside those files, of what `recording.journal` writes."""


def storage_files(bag: Path) -> list[Path]:
    """The .mcap and .db3 files in the folder that a bag is, or the one that it is itself."""
    files = bag.iterdir() if bag.is_dir() else [bag]
    return sorted(file for file in files if file.suffix in BAG_SUFFIXES)
