"""Check an MCAP file before a library reads it: a hostile or cut-off file must not take memory or give half an answer.

Only the headers of records and of compressed blocks are read, not their content. Formats: mcap.dev/spec, RFC 8878
(Zstandard), lz4_Frame_format.md.
"""

from __future__ import annotations

import struct
from dataclasses import dataclass
from pathlib import Path
from typing import BinaryIO, Final

from twodpass_core.errors import BagError

MAGIC: Final = b"\x89MCAP0\r\n"
FOOTER, CHUNK, CHUNK_INDEX, ATTACHMENT = 0x02, 0x06, 0x08, 0x09
MAX_RECORD_BYTES: Final = 64 * 2**20  # a chunk holds about 1 to 4 MB by default, a cloud of 4 million points fits
_FOOTER_BYTES: Final = 9 + 20 + 8  # the record and the closing magic
_CUT_OFF: Final = "the file is cut off or damaged. `twodpass recover` saves what is whole"


@dataclass(frozen=True)
class _Chunk:
    """What a chunk index must repeat of the chunk, and the most bytes that the chunk can unpack to."""

    compression: str
    compressed: int
    uncompressed: int
    unpacked_bound: int


def check_mcap(path: Path) -> None:
    """Raise `BagError`, with file and offset, unless every record is whole and none unpacks to more than 64 MB."""
    with path.open("rb") as file:
        try:
            _check_records(file, path.stat().st_size)
        except _DamageError as damage:
            raise BagError(f"{path}: at byte {damage.offset}: {damage}") from None
        except (struct.error, IndexError, UnicodeDecodeError):
            raise BagError(f"{path}: at byte {file.tell()}: {_CUT_OFF}") from None


class _DamageError(Exception):
    def __init__(self, offset: int, reason: str) -> None:
        super().__init__(reason)
        self.offset = offset


def _check_records(file: BinaryIO, size: int) -> None:
    if file.read(8) != MAGIC:
        raise _DamageError(0, "this is no MCAP file")
    file.seek(max(size - _FOOTER_BYTES, 8))
    footer = file.read()
    if len(footer) != _FOOTER_BYTES or footer[0] != FOOTER or footer[-8:] != MAGIC:
        raise _DamageError(size, f"the closing record is missing: {_CUT_OFF}")
    (summary_start,) = struct.unpack_from("<Q", footer, 9)

    chunks: dict[int, _Chunk] = {}
    open_chunks: list[tuple[int, int, int]] = []  # first time, last time, bytes
    summary_found = summary_start in (0, size - _FOOTER_BYTES)
    offset = 8
    while offset < size - _FOOTER_BYTES:
        summary_found |= offset == summary_start
        file.seek(offset)
        opcode, length = struct.unpack("<BQ", file.read(9))
        end = offset + 9 + length
        if end > size - _FOOTER_BYTES:
            raise _DamageError(offset, f"a record of {length} bytes ends beyond the file: {_CUT_OFF}")
        if length > MAX_RECORD_BYTES and opcode != ATTACHMENT:
            raise _DamageError(offset, f"a record of {length} bytes, more than the {MAX_RECORD_BYTES} read here")
        if opcode == CHUNK:
            chunks[offset] = _check_chunk(file, offset, end)
        elif opcode == CHUNK_INDEX:
            open_chunks.append(_check_chunk_index(file.read(length), offset, chunks))
        offset = end
    if not summary_found:
        raise _DamageError(size - _FOOTER_BYTES, f"the summary is not at byte {summary_start}: {_CUT_OFF}")
    _check_overlap(open_chunks, size)


