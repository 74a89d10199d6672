"""What is whole in an MCAP file that was cut off or damaged. Works on files of any recorder, in bounded memory."""

from __future__ import annotations

import struct
import zlib
from collections.abc import Callable, Iterator
from contextlib import suppress
from dataclasses import dataclass
from io import BytesIO
from pathlib import Path
from typing import BinaryIO, Final, NoReturn

import lz4.frame
import zstandard
from mcap.data_stream import ReadDataStream
from mcap.exceptions import McapError
from mcap.opcode import Opcode
from mcap.records import Attachment, Channel, Chunk, Header, McapRecord, Message, Metadata, Schema

from twodpass_core.errors import BagError
from twodpass_core.mcap_files.check import (
    FOOTER_BYTES,
    HEAD_BYTES,
    MADE_TO_GROW,
    MAGIC,
    MAX_RECORD_BYTES,
    TOO_LARGE,
    is_made_to_grow,
)
from twodpass_core.mcap_files.chunk import MESSAGE_HEADER_BYTES, PackedChunk, index_chunk, pack, records_in
from twodpass_core.mcap_files.unpacked_size import DamageError, unpacked_bound
from twodpass_core.mcap_files.walk import find_records, walk
from twodpass_core.wording import counted

_LOOSE_BYTES: Final = 4 * 2**20  # messages without a chunk are gathered up to this
_DERIVED: Final = (  # written anew from what is whole
    Opcode.MESSAGE_INDEX,
    Opcode.CHUNK_INDEX,
    Opcode.ATTACHMENT_INDEX,
    Opcode.METADATA_INDEX,
    Opcode.STATISTICS,
    Opcode.SUMMARY_OFFSET,
    Opcode.DATA_END,
)
_DAMAGE: Final = (McapError, struct.error, ValueError, EOFError, RuntimeError, zstandard.ZstdError, DamageError)


@dataclass(frozen=True)
class Damage:
    """A part of a file that cannot be read."""

    offset: int
    size: int
    reason: str


