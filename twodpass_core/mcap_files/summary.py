"""What an MCAP file's summary tells of its topics: readers that trust it find no others (mcap.dev/spec)."""

from __future__ import annotations

import struct
from dataclasses import dataclass, field
from typing import BinaryIO, Final

SCHEMA, CHANNEL, CHUNK_INDEX, STATISTICS = 0x03, 0x04, 0x08, 0x0B
_STATISTICS_HEAD: Final = struct.Struct("<QHIIIIQQ")
_CHUNK_INDEX_HEAD: Final = struct.Struct("<QQQQ")


@dataclass
class Summary:
    """The records between the data and the footer, as far as they decide what a reader finds."""

    schemas: set[int] = field(default_factory=set)
    channels: dict[int, int] = field(default_factory=dict)  # id -> its schema, 0 for none
    used: set[int] = field(default_factory=set)  # channels that have messages
    has_statistics: bool = False
    has_chunks: bool = False
    misses_messages: bool = False  # a chunk has some that no index tells of

    def add(self, opcode: int, file: BinaryIO, length: int) -> None:
        """Take in a record whose content the file stands at. Raises struct.error where it is too short."""
        if opcode == SCHEMA:
            self.schemas.add(*struct.unpack("<H", file.read(2)))
        elif opcode == CHANNEL:
            channel, schema = struct.unpack("<HH", file.read(4))
            self.channels[channel] = schema
        elif opcode == STATISTICS:
            self.has_statistics = True
            self._add_used(file.read(length), _STATISTICS_HEAD.size)
        elif opcode == CHUNK_INDEX:
            self.has_chunks = True
            record = file.read(length)
            first, last, _, _ = _CHUNK_INDEX_HEAD.unpack_from(record)
            is_indexed = self._add_used(record, _CHUNK_INDEX_HEAD.size)
            self.misses_messages |= not is_indexed and (first, last) != (0, 0)

    def _add_used(self, record: bytes, at: int) -> bool:
        """The keys of a map of channels; whether there are any."""
        (size,) = struct.unpack_from("<I", record, at)
        entries = [*struct.iter_unpack("<HQ", record[at + 4 : at + 4 + size])]
        self.used |= {channel for channel, _ in entries}
        return bool(entries)

    def is_whole(self) -> bool:
        """Whether a reader finds all messages: by this summary, or as there is so little in it, without."""
        if not self.schemas and not self.channels and (self.has_statistics or not self.has_chunks):
            return not self.misses_messages
        told = {channel for channel, schema in self.channels.items() if schema == 0 or schema in self.schemas}
        return not self.misses_messages and self.used | self.channels.keys() <= told