def _check_chunk(file: BinaryIO, offset: int, end: int) -> _Chunk:
    _, _, uncompressed, _, name_length = struct.unpack("<QQQII", file.read(32))
    compression = file.read(min(name_length, 64)).decode()
    (compressed,) = struct.unpack("<Q", file.read(8))
    start = file.tell()
    if start + compressed != end:
        raise _DamageError(offset, f"a chunk's content does not fill it: {_CUT_OFF}")
    if compression == "":
        bound = compressed
    elif compression == "lz4":
        bound = _lz4_bound(file, start, end)
    elif compression == "zstd":
        bound = _zstd_bound(file, start, end)
    else:
        raise _DamageError(offset, f"chunk compression {compression!r} is unknown; lz4 and zstd can be read")
    if max(bound, uncompressed) > MAX_RECORD_BYTES:
        raise _DamageError(offset, f"a chunk may unpack to {max(bound, uncompressed)} bytes, too many to be sound")
    return _Chunk(compression, compressed, uncompressed, bound)


def _check_chunk_index(record: bytes, offset: int, chunks: dict[int, _Chunk]) -> tuple[int, int, int]:
    first, last, start, _, map_bytes = struct.unpack_from("<QQQQI", record)
    position = 36 + map_bytes + 8
    (name_length,) = struct.unpack_from("<I", record, position)
    compression = record[position + 4 : position + 4 + name_length].decode()
    compressed, uncompressed = struct.unpack_from("<QQ", record, position + 4 + name_length)
    chunk = chunks.get(start, _Chunk("", -1, -1, 0))
    if (chunk.compression, chunk.compressed, chunk.uncompressed) != (compression, compressed, uncompressed):
        raise _DamageError(offset, f"the index tells of a chunk at byte {start} that is not there: {_CUT_OFF}")
    return first, last, chunk.unpacked_bound


def _check_overlap(open_chunks: list[tuple[int, int, int]], size: int) -> None:
    """A reader in time order holds all chunks open that cover a moment."""
    events = [event for first, last, held in open_chunks for event in ((first, 0, held), (last, 1, -held))]
    total = 0
    for _, _, change in sorted(events):
        total += change
        if total > 2 * MAX_RECORD_BYTES:
            raise _DamageError(size, f"chunks of the same time hold over {total} bytes together; `mcap sort` helps")


def _zstd_bound(file: BinaryIO, position: int, end: int) -> int:
    """The most bytes that Zstandard frames can unpack to, from their block headers."""
    total = 0
    while position < end:
        file.seek(position)
        magic, word = struct.unpack("<II", file.read(8))
        if magic >> 4 == 0x184D2A5:  # a frame to skip
            position += 8 + word
            continue
        flags = word & 0xFF
        if magic != 0xFD2FB528:
            raise _DamageError(position, f"this is no Zstandard frame: {_CUT_OFF}")
        single_segment = flags >> 5 & 1
        position += 5 + (1 - single_segment) + (0, 1, 2, 4)[flags & 3] + (single_segment, 2, 4, 8)[flags >> 6]
        last = 0
        while not last:
            file.seek(position)
            header = int.from_bytes(file.read(3), "little")
            last, kind, size = header & 1, header >> 1 & 3, header >> 3
            total += 2**17 if kind == 2 else size
            position += 3 + (1 if kind == 1 else size)
            if position > end:
                raise _DamageError(position, f"a Zstandard block ends beyond its chunk: {_CUT_OFF}")
        position += 4 * (flags >> 2 & 1)
    return total


def _lz4_bound(file: BinaryIO, position: int, end: int) -> int:
    """The most bytes that LZ4 frames can unpack to, from their block headers."""
    total = 0
    while position < end:
        file.seek(position)
        magic, flags, block_code = struct.unpack("<IBB", file.read(6))
        if magic != 0x184D2204:
            raise _DamageError(position, f"this is no LZ4 frame: {_CUT_OFF}")
        block_max = 2 ** (8 + 2 * (block_code >> 4 & 7))
        position += 7 + 8 * (flags >> 3 & 1) + 4 * (flags & 1)
        size = 1
        while size:
            file.seek(position)
            (header,) = struct.unpack("<I", file.read(4))
            size = header & 0x7FFFFFFF
            if size:
                total += size if header >> 31 else min(block_max, 255 * size)
                position += size + 4 * (flags >> 4 & 1)
            position += 4
            if position > end:
                raise _DamageError(position, f"an LZ4 block ends beyond its chunk: {_CUT_OFF}")
        position += 4 * (flags >> 2 & 1)
    return total
