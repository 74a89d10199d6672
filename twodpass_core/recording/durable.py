"""Files that survive a loss of power."""

from __future__ import annotations

import os
from pathlib import Path

from twodpass_core.files import replacing


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
