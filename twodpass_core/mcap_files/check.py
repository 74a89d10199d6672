"""Check an MCAP file before a library reads it: a hostile or cut-off file must not take memory or give half an answer.

Only the headers of records and of compressed blocks are read, not their content. Format: mcap.dev/spec.
"""

from __future__ import annotations

import struct
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import BinaryIO, Final

from twodpass_core.errors import BagError
from twodpass_core.mcap_files.summary import CHUNK_INDEX, Summary
from twodpass_core.mcap_files.unpacked_size import CUT_OFF, DamageError, unpacked_bound

MAGIC: Final = b"\x89MCAP0\r\n"
FOOTER, MESSAGE, CHUNK, ATTACHMENT = 0x02, 0x05, 0x06, 0x09
MAX_RECORD_BYTES: Final = 512 * 2**20  # a chunk holds about 1 to 4 MB by default; a map of 30 million points fits
MAX_OPEN_BYTES: Final = 2 * MAX_RECORD_BYTES
FREE_BYTES: Final = 160 * 2**20
MAX_RATIO: Final = 20
"""What unpacks to more than that, and to so many times its size, is no measurement: it was made to take memory."""
HEAD_BYTES: Final = 9  # of a record: opcode, length
FOOTER_BYTES: Final = HEAD_BYTES + 20 + 8  # the record and the closing magic
TOO_LARGE: Final = (
    f"more than the {MAX_RECORD_BYTES // 2**20} MiB that are read here at a time: `mcap filter` rewrites the file in "
    "smaller chunks, or without the topic of a message that is so large"
)
MADE_TO_GROW: Final = (
    f"what unpacks to over {MAX_RATIO} times its size may have {FREE_BYTES // 2**20} MiB: `mcap filter` rewrites the "
    "file in smaller chunks, or without the topic of a message that is so large"
)
_RECOVER: Final = "`twodpass recover` saves what is whole"
_CUT_OFF: Final = f"{CUT_OFF}. {_RECOVER}"


@dataclass(frozen=True)
class _Chunk:
    """What a chunk index must repeat of the chunk, and the most bytes that the chunk can unpack to."""

    compression: str
    compressed: int
    uncompressed: int
    unpacked_bound: int


@dataclass
class _Contents:
    """What the heads of a file's records tell."""

    chunks: dict[int, _Chunk] = field(default_factory=dict)  # by their offset
    open_chunks: list[tuple[int, int, _Chunk]] = field(default_factory=list)  # first time, last time
    loose_at: int | None = None  # the first message outside of chunks
    loose_ns: int = 0  # of the last such message
    is_disordered: bool = False  # such messages are not in the order of time

    def add_loose(self, offset: int, log_ns: int) -> None:
        self.loose_at = offset if self.loose_at is None else self.loose_at
        self.is_disordered |= log_ns < self.loose_ns
        self.loose_ns = log_ns


def check_mcap(path: Path) -> None:
    """Raise `BagError`, with file and offset, unless every record is whole and of a size that can be read.

    Readers have to find all messages, too, and hold little of the file at a time.
    """
    contents, size = _read_contents(path), path.stat().st_size
    with _naming(path):
        _check_overlap(contents.open_chunks, size)
        if contents.loose_at is not None and (contents.chunks or contents.is_disordered):
            where = "beside chunks" if contents.chunks else "not in the order of time"
            raise DamageError(
                contents.loose_at,
                f"messages lie outside of chunks and {where}: `twodpass recover` packs them into chunks",
            )


def is_made_to_grow(packed: int, unpacked: int) -> bool:
    """Whether content of that many bytes would take memory that the size of its file gives no hint of."""
    return unpacked > max(FREE_BYTES, MAX_RATIO * packed)


def is_indexed(path: Path) -> bool:
    """Whether every record of a file is whole, and its index tells what is there."""
    try:
        _read_contents(path)
    except BagError:
        return False
    return True


@contextmanager
def _naming(path: Path) -> Iterator[None]:
    try:
        yield
    except DamageError as damage:
        raise BagError(f"{path}: at byte {damage.offset}: {damage}") from None


def _read_contents(path: Path) -> _Contents:
    """Raises `BagError`, with file and offset, for what is damaged or too large."""
    with path.open("rb") as file, _naming(path):
        try:
            return _check_records(file, path.stat().st_size)
        except (struct.error, IndexError, UnicodeDecodeError):
            raise DamageError(file.tell(), _CUT_OFF) from None


