"""The most bytes that compressed blocks can unpack to, from their headers alone: nothing is unpacked.

Formats: RFC 8878 (Zstandard), lz4_Frame_format.md.
"""

from __future__ import annotations

import struct
from typing import BinaryIO, Final

ZSTD_MAGIC: Final = b"\x28\xb5\x2f\xfd"
CUT_OFF: Final = "the file is cut off or damaged"


class DamageError(Exception):
    """What is wrong in a file, and at which byte."""

    def __init__(self, offset: int, reason: str) -> None:
        super().__init__(reason)
        self.offset = offset


def unpacked_bound(compression: str, file: BinaryIO, start: int, end: int) -> int:
    """The most bytes that a chunk's content, from `start` to `end` of a file, can unpack to. Raises DamageError."""
    if compression == "zstd":
        return zstd_bound(file, start, end)
    if compression == "lz4":
        return lz4_bound(file, start, end)
    if compression:
        raise DamageError(start, f"chunk compression {compression!r} is unknown; lz4 and zstd can be read")
    return end - start


def zstd_bound(file: BinaryIO, position: int, end: int) -> int:
    """The most bytes that Zstandard frames can unpack to, from their block headers."""
    total = 0
    while position < end:
        file.seek(position)
        magic, word = struct.unpack("<II", file.read(8))
        if magic >> 4 == 0x184D2A5:  # a frame to skip
            position += 8 + word
            continue
        flags = word & 0xFF
        if magic != int.from_bytes(ZSTD_MAGIC, "little"):
            raise DamageError(position, f"this is not a Zstandard frame: {CUT_OFF}")
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
                raise DamageError(position, f"a Zstandard block ends beyond the rest: {CUT_OFF}")
        position += 4 * (flags >> 2 & 1)
    return total


def lz4_bound(file: BinaryIO, position: int, end: int) -> int:
    """The most bytes that LZ4 frames can unpack to, from their block headers."""
    total = 0
    while position < end:
        file.seek(position)
        magic, flags, block_code = struct.unpack("<IBB", file.read(6))
        if magic != 0x184D2204:
            raise DamageError(position, f"this is not an LZ4 frame: {CUT_OFF}")
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
                raise DamageError(position, f"an LZ4 block ends beyond the rest: {CUT_OFF}")
        position += 4 * (flags >> 2 & 1)
    return total
