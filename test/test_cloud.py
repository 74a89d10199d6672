"""Decoding and labelling clouds: real layouts, random layouts, and the values that must pass through."""

from __future__ import annotations

import array
import json
import struct
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from cloud_layouts import DRIVERS, F32, Layout, Message, layouts, with_buffer
from hypothesis import given, settings
from hypothesis import strategies as st
from rosbags.typesys import Stores, get_typestore

from twodpass_core.cloud import CloudData, Datatype, PointFieldSpec, label_cloud, make_cloud, read_points, view_cloud
from twodpass_core.errors import CloudError


def some_labels(n: int) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    rng = np.random.default_rng(n)
    return rng.integers(0, 256, n, np.uint8), rng.random(n, np.float32), rng.integers(0, 256, (n, 3), np.uint8)


def same(left: np.ndarray, right: np.ndarray) -> None:
    """Equal bit for bit, NaN equal to NaN."""
    assert left.dtype == right.dtype
    np.testing.assert_array_equal(left, right)


@given(layouts(), st.sampled_from(["bytes", "bytearray", "array", "list", "numpy", "memoryview"]))
@settings(max_examples=200)
def test_any_layout_decodes_to_what_was_written(layout: Layout, kind: str) -> None:
    message = with_buffer(layout.encode(), kind)
    before = bytes(message.data)
    points = read_points(message)
    with np.errstate(over="ignore", invalid="ignore"):
        expected = np.array([layout.column(name) for name in ("x", "y", "z", "intensity")]).T.astype(np.float32)
    same(points, expected.reshape(-1, 4))
    assert bytes(message.data) == before
    assert points.flags.aligned
    assert points.flags.writeable != np.shares_memory(points, view_cloud(message).data)


@given(layouts())
@settings(max_examples=200)
def test_labelling_keeps_every_byte_of_every_point(layout: Layout) -> None:
    message = layout.encode()
    n = layout.height * layout.width
    class_id, probability, rgb = some_labels(n)
    labelled = label_cloud(message, class_id, probability, rgb)

    assert (labelled.height, labelled.width, labelled.is_bigendian) == (
        layout.height,
        layout.width,
        layout.is_bigendian,
    )
    assert labelled.row_step == layout.width * labelled.point_step
    assert labelled.data.shape == (n * labelled.point_step,)
    assert labelled.point_step >= 12
    assert labelled.fields[:-3] == layout.fields
    step, order = layout.point_step, ">" if layout.is_bigendian else "<"
    for index in range(n):
        row, column = divmod(index, layout.width)
        start = row * layout.row_step + column * step
        out = labelled.data[index * labelled.point_step :][: labelled.point_step].tobytes()
        assert out[:step] == message.data[start : start + step]
        id_field, probability_field, rgb_field = labelled.fields[-3:]
        assert out[id_field.offset] == class_id[index]
        assert struct.unpack_from(order + "f", out, probability_field.offset) == (probability[index],)
        r, g, b = (int(value) for value in rgb[index])
        assert struct.unpack_from(order + "I", out, rgb_field.offset) == (r << 16 | g << 8 | b,)


@pytest.mark.parametrize("name", DRIVERS)
@pytest.mark.parametrize("is_bigendian", [False, True])
def test_driver_layouts(name: str, is_bigendian: bool) -> None:
    step, fields, intensity = DRIVERS[name]
    specs = tuple(PointFieldSpec(*field) for field in fields)
    rng = np.random.default_rng(1)
    values = tuple(
        tuple((float(v),) if s.datatype >= F32 else (int(v),) for s, v in zip(specs, row, strict=True))
        for row in rng.integers(0, 100, (50, len(specs)))
    )
    layout = Layout(5, 10, is_bigendian, step, 10 * step, specs, values)
    points = read_points(layout.encode())
    same(points, np.array([layout.column(key) for key in ("x", "y", "z", intensity)], np.float32).T.copy())


def test_a_real_recorded_message(shared_data: Path) -> None:
    typestore = get_typestore(Stores.ROS2_HUMBLE)
    raw = (shared_data / "pointcloud2_cdr/pointcloud2.cdr").read_bytes()
    message: Any = typestore.deserialize_cdr(raw, "sensor_msgs/msg/PointCloud2")
    points = read_points(message)
    assert points.shape == (64000, 4)
    assert np.count_nonzero((points[:, :3] == 0).all(axis=1)) == 4578
    assert points[:, 3].min() >= 0
    assert points[:, 3].max() <= 255
    class_id, probability, rgb = some_labels(64000)
    labelled = label_cloud(message, class_id, probability, rgb)
    assert labelled.point_step == 40
    same(labelled.data.reshape(-1, 40)[:, :26], np.asarray(message.data).reshape(-1, 26))
    same(view_cloud(labelled).column("ring"), view_cloud(message).column("ring"))
    same(read_points(labelled), points)


