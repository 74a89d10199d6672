"""MCAP chunks: messages packed together with the schemas and channels that they need (mcap.dev/spec)."""

from __future__ import annotations

import struct
import zlib
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass
from io import BytesIO
from typing import Final

import zstandard
from mcap.data_stream import ReadDataStream, RecordBuilder
from mcap.opcode import Opcode
from mcap.records import Channel, Chunk, Message, MessageIndex, Schema

from twodpass_core.errors import ConfigError
from twodpass_core.mcap_files.check import HEAD_BYTES
from twodpass_core.mcap_files.unpacked_size import ZSTD_MAGIC

MAX_CHUNK_BYTES: Final = 40 * 2**20  # three of the same time, as neighbours can be, are within what readers hold open
COMPRESSION_LEVEL: Final = 1  # of Zstandard
MESSAGE_HEADER_BYTES: Final = 22
_DEFINITIONS: Final[Mapping[int, Callable[[ReadDataStream], Schema | Channel]]] = {
    Opcode.SCHEMA: Schema.read,
    Opcode.CHANNEL: Channel.read,
}


@dataclass(frozen=True)
class PackedChunk:
    """A chunk and what an index of its file has to know of it."""

    record: Chunk
    indexes: tuple[MessageIndex, ...]  # one per channel: (log time, offset in the unpacked chunk) of each message
    schemas: dict[int, Schema]
    channels: dict[int, Channel]
    compresses_messages: bool = False  # one by one, as rosbag2 can

    @property
    def messages(self) -> int:
        return sum(len(index.records) for index in self.indexes)


def check_message_size(topic: str, size: int) -> None:
    """Raise ConfigError where a message of so many bytes cannot be recorded, as no chunk may be so large."""
    if size > MAX_CHUNK_BYTES:
        limit = MAX_CHUNK_BYTES // 2**20
        raise ConfigError(
            f"{topic}: a message of {size / 2**20:.1f} MiB is more than the {limit} MiB that readers of bags take: "
            "record smaller ones, such as compressed images"
        )


def pack(records: Iterable[Schema | Channel | Message]) -> PackedChunk:
    """Records into a chunk compressed by Zstandard. At least one has to be a message."""
    builder, contents = RecordBuilder(), _Contents()
    for record in records:
        if isinstance(record, Message):
            contents.add_message(record.channel_id, record.log_time, builder.count, record.data.startswith(ZSTD_MAGIC))
        else:
            contents.add_definition(record)
        record.write(builder)
    unpacked = builder.end()
    data = zstandard.ZstdCompressor(level=COMPRESSION_LEVEL).compress(unpacked)
    times = [time for index in contents.indexes.values() for time, _ in index.records]
    return contents.packed(Chunk("zstd", data, max(times), min(times), zlib.crc32(unpacked), len(unpacked)))


def index_chunk(chunk: Chunk, unpacked: bytes) -> PackedChunk:
    """What is in a chunk that was read. Raises mcap's errors, struct.error or ValueError where it is damaged."""
    contents = _Contents()
    for offset, opcode, content in _walk(unpacked):
        if opcode == Opcode.MESSAGE:
            if len(content) < MESSAGE_HEADER_BYTES:
                raise ValueError("a message in it is cut off")
            channel, _, log_time = struct.unpack_from("<HIQ", content)
            is_compressed = bytes(content[MESSAGE_HEADER_BYTES:][: len(ZSTD_MAGIC)]) == ZSTD_MAGIC
            contents.add_message(channel, log_time, offset, is_compressed)
        elif opcode in _DEFINITIONS:
            contents.add_definition(_DEFINITIONS[opcode](ReadDataStream(BytesIO(content))))
    return contents.packed(chunk)


def records_in(unpacked: bytes) -> Iterator[Schema | Channel | Message]:
    """The records of a chunk that `index_chunk` has found sound."""
    for _, opcode, content in _walk(unpacked):
        stream = ReadDataStream(BytesIO(content))
        if opcode == Opcode.MESSAGE:
            yield Message.read(stream, len(content))
        elif opcode in _DEFINITIONS:
            yield _DEFINITIONS[opcode](stream)


def _walk(unpacked: bytes) -> Iterator[tuple[int, int, memoryview]]:
    """Offset, opcode and content of each record of a chunk. Raises struct.error or ValueError where it is damaged."""
    view, offset = memoryview(unpacked), 0  # of which parts are no copies
    while offset < len(view):
        opcode, length = struct.unpack_from("<BQ", view, offset)
        start, end = offset + HEAD_BYTES, offset + HEAD_BYTES + length
        if end > len(view):
            raise ValueError("a record in it ends beyond it")
        yield offset, opcode, view[start:end]
        offset = end


class _Contents:
    def __init__(self) -> None:
        self.indexes: dict[int, MessageIndex] = {}
        self._schemas: dict[int, Schema] = {}
        self._channels: dict[int, Channel] = {}
        self._any_compressed = False

    def add_definition(self, record: Schema | Channel) -> None:
        if isinstance(record, Schema):
            self._schemas[record.id] = record
        else:
            self._channels[record.id] = record

    def add_message(self, channel: int, log_time: int, offset: int, is_compressed: bool) -> None:
        self._any_compressed |= is_compressed
        self.indexes.setdefault(channel, MessageIndex(channel, [])).records.append((log_time, offset))

    def packed(self, chunk: Chunk) -> PackedChunk:
        return PackedChunk(chunk, tuple(self.indexes.values()), self._schemas, self._channels, self._any_compressed)
