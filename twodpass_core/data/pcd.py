"""PCD files of the Point Cloud Library: ascii, binary and binary_compressed.

Format: pointclouds.org/documentation/tutorials/pcd_file_format.html. A file becomes a `CloudData`, so that fields are
found and converted by the same code as in messages.
"""

from __future__ import annotations

import struct
import warnings
from dataclasses import dataclass
from pathlib import Path
from typing import BinaryIO, Final

import numpy as np
import numpy.typing as npt

from twodpass_core.cloud import CloudData, Datatype, PointFieldSpec
from twodpass_core.errors import ScanError

MAX_HEADER_LINES: Final = 100
MAX_LINE_BYTES: Final = 2**16
_DATATYPES: Final = {
    ("I", 1): Datatype.INT8,
    ("U", 1): Datatype.UINT8,
    ("I", 2): Datatype.INT16,
    ("U", 2): Datatype.UINT16,
    ("I", 4): Datatype.INT32,
    ("U", 4): Datatype.UINT32,
    ("F", 4): Datatype.FLOAT32,
    ("F", 8): Datatype.FLOAT64,
}


@dataclass(frozen=True)
class PcdHeader:
    """What a PCD file says of its points: `fields` as the binary form lays them out, `counts` of values a field."""

    fields: tuple[PointFieldSpec, ...]
    counts: tuple[int, ...]
    point_step: int
    num_points: int
    storage: str


def read_pcd(path: Path) -> CloudData:
    """The points of a PCD file as a cloud of height 1, fields in the file's types (float64 where it is ascii).

    64-bit integers, which PointField does not know, become fields of 8 bytes. Raises `ScanError`.
    """
    try:
        with path.open("rb") as file:
            header = _read_header(file)
            if header.storage == "ascii":
                return _read_ascii(file, header)
            if header.storage == "binary":
                data = _read_exactly(file, header.num_points * header.point_step)
            else:
                data = _read_compressed(file, header)
    except (ValueError, OSError) as error:
        raise ScanError(f"{path}: {error}") from None
    return CloudData(1, header.num_points, header.fields, False, header.point_step, len(data), data, False)


def _read_ascii(file: BinaryIO, header: PcdHeader) -> CloudData:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # loadtxt warns of a file without rows, which is counted below
        values = np.loadtxt(file, np.float64, ndmin=2)
    if values.size and values.shape[1] != (wanted := sum(header.counts)):
        raise ValueError(f"a point has {values.shape[1]} numbers, but the header's fields want {wanted}")
    if len(values) != header.num_points:
        raise ValueError(
            f"holds {len(values)} points, but the header tells of {header.num_points}: the file is cut off"
        )
    fields = []
    offset = 0
    for field, count in zip(header.fields, header.counts, strict=True):
        fields.append(PointFieldSpec(field.name, offset, Datatype.FLOAT64, count))
        offset = fields[-1].end
    data = values.astype("<f8").reshape(-1).view(np.uint8)
    return CloudData(1, len(values), tuple(fields), False, offset, len(data), data, False)


def _read_compressed(file: BinaryIO, header: PcdHeader) -> npt.NDArray[np.uint8]:
    """Unpack the fields, which lie one after the other, each for all points, and interleave them."""
    size = header.num_points * header.point_step
    compressed, unpacked = struct.unpack("<II", _read_exactly(file, 8).tobytes())
    if unpacked != size:
        raise ValueError(f"the compressed points unpack to {unpacked} bytes, but the header tells of {size}")
    columns = np.frombuffer(decompress_lzf(_read_exactly(file, compressed).tobytes(), size), np.uint8)
    points = np.empty((header.num_points, header.point_step), np.uint8)
    for field in header.fields:
        column = columns[field.offset * header.num_points : field.end * header.num_points]
        points[:, field.offset : field.end] = column.reshape(header.num_points, field.end - field.offset)
    return points.reshape(-1)


