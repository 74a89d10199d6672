"""Scan files and folders: every format, the names scans get, and what is said about files that are none."""

from __future__ import annotations

import struct
from pathlib import Path

import numpy as np
import numpy.typing as npt
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from twodpass_core.data.pcd import decompress_lzf
from twodpass_core.data.scans import open_scans, read_scan
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


def write_bin(path: Path, columns: int = 4, points: npt.NDArray[np.float32] = POINTS) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    extra = np.full((len(points), columns - 4), 7, np.float32)
    np.hstack([points, extra]).astype("<f4").tofile(path)
    return path


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


def only(path: Path, **options: int | str) -> npt.NDArray[np.float32]:
    (scan,) = open_scans([path], **options)  # type: ignore[arg-type]
    return scan.points


def test_bin_columns(tmp_path: Path) -> None:
    np.testing.assert_array_equal(only(write_bin(tmp_path / "a.bin")), POINTS)
    np.testing.assert_array_equal(only(write_bin(tmp_path / "a.pcd.bin", 5)), POINTS)
    np.testing.assert_array_equal(only(write_bin(tmp_path / "b.bin", 6), columns=6), POINTS)


@pytest.mark.parametrize("dtype", [np.float16, np.float32, np.float64, ">f4"])
@pytest.mark.parametrize("columns", [4, 6])
def test_npy(tmp_path: Path, dtype: npt.DTypeLike, columns: int) -> None:
    array = np.pad(POINTS, ((0, 0), (0, columns - 4))).astype(dtype)
    np.save(tmp_path / "scan.npy", array)
    points = only(tmp_path / "scan.npy")
    assert points.dtype == np.float32
    assert type(points) is np.ndarray
    np.testing.assert_array_equal(points, array[:, :4].astype(np.float32))


def test_npy_without_points(tmp_path: Path) -> None:
    np.save(tmp_path / "scan.npy", np.zeros((0, 4), np.float32))
    assert only(tmp_path / "scan.npy").shape == (0, 4)


@pytest.mark.parametrize("storage", ["ascii", "binary", "binary_compressed"])
def test_pcd(tmp_path: Path, storage: str) -> None:
    path = write_pcd(tmp_path / "scan.pcd", storage)
    np.testing.assert_array_equal(only(path), POINTS)
    np.testing.assert_array_equal(only(path, intensity_field="ring")[:, 3], np.arange(7))
    with pytest.raises(ScanError, match=r"scan\.pcd: field 'power': missing.*'ring'"):
        only(path, intensity_field="power")


def test_pcd_of_several_values_a_field_and_old_headers(tmp_path: Path) -> None:
    path = tmp_path / "scan.pcd"
    path.write_text(
        "FIELDS normal x y z i\nSIZE 4 4 4 4 4\nTYPE F F F F F\nCOUNT 3 1 1 1 1\nWIDTH 2\nHEIGHT 1\nDATA ascii\n"
        "0 0 1 1 2 3 4\n0 0 1 nan 6 7 8\n"
    )
    np.testing.assert_array_equal(only(path), np.array([[1, 2, 3, 4], [np.nan, 6, 7, 8]], np.float32))
    path.write_text("FIELDS x y z i\nSIZE 4 4 4 4\nTYPE F F F F\nWIDTH 0\nHEIGHT 1\nDATA ascii\n")
    assert only(path).shape == (0, 4)


def test_lzf_repetitions() -> None:
    # "abc" literally, then 3 + 2 bytes from 3 back, then a long overlapping run of the last byte.
    packed = bytes([2]) + b"abc" + bytes([3 << 5, 2]) + bytes([7 << 5, 30, 0])
    assert decompress_lzf(packed, 3 + 5 + 39) == b"abc" + b"abcab" + b"b" * 39


@given(st.binary(max_size=60), st.integers(0, 400))
@settings(deadline=None)
def test_lzf_of_any_bytes_gives_the_size_or_an_error(data: bytes, size: int) -> None:
    try:
        unpacked = decompress_lzf(data, size)
    except ValueError:
        return
    assert len(unpacked) == size


def test_folders(tmp_path: Path) -> None:
    for index in (10, 2, 1):
        write_bin(tmp_path / f"00/velodyne/{index:06d}.bin")
        write_bin(tmp_path / f"drive/velodyne_points/data/{index:010d}.bin")
        write_bin(tmp_path / f"plain/{index:06d}.bin")
    (tmp_path / "00/velodyne/.hidden.bin").write_bytes(b"")
    (tmp_path / "00/calib.txt").write_text("")
    for folder in ("00", "plain", "00/velodyne"):
        assert [scan.name for scan in open_scans([tmp_path / folder])] == ["000001", "000002", "000010"]
    scans = open_scans([tmp_path / "drive"])
    assert len(scans) == 3
    assert [scan.name for scan in scans] == ["0000000001", "0000000002", "0000000010"]
    assert [scan.name for scan in scans] == ["0000000001", "0000000002", "0000000010"]  # a second time
    assert all(scan.stamp_ns is None for scan in scans)


