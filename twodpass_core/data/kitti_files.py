"""The text and label files of KITTI and SemanticKITTI."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import numpy.typing as npt

from twodpass_core.classes import ClassMap
from twodpass_core.errors import ClassMapError, ScanError

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
    try:
        return np.array(read_text(path).split(), np.float64).reshape(-1, columns)
    except ValueError as error:
        raise ScanError(f"{path}: is no table of {columns} numbers a line: {error}") from error


def read_labels(
    path: Path, num_points: int, class_map: ClassMap
) -> tuple[npt.NDArray[np.uint8], npt.NDArray[np.uint16]]:
    """Training ids and instances (0: none), (N,) each, of a SemanticKITTI .label file.

    Raises:
        ScanError: missing, not one label a point, or a raw id that the class map does not know.
    """
    try:
        raw = np.fromfile(path, "<u4")
        size = path.stat().st_size
    except OSError as error:
        raise ScanError(f"{path}: cannot be read: {error.strerror}") from error
    if size != 4 * num_points:
        raise ScanError(f"{path}: {size} bytes are not {num_points} labels of 4 bytes, one for each point of its scan")
    try:
        return class_map.training_ids(raw & 0xFFFF), (raw >> 16).astype(np.uint16)
    except ClassMapError as error:
        raise ScanError(f"{path}: {error}") from error


def read_text(path: Path) -> str:
    """Raises ScanError."""
    try:
        return path.read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError) as error:
        raise ScanError(f"{path}: cannot be read: {getattr(error, 'strerror', None) or error}") from error
