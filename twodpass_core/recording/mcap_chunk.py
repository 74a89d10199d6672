"""MCAP chunks: messages packed together with the schemas and channels that they need (mcap.dev/spec)."""

from __future__ import annotations

import zlib
from collections.abc import Iterable
from dataclasses import dataclass
from io import BytesIO
from typing import Final

import zstandard
from mcap.data_stream import ReadDataStream, RecordBuilder
from mcap.opcode import Opcode
from mcap.records import Channel, Chunk, Message, MessageIndex, Schema

MAX_CHUNK_BYTES: Final = 40 * 2**20  # three of the same time, as neighbours can be, are within what readers hold open


@dataclass(frozen=True)
class PackedChunk:
    """A chunk and what an index of its file has to know of it."""

    record: Chunk
    indexes: tuple[MessageIndex, ...]  # one per channel: (log time, offset in the unpacked chunk) of each message
    schemas: dict[int, Schema]
    channels: dict[int, Channel]

    @property
    def messages(self) -> int:
        return sum(len(index.records) for index in self.indexes)


def pack(records: Iterable[Schema | Channel | Message], level: int) -> PackedChunk:
    """Records into a chunk compressed by Zstandard. At least one has to be a message."""
    builder = RecordBuilder()
    contents = _Contents()
    for record in records:
        contents.add(record, builder.count)
        record.write(builder)
    unpacked = builder.end()
    data = zstandard.ZstdCompressor(level=level).compress(unpacked)
    times = [time for index in contents.indexes.values() for time, _ in index.records]
    chunk = Chunk("zstd", data, max(times), min(times), zlib.crc32(unpacked), len(unpacked))
    return contents.packed(chunk)


def index_chunk(chunk: Chunk, unpacked: bytes) -> PackedChunk:
    """What is in a chunk of another writer. Raises mcap's errors, struct.error or ValueError where it is damaged."""
    stream, contents = ReadDataStream(BytesIO(unpacked)), _Contents()
    while (offset := stream.count) < len(unpacked):
        opcode, length = stream.read1(), stream.read8()
        end = stream.count + length
        if end > len(unpacked):
            raise ValueError("a record in a chunk ends beyond it")
        if opcode == Opcode.SCHEMA:
            contents.add(Schema.read(stream), offset)
        elif opcode == Opcode.CHANNEL:
            contents.add(Channel.read(stream), offset)
        elif opcode == Opcode.MESSAGE:
            contents.add(Message.read(stream, length), offset)
        stream.read(end - stream.count)
    return contents.packed(chunk)


class _Contents:
    def __init__(self) -> None:
        self.indexes: dict[int, MessageIndex] = {}
        self._schemas: dict[int, Schema] = {}
        self._channels: dict[int, Channel] = {}

    def add(self, record: Schema | Channel | Message, offset: int) -> None:
        if isinstance(record, Schema):
            self._schemas[record.id] = record
        elif isinstance(record, Channel):
            self._channels[record.id] = record
        else:
            index = self.indexes.setdefault(record.channel_id, MessageIndex(record.channel_id, []))
            index.records.append((record.log_time, offset))

    def packed(self, chunk: Chunk) -> PackedChunk:
        return PackedChunk(chunk, tuple(self.indexes.values()), self._schemas, self._channels)
