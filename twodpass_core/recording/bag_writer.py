"""Recording messages and sets into a rosbag2 bag, in a thread: a slow disk costs sets, neither memory nor waiting."""

from __future__ import annotations

import errno
import json
import shutil
import threading
import time
from collections import Counter, deque
from collections.abc import Iterable, Mapping
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType
from typing import Final

from twodpass_core.errors import ConfigError, DiskFullError, RecordingError
from twodpass_core.files import sync_folder
from twodpass_core.mcap_files.chunk import check_message_size
from twodpass_core.recording.journal import Journal
from twodpass_core.recording.manifest import SOFTWARE, Calibration, Manifest, SetEntry, describe_recording
from twodpass_core.recording.reserve import Reserve
from twodpass_core.recording.split_recorder import SplitRecorder, WriterSettings
from twodpass_core.recording.topics import RecordedMessage, RecordedSet, RecordedTopic

SETS_NOTE: Final = "twodpass.sets"  # metadata record before one or more chunks: the sets in these


@dataclass(frozen=True)
class _Unit:
    """What is written as a whole."""

    messages: tuple[RecordedMessage, ...]
    entry: SetEntry | None
    size: int
    arrived: float


class BagWriter:
    """Records into a new folder, which is a bag from the start. Thread-safe. A context manager: closes at the end.

    `write` and `write_set` only queue; a thread packs, compresses and writes. What has been written for good survives
    a kill and a loss of power. Where the queue is full, whole sets (or single messages) are dropped and counted.
    When the disk is full or fails, the recording ends by itself, readable; every later call raises the reason.

    Raises:
        RecordingError: the folder exists or cannot be made.
        DiskFullError: the disk has too little room to begin.
    """

    def __init__(self, folder: Path, settings: WriterSettings | None = None) -> None:
        self._settings = settings or WriterSettings()
        self._folder = folder
        self._topics: dict[str, RecordedTopic] = {}
        self._sets = 0
        self._dropped: Counter[str] = Counter()
        self._dropped_sets = 0
        self._calibration: Calibration | None = None
        self._manifest_is_stale = False
        self._queue: deque[_Unit] = deque()
        self._queued_bytes = 0
        self._closing = False
        self._failure: RecordingError | None = None
        self._failure_told = False
        self._changed = threading.Condition()
        try:
            folder.mkdir(parents=True)
        except FileExistsError:
            raise RecordingError(f"{folder} exists: a recording begins in a new folder") from None
        except OSError as error:
            raise RecordingError(f"{folder}: cannot be made: {error.strerror}") from error
        try:
            self._recorder = SplitRecorder(folder, self._settings)
            self._journal = Journal(folder)
            self._reserve = Reserve(folder)
            self._manifest().write(folder)
        except (OSError, RecordingError) as error:
            shutil.rmtree(folder, ignore_errors=True)  # nothing is in it yet
            raise _as_recording_error(folder, error) from error
        self._thread = threading.Thread(target=self._run, name=f"bag {folder.name}", daemon=True)
        self._thread.start()

    @property
    def folder(self) -> Path:
        """The bag."""
        return self._folder

    @property
    def failure(self) -> RecordingError | None:
        """Why the recording ended by itself, if it did."""
        return self._failure

    @property
    def sets(self) -> int:
        """Sets that are written."""
        return self._sets

    @property
    def dropped(self) -> dict[str, int]:
        """Topic -> messages that were not recorded, because the disk was too slow or by `count_dropped`."""
        with self._changed:
            return dict(self._dropped)

    def write(self, topic: RecordedTopic, log_time_ns: int, data: bytes) -> bool:
        """Queue one message. False: it was dropped. Static transforms never are.

        Raises:
            RecordingError: the recording has ended.
            ConfigError: another type was recorded under the topic's name, or the message is too large.
        """
        return self._queue_unit((RecordedMessage(topic, log_time_ns, data),), None, topic.is_static)

    def write_set(self, recorded: RecordedSet) -> bool:
        """Queue a set: all its messages will be written, or none. False: all of it was dropped. Raises as `write`."""
        entry = SetEntry(
            stamp_ns=recorded.stamp_ns,
            offset_ns=dict(recorded.offsets_ns),
            calibration_score=recorded.calibration_score,
        )
        return self._queue_unit(recorded.messages, entry, False)

    def record_calibration(self, calibration: Calibration) -> None:
        """Put the cameras' calibration into the manifest; the last one counts."""
        with self._changed:
            self._manifest_is_stale |= calibration != self._calibration
            self._calibration = calibration

    def count_dropped(self, messages: Mapping[str, int], sets: int = 0) -> None:
        """Count messages, by topic, and sets that were lost before they came here, for the manifest."""
        with self._changed:
            self._dropped.update(messages)
            self._dropped_sets += sets

    def close(self) -> None:
        """Write what is queued and end the bag, which its manifest then describes. Harmless when repeated.

        Raises:
            RecordingError: the recording had ended by itself, and no call has said so yet.
        """
        with self._changed:
            self._closing = True
            self._changed.notify_all()
        self._thread.join()
        if self._failure is not None and not self._failure_told:
            self._failure_told = True
            raise self._failure

    def __enter__(self) -> BagWriter:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self.close()

    # --- The callers' side ---

    def _queue_unit(self, messages: tuple[RecordedMessage, ...], entry: SetEntry | None, must_keep: bool) -> bool:
        if not messages:
            raise ConfigError("a set needs messages")
        for message in messages:
            check_message_size(message.topic.name, len(message.data))
        size = sum(len(message.data) for message in messages)
        with self._changed:
            self._check_going_on()
            self._check_topics(messages)
            if self._queue and self._queued_bytes + size > self._settings.queue_bytes and not must_keep:
                self._drop(messages, entry)
                return False
            if entry is not None:
                self._note_accepted(entry)
            self._queue.append(_Unit(messages, entry, size, time.monotonic()))
            self._queued_bytes += size
            self._changed.notify_all()
            return True

    def _check_going_on(self) -> None:
        if self._failure is not None:
            self._failure_told = True
            raise self._failure
        if self._closing:
            raise RecordingError(f"{self._folder}: the recording is closed")

    def _check_topics(self, messages: Iterable[RecordedMessage]) -> None:
        for topic in (message.topic for message in messages):
            known = self._topics.setdefault(topic.name, topic)
            if known.type != topic.type:
                raise ConfigError(f"{topic.name}: is recorded as {known.type} and cannot be {topic.type} as well")

    def _note_accepted(self, entry: SetEntry) -> None:
        try:
            self._journal.add(entry)
        except OSError as error:
            self._fail(error)
            self._check_going_on()

    def _drop(self, messages: Iterable[RecordedMessage], entry: SetEntry | None) -> None:
        self._dropped.update(message.topic.name for message in messages)
        self._dropped_sets += entry is not None

    # --- The thread's side ---

    def _run(self) -> None:
        try:
            while units := self._next_units():
                self._record(units)
        except Exception as error:
            with self._changed:
                self._fail(error)
        self._end()

    def _next_units(self) -> list[_Unit]:
        """What is written next, as soon as it is large or old enough. Empty: the recording is over."""
        settings = self._settings
        with self._changed:
            while not self._closing and self._failure is None and self._queued_bytes < settings.chunk_bytes:
                wait = None
                if self._queue:
                    wait = self._queue[0].arrived + settings.chunk_seconds - time.monotonic()
                    if wait <= 0:
                        break
                self._changed.wait(wait)
            units: list[_Unit] = []
            size = 0
            while self._queue and size < settings.chunk_bytes:
                units.append(self._queue.popleft())
                size += units[-1].size
            self._queued_bytes -= size
            return units

    def _record(self, units: list[_Unit]) -> None:
        entries = [unit.entry for unit in units if unit.entry is not None]
        notes = {SETS_NOTE: {"sets": json.dumps([entry.model_dump() for entry in entries])}} if entries else {}
        try:
            if self._recorder.is_full:
                self._recorder.finish()
                self._manifest_is_stale = True
            self._reserve.cover(self._journal.bytes)
            if self._manifest_is_stale:
                self._manifest_is_stale = False
                self._manifest().write(self._folder)
            self._recorder.append([message for unit in units for message in unit.messages], notes)
        except Exception:
            with self._changed:
                for unit in units:
                    self._drop(unit.messages, unit.entry)
            raise
        self._sets += len(entries)

    def _fail(self, error: Exception) -> None:
        """End the recording; what is queued is lost."""
        self._failure = self._failure or _as_recording_error(self._folder, error)
        while self._queue:
            unit = self._queue.popleft()
            self._drop(unit.messages, unit.entry)
        self._queued_bytes = 0
        self._changed.notify_all()

    def _end(self) -> None:
        """Make the bag final."""
        try:
            self._reserve.release()
            self._recorder.finish()
            # Sets are written in the order in which they are accepted, until the first that is lost, and none after it.
            self._manifest(complete=True).write(self._folder, self._journal.first(self._sets))
            self._journal.remove()
            sync_folder(self._folder)
        except Exception as error:
            with self._changed:
                self._fail(error)
            with suppress(OSError):
                self._manifest().write(self._folder)
            self._journal.close()

    def _manifest(self, complete: bool = False) -> Manifest:
        """Without the sets, which the journal has, and which become too many to keep and to write again and again."""
        with self._changed:
            return Manifest(
                software=SOFTWARE,
                **describe_recording(self._recorder.files),
                dropped=dict(self._dropped),
                dropped_sets=self._dropped_sets,
                calibration=self._calibration,
                complete=complete,
                error=None if self._failure is None else str(self._failure),
            )


def _as_recording_error(folder: Path, error: Exception) -> RecordingError:
    if isinstance(error, RecordingError):
        return error
    if isinstance(error, OSError) and error.errno in (errno.ENOSPC, errno.EDQUOT):
        return DiskFullError(f"{folder}: the disk is full: make room, and record to a new folder")
    reason = error.strerror if isinstance(error, OSError) and error.strerror else repr(error)
    return RecordingError(f"{folder}: cannot be written: {reason}")
