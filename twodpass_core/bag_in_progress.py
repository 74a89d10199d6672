"""Whether a bag is being recorded just now, by this program or by any other: then nobody may read half or mend it."""

from __future__ import annotations

import fcntl
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from io import FileIO
from pathlib import Path

from twodpass_core.bag_files import JOURNAL, storage_files
from twodpass_core.errors import BagError
from twodpass_core.files import try_lock


@contextmanager
def not_recording(bag: Path) -> Iterator[None]:
    """Raise BagError while a bag, its folder or one of its files, is being recorded.

    `collect` locks its journal; other recorders are known by a file that is open for writing.
    """
    with _locked(bag if bag.is_dir() else bag.parent):
        for file in storage_files(bag):
            if _is_open_for_writing(file):
                raise _in_progress(file)
        yield


@contextmanager
def _locked(folder: Path) -> Iterator[None]:
    path = folder / JOURNAL
    if not path.exists():
        yield
        return
    with FileIO(path) as file:
        if not try_lock(file):
            raise _in_progress(folder)
        yield


def _is_open_for_writing(file: Path) -> bool:
    """By anybody: then Linux grants no lease for reading. False where that cannot be known, as on network drives."""
    if sys.platform != "linux":
        return False
    with file.open("rb") as reader:
        try:
            fcntl.fcntl(reader, fcntl.F_SETLEASE, fcntl.F_RDLCK)
            fcntl.fcntl(reader, fcntl.F_SETLEASE, fcntl.F_UNLCK)
        except BlockingIOError:
            return True
        except OSError:
            return False
    return False


def _in_progress(what: Path) -> BagError:
    return BagError(f"{what}: is being recorded just now: wait until that has ended")