def test_a_real_organised_cloud(shared_data: Path) -> None:
    layout = json.loads((shared_data / "ouster_organized/os1_128_frame0.json").read_text())
    data = (shared_data / "ouster_organized/os1_128_frame0.bin").read_bytes()
    fields = [PointFieldSpec(f["name"], f["offset"], f["datatype"], f["count"]) for f in layout["fields"]]
    message = Message(128, 1024, fields, False, 48, 49152, data)
    points = read_points(message)
    assert points.shape == (128 * 1024, 4)
    assert np.count_nonzero(points[:, :3].any(axis=1)) == layout["valid_points"]
    same(points[:, 3], view_cloud(message).column("reflectivity").reshape(-1).astype(np.float32))
    same(read_points(message, "range")[:, 3], view_cloud(message).column("range").reshape(-1).astype(np.float32))


def test_nothing_is_copied_to_look_at_a_field() -> None:
    cloud = make_cloud({"x": np.arange(6.0).reshape(2, 3), "y": np.zeros((2, 3)), "z": np.zeros((2, 3))})
    cloud = replace(cloud, data=cloud.data.copy())
    view = view_cloud(cloud)
    same(view.column("x"), np.arange(6.0).reshape(2, 3))
    assert np.shares_memory(view.column("x"), cloud.data)
    with pytest.raises(ValueError, match="read-only"):
        view.column("x")[0, 0] = 1


@pytest.mark.parametrize(
    ("point_step", "row_padding", "is_bigendian", "copied"),
    [(16, 0, False, False), (24, 0, False, False), (22, 0, False, True), (16, 8, False, True), (16, 0, True, True)],
)
def test_points_whose_numbers_lie_side_by_side_are_read_where_they_are(
    point_step: int, row_padding: int, is_bigendian: bool, copied: bool
) -> None:
    """Unless no array can say where: those at odd bytes, and those of rows with something between."""
    fields = tuple(PointFieldSpec(name, 4 * k, F32) for k, name in enumerate(("x", "y", "z", "intensity")))
    values = np.arange(24, dtype=np.float32).reshape(6, 4)
    row_step = 3 * point_step + row_padding
    encoded = tuple(tuple((float(value),) for value in point) for point in values)
    layout = Layout(2, 3, is_bigendian, point_step, row_step, fields, encoded)
    message = with_buffer(layout.encode(), "numpy")
    points = read_points(message)
    same(points, values)
    assert np.shares_memory(points, message.data) != copied
    if not copied:
        with pytest.raises(ValueError, match="read-only"):
            points[0, 0] = 1


@pytest.mark.parametrize("is_dense", [False, True])
def test_values_that_are_not_numbers_stay(is_dense: bool) -> None:
    odd = np.array([np.nan, np.inf, -np.inf, 0.0, -0.0, 1.0], np.float32)
    message = replace(make_cloud({"x": odd, "y": odd, "z": odd, "intensity": odd}), is_dense=is_dense)
    points = read_points(message)
    same(points.view(np.uint32), np.repeat(odd[:, None], 4, axis=1).view(np.uint32))
    assert label_cloud(message, *some_labels(6)).is_dense is is_dense


def test_doubles_beyond_float32_become_infinite_without_a_warning(recwarn: pytest.WarningsRecorder) -> None:
    wide = np.array([1e300, -1e300, 1.5, np.nan])
    points = read_points(make_cloud({"x": wide, "y": wide, "z": wide, "intensity": wide}))
    same(points[:, 0], np.array([np.inf, -np.inf, 1.5, np.nan], np.float32))
    assert not recwarn.list


@pytest.mark.parametrize(
    ("height", "width", "point_step", "row_step", "with_fields"),
    [(0, 0, 0, 0, False), (1, 0, 16, 0, True), (0, 0, 16, 0, True), (1, 0, 0, 0, True), (0, 64, 16, 1024, True)],
)
def test_no_points_in_no_points_out(height: int, width: int, point_step: int, row_step: int, with_fields: bool) -> None:
    fields = list(make_cloud({name: np.zeros(0, np.float32) for name in ("x", "y", "z", "intensity")}).fields)
    message = Message(height, width, fields if with_fields else [], False, point_step, row_step, b"")
    assert read_points(message).shape == (0, 4)
    labelled = label_cloud(message, *some_labels(0))
    assert (labelled.height, labelled.width, labelled.data.size) == (height, width, 0)
    assert labelled.point_step == (28 if with_fields else 12)
    view_cloud(labelled)


def test_row_step_yields_to_the_length_of_the_data() -> None:
    cloud = make_cloud({name: np.arange(12, dtype=np.float32).reshape(3, 4) for name in ("x", "y", "z", "intensity")})
    expected = read_points(cloud)
    for row_step in (0, 1, cloud.row_step + 8, 2**32 - 1):
        same(read_points(replace(cloud, row_step=row_step)), expected)
    rows = cloud.data.reshape(3, -1)
    padded = np.pad(rows, ((0, 0), (0, 8)), constant_values=0xFF).reshape(-1)
    wide = replace(cloud, row_step=cloud.row_step + 8, data=padded)
    same(read_points(wide), expected)
    same(read_points(replace(wide, data=padded[:-8])), expected)
    with pytest.raises(CloudError, match="data: "):
        read_points(replace(wide, row_step=0))


