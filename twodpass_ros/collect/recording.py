"""One recording: a bag that is being written, its gate, and its counts."""

from __future__ import annotations

import os
import shutil
import time
from collections import Counter, deque
from collections.abc import Mapping
from contextlib import suppress
from pathlib import Path

from twodpass_core.errors import ConfigError, DiskFullError, RecordingError
from twodpass_core.files import expanded
from twodpass_core.recording import BagWriter, Calibration, Gate, GateSettings, WriterSettings, check_space
from twodpass_core.recording.reserve import RESERVE_BYTES
from twodpass_ros.collect.input import Message
from twodpass_ros.collect.sets import FormedSet

RATE_WINDOW = 5.0  # seconds over which sets are counted for their rate


class Recording:
    """Writes messages and sets into a new bag. Where the disk is full or fails, `failure` says so and no call raises.

    What was received at time 0, before a simulated clock began, is left out: a bag would span years.

    Raises:
        RecordingError: the bag cannot be made. DiskFullError, which is one: there is no room for it.
    """

    def __init__(self, folder: Path, writer: WriterSettings, gate: GateSettings) -> None:
        self._writer = BagWriter(_new_folder(folder), writer)
        self._gate = Gate(gate)
        self._written: deque[float] = deque()
        self._started = time.monotonic()
        self._told: Counter[str] = Counter()

    @property
    def bag(self) -> Path:
        return self._writer.folder

    @property
    def failure(self) -> RecordingError | None:
        return self._writer.failure

    @property
    def sets(self) -> int:
        return self._writer.sets

    @property
    def dropped(self) -> Counter[str]:
        """Topic -> messages that found no room, as the disk was too slow."""
        return Counter(self._writer.dropped) - self._told

    def write(self, message: Message) -> None:
        """A message that belongs to no set."""
        if message.received_ns == 0:
            return
        with suppress(RecordingError):  # which is `failure`
            self._writer.write(message.topic, message.received_ns, message.data)

    def write_set(self, formed: FormedSet, scores: Mapping[str, float]) -> None:
        """A set, if the gate admits it."""
        place = formed.paired.stamp_ns, formed.world_from_vehicle
        if not (formed.has_time and self._gate.admits(*place)):
            return
        with suppress(RecordingError):
            if self._writer.write_set(formed.recorded(scores)):
                self._gate.note_recorded(*place)
                self._written.append(time.monotonic())

    def sets_per_second(self) -> float:
        now = time.monotonic()
        while self._written and self._written[0] < now - RATE_WINDOW:
            self._written.popleft()
        return len(self._written) / min(RATE_WINDOW, max(now - self._started, 1.0))

    def record_calibration(self, calibration: Calibration) -> None:
        """For the manifest."""
        self._writer.record_calibration(calibration)

    def record_lost(self, lost: Mapping[str, int]) -> None:
        """Topic -> messages lost since the recording began, before they came here; for the manifest."""
        more = Counter(lost) - self._told
        self._told += more
        self._writer.count_dropped(more)

    def count_lost_set(self) -> None:
        """A set was lost before it came here; `record_lost` tells of its messages."""
        self._writer.count_dropped({}, sets=1)

    def close(self) -> None:
        """Writes what is queued and ends the bag."""
        with suppress(RecordingError):
            self._writer.close()


def free_bytes(folder: str) -> int:
    """Of the disk that the folder is on, or will be; 0 where it cannot be looked at."""
    with suppress(OSError, ConfigError):
        return shutil.disk_usage(_existing(expanded(folder))).free
    return 0


def obstacles_to_write(folder: str, settings: WriterSettings) -> list[str]:
    """Why no bag can be made in a folder, as far as that is known without trying."""
    try:
        there = _existing(expanded(folder))
        if not there.is_dir():
            return [f"folder {folder}: {there} is a file"]
        if not os.access(there, os.W_OK | os.X_OK):
            return [f"folder {folder}: {there} may not be written to"]
        if shutil.disk_usage(there).total == 0:
            return [f"folder {folder}: no folder can be made in {there}, which is not of a disk"]
        if (free := free_bytes(folder)) < RESERVE_BYTES + 2 * settings.chunk_bytes:
            return [f"folder {folder}: the disk is full, {free / 1e6:.1f} MB are left: make room"]
        check_space(there, settings)
    except OSError as error:
        return [f"folder {folder}: cannot be looked at: {error.strerror or error}"]
    except (ConfigError, DiskFullError) as error:
        return [str(error)]
    return []


def _existing(folder: Path) -> Path:
    """The folder, or the nearest one above that is there."""
    return next(path for path in (folder.absolute(), *folder.absolute().parents) if _is_there(path))


def _is_there(path: Path) -> bool:
    """Raises OSError where that cannot be told, which `Path.exists` hides since Python 3.14."""
    try:
        path.stat()
    except (FileNotFoundError, NotADirectoryError):
        return False
    return True


def _new_folder(folder: Path) -> Path:
    """Named by the time; by a number, too, where two recordings begin within a second."""
    name = time.strftime("collect_%Y-%m-%d_%H-%M-%S")
    candidates = (folder / (name + (f"_{number}" if number else "")) for number in range(1000))
    return next(candidate for candidate in candidates if not candidate.exists())
