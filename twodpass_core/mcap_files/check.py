"""Check an MCAP file before a library reads it: a hostile or cut-off file must not take memory or give half an answer.

Only the headers of records and of compressed blocks are read, not their content. Format: mcap.dev/spec.
"""

from __future__ import annotations

import struct
from dataclasses import dataclass
from pathlib import Path
from typing import BinaryIO, Final

from twodpass_core.errors import BagError
from twodpass_core.mcap_files.unpacked_size import CUT_OFF, DamageError, lz4_bound, zstd_bound

MAGIC: Final = b"\x89MCAP0\r\n"
FOOTER, CHUNK, CHUNK_INDEX, ATTACHMENT = 0x02, 0x06, 0x08, 0x09
MAX_RECORD_BYTES: Final = 64 * 2**20  # a chunk holds about 1 to 4 MB by default, a cloud of 4 million points fits
HEAD_BYTES: Final = 9  # of a record: opcode, length
FOOTER_BYTES: Final = HEAD_BYTES + 20 + 8  # the record and the closing magic
_RECOVER: Final = "`twodpass recover` saves what is whole"
_CUT_OFF: Final = f"{CUT_OFF}. {_RECOVER}"


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
        except DamageError as damage:
            raise BagError(f"{path}: at byte {damage.offset}: {damage}") from None
        except (struct.error, IndexError, UnicodeDecodeError):
            raise BagError(f"{path}: at byte {file.tell()}: {_CUT_OFF}") from None


def _check_records(file: BinaryIO, size: int) -> None:
    if file.read(8) != MAGIC:
        raise DamageError(0, "this is not an MCAP file")
    file.seek(max(size - FOOTER_BYTES, 8))
    footer = file.read()
    if len(footer) != FOOTER_BYTES or footer[0] != FOOTER or footer[-8:] != MAGIC:
        raise DamageError(size, f"the closing record is missing: {_CUT_OFF}")
    (summary_start,) = struct.unpack_from("<Q", footer, 9)

    chunks: dict[int, _Chunk] = {}
    open_chunks: list[tuple[int, int, int]] = []  # first time, last time, bytes
    summary_found = summary_start in (0, size - FOOTER_BYTES)
    offset = 8
    while offset < size - FOOTER_BYTES:
        summary_found |= offset == summary_start
        file.seek(offset)
        opcode, length = struct.unpack("<BQ", file.read(9))
        end = offset + 9 + length
        if end > size - FOOTER_BYTES:
            raise DamageError(offset, f"a record of {length} bytes ends beyond the file: {_CUT_OFF}")
        if length > MAX_RECORD_BYTES and opcode != ATTACHMENT:
            raise DamageError(offset, f"a record of {length} bytes, more than the {MAX_RECORD_BYTES} read here")
        if opcode == CHUNK:
            chunks[offset] = _check_chunk(file, offset, end)
        elif opcode == CHUNK_INDEX:
            open_chunks.append(_check_chunk_index(file.read(length), offset, chunks))
        offset = end
    if not summary_found:
        raise DamageError(size - FOOTER_BYTES, f"the summary is not at byte {summary_start}: {_CUT_OFF}")
    _check_overlap(open_chunks, size)


def _check_chunk(file: BinaryIO, offset: int, end: int) -> _Chunk:
    _, _, uncompressed, _, name_length = struct.unpack("<QQQII", file.read(32))
    compression = file.read(min(name_length, 64)).decode()
    (compressed,) = struct.unpack("<Q", file.read(8))
    start = file.tell()
    if start + compressed != end:
        raise DamageError(offset, f"a chunk's content does not fill it: {_CUT_OFF}")
    bounds = {"": lambda *_: compressed, "lz4": lz4_bound, "zstd": zstd_bound}
    if compression not in bounds:
        raise DamageError(offset, f"chunk compression {compression!r} is unknown; lz4 and zstd can be read")
    try:
        bound = bounds[compression](file, start, end)
    except DamageError as damage:
        raise DamageError(damage.offset, f"{damage}. {_RECOVER}") from None
    if max(bound, uncompressed) > MAX_RECORD_BYTES:
        raise DamageError(offset, f"a chunk may unpack to {max(bound, uncompressed)} bytes, too many to be sound")
    return _Chunk(compression, compressed, uncompressed, bound)


def _check_chunk_index(record: bytes, offset: int, chunks: dict[int, _Chunk]) -> tuple[int, int, int]:
    first, last, start, _, map_bytes = struct.unpack_from("<QQQQI", record)
    position = 36 + map_bytes + 8
    (name_length,) = struct.unpack_from("<I", record, position)
    compression = record[position + 4 : position + 4 + name_length].decode()
    compressed, uncompressed = struct.unpack_from("<QQ", record, position + 4 + name_length)
    chunk = chunks.get(start, _Chunk("", -1, -1, 0))
    if (chunk.compression, chunk.compressed, chunk.uncompressed) != (compression, compressed, uncompressed):
        raise DamageError(offset, f"the index tells of a chunk at byte {start} that is not there: {_CUT_OFF}")
    return first, last, chunk.unpacked_bound


def _check_overlap(open_chunks: list[tuple[int, int, int]], size: int) -> None:
    """A reader in time order holds all chunks open that cover a moment."""
    events = [event for first, last, held in open_chunks for event in ((first, 0, held), (last, 1, -held))]
    total = 0
    for _, _, change in sorted(events):
        total += change
        if total > 2 * MAX_RECORD_BYTES:
            raise DamageError(size, f"chunks of the same time hold over {total} bytes together; `mcap sort` helps")
