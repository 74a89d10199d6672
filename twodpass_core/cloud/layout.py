"""What a point cloud is made of: number types, fields, and the bytes they lie in."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from enum import IntEnum
from typing import Any, Final

import numpy as np
import numpy.typing as npt

from twodpass_core.errors import CloudError
from twodpass_core.wording import shorten

_NUMPY_CODES: Final = ("i1", "u1", "i2", "u2", "i4", "u4", "f4", "f8")


class Datatype(IntEnum):
    """The number types of sensor_msgs/PointField."""

    INT8 = 1
    UINT8 = 2
    INT16 = 3
    UINT16 = 4
    INT32 = 5
    UINT32 = 6
    FLOAT32 = 7
    FLOAT64 = 8

    def dtype(self, is_bigendian: bool) -> np.dtype[Any]:
        """The numpy type of one value in a cloud of that byte order."""
        return np.dtype((">" if is_bigendian else "<") + _NUMPY_CODES[self - 1])

    @property
    def size(self) -> int:
        """Bytes of one value."""
        return self.dtype(is_bigendian=False).itemsize


@dataclass(frozen=True)
class PointFieldSpec:
    """One field of a point, as in sensor_msgs/PointField. A `count` of 0 means 1: old drivers send it."""

    name: str
    offset: int
    datatype: int
    count: int = 1

    @property
    def end(self) -> int:
        """Offset of the first byte after the field."""
        return self.offset + Datatype(self.datatype).size * max(self.count, 1)


@dataclass(frozen=True, eq=False)
class CloudData:
    """The content of a PointCloud2 without its header. `data` is uint8, one-dimensional."""

    height: int
    width: int
    fields: tuple[PointFieldSpec, ...]
    is_bigendian: bool
    point_step: int
    row_step: int
    data: npt.NDArray[np.uint8]
    is_dense: bool


@dataclass(frozen=True, eq=False)
class CloudView(CloudData):
    """A message that was found sound by `view_cloud`, which alone makes these.

    `data` is a read-only view of the message's own buffer; `row_step` is the distance between rows that the data has.
    """

    @property
    def num_points(self) -> int:
        """Height times width."""
        return self.height * self.width

    def field(self, name: str) -> PointFieldSpec:
        """The field of that name; `CloudError` if it is absent, ambiguous or holds several values a point."""
        found = [field for field in self.fields if field.name == name]
        if not found:
            raise CloudError(f"{field_label(name)}: missing; the cloud has {list_names(self.fields)}")
        if len(found) > 1:
            raise CloudError(
                f"{field_label(name)}: {len(found)} fields have this name, so which one to read is unknown"
            )
        if found[0].count > 1:
            raise CloudError(f"{field_label(name)}: count is {found[0].count}, but one value a point is needed")
        return found[0]

    def column(self, name: str) -> npt.NDArray[Any]:
        """(height, width) read-only view of a field, in the cloud's own type and byte order; nothing is copied."""
        field = self.field(name)
        return self._strided(Datatype(field.datatype).dtype(self.is_bigendian), field.offset)

    def point_bytes(self, offset: int, size: int) -> npt.NDArray[np.void]:
        """(height, width) read-only view of `size` bytes of every point, from `offset` on; nothing is copied."""
        return self._strided(np.dtype(f"V{size}"), offset)

    def _strided(self, dtype: np.dtype[Any], offset: int) -> npt.NDArray[Any]:
        shape = (self.height, self.width)
        if self.num_points == 0:
            return np.empty(shape, dtype)
        view: npt.NDArray[Any] = np.ndarray(shape, dtype, self.data.data, offset, (self.row_step, self.point_step))
        return view


def field_label(name: str) -> str:
    """How error messages begin that are about a field, of a readable length."""
    return f"field {name[:40]!r}"


def list_names(fields: Iterable[PointFieldSpec]) -> str:
    """The fields' names for an error message, cut to a readable length."""
    return shorten([repr(field.name[:40]) for field in fields]) or "no fields"
