"""Reading points from a cloud, adding labels to one, making one from arrays."""

from __future__ import annotations

import sys
from collections.abc import Mapping, Sequence
from typing import Any, Final

import numpy as np
import numpy.typing as npt

from twodpass_core.cloud.layout import CloudData, CloudView, Datatype, PointFieldSpec, list_names
from twodpass_core.cloud.validation import UINT32_MAX, view_cloud
from twodpass_core.errors import CloudError

# In order of preference, in any case. Ouster sends both intensity and reflectivity, kitti2bag calls it i.
INTENSITY_NAMES: Final = ("intensity", "i", "intensities", "reflectivity", "reflectance", "remission", "signal")
NO_INTENSITY: Final = "none"
"""In the place of a field's name: the intensity of every point is 0."""


def read_points(message: Any, intensity_field: str | None = None) -> npt.NDArray[np.float32]:
    """(N, 4) float32 x, y, z, intensity of a PointCloud2, in the message's units, row by row.

    Every point is kept, also non-finite ones and the (0, 0, 0) that drivers write for no return. Values too large for
    float32 become infinite. `intensity_field` names the field to take as intensity; by default (None or empty) it is
    the first of `INTENSITY_NAMES` that the cloud has. `NO_INTENSITY` asks for zeros.

    Where the four numbers lie side by side in the message, nothing is copied: the array is a read-only view of the
    message, with its strides.

    Raises `CloudError` for a malformed cloud and for one without x, y, z or intensity.
    """
    view = view_cloud(message)
    if view.num_points == 0:
        return np.empty((0, 4), np.float32)
    names = ["x", "y", "z"]
    if intensity_field != NO_INTENSITY:
        names.append(intensity_field or _intensity_name(view.fields))
    fields = [view.field(name) for name in names]
    start = fields[0].offset
    if (
        len(fields) == 4
        and view.is_bigendian == (sys.byteorder == "big")
        and all(field.datatype == Datatype.FLOAT32 and field.offset == start + 4 * k for k, field in enumerate(fields))
    ):
        return _side_by_side(view, start)
    points = np.zeros((view.num_points, 4), np.float32)
    organised = points.reshape(view.height, view.width, 4)
    with np.errstate(over="ignore", invalid="ignore"):
        for k, name in enumerate(names):
            organised[..., k] = view.column(name)
    return points


def _side_by_side(view: CloudView, offset: int) -> npt.NDArray[np.float32]:
    """(N, 4) of points whose four float32 begin at `offset`, the layout that most drivers send.

    Rows with padding, and points that begin at odd bytes, are copied: 16 bytes a point at once.
    """
    if view.height == 1 or view.row_step == view.width * view.point_step:
        points = np.ndarray((view.num_points, 4), np.float32, view.data.data, offset, (view.point_step, 4))
        if points.flags.aligned:
            return points
    copied = np.empty((view.num_points, 4), np.float32)
    copied.view("V16").reshape(view.height, view.width)[...] = view.point_bytes(offset, 16)
    return copied


