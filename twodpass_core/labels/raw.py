"""Labels as SemanticKITTI's .label files have them: a little-endian uint32 a point, in the order of the scan.

The lower 16 bits are the raw class id, which a class map reads; the upper 16 the instance, 0 for none.
"""

from __future__ import annotations

from pathlib import Path

import numpy as np
import numpy.typing as npt

from twodpass_core.errors import LabelError
from twodpass_core.files import replacing

RawLabels = npt.NDArray[np.uint32]


def raw_ids(raw: npt.NDArray[np.integer]) -> npt.NDArray[np.integer]:
    """The class ids (N,) in raw labels (N,), of their type."""
    return raw & 0xFFFF


def instances(raw: npt.NDArray[np.integer]) -> npt.NDArray[np.uint16]:
    """The instances (N,) in raw labels (N,)."""
    return (raw >> 16).astype(np.uint16)


def with_instances(ids: npt.NDArray[np.integer], numbers: npt.NDArray[np.integer]) -> RawLabels:
    """Raw labels (N,) of class ids (N,) and instances (N,), each 0..65535."""
    return ids.astype(np.uint32) | numbers.astype(np.uint32) << np.uint32(16)


def encode_raw_labels(raw: npt.NDArray[np.integer]) -> bytes:
    """The content of a file with these labels (N,), each 0..2**32 - 1."""
    return raw.astype("<u4").tobytes()


def write_raw_labels(path: Path, raw: npt.NDArray[np.integer]) -> None:
    """Write labels (N,), each 0..2**32 - 1, whole or not at all, in place of a file that is there. Raises OSError."""
    with replacing(path) as partial:
        partial.write_bytes(encode_raw_labels(raw))


def read_raw_labels(path: Path, num_points: int) -> RawLabels | None:
    """(num_points,) raw labels of a file; None where there is no such file.

    Raises:
        LabelError: the file is not of that many labels, or cannot be read.
    """
    try:
        size = path.stat().st_size
        if size != 4 * num_points:
            raise LabelError(
                f"{path}: {size} bytes are not 4 for each of the scan's {num_points} points: these are not its labels"
            )
        return np.fromfile(path, "<u4").astype(np.uint32, copy=False)
    except FileNotFoundError:
        return None
    except OSError as error:
        raise LabelError(f"{path}: cannot be read: {error.strerror}") from error
