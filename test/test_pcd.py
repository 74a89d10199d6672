"""PCD files: every storage, old headers, compression, and what is said about damaged ones."""

from __future__ import annotations

import struct
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from twodpass_core.data.pcd import decompress_lzf
from twodpass_core.data.scan_files import read_scan
from twodpass_core.errors import ScanError

POINTS = np.random.default_rng(0).normal(scale=20, size=(7, 4)).astype(np.float32)
HEADER = """# .PCD v0.7 - Point Cloud Data file format
VERSION 0.7
FIELDS x y z intensity ring stamp
SIZE 4 4 4 4 2 8
TYPE F F F F U U
COUNT 1 1 1 1 1 1
WIDTH 7
HEIGHT 1
VIEWPOINT 0 0 0 1 0 0 0
POINTS 7
DATA """


def pack_points() -> list[bytes]:
    """The seven points field by field, in the layout of HEADER."""
    ring, stamp = np.arange(7, dtype="<u2"), np.full(7, 2**60, "<u8")
    return [*(POINTS[:, k].astype("<f4").tobytes() for k in range(4)), ring.tobytes(), stamp.tobytes()]


def literal_lzf(data: bytes) -> bytes:
    """LZF without any repetition: what a compressor writes that finds none."""
    pieces = [data[k : k + 32] for k in range(0, len(data), 32)]
    return b"".join(bytes([len(piece) - 1]) + piece for piece in pieces)


def write_pcd(path: Path, storage: str, header: str = HEADER) -> Path:
    columns = pack_points()
    if storage == "ascii":
        rows = [" ".join([*(repr(float(v)) for v in point), str(k), "9"]) for k, point in enumerate(POINTS)]
        body = ("\n".join(rows) + "\n").encode()
    elif storage == "binary":
        sizes = (4, 4, 4, 4, 2, 8)
        body = b"".join(c[k * s : (k + 1) * s] for k in range(7) for c, s in zip(columns, sizes, strict=True))
    else:
        plain = b"".join(columns)
        body = struct.pack("<II", len(literal_lzf(plain)), len(plain)) + literal_lzf(plain)
    path.write_bytes((header + storage + "\n").encode() + body)
    return path


@pytest.mark.parametrize("storage", ["ascii", "binary", "binary_compressed"])
def test_a_pcd_file_gives_its_points_and_the_field_that_is_named(tmp_path: Path, storage: str) -> None:
    path = write_pcd(tmp_path / "scan.pcd", storage)
    np.testing.assert_array_equal(read_scan(path), POINTS)
    np.testing.assert_array_equal(read_scan(path, intensity_field="ring")[:, 3], np.arange(7))
    with pytest.raises(ScanError, match=r"scan\.pcd: field 'power': missing.*'ring'"):
        read_scan(path, intensity_field="power")


def test_pcd_of_several_values_a_field_and_old_headers(tmp_path: Path) -> None:
    path = tmp_path / "scan.pcd"
    path.write_text(
        "FIELDS normal x y z i\nSIZE 4 4 4 4 4\nTYPE F F F F F\nCOUNT 3 1 1 1 1\nWIDTH 2\nHEIGHT 1\nDATA ascii\n"
        "0 0 1 1 2 3 4\n0 0 1 nan 6 7 8\n"
    )
    np.testing.assert_array_equal(read_scan(path), np.array([[1, 2, 3, 4], [np.nan, 6, 7, 8]], np.float32))
    path.write_text("FIELDS x y z i\nSIZE 4 4 4 4\nTYPE F F F F\nWIDTH 0\nHEIGHT 1\nDATA ascii\n")
    assert read_scan(path).shape == (0, 4)


@pytest.mark.parametrize("storage", ["binary", "binary_compressed"])
def test_an_organised_pcd_with_padding_between_its_fields(tmp_path: Path, storage: str) -> None:
    """As the Point Cloud Library writes structures of its own: `_` is what aligns them."""
    header = "FIELDS x y z _ intensity\nSIZE 4 4 4 1 4\nTYPE F F F U F\nCOUNT 1 1 1 4 1\nWIDTH 3\nHEIGHT 2\n"
    columns = [POINTS[:6, k].astype("<f4").tobytes() for k in range(4)]
    columns.insert(3, bytes(range(24)))
    rows = np.hstack([np.frombuffer(column, np.uint8).reshape(6, 4) for column in columns]).tobytes()
    plain = b"".join(columns)
    packed = struct.pack("<II", len(literal_lzf(plain)), len(plain)) + literal_lzf(plain)
    path = tmp_path / "scan.pcd"
    path.write_bytes(f"{header}DATA {storage}\n".encode() + (rows if storage == "binary" else packed))
    np.testing.assert_array_equal(read_scan(path), POINTS[:6])


def test_an_ascii_pcd_of_more_points_than_its_header_tells_is_refused(tmp_path: Path) -> None:
    path = write_pcd(tmp_path / "scan.pcd", "ascii")
    path.write_text(path.read_text() + path.read_text().splitlines()[-1])
    with pytest.raises(ScanError, match="holds 8 points, but the header tells of 7"):
        read_scan(path)


