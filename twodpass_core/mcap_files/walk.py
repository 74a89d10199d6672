"""From record to record through an MCAP file by their heads, over what is damaged as well (mcap.dev/spec)."""

from __future__ import annotations

import re
import struct
import sys
from collections.abc import Iterator
from typing import BinaryIO, Final

from mcap.opcode import Opcode

from twodpass_core.mcap_files.check import HEAD_BYTES

_CHUNK_HEAD: Final = struct.Struct("<BQQQQII")  # the record's head, times, unpacked size, checksum, length of a name
_LENGTH: Final = struct.Struct("<Q")
_PLAIN_HEAD_BYTES: Final = _CHUNK_HEAD.size + _LENGTH.size  # of a chunk whose compression has no name
_COMPRESSIONS: Final = (b"", b"lz4", b"zstd")
_SMALL_HEAD: Final = re.compile(rb"(?s)(?=[\x01-\x0f].{4}\0{4})")  # of a record of any kind, below 4 GiB
_PART_BYTES: Final = 2**20


def walk(file: BinaryIO, offset: int, size: int) -> Iterator[tuple[int, int, int]]:
    """Offset, opcode and length of the records from there on; the file then stands at the record's content.

    It ends where no record can be: at zeros, or at a length that goes beyond the `size` of the file.
    """
    while offset < size:
        file.seek(offset)
        head = file.read(HEAD_BYTES)
        if len(head) < HEAD_BYTES:
            return
        opcode, length = struct.unpack("<BQ", head)
        if opcode == 0 or offset + HEAD_BYTES + length > size:
            return
        yield offset, opcode, length
        offset += HEAD_BYTES + length


def find_records(file: BinaryIO, offset: int, size: int) -> int | None:
    """Where, from there on, records begin again: at the next chunk, or at small ones before it. None: nowhere.

    If what begins there is a chunk without compression that the file's end cuts off: at the records in it.
    """
    chunk = _find_chunk(file, offset, size)
    if chunk is None:
        file.seek(offset)
        is_cut_off = _is_chunk_head(file.read(_PLAIN_HEAD_BYTES), sys.maxsize)
        return offset + _PLAIN_HEAD_BYTES if is_cut_off else None
    begin = max(offset, chunk - _PART_BYTES)
    file.seek(begin)
    before = file.read(chunk - begin)
    leading = {len(before)}  # places from which one record after the other leads to the chunk
    for match in reversed([*_SMALL_HEAD.finditer(before)]):
        (length,) = _LENGTH.unpack_from(before, match.start() + 1)
        if match.start() + HEAD_BYTES + length in leading:
            leading.add(match.start())
    return begin + min(leading)


def _find_chunk(file: BinaryIO, offset: int, size: int) -> int | None:
    """The next bytes that can be the head of a chunk."""
    longest_head = _PLAIN_HEAD_BYTES + max(map(len, _COMPRESSIONS))
    while offset < size:
        file.seek(offset)
        part = file.read(_PART_BYTES + longest_head)
        at = -1
        while 0 <= (at := part.find(Opcode.CHUNK, at + 1)) < _PART_BYTES:
            if _is_chunk_head(part[at : at + longest_head], size - offset - at):
                return offset + at
        offset += _PART_BYTES
    return None


def _is_chunk_head(head: bytes, remaining: int) -> bool:
    """Whether its two lengths fit each other and the file, and its compression is one of the known."""
    if len(head) < _CHUNK_HEAD.size:
        return False
    opcode, length, first, last, _, _, name_length = _CHUNK_HEAD.unpack_from(head)
    name = head[_CHUNK_HEAD.size : _CHUNK_HEAD.size + name_length]
    before_content = _PLAIN_HEAD_BYTES + name_length
    if opcode != Opcode.CHUNK or HEAD_BYTES + length > remaining or first > last or name not in _COMPRESSIONS:
        return False
    if len(head) < before_content:
        return False
    (content,) = _LENGTH.unpack_from(head, before_content - _LENGTH.size)
    return bool(before_content + content == HEAD_BYTES + length)