class Salvage:
    """Iterates over the chunks, attachments and metadata records of a file that are whole, in their order.

    Once exhausted it knows the damage. Messages outside of chunks are packed into chunks.

    Raises:
        BagError: a file that is no MCAP file, or holds more in one piece than can be read here, which is no damage.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        self.profile = "ros2"
        self.damage: list[Damage] = []
        self.is_ended = False  # by a footer
        self.is_packed = True  # all messages are in chunks
        self.is_true = True  # what the file says of its content is right, as far as checksums and times tell
        self.schemas: dict[int, Schema] = {}
        self.channels: dict[int, Channel] = {}

    @property
    def is_sound(self) -> bool:
        """Whether nothing is missing, nothing is wrong, and all messages are in chunks."""
        return self.is_ended and self.is_true and self.is_packed and not self.damage

    def __iter__(self) -> Iterator[PackedChunk | Attachment | Metadata]:
        self.damage, self.is_ended, self.is_packed, self.is_true = [], False, True, True
        self.schemas, self.channels = {}, {}
        with self.path.open("rb") as file:
            size = self.path.stat().st_size
            magic = file.read(len(MAGIC))
            if not MAGIC.startswith(magic):
                raise BagError(f"{self.path}: this is not an MCAP file")
            self._learn_from_summary(file, size)
            loose = _Loose()
            for offset, opcode, body in self._records(file, size):
                try:
                    record = _parse(opcode, body)
                    piece = self._unpack(offset, record) if isinstance(record, Chunk) else record
                except _DAMAGE as error:
                    self._lose(offset, HEAD_BYTES + len(body), f"{_name(opcode)} is damaged: {error}")
                    continue
                if isinstance(piece, Header):
                    self.profile = piece.profile
                elif isinstance(piece, Schema | Channel | Message):
                    self._learn(piece)
                    if isinstance(piece, Message) and piece.channel_id not in self.channels:
                        self._lose(offset, HEAD_BYTES + len(body), "a message is of a topic whose description is lost")
                        continue
                    self.is_packed &= not isinstance(piece, Message)
                    yield from loose.add(piece)
                elif isinstance(piece, PackedChunk | Attachment | Metadata):
                    yield from loose.packed()
                    yield piece
            yield from loose.packed()

    def _records(self, file: BinaryIO, size: int) -> Iterator[tuple[int, int, bytes]]:
        """Offset, opcode and content of every record that is to be kept."""
        end: int | None = len(MAGIC)
        in_summary = False  # where topics are described again, without a checksum for each
        while end is not None and not self.is_ended:
            for offset, opcode, length in walk(file, end, size):
                end = offset + HEAD_BYTES + length
                in_summary |= opcode == Opcode.DATA_END
                in_summary &= opcode not in (Opcode.CHUNK, Opcode.MESSAGE)  # no summary has these: that was damage
                if opcode == Opcode.FOOTER:
                    self.is_ended = file.read(size)[length:] == MAGIC
                    break
                if length > MAX_RECORD_BYTES:
                    if next(walk(file, end, size), None) is not None:  # where a damaged length leads is no record
                        self._refuse(offset, f"a record of {length} bytes")
                    self._lose(offset, end - offset, "nothing here can be read")
                elif opcode not in _DERIVED and not in_summary:
                    yield offset, opcode, file.read(length)
            if not self.is_ended:
                end = self._skip(file, end, size)

    def _skip(self, file: BinaryIO, offset: int, size: int) -> int | None:
        """Leave out what is no record; gives where there are records again, if there are."""
        offset = min(offset, size)
        found = find_records(file, offset, size)
        if found is None:
            self._lose(offset, size - offset, "the file is cut off here")
        else:
            self._lose(offset, found - offset, "nothing here can be read")
        return found

    def _unpack(self, offset: int, chunk: Chunk) -> PackedChunk:
        if (told := chunk.uncompressed_size) > MAX_RECORD_BYTES:
            if told <= unpacked_bound(chunk.compression, BytesIO(chunk.data), 0, len(chunk.data)):
                self._refuse(offset, f"a chunk of {told} bytes")
            raise ValueError(f"it says that it unpacks to {told} bytes")
        if is_made_to_grow(len(chunk.data), told):
            raise BagError(f"{self.path}: at byte {offset}: a chunk that unpacks to {told} bytes: {MADE_TO_GROW}")
        unpacked = _unpacked(chunk)
        if chunk.uncompressed_crc and zlib.crc32(unpacked) != chunk.uncompressed_crc:
            raise ValueError("its content does not match its checksum")
        packed = index_chunk(chunk, unpacked)
        for record in (*packed.schemas.values(), *packed.channels.values()):
            self._learn(record)
        if unknown := sum(len(index.records) for index in packed.indexes if index.channel_id not in self.channels):
            self._lose(offset, 0, f"{counted(unknown, 'message')} of topics whose description is lost")
            packed = pack([record for record in records_in(unpacked) if self._is_described(record)])
            chunk = packed.record
        times = [log_time for index in packed.indexes for log_time, _ in index.records]
        if times and (min(times), max(times)) != (chunk.message_start_time, chunk.message_end_time):
            self.is_true = False
            chunk.message_start_time, chunk.message_end_time = min(times), max(times)
        return packed

    def _is_described(self, record: Schema | Channel | Message) -> bool:
        return not isinstance(record, Message) or record.channel_id in self.channels

    def _learn(self, record: McapRecord | None) -> None:
        if isinstance(record, Schema):
            self.schemas[record.id] = record
        elif isinstance(record, Channel):
            self.channels[record.id] = record

    def _learn_from_summary(self, file: BinaryIO, size: int) -> None:
        """Descriptions of topics are in the index too, where the file has one."""
        file.seek(max(size - FOOTER_BYTES, 0))
        footer = file.read()
        if len(footer) != FOOTER_BYTES or footer[0] != Opcode.FOOTER or footer[-len(MAGIC) :] != MAGIC:
            return
        start, _, checksum = struct.unpack_from("<QQI", footer, HEAD_BYTES)
        start = start or size
        if checksum and start < size and _checksum(file, start, size - len(MAGIC) - 4) != checksum:
            self.is_true = False
            return
        for _, opcode, length in walk(file, start, size):
            if opcode in (Opcode.SCHEMA, Opcode.CHANNEL) and length <= MAX_RECORD_BYTES:
                with suppress(*_DAMAGE):
                    self._learn(_parse(opcode, file.read(length)))

    def _refuse(self, offset: int, what: str) -> NoReturn:
        raise BagError(f"{self.path}: at byte {offset}: {what}, {TOO_LARGE}")

    def _lose(self, offset: int, size: int, reason: str) -> None:
        self.damage.append(Damage(offset, size, reason))


class _Loose:
    """Gathers records outside of chunks into chunks: without them there is no index."""

    def __init__(self) -> None:
        self._records: list[Schema | Channel | Message] = []
        self._size = 0

    def add(self, record: Schema | Channel | Message) -> Iterator[PackedChunk]:
        self._records.append(record)
        self._size += len(record.data) if isinstance(record, Message) else 0
        if self._size >= _LOOSE_BYTES:
            yield from self.packed()

    def packed(self) -> Iterator[PackedChunk]:
        if any(isinstance(record, Message) for record in self._records):
            yield pack(self._records)
            self._records, self._size = [], 0


def _checksum(file: BinaryIO, start: int, end: int) -> int:
    file.seek(start)
    checksum = 0
    while part := file.read(min(2**20, end - file.tell())):
        checksum = zlib.crc32(part, checksum)
    return checksum


def _parse(opcode: int, body: bytes) -> McapRecord | None:
    stream = ReadDataStream(BytesIO(body))
    if opcode == Opcode.MESSAGE:
        if len(body) < MESSAGE_HEADER_BYTES:
            raise ValueError("it is cut off")
        message: Message = Message.read(stream, len(body))
        return message
    readers: dict[int, Callable[[ReadDataStream], McapRecord]] = {
        Opcode.HEADER: Header.read,
        Opcode.SCHEMA: Schema.read,
        Opcode.CHANNEL: Channel.read,
        Opcode.CHUNK: Chunk.read,
        Opcode.ATTACHMENT: Attachment.read,
        Opcode.METADATA: Metadata.read,
    }
    if opcode not in readers:
        return None  # of a later version of the format, or private
    record: McapRecord = readers[opcode](stream)
    return record


def _unpacked(chunk: Chunk) -> bytes:
    """The content of a chunk, of which no more is unpacked than it says."""
    size = chunk.uncompressed_size
    if chunk.compression == "zstd":
        reader = zstandard.ZstdDecompressor(max_window_size=MAX_RECORD_BYTES).stream_reader(
            BytesIO(chunk.data), read_across_frames=True
        )
        unpacked = reader.read(size + 1)
    elif chunk.compression == "lz4":
        unpacked = lz4.frame.LZ4FrameDecompressor().decompress(chunk.data, max_length=size + 1)
    elif chunk.compression == "":
        unpacked = chunk.data
    else:
        raise ValueError(f"its compression {chunk.compression!r} is unknown")
    if len(unpacked) != size:
        raise ValueError("it does not unpack to the size that it says")
    return bytes(unpacked)


def _name(opcode: int) -> str:
    return f"a {Opcode(opcode).name.lower().replace('_', ' ')}" if opcode in Opcode._value2member_map_ else "a record"
