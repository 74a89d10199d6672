"""Recordings to cut off and to damage, and how to look at what is left of them."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

import recording_data as data
from mcap.reader import make_reader
from mcap.writer import CompressionType, Writer
from rosbags.rosbag2 import Reader

from twodpass_core.mcap_files.check import check_mcap
from twodpass_core.recording import BagWriter, WriterSettings

Messages = list[tuple[str, int, bytes]]


def record(bag: Path, sets: int = 10, **changes: Any) -> Path:
    """A recording with one set a chunk."""
    with BagWriter(bag, WriterSettings(**{"chunk_bytes": 1, **data.NO_LIMIT, **changes})) as writer:
        writer.write(data.STATIC, data.START_NS, data.static_transform("lidar"))
        for index in range(sets):
            writer.write_set(data.make_set(index))
    return bag


def set_messages(index: int) -> Messages:
    return [(m.topic.name, m.log_time_ns, m.data) for m in data.make_set(index).messages]


def chunks_of(path: Path) -> list[tuple[int, int]]:
    """Offset and length of the chunks."""
    with path.open("rb") as file:
        summary = make_reader(file).get_summary()
    assert summary is not None
    return [(index.chunk_start_offset, index.chunk_length) for index in summary.chunk_indexes]


def cut(path: Path, size: int) -> bytes:
    """Cut a file off; returns what is left of it."""
    os.truncate(path, size)
    return path.read_bytes()


def assert_readable(bag: Path) -> None:
    """By our reader, by rosbags and by mcap, all of it."""
    for path in bag.glob("*.mcap"):
        check_mcap(path)
        data.read_mcap(path)
    with Reader(bag) as reader:
        assert sum(1 for _ in reader.messages()) == reader.message_count


def write_foreign(path: Path, *, chunked: bool, compression: CompressionType, sets: int = 6) -> None:
    """A file as another recorder writes it, with an attachment and metadata."""
    with path.open("wb") as file:
        writer = Writer(file, chunk_size=30_000, compression=compression, use_chunking=chunked)
        writer.start(profile="ros2", library="another")
        channels = {}
        for topic in (data.POINTS, data.IMAGE):
            schema = writer.register_schema(topic.type, "ros2msg", topic.definition.encode())
            channels[topic.name] = writer.register_channel(topic.name, "cdr", schema, {"kept": "as it was"})
        writer.add_metadata("drive", {"weather": "rain"})
        writer.add_attachment(1, 2, "note.txt", "text/plain", b"left lens dirty")
        for index in range(sets):
            for name, log_time, raw in set_messages(index):
                writer.add_message(channels[name], log_time, raw, log_time - 7, index)
        writer.finish()