def test_intensity_is_found_by_name_or_named() -> None:
    def columns(*names: str) -> CloudData:
        return make_cloud({n: np.full(2, k, np.float32) for k, n in enumerate(("x", "y", "z", *names))})

    assert read_points(columns("reflectivity", "intensity"))[0, 3] == 4
    assert read_points(columns("time", "i"))[0, 3] == 4
    assert read_points(columns("reflectivity", "intensity"), "reflectivity")[0, 3] == 3
    assert read_points(columns("ring", "intensity"), "")[0, 3] == 4
    assert read_points(columns("ring", "Intensity"))[0, 3] == 4
    assert read_points(columns("Intensity", "intensity"))[0, 3] == 4
    assert read_points(columns("signal", "Reflectivity"))[0, 3] == 4
    with pytest.raises(CloudError, match=r"'x', 'y', 'z', 'ring'.*intensity_field, or 'none'"):
        read_points(columns("ring"))
    with pytest.raises(CloudError, match=r"'amplitude': missing.*'ring'"):
        read_points(columns("ring"), "amplitude")


def test_none_as_intensity_gives_zeros_whatever_the_cloud_has() -> None:
    xyz = {name: np.arange(3, dtype=np.float32) + k for k, name in enumerate(("x", "y", "z"))}
    for columns in (xyz, {**xyz, "intensity": np.ones(3, np.float32)}):
        points = read_points(make_cloud(columns), "none")
        same(points[:, :3], np.stack(list(xyz.values()), axis=1))
        assert not points[:, 3].any()


def test_labelling_a_labelled_cloud_replaces_the_labels() -> None:
    columns = {n: np.arange(5, dtype=np.float32) for n in ("x", "y", "z", "intensity", "rgb")}
    first = label_cloud(make_cloud(columns), *some_labels(5))
    assert [field.name for field in first.fields] == ["x", "y", "z", "intensity", "class_id", "probability", "rgb"]
    class_id, probability, rgb = some_labels(5)
    again = label_cloud(first, class_id[::-1].copy(), probability, rgb)
    assert [field.name for field in again.fields] == [field.name for field in first.fields]
    same(view_cloud(again).column("class_id")[0], class_id[::-1])
    assert all(field.offset % 4 == 0 for field in again.fields)


def test_labels_must_fit_the_cloud() -> None:
    cloud = make_cloud({n: np.zeros(3, np.float32) for n in ("x", "y", "z", "intensity")})
    class_id, probability, rgb = some_labels(3)
    for wrong in (
        (class_id[:2], probability, rgb),
        (class_id.astype(np.int64), probability, rgb),
        (class_id, probability.astype(np.float64), rgb),
        (class_id, probability, rgb[:, :2]),
    ):
        with pytest.raises(ValueError, match="must be"):
            label_cloud(cloud, *wrong)


@pytest.mark.parametrize("datatype", list(Datatype))
@pytest.mark.parametrize("is_bigendian", [False, True])
@pytest.mark.parametrize("shape", [(0,), (7,), (2, 3), (0, 4)])
def test_make_cloud_round_trip(datatype: Datatype, is_bigendian: bool, shape: tuple[int, ...]) -> None:
    values = np.arange(np.prod(shape)).reshape(shape).astype(datatype.dtype(is_bigendian=False))
    cloud = make_cloud({"x": values, "y": values, "z": values, "ring": values}, is_bigendian=is_bigendian)
    assert (cloud.height, cloud.width) == (shape if len(shape) == 2 else (1, *shape))
    assert cloud.is_dense
    np.testing.assert_array_equal(view_cloud(cloud).column("ring"), values.reshape(cloud.height, cloud.width))


def test_make_cloud_refuses_what_a_cloud_cannot_hold() -> None:
    for columns in ({}, {"x": np.zeros(2), "y": np.zeros(3)}, {"x": np.zeros((1, 2, 3))}, {"x": np.zeros(2, np.int64)}):
        with pytest.raises(ValueError, match="column"):
            make_cloud(columns)
    assert not make_cloud({"x": np.array([np.nan])}).is_dense


@pytest.mark.parametrize("name", DRIVERS)
def test_agrees_with_sensor_msgs_py(name: str) -> None:
    """Held against ROS's own reader on what it decodes right: little-endian, no row padding."""
    reference = pytest.importorskip(
        "sensor_msgs_py.point_cloud2", reason="needs sensor_msgs_py, from a ROS 2 installation"
    )
    messages = pytest.importorskip("sensor_msgs.msg", reason="needs sensor_msgs, from a ROS 2 installation")
    step, fields, intensity = DRIVERS[name]
    data = np.random.default_rng(2).integers(0, 256, 12 * step, np.uint8)
    message = messages.PointCloud2(height=3, width=4, point_step=step, row_step=4 * step, is_bigendian=False)
    message.fields = [messages.PointField(name=n, offset=o, datatype=int(t), count=1) for n, o, t in fields]
    message.data = array.array("B", data.tobytes())
    structured = reference.read_points(message, field_names=["x", "y", "z", intensity])
    expected = np.stack([structured[key].reshape(-1) for key in ("x", "y", "z", intensity)], axis=1)
    same(read_points(message), expected.astype(np.float32))