def test_names_are_unique(tmp_path: Path) -> None:
    for sequence in ("00", "01"):
        write_bin(tmp_path / sequence / "velodyne/000000.bin")
    names = [scan.name for scan in open_scans([tmp_path / "00", tmp_path / "01"])]
    assert names == ["00_velodyne_000000", "01_velodyne_000000"]
    write_bin(tmp_path / "00/velodyne/000000.pcd.bin", 5)
    for inputs in ([tmp_path / "00"], [tmp_path / "01", tmp_path / "01/velodyne/000000.bin"]):
        with pytest.raises(ScanError, match=r"give one: .*000000\.bin, .*000000"):
            open_scans(inputs)


def test_points_are_read_while_iterating(tmp_path: Path) -> None:
    write_bin(tmp_path / "a.bin")
    gone = write_bin(tmp_path / "b.bin")
    scans = iter(open_scans([tmp_path]))
    assert next(scans).name == "a"
    gone.unlink()
    with pytest.raises(ScanError, match=r"b\.bin"):
        next(scans)


@pytest.mark.parametrize(
    ("size", "columns", "reason"),
    [
        (0, None, "is empty"),
        (80 - 4, None, "76 bytes are no whole number of points of 4 float32 columns; the file is cut off"),
        (60, None, "--columns 5 would fit"),
        (120, 4, "--columns 5 or 6 would fit"),
        (80, 3, "at least 4"),
    ],
)
def test_bin_sizes_that_do_not_fit(tmp_path: Path, size: int, columns: int | None, reason: str) -> None:
    path = tmp_path / "scan.bin"
    path.write_bytes(bytes(size))
    with pytest.raises(ScanError, match=reason):
        open_scans([path], columns=columns)


def test_inputs_that_hold_no_scan(tmp_path: Path) -> None:
    (tmp_path / "folder").mkdir()
    (tmp_path / "notes.txt").write_text("hello")
    for inputs, reason in (
        ([], "no input"),
        ([tmp_path / "absent.bin"], r"absent\.bin: does not exist"),
        ([tmp_path / "folder"], "folder: holds no scans"),
        ([tmp_path / "notes.txt"], r"notes\.txt: is no scan"),
    ):
        with pytest.raises(ScanError, match=reason):
            open_scans(inputs)


def test_float64_taken_for_float32_is_noticed(tmp_path: Path) -> None:
    np.random.default_rng(0).normal(size=(100, 4)).tofile(tmp_path / "scan.bin")
    with pytest.raises(ScanError, match=r"scan\.bin: a point is .* m away"):
        only(tmp_path / "scan.bin")


@pytest.mark.parametrize(
    ("array", "reason"),
    [
        (np.zeros((5, 3), np.float32), r"float32 of shape \(5, 3\)"),
        (np.zeros(20, np.float32), r"float32 of shape \(20,\)"),
        (np.zeros((5, 4), np.int32), "int32"),
        (np.zeros((5, 4), np.complex64), "complex64"),
        (np.array([[None] * 4]), "no .npy file of numbers"),
    ],
)
def test_npy_of_something_else(tmp_path: Path, array: npt.NDArray[np.generic], reason: str) -> None:
    np.save(tmp_path / "scan.npy", array, allow_pickle=True)
    with pytest.raises(ScanError, match=rf"scan\.npy: .*{reason}"):
        only(tmp_path / "scan.npy")


def test_damaged_npy(tmp_path: Path) -> None:
    path = tmp_path / "scan.npy"
    np.save(path, POINTS)
    whole = path.read_bytes()
    huge = whole.replace(b"(7, 4)", b"(7777777777777, 4)".ljust(6))[: len(whole)]
    np.savez(tmp_path / "archive.npz", POINTS)
    archive = (tmp_path / "archive.npz").read_bytes()
    for content in (whole[:-1], whole[:40], b"\x93NUMPY", b"hello", huge, archive, b"\x80\x04\x95"):
        path.write_bytes(content)
        with pytest.raises(ScanError, match=r"scan\.npy"):
            only(path)


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
        only(path)


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
            only(path)


def test_real_scans(shared_data: Path) -> None:
    expected = {
        "semantickitti_00/velodyne/000000.bin": (124668, 0.99),
        "kitti_raw_2011_09_26/velodyne_points/data/0000000000.bin": (114278, 0.99),
        "opencalib_lidar2camera/calib.pcd": (85546, 254),
        "velodyne_nebula/vlp16/1673400472138016708.pcd": (14831, None),
    }
    for relative, (count, brightest) in expected.items():
        points = read_scan(shared_data / relative)
        assert points.shape == (count, 4)
        assert brightest is None or points[:, 3].max() == np.float32(brightest)
        distance = np.linalg.norm(points[:, :3], axis=1)
        assert 1 < np.median(distance) < 60
    (scan,) = open_scans([shared_data / "nuscenes_mini/samples/LIDAR_TOP"])
    assert scan.name == "n015-2018-07-24-11-22-45+0800__LIDAR_TOP__1532402927647951"
    assert scan.points.shape == (34688, 4)
    assert len(open_scans([shared_data / "semantickitti_00"])) == 10
    assert len(open_scans([shared_data / "kitti_raw_2011_09_26"])) == 8


def test_nebula_distances_agree_with_its_coordinates(shared_data: Path) -> None:
    """The file has a distance column of its own: an independent check that fields are read from the right place."""
    path = shared_data / "velodyne_nebula/vlp16/1673400472138016708.pcd"
    points, distance = read_scan(path), read_scan(path, intensity_field="distance")[:, 3]
    np.testing.assert_allclose(np.linalg.norm(points[:, :3], axis=1), distance, rtol=1e-4)
