"""Files that hold one scan each: .bin of KITTI and nuScenes, .npy, .pcd."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Final

import numpy as np
import numpy.typing as npt

from twodpass_core.cloud import NO_INTENSITY, read_points
from twodpass_core.data.pcd import read_pcd
from twodpass_core.errors import CloudError, ScanError

SCAN_SUFFIXES: Final = (".pcd.bin", ".bin", ".npy", ".pcd")  # the longer of two that fit comes first
KITTI_COLUMNS, NUSCENES_COLUMNS = 4, 5
MAX_COORDINATE_M: Final = 1e6


def read_scan(path: Path, columns: int | None = None, intensity_field: str | None = None) -> npt.NDArray[np.float32]:
    """(N, 4) float32 points of one scan file. Raises `ScanError`.

    `columns` are those of .bin files, by their suffix unless given. `intensity_field` is one of .pcd files;
    `NO_INTENSITY` gives 0 for every point of any file.
    """
    try:
        return _read_file(path, columns, intensity_field)
    except OSError as error:
        raise ScanError(f"{path}: cannot be read: {error.strerror or error}") from error
    except MemoryError as error:
        raise ScanError(f"{path}: the memory is full: {error}") from error


def _read_file(path: Path, columns: int | None, intensity_field: str | None) -> npt.NDArray[np.float32]:
    check_file(path, columns)
    if scan_suffix(path) == ".pcd":
        try:
            return read_points(read_pcd(path), intensity_field)
        except CloudError as error:
            raise ScanError(f"{path}: {error}") from error
    points = _read_npy(path) if scan_suffix(path) == ".npy" else _read_bin(path, columns)
    if intensity_field == NO_INTENSITY:
        points[:, 3] = 0
    return points


def _read_bin(path: Path, columns: int | None) -> npt.NDArray[np.float32]:
    table = np.fromfile(path, "<f4").reshape(-1, _columns(path, columns))
    points = np.ascontiguousarray(table[:, :4], np.float32)
    farthest = np.max(np.abs(points[:, :3]), where=np.isfinite(points[:, :3]), initial=0)
    if farthest > MAX_COORDINATE_M:
        raise ScanError(
            f"{path}: a point is {farthest:.0e} m away, so this is not float32, or not with that many columns"
        )
    return points


def _read_npy(path: Path) -> npt.NDArray[np.float32]:
    try:
        # Mapped, so that a header that promises more than the file holds is found before memory is taken.
        array = np.load(path, mmap_mode="r", allow_pickle=False)
    except (ValueError, OSError, EOFError) as error:
        raise ScanError(f"{path}: is no .npy file of numbers: {error}") from None
    if not isinstance(array, np.ndarray) or array.ndim != 2 or array.shape[1] < 4 or array.dtype.kind != "f":
        found = f"{array.dtype} of shape {array.shape}" if isinstance(array, np.ndarray) else "an archive"
        raise ScanError(f"{path}: holds {found}; floating-point numbers of shape (N, 4 or more) are needed")
    with np.errstate(over="ignore", invalid="ignore"):
        return np.array(array[:, :4], np.float32, order="C")


def scan_suffix(path: Path) -> str:
    """Of a scan file; empty for other files."""
    return next((suffix for suffix in SCAN_SUFFIXES if path.name.endswith(suffix)), "")


def check_file(path: Path, columns: int | None) -> None:
    """Raise `ScanError` for a file that is plainly none, by its size: empty, or not of whole points."""
    try:
        size = path.stat().st_size
    except OSError as error:
        raise ScanError(f"{path}: cannot be read: {error.strerror}") from None
    if size == 0:
        raise ScanError(f"{path}: is empty")
    if _is_bin(path) and size % (4 * _columns(path, columns)):
        fitting = _fitting_columns([size])
        raise ScanError(
            f"{path}: {size} bytes are not a whole number of points of {_columns(path, columns)} float32 columns; "
            + (f"--columns {fitting} would fit" if fitting else "the file is cut off or not a scan")
        )


def check_columns(folder: Path, files: Sequence[Path], columns: int | None) -> None:
    """Refuse .bin files all of which another number of columns fits: that is wrong then, and not one of them."""
    sizes = {path: path.stat().st_size for path in files if _is_bin(path) and path.exists()}
    wrong = [path for path, size in sizes.items() if size % (4 * _columns(path, columns))]
    if wrong and (fitting := _fitting_columns(list(sizes.values()))):
        raise ScanError(
            f"{folder}: {wrong[0].name} is not a whole number of points of {_columns(wrong[0], columns)} float32 "
            f"columns; --columns {fitting} would fit all files of the folder"
        )


def _columns(path: Path, columns: int | None) -> int:
    return columns or (NUSCENES_COLUMNS if scan_suffix(path) == ".pcd.bin" else KITTI_COLUMNS)


def _is_bin(path: Path) -> bool:
    return path.suffix == ".bin"


def _fitting_columns(sizes: Sequence[int]) -> str:
    """With how many columns files of so many bytes all hold whole points, as "5 or 6"; empty if with none."""
    return " or ".join(str(columns) for columns in range(4, 9) if not any(size % (4 * columns) for size in sizes))
