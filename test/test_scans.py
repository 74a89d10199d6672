"""Scan files and folders: the formats but PCD, the names scans get, and what is said about files that are none."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pytest

from twodpass_core.cli.work.benchmark import first_scan
from twodpass_core.cloud import NO_INTENSITY
from twodpass_core.data.scan_files import read_scan
from twodpass_core.data.scans import open_scans
from twodpass_core.errors import ScanError

POINTS = np.random.default_rng(0).normal(scale=20, size=(7, 4)).astype(np.float32)


def write_bin(path: Path, columns: int = 4, points: npt.NDArray[np.float32] = POINTS) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    extra = np.full((len(points), columns - 4), 7, np.float32)
    np.hstack([points, extra]).astype("<f4").tofile(path)
    return path


def only(path: Path, **options: int | str) -> npt.NDArray[np.float32]:
    (scan,) = open_scans([path], **options)  # type: ignore[arg-type]
    return scan.points


def test_bin_files_have_four_columns_nuscenes_five_unless_said_otherwise(tmp_path: Path) -> None:
    np.testing.assert_array_equal(only(write_bin(tmp_path / "a.bin")), POINTS)
    np.testing.assert_array_equal(only(write_bin(tmp_path / "a.pcd.bin", 5)), POINTS)
    np.testing.assert_array_equal(only(write_bin(tmp_path / "b.bin", 6), columns=6), POINTS)


@pytest.mark.parametrize("dtype", [np.float16, np.float32, np.float64, ">f4"])
@pytest.mark.parametrize("columns", [4, 6])
def test_npy_files_may_be_of_any_float_type_and_have_more_columns(
    tmp_path: Path, dtype: npt.DTypeLike, columns: int
) -> None:
    array = np.pad(POINTS, ((0, 0), (0, columns - 4))).astype(dtype)
    np.save(tmp_path / "scan.npy", array)
    points = only(tmp_path / "scan.npy")
    assert points.dtype == np.float32
    assert type(points) is np.ndarray
    np.testing.assert_array_equal(points, array[:, :4].astype(np.float32))


def test_npy_without_points(tmp_path: Path) -> None:
    np.save(tmp_path / "scan.npy", np.zeros((0, 4), np.float32))
    assert only(tmp_path / "scan.npy").shape == (0, 4)


def test_scans_of_a_folder_come_in_the_order_of_their_names(tmp_path: Path) -> None:
    for index in (10, 2, 1):
        write_bin(tmp_path / f"00/velodyne/{index:06d}.bin")
        write_bin(tmp_path / f"drive/velodyne_points/data/{index:010d}.bin")
        write_bin(tmp_path / f"plain/{index:06d}.bin")
    (tmp_path / "00/velodyne/.hidden.bin").write_bytes(b"")
    write_bin(tmp_path / "00/map.bin")
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


def test_links_are_scans_of_their_own_names(tmp_path: Path) -> None:
    """Stores that keep large files by their content, as git-annex and DVC do, leave links to them."""
    stored = write_bin(tmp_path / "store/ab/61c0d2")
    (tmp_path / "disk/drive").mkdir(parents=True)
    for name in ("000000.bin", "000001.bin"):
        (tmp_path / "disk/drive" / name).symlink_to(stored)
    for sequence in ("00", "01"):
        (tmp_path / sequence).mkdir()
        (tmp_path / sequence / "velodyne").symlink_to(tmp_path / "disk/drive")
    assert open_scans([tmp_path / "00"]).names == ["000000", "000001"]
    assert open_scans([tmp_path / "00", tmp_path / "01"]).names == [
        f"{sequence}_velodyne_{scan}" for sequence in ("00", "01") for scan in ("000000", "000001")
    ]


def test_a_scan_is_had_by_its_number(tmp_path: Path) -> None:
    for index in range(3):
        write_bin(tmp_path / f"{index}.bin", points=POINTS + index)
    (tmp_path / "0.bin").write_bytes(b"1234567")
    scans = open_scans([tmp_path])
    assert scans[2].name == "2"
    np.testing.assert_array_equal(scans[1].points, POINTS + 1)
    for index in (3, -1):
        with pytest.raises(IndexError, match="there are 3 scans"):
            scans[index]


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
        (80 - 4, None, "76 bytes are not a whole number of points of 4 float32 columns; the file is cut off"),
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


def test_a_damaged_file_of_a_folder_does_not_stop_the_others(tmp_path: Path) -> None:
    names = [f"{index}.bin" for index in range(5)]
    for name in names:
        write_bin(tmp_path / name)
    (tmp_path / "1.bin").write_bytes(b"1234567")
    (tmp_path / "2.bin").write_bytes(b"")
    (tmp_path / "3.bin").unlink()
    (tmp_path / "3.bin").symlink_to("nowhere")
    (tmp_path / "4.bin").unlink()
    (tmp_path / "4.bin").mkdir()
    write_bin(tmp_path / "5.bin")
    scans = iter(open_scans([tmp_path]))
    assert next(scans).name == "0"
    for reason in (
        "7 bytes are not a whole number",
        "is empty",
        "cannot be read",
        "4.bin: cannot be read: Is a directory",
    ):
        with pytest.raises(ScanError, match=reason):
            next(scans)
    assert next(scans).name == "5"
    for bad in ("1.bin", "2.bin"):
        with pytest.raises(ScanError, match=bad):
            open_scans([tmp_path / "0.bin", tmp_path / bad])


def test_a_folder_of_files_of_other_columns_is_refused_as_one(tmp_path: Path) -> None:
    for index, points in enumerate((4, 7)):
        write_bin(tmp_path / f"{index}.bin", 5, POINTS[:points])
    with pytest.raises(ScanError, match=r"1\.bin is not a whole number.* 4 float32 columns; --columns 5 would fit all"):
        open_scans([tmp_path])
    assert len(open_scans([tmp_path], columns=5)) == 2


def test_inputs_that_hold_no_scan(tmp_path: Path) -> None:
    (tmp_path / "folder").mkdir()
    (tmp_path / "notes.txt").write_text("hello")
    for inputs, reason in (
        ([], "no input"),
        ([tmp_path / "absent.bin"], r"absent\.bin: does not exist"),
        ([tmp_path / "folder"], "folder: holds no scans"),
        ([tmp_path / "notes.txt"], r"notes\.txt: is not a scan"),
    ):
        with pytest.raises(ScanError, match=reason):
            open_scans(inputs)


@pytest.mark.parametrize(
    ("name", "options", "reason"),
    [
        ("a.bin", {"topic": "/points"}, "--topic /points: among the scans is no ROS 2 bag"),
        ("a.bin", {"intensity_field": "i"}, r"--intensity-field i: .* no ROS 2 bag or \.pcd file"),
        ("a.npy", {"columns": 5}, r"--columns 5: among the scans is no \.bin file"),
    ],
)
def test_options_that_no_scan_could_heed_are_refused(
    tmp_path: Path, name: str, options: dict[str, Any], reason: str
) -> None:
    np.save(tmp_path / "a.npy", POINTS)
    write_bin(tmp_path / "a.bin")
    with pytest.raises(ScanError, match=reason):
        open_scans([tmp_path / name], **options)
    with pytest.raises(ScanError, match=reason):
        first_scan(None, **options)  # a simulated one


@pytest.mark.parametrize("name", ["a.npy", "a.bin"])
def test_without_an_intensity_every_point_has_0(tmp_path: Path, name: str) -> None:
    np.save(tmp_path / "a.npy", POINTS)
    write_bin(tmp_path / "a.bin")
    np.testing.assert_array_equal(only(tmp_path / name, intensity_field=NO_INTENSITY), POINTS * [1, 1, 1, 0])


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


def test_a_damaged_npy_file_is_named(tmp_path: Path) -> None:
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