def _read_exactly(file: BinaryIO, size: int) -> npt.NDArray[np.uint8]:
    position = file.tell()
    rest = file.seek(0, 2) - position
    if rest < size:
        raise ValueError(f"holds {rest} bytes after byte {position}, but should hold {size}: the file is cut off")
    file.seek(position)
    return np.frombuffer(file.read(size), np.uint8)


def decompress_lzf(data: bytes, size: int) -> bytearray:
    """Unpack LZF data (LibLZF's format) to exactly `size` bytes; `ValueError` for anything else.

    A control byte below 32 means that many literal bytes plus one; others repeat bytes already written: 3 bits of
    length, 13 bits of distance. Own code, since the LZF packages need a compiler; 3 MB take about 0.1 s.
    """
    out = bytearray()
    position, end = 0, len(data)
    try:
        while position < end:
            control = data[position]
            position += 1
            if control < 32:
                out += data[position : position + control + 1]
                position += control + 1
                continue
            length = control >> 5
            if length == 7:
                length += data[position]
                position += 1
            length += 2
            start = len(out) - ((control & 31) << 8) - data[position] - 1
            position += 1
            if start < 0 or len(out) > size:
                break
            piece = out[start : start + length]
            out += piece if len(piece) == length else (piece * (length // len(piece) + 1))[:length]
    except IndexError:
        position = end + 1
    if position != end or len(out) != size:
        raise ValueError(f"the compressed points are damaged after byte {len(out)} of {size}")
    return out


def _read_header(file: BinaryIO) -> PcdHeader:
    entries: dict[str, list[str]] = {}
    for _ in range(MAX_HEADER_LINES):
        line = file.readline(MAX_LINE_BYTES).decode("ascii", errors="replace")
        key, *values = line.split("#")[0].split() or [""]
        entries[key] = values
        if key == "DATA":
            break
    else:
        raise ValueError("no DATA line in the header: this is not a PCD file")
    for key in ("FIELDS", "SIZE", "TYPE", "WIDTH", "HEIGHT"):
        if not entries.get(key):
            raise ValueError(f"the PCD header lacks {key}")
    names, types = entries["FIELDS"], entries["TYPE"]
    sizes, counts = _integers(entries, "SIZE"), _integers(entries, "COUNT") or [1] * len(names)
    if not len(names) == len(sizes) == len(types) == len(counts) or 0 in counts:
        raise ValueError("the PCD header's FIELDS, SIZE, TYPE and COUNT do not describe the same fields")
    fields = []
    offset = 0
    for name, size, kind, count in zip(names, sizes, types, counts, strict=True):
        if (kind, size) not in _DATATYPES and (kind, size) not in (("I", 8), ("U", 8)):
            raise ValueError(f"field {name!r}: TYPE {kind} of SIZE {size} is not a PCD type")
        if (kind, size) in _DATATYPES:
            fields.append(PointFieldSpec(name, offset, _DATATYPES[kind, size], count))
        else:
            fields.append(PointFieldSpec(name, offset, Datatype.UINT8, 8 * count))
        offset += size * count
    num_points = _integers(entries, "WIDTH")[0] * _integers(entries, "HEIGHT")[0]
    if _integers(entries, "POINTS")[:1] not in ([], [num_points]):
        raise ValueError(f"the PCD header has WIDTH x HEIGHT = {num_points}, but POINTS {entries['POINTS'][0]}")
    storage = " ".join(entries["DATA"])
    if storage not in ("ascii", "binary", "binary_compressed"):
        raise ValueError(f"DATA {storage!r} is unknown; PCD has ascii, binary and binary_compressed")
    return PcdHeader(tuple(fields), tuple(counts), offset, num_points, storage)


def _integers(entries: dict[str, list[str]], key: str) -> list[int]:
    values = entries.get(key, [])
    if not all(value.isdecimal() and len(value) <= 12 for value in values):
        raise ValueError(f"the PCD header's {key} {' '.join(values)[:40]!r} should be whole numbers")
    return [int(value) for value in values]
