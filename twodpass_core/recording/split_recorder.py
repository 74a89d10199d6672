"""Chunks into the files of a bag: when a file is full the next begins, and the bag is readable at every moment."""

from __future__ import annotations

import shutil
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from math import isfinite
from pathlib import Path

from mcap.records import Channel, Message, Schema

from twodpass_core.errors import ConfigError, DiskFullError
from twodpass_core.mcap_files.chunk import MAX_CHUNK_BYTES, pack
from twodpass_core.mcap_files.file import McapFile
from twodpass_core.recording.bag_metadata import StoredFile, end_file, stored_file, write_metadata
from twodpass_core.recording.manifest import SOFTWARE
from twodpass_core.recording.topics import RecordedMessage


@dataclass(frozen=True)
class WriterSettings:
    """How a bag is written. Raises ConfigError for settings out of range."""

    split_bytes: int = 2**30  # begin another file when one is this large; 0: never
    split_seconds: float = 0.0  # or when it covers this time; 0: never
    chunk_bytes: int = 4 * 2**20  # write when this much has come together: a power loss costs the last chunk
    chunk_seconds: float = 1.0  # or when the oldest message has waited this long
    queue_bytes: int = 256 * 2**20  # hold at most this in memory; what comes beyond it is dropped and counted
    min_free_bytes: int = 2**30  # end the recording rather than leave less of the disk; 0: fill it

    def __post_init__(self) -> None:
        for name in ("split_bytes", "split_seconds", "min_free_bytes"):
            self._require(name, getattr(self, name) >= 0 and isfinite(getattr(self, name)), "0 or more")
        for name in ("chunk_bytes", "chunk_seconds", "queue_bytes"):
            self._require(name, getattr(self, name) > 0 and isfinite(getattr(self, name)), "more than 0")

    def _require(self, name: str, holds: bool, what: str) -> None:
        if not holds:
            raise ConfigError(f"{name} must be {what}, not {getattr(self, name)}")


def check_space(folder: Path, settings: WriterSettings, wanted: int = 0) -> None:
    """Raise DiskFullError where the folder's disk has less room than `wanted` bytes beside what is to stay free."""
    if settings.min_free_bytes == 0:
        return
    free = shutil.disk_usage(folder).free
    if free - wanted < settings.min_free_bytes:
        need = f" for the next {wanted / 1e6:.1f} MB" if wanted else ""
        raise DiskFullError(
            f"{folder}: the disk has {free / 1e6:.0f} MB left{need}, and {settings.min_free_bytes / 1e6:.0f} MB are to "
            "stay free: make room, or lower min_free_bytes"
        )


class SplitRecorder:
    """Writes the files of one bag, one after the other. Errors of the disk are OSError or DiskFullError.

    metadata.yaml names the files that are finished.
    """

    def __init__(self, folder: Path, settings: WriterSettings) -> None:
        self._folder, self._settings = folder, settings
        self._finished: list[StoredFile] = []
        self._repeated: dict[tuple[str, ...], RecordedMessage] = {}  # what every file needs, by topic and key
        self._schemas: dict[str, int] = {}  # type -> id in the current file
        self._channels: dict[str, int] = {}  # topic -> id in the current file
        check_space(folder, settings)
        self._file: McapFile | None = self._begin()
        write_metadata(folder, ())

    @property
    def files(self) -> tuple[StoredFile, ...]:
        """All files, as far as they are written."""
        current = () if self._file is None else (stored_file(self._file, self._file.path.name),)
        return (*self._finished, *current)

    @property
    def is_full(self) -> bool:
        """Whether the current file has come to its end."""
        file, settings = self._file, self._settings
        if file is None or file.first_ns is None or file.last_ns is None:
            return False
        return bool(
            (settings.split_bytes and file.size >= settings.split_bytes)
            or (settings.split_seconds and file.last_ns - file.first_ns >= settings.split_seconds * 1e9)
        )

    def append(self, messages: Sequence[RecordedMessage], notes: Mapping[str, Mapping[str, str]]) -> None:
        """Write messages to the current file or a new one, all or none, after notes about them.

        They are one chunk, or where readers would not take that, several; `chunks` in each note tells how many.
        """
        check_space(self._folder, self._settings, sum(len(message.data) for message in messages))
        if self._file is None:
            self._file = self._begin()
        self._file.check_there()
        repeated = () if self._file.counts else self._repetition(messages)
        parts = _parts([*repeated, *messages])
        chunks = [pack(self._records(part)) for part in parts]
        told = {name: {**values, "chunks": str(len(chunks))} for name, values in notes.items()}
        self._file.append(chunks, told)
        for message in messages:
            self._remember(message)

    def finish(self) -> None:
        """End the current file, if any."""
        if self._file is None:
            return
        self._file.check_there()
        self._finished.append(end_file(self._file, self._file.path.name))
        self._file = None
        write_metadata(self._folder, self._finished)

    def _begin(self) -> McapFile:
        self._schemas, self._channels = {}, {}
        return McapFile(self._folder / f"{self._folder.name}_{len(self._finished)}.mcap", SOFTWARE)

    def _records(self, messages: Sequence[RecordedMessage]) -> Iterator[Schema | Channel | Message]:
        """Of one chunk: messages, with what describes them, so that they can be read though all others are damaged."""
        described: set[str] = set()
        for message in messages:
            topic, time = message.topic, message.log_time_ns
            schema = self._schemas.setdefault(topic.type, len(self._schemas) + 1)
            channel = self._channels.setdefault(topic.name, len(self._channels) + 1)
            if topic.name not in described:
                described.add(topic.name)
                yield Schema(schema, topic.definition.encode(), "ros2msg", topic.type)
                yield Channel(channel, topic.name, "cdr", {"offered_qos_profiles": topic.qos}, schema)
            yield Message(channel, time, message.data, time, 0)

    def _remember(self, message: RecordedMessage) -> None:
        key = message.repetition_key()
        if key is not None:
            self._repeated.pop((message.topic.name, *key), None)  # the newest comes last
            self._repeated[(message.topic.name, *key)] = message

    def _repetition(self, messages: Sequence[RecordedMessage]) -> Sequence[RecordedMessage]:
        """What earlier files hold and this one needs too, as of the time at which the last one ended.

        So files join without a gap: rosbag2 (Jazzy) that is told to seek into one finds no file for it, and crashes.
        """
        ends_ns = [file.last_ns for file in self._finished if file.last_ns is not None]
        start_ns = min([*ends_ns[-1:], *(message.log_time_ns for message in messages)])
        present = {message.topic.name for message in messages}
        return [
            replace(message, log_time_ns=start_ns)
            for message in self._repeated.values()
            if message.topic.is_static or message.topic.name not in present
        ]


def _parts(messages: Sequence[RecordedMessage]) -> list[list[RecordedMessage]]:
    """Messages by chunks, each of another time: those of a time are held in memory together when they are read."""
    parts: list[list[RecordedMessage]] = [[]]
    size = 0
    for message in sorted(messages, key=lambda message: message.log_time_ns):
        if parts[-1] and size + len(message.data) > MAX_CHUNK_BYTES:
            parts.append([])
            size = 0
        parts[-1].append(message)
        size += len(message.data)
    return parts
