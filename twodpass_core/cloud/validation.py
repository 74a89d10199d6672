"""The one place where a PointCloud2 message is checked."""

from __future__ import annotations

import operator
from collections.abc import Sequence
from typing import Any, Final

import numpy as np
import numpy.typing as npt

from twodpass_core.cloud.layout import CloudView, Datatype, PointFieldSpec, field_label
from twodpass_core.errors import CloudError

MAX_FIELDS: Final = 1024
UINT32_MAX: Final = 2**32 - 1


def view_cloud(message: Any) -> CloudView:
    """Check a PointCloud2 and give access to its fields without copying.

    The length of the data decides how far apart rows are, since `row_step` is wrong in the field more often than the
    length is: rows follow each other directly when the length is height * width * point_step, whatever `row_step` says
    (0 from the Velodyne driver, a stale value after filtering); otherwise `row_step` must explain the length, with or
    without padding after the last row.

    Fields may overlap, and may share a name as long as that name is not read; none may be of an unknown type or reach
    beyond point_step. A cloud without points needs no fields and any point_step will do.

    Raises `CloudError`, which names the field or attribute and the reason.
    """
    height, width = _uint32(message, "height"), _uint32(message, "width")
    point_step, row_step = _uint32(message, "point_step"), _uint32(message, "row_step")
    fields = _fields(message)
    data = _buffer(message)
    packed = width * point_step  # Python integers: a product that overflows a driver's uint32 is exact here
    if len(data) == height * packed:
        row_step = packed
    elif row_step < packed or len(data) not in (height * row_step, (height - 1) * row_step + packed):
        raise CloudError(
            f"data: {len(data)} bytes do not fit height {height} x width {width} x point_step {point_step}"
            f" = {height * packed} bytes (row_step {row_step}): the message is cut off or its sizes are wrong"
        )
    is_bigendian, is_dense = _flag(message, "is_bigendian"), _flag(message, "is_dense")
    view = CloudView(height, width, fields, is_bigendian, point_step, row_step, data, is_dense)
    if view.num_points:
        for field in fields:
            if field.end > point_step:
                raise CloudError(f"{field_label(field.name)}: ends at byte {field.end}, beyond point_step {point_step}")
        for name in ("x", "y", "z"):
            view.field(name)
    return view


def _attribute(owner: Any, key: str) -> Any:
    try:
        return getattr(owner, key)
    except AttributeError:
        raise CloudError(f"{key}: missing, so this {type(owner).__name__} is not a sensor_msgs/PointCloud2") from None


def _uint32(owner: Any, key: str, of: str = "") -> int:
    value = _attribute(owner, key)
    try:
        number = operator.index(value)
    except TypeError:
        raise CloudError(f"{of}{key} must be an integer, not {type(value).__name__}") from None
    if not 0 <= number <= UINT32_MAX:
        raise CloudError(f"{of}{key} {number} is outside uint32")
    return number


def _flag(message: Any, key: str) -> bool:
    value = _attribute(message, key)
    if not isinstance(value, (bool, int, np.bool_, np.integer)):
        raise CloudError(f"{key} must be true or false, not {type(value).__name__}")
    return bool(value)


def _fields(message: Any) -> tuple[PointFieldSpec, ...]:
    """The message's fields, each of a known type."""
    fields = _attribute(message, "fields")
    if not isinstance(fields, Sequence) or isinstance(fields, (str, bytes)):
        raise CloudError(f"fields must be a sequence of PointField, not {type(fields).__name__}")
    if len(fields) > MAX_FIELDS:
        raise CloudError(f"fields: there are {len(fields)}; a cloud may have {MAX_FIELDS} at most")
    specs = []
    for field in fields:
        name = _attribute(field, "name")
        if not isinstance(name, str):
            raise CloudError(f"fields: a name is {type(name).__name__}, not text")
        label = field_label(name)
        spec = PointFieldSpec(name, *(_uint32(field, key, f"{label}: ") for key in ("offset", "datatype", "count")))
        if spec.datatype not in tuple(Datatype):
            raise CloudError(f"{label}: datatype {spec.datatype} is unknown; PointField has 1 (INT8) to 8 (FLOAT64)")
        specs.append(spec)
    return tuple(specs)


def _buffer(message: Any) -> npt.NDArray[np.uint8]:
    """Read-only view of the message's data. Only a list of integers or an array with gaps is copied."""
    data = _attribute(message, "data")
    try:
        memory = memoryview(bytes(data) if isinstance(data, (list, tuple)) else data)
    except (TypeError, ValueError) as error:
        raise CloudError(f"data must be a sequence of bytes (uint8[]): {error}") from None
    if memory.format not in ("B", "b", "c"):
        raise CloudError(f"data must be a sequence of bytes (uint8[]), not of items of format {memory.format!r}")
    array = np.asarray(memory).reshape(-1).view(np.uint8)
    array.flags.writeable = False
    return array