def label_cloud(
    message: Any, class_id: npt.NDArray[np.uint8], probability: npt.NDArray[np.float32], rgb: npt.NDArray[np.uint8]
) -> CloudData:
    """The cloud with class_id (UINT8), probability (FLOAT32) and rgb (FLOAT32 holding 0x00RRGGBB) added to every point.

    `class_id` (N,) uint8, `probability` (N,) float32, `rgb` (N, 3) uint8, in the order of `read_points`. Each point's
    own bytes stay as they are at the same offsets; the new fields follow, aligned to 4 bytes. Byte order, height, width
    and is_dense are the message's; row padding is dropped. A field that already has one of the three names is replaced:
    its bytes stay, but no field names them.

    Raises `CloudError` for a malformed cloud, `ValueError` for arrays that do not fit it.
    """
    view = view_cloud(message)
    n = view.num_points
    _require("class_id", class_id, (n,), np.uint8)
    _require("probability", probability, (n,), np.float32)
    _require("rgb", rgb, (n, 3), np.uint8)

    # No point has held the fields to point_step in an empty cloud, and it may be 0: make it one that they fit.
    step = view.point_step if n else max([view.point_step, *(field.end for field in view.fields)])
    offset = -(-step // 4) * 4
    added = (
        PointFieldSpec("class_id", offset, Datatype.UINT8),
        PointFieldSpec("probability", offset + 4, Datatype.FLOAT32),
        PointFieldSpec("rgb", offset + 8, Datatype.FLOAT32),
    )
    kept = tuple(field for field in view.fields if field.name not in [new.name for new in added])
    point_step = offset + 12
    row_step = view.width * point_step
    if max(point_step, row_step) > UINT32_MAX:
        raise CloudError(f"point_step: {view.width} points a row of {point_step} bytes are more than row_step can say")

    points = np.zeros((n, point_step), np.uint8)
    if n:
        original = np.ndarray((view.height, view.width), f"V{step}", points, 0, (row_step, point_step))
        original[...] = view.point_bytes(0, step)
        points[:, offset] = class_id
        float32 = Datatype.FLOAT32.dtype(view.is_bigendian)
        np.ndarray((n,), float32, points, offset + 4, (point_step,))[...] = probability
        if view.is_bigendian:
            points[:, offset + 9 : offset + 12] = rgb
        else:
            points[:, offset + 8 : offset + 11] = rgb[:, ::-1]
    data = points.reshape(-1)
    return CloudData(
        view.height, view.width, kept + added, view.is_bigendian, point_step, row_step, data, view.is_dense
    )


def make_cloud(columns: Mapping[str, npt.NDArray[Any]], *, is_bigendian: bool = False) -> CloudData:
    """A cloud with one field per array, packed without padding, in the mapping's order.

    Arrays are all (N,), which gives height 1, or all (height, width), and of types that PointField knows. `is_dense` is
    true when every value is finite. Raises `ValueError` for other shapes or types.
    """
    shapes = {np.shape(column) for column in columns.values()}
    shape = next(iter(shapes), ())
    if len(shapes) != 1 or len(shape) not in (1, 2):
        raise ValueError(f"columns must share one shape, (N,) or (height, width), not {sorted(shapes)}")
    datatypes = {datatype.dtype(is_bigendian).str[1:]: datatype for datatype in Datatype}
    offset = 0
    fields = []
    for name, column in columns.items():
        if column.dtype.str[1:] not in datatypes:
            raise ValueError(f"column {name!r} is {column.dtype}, which a PointField cannot hold")
        fields.append(PointFieldSpec(name, offset, datatypes[column.dtype.str[1:]]))
        offset = fields[-1].end
    dtype: np.dtype[Any] = np.dtype([(field.name, Datatype(field.datatype).dtype(is_bigendian)) for field in fields])
    points: npt.NDArray[Any] = np.empty(shape, dtype)
    for name, column in columns.items():
        points[name] = column
    height, width = shape if len(shape) == 2 else (1, shape[0])
    is_dense = all(bool(np.isfinite(column).all()) for column in columns.values())
    data = np.frombuffer(points.tobytes(), np.uint8)
    return CloudData(height, width, tuple(fields), is_bigendian, offset, offset * width, data, is_dense)


def _intensity_name(fields: Sequence[PointFieldSpec]) -> str:
    for known in INTENSITY_NAMES:
        found = [field.name for field in fields if len(field.name) == len(known) and field.name.lower() == known]
        if found:
            return known if known in found else found[0]
    raise CloudError(
        f"field 'intensity': missing under every known name ({', '.join(INTENSITY_NAMES)}); the cloud has "
        f"{list_names(fields)}. Name the field to read as intensity_field, or '{NO_INTENSITY}' for 0 at every point"
    )


def _require(name: str, array: npt.NDArray[Any], shape: tuple[int, ...], dtype: type[np.generic]) -> None:
    if array.shape != shape or array.dtype != dtype:
        raise ValueError(f"{name} must be {np.dtype(dtype)} of shape {shape}, not {array.dtype} of {array.shape}")
