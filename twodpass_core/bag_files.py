"""The files of a bag that hold its messages."""

from __future__ import annotations

from pathlib import Path
from typing import Final

BAG_SUFFIXES: Final = (".mcap", ".db3")


def storage_files(bag: Path) -> list[Path]:
    """The .mcap and .db3 files in the folder that a bag is, or the one that it is itself."""
    files = bag.iterdir() if bag.is_dir() else [bag]
    return sorted(file for file in files if file.suffix in BAG_SUFFIXES)