@pytest.mark.parametrize(("storage", "body"), [("binary", b""), ("binary_compressed", struct.pack("<II", 0, 0))])
def test_pcd_without_points(tmp_path: Path, storage: str, body: bytes) -> None:
    header = HEADER.replace("WIDTH 7", "WIDTH 0").replace("POINTS 7", "POINTS 0")
    (tmp_path / "scan.pcd").write_bytes(f"{header}{storage}\n".encode() + body)
    assert read_scan(tmp_path / "scan.pcd").shape == (0, 4)


def test_lzf_repetitions() -> None:
    # "abc" literally, then 3 + 2 bytes from 3 back, then a long overlapping run of the last byte.
    packed = bytes([2]) + b"abc" + bytes([3 << 5, 2]) + bytes([7 << 5, 30, 0])
    assert decompress_lzf(packed, 3 + 5 + 39) == b"abc" + b"abcab" + b"b" * 39


@given(st.binary(max_size=60), st.integers(0, 400))
def test_lzf_of_any_bytes_gives_the_size_or_an_error(data: bytes, size: int) -> None:
    try:
        unpacked = decompress_lzf(data, size)
    except ValueError:
        return
    assert len(unpacked) == size


@pytest.mark.parametrize(
    ("old", "new", "reason"),
    [
        ("FIELDS x y z", "FIELDS x y", "do not describe the same fields"),
        ("FIELDS x y z", "FIELDS a b c", "field 'x': missing"),
        ("intensity", "power", "intensity_field"),
        ("SIZE 4 4 4 4 2 8", "", "lacks SIZE"),
        ("SIZE 4", "SIZE 3", "TYPE F of SIZE 3"),
        ("SIZE 4", "SIZE four", "whole numbers"),
        ("COUNT 1", "COUNT 0", "do not describe"),
        ("COUNT 1", "COUNT 3", "cut off|count is 3"),
        ("WIDTH 7", "WIDTH -7", "whole numbers"),
        ("WIDTH 7", "WIDTH 8", "POINTS 7"),
        ("POINTS 7", "POINTS 70", "WIDTH x HEIGHT = 7"),
        ("WIDTH 7", "WIDTH", "lacks WIDTH"),
        ("DATA ", "DATA compact_", "DATA 'compact_binary' is unknown"),
        ("DATA ", "POINTS ", "no DATA line"),
    ],
)
def test_broken_pcd_headers(tmp_path: Path, old: str, new: str, reason: str) -> None:
    assert old in HEADER
    path = write_pcd(tmp_path / "scan.pcd", "binary", HEADER.replace(old, new, 1))
    with pytest.raises(ScanError, match=rf"(?s)scan\.pcd: .*({reason})"):
        read_scan(path)


@pytest.mark.parametrize("storage", ["ascii", "binary", "binary_compressed"])
def test_cut_off_and_inflated_pcd(tmp_path: Path, storage: str) -> None:
    path = write_pcd(tmp_path / "scan.pcd", storage)
    whole = path.read_bytes()
    huge = whole.replace(b"WIDTH 7", b"WIDTH 999999999999").replace(b"POINTS 7", b"POINTS 999999999999")
    start = whole.index(b"DATA")
    damaged = [whole[:start], whole[: start + 12 + len(storage)], whole[: start + 40], huge, b"", b"\0" * 1000]
    if storage == "binary_compressed":
        body = start + len("DATA binary_compressed\n")
        damaged += [
            whole[: body + 8] + b"\xff" * (len(whole) - body - 8),
            whole[:body] + struct.pack("<I", 2**32 - 1) + whole[body + 4 :],
            whole[: body + 4] + struct.pack("<I", 2**32 - 1) + whole[body + 8 :],
        ]
    for content in damaged:
        path.write_bytes(content)
        with pytest.raises(ScanError, match=r"scan\.pcd"):
            read_scan(path)


def test_nebula_distances_agree_with_its_coordinates(shared_data: Path) -> None:
    """The file has a distance column of its own: an independent check that fields are read from the right place."""
    path = shared_data / "velodyne_nebula/vlp16/1673400472138016708.pcd"
    points, distance = read_scan(path), read_scan(path, intensity_field="distance")[:, 3]
    np.testing.assert_allclose(np.linalg.norm(points[:, :3], axis=1), distance, rtol=1e-4)


def test_lines_of_another_number_of_columns_are_refused(tmp_path: Path) -> None:
    path = write_pcd(tmp_path / "scan.pcd", "ascii", HEADER)
    head, _, data = path.read_text().partition("DATA ascii\n")
    numbers = len(data.splitlines()[0].split())
    path.write_text(f"{head}DATA ascii\n" + "".join(f"{line} 1\n" for line in data.splitlines()))
    with pytest.raises(ScanError, match=rf"scan\.pcd: a point has {numbers + 1} numbers, .* want {numbers}"):
        read_scan(path)