def _check_records(file: BinaryIO, size: int) -> _Contents:
    summary_start, end_of_records = _summary_start(file, size), size - FOOTER_BYTES
    contents, summary = _Contents(), Summary()
    summary_found = summary_start in (0, end_of_records)
    offset = len(MAGIC)
    while offset < end_of_records:
        summary_found |= offset == summary_start
        file.seek(offset)
        opcode, length = struct.unpack("<BQ", file.read(HEAD_BYTES))
        end = offset + HEAD_BYTES + length
        if end > end_of_records:
            raise DamageError(offset, f"a record of {length} bytes ends beyond the file: {_CUT_OFF}")
        if length > MAX_RECORD_BYTES and opcode != ATTACHMENT:
            raise DamageError(offset, f"a record of {length} bytes, {TOO_LARGE}")
        if opcode == CHUNK:
            contents.chunks[offset] = _check_chunk(file, offset, end)
        elif opcode == CHUNK_INDEX:
            contents.open_chunks.append(_check_chunk_index(file.read(length), offset, contents.chunks))
        elif opcode == MESSAGE:
            _, _, log_ns = struct.unpack("<HIQ", file.read(14))
            contents.add_loose(offset, log_ns)
        if 0 < summary_start <= offset:
            file.seek(offset + HEAD_BYTES)
            summary.add(opcode, file, length)
        offset = end
    if not summary_found:
        raise DamageError(end_of_records, f"the summary is not at byte {summary_start}: {_CUT_OFF}")
    if not summary.is_whole():
        raise DamageError(summary_start, "the summary leaves out topics: `twodpass recover` writes the file anew")
    return contents


def _summary_start(file: BinaryIO, size: int) -> int:
    """What the footer tells, which has to be there."""
    if file.read(len(MAGIC)) != MAGIC:
        raise DamageError(0, "this is not an MCAP file")
    file.seek(max(size - FOOTER_BYTES, len(MAGIC)))
    footer = file.read()
    if len(footer) != FOOTER_BYTES or footer[0] != FOOTER or footer[-len(MAGIC) :] != MAGIC:
        raise DamageError(size, f"the closing record is missing: {_CUT_OFF}")
    return int(struct.unpack_from("<Q", footer, HEAD_BYTES)[0])


def _check_chunk(file: BinaryIO, offset: int, end: int) -> _Chunk:
    _, _, uncompressed, _, name_length = struct.unpack("<QQQII", file.read(32))
    compression = file.read(min(name_length, 64)).decode()
    (compressed,) = struct.unpack("<Q", file.read(8))
    start = file.tell()
    if start + compressed != end:
        raise DamageError(offset, f"a chunk's content does not fill it: {_CUT_OFF}")
    try:
        bound = unpacked_bound(compression, file, start, end)
    except DamageError as damage:
        raise DamageError(damage.offset, f"{damage}. {_RECOVER}") from None
    if max(bound, uncompressed) > MAX_RECORD_BYTES:
        raise DamageError(offset, f"a chunk may unpack to {max(bound, uncompressed)} bytes, {TOO_LARGE}")
    if is_made_to_grow(compressed, bound):
        raise DamageError(offset, f"a chunk of {compressed} bytes may unpack to {bound}: {MADE_TO_GROW}")
    return _Chunk(compression, compressed, uncompressed, bound)


def _check_chunk_index(record: bytes, offset: int, chunks: dict[int, _Chunk]) -> tuple[int, int, _Chunk]:
    first, last, start, _, map_bytes = struct.unpack_from("<QQQQI", record)
    position = 36 + map_bytes + 8
    (name_length,) = struct.unpack_from("<I", record, position)
    compression = record[position + 4 : position + 4 + name_length].decode()
    compressed, uncompressed = struct.unpack_from("<QQ", record, position + 4 + name_length)
    chunk = chunks.get(start, _Chunk("", -1, -1, 0))
    if (chunk.compression, chunk.compressed, chunk.uncompressed) != (compression, compressed, uncompressed):
        raise DamageError(offset, f"the index tells of a chunk at byte {start} that is not there: {_CUT_OFF}")
    return first, last, chunk


def _check_overlap(open_chunks: list[tuple[int, int, _Chunk]], size: int) -> None:
    """A reader in time order holds all chunks open that cover a moment."""
    begins = [(first, 0, chunk.unpacked_bound, chunk.compressed) for first, _, chunk in open_chunks]
    ends = [(last, 1, -chunk.unpacked_bound, -chunk.compressed) for _, last, chunk in open_chunks]
    unpacked = packed = 0
    for _, _, more_unpacked, more_packed in sorted(begins + ends):
        unpacked, packed = unpacked + more_unpacked, packed + more_packed
        if unpacked > MAX_OPEN_BYTES or is_made_to_grow(packed, unpacked):
            raise DamageError(size, f"chunks of the same time hold over {unpacked} bytes together; `mcap sort` helps")
