"""The text and label files of KITTI and SemanticKITTI."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path

import numpy as np
import numpy.typing as npt

from twodpass_core.classes import ClassMap
from twodpass_core.errors import ClassMapError, LabelError, ScanError
from twodpass_core.labels.raw import instances, raw_ids, read_raw_labels, write_raw_labels

Floats = npt.NDArray[np.float64]


def read_calibration(path: Path) -> dict[str, Floats]:
    """The lines `NAME: numbers` of a calibration file, each as a flat array; others (dates) are left out.

    Raises:
        ScanError: the file cannot be read.
    """
    entries = {}
    for line in read_text(path).splitlines():
        name, colon, values = line.partition(":")
        if colon:
            try:
                entries[name.strip()] = np.array(values.split(), np.float64)
            except ValueError:
                continue
    return entries


def calibration_entry(entries: dict[str, Floats], name: str, shape: tuple[int, ...], path: Path) -> Floats:
    """One entry in its shape. Raises ScanError where it is missing or has another number of values."""
    if name not in entries:
        raise ScanError(f"{path}: has no line '{name}:', only {', '.join(entries)}")
    if entries[name].size != np.prod(shape):
        raise ScanError(f"{path}: {name} has {entries[name].size} numbers, not {np.prod(shape)}")
    return entries[name].reshape(shape)


def read_numbers(path: Path, columns: int) -> Floats:
    """(lines, columns) of a file of numbers. Raises ScanError."""
    lines = [line.split() for line in read_text(path).splitlines() if line.strip()]
    for number, line in enumerate(lines, start=1):
        if len(line) != columns:
            raise ScanError(f"{path}: line {number} has {len(line)} numbers, not {columns}")
    try:
        return np.array(lines, np.float64).reshape(-1, columns)
    except ValueError as error:
        raise ScanError(f"{path}: holds more than numbers: {error}") from error


def read_labels(
    path: Path, num_points: int, class_map: ClassMap
) -> tuple[npt.NDArray[np.uint8], npt.NDArray[np.uint16]]:
    """Training ids and instances (0: none), (N,) each, of a SemanticKITTI .label file.

    Raises:
        ScanError: missing, not one label a point, or a raw id that the class map does not know.
    """
    try:
        raw = read_raw_labels(path, num_points)
    except LabelError as error:
        raise ScanError(str(error)) from error
    if raw is None:
        raise ScanError(f"{path}: does not exist")
    try:
        return class_map.training_ids(raw_ids(raw)), instances(raw)
    except ClassMapError as error:
        raise ScanError(f"{path}: {error}") from error


def read_text(path: Path) -> str:
    """Raises ScanError."""
    try:
        return path.read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError) as error:
        raise ScanError(f"{path}: cannot be read: {getattr(error, 'strerror', None) or error}") from error


def write_scan(sequence: Path, stem: str, points: npt.NDArray[np.float32]) -> None:
    """Points (N, 4) into velodyne/ of a sequence. Raises OSError."""
    (sequence / "velodyne" / f"{stem}.bin").write_bytes(points.astype("<f4").tobytes())


def write_labels(sequence: Path, stem: str, raw: npt.NDArray[np.integer]) -> None:
    """Raw labels (N,) into labels/ of a sequence. Raises OSError."""
    write_raw_labels(sequence / "labels" / f"{stem}.label", raw)


def write_lines(path: Path, lines: Iterable[str]) -> None:
    """A text file of the sequence, as calib.txt or times.txt. Raises OSError."""
    path.write_text("".join(f"{line}\n" for line in lines), encoding="utf-8")


def matrix_line(matrix: npt.NDArray[np.floating]) -> str:
    """The numbers of a matrix, row by row, as calib.txt and poses.txt have them."""
    return " ".join(f"{value:.12e}" for value in matrix.ravel())
