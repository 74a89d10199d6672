"""Clouds as broken drivers, cut-off recordings and attackers send them.

Each is decoded right or refused with a CloudError that names the field and the reason, soon and in little memory.
"""

from __future__ import annotations

import array
import time
import tracemalloc
from dataclasses import dataclass, field, replace
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from twodpass_core.cloud import PointFieldSpec, label_cloud, read_points
from twodpass_core.errors import CloudError

HEIGHT, WIDTH, STEP = 20, 2500, 16
HUGE = 2**32 - 1
PointField = PointFieldSpec


def standard_fields() -> list[Any]:
    return [PointField(name, 4 * k, 7, 1) for k, name in enumerate(("x", "y", "z", "intensity"))]


POINTS = np.arange(HEIGHT * WIDTH * 4, dtype=np.float32).reshape(-1, 4)


@dataclass
class Message:
    """A sound cloud of 50,000 points, 800 kB, until a test breaks it."""

    height: Any = HEIGHT
    width: Any = WIDTH
    fields: Any = field(default_factory=standard_fields)
    is_bigendian: Any = False
    point_step: Any = STEP
    row_step: Any = WIDTH * STEP
    data: Any = field(default_factory=POINTS.tobytes)
    is_dense: Any = True


def with_field(index: int, **changes: Any) -> Message:
    fields = standard_fields()
    fields[index] = replace(fields[index], **changes)
    return Message(fields=fields)


def with_extra(name: str, offset: int, datatype: int, count: int) -> Message:
    return Message(fields=[*standard_fields(), PointField(name, offset, datatype, count)])


def without(attribute: str) -> Any:
    return SimpleNamespace(**{key: value for key, value in vars(Message()).items() if key != attribute})


def nothing(**changes: Any) -> Message:
    return replace(Message(height=1, width=0, data=b"", row_step=0), **changes)


REFUSED: dict[str, tuple[Any, str]] = {
    # Sizes that do not fit the data
    "cut off by one byte": (Message(data=POINTS.tobytes()[:-1]), "data: 799999 bytes"),
    "cut off by half": (Message(data=POINTS.tobytes()[: POINTS.nbytes // 2]), "data: 400000 bytes"),
    "no data at all": (Message(data=b""), "data: 0 bytes"),
    "one byte too many": (Message(data=POINTS.tobytes() + b"\0"), "data: 800001 bytes"),
    "height too large": (Message(height=HEIGHT + 1), "data: .* height 21"),
    "width too large": (Message(width=WIDTH + 1), "data: .* width 2501"),
    "width too small": (Message(width=WIDTH - 1, row_step=0), "data: .* width 2499"),
    "row_step too small for the padding": (Message(data=bytes(HEIGHT * (WIDTH * STEP + 8)), row_step=0), "row_step 0"),
    "row_step larger than the data": (Message(data=bytes(1000), row_step=HUGE), "data: 1000 bytes"),
    "width * height * point_step is 0 in uint32": (
        Message(height=2**16, width=2**12, data=b"", row_step=2**16), "4294967296 bytes",
    ),
    "width * height * point_step is small in uint32": (
        Message(height=1, width=2**28 + 2, data=bytes(32), row_step=32), "4294967328 bytes",
    ),
    "width * height is 16 in uint32": (
        Message(height=2**16 + 1, width=2**16, data=bytes(2**20), row_step=2**20), "data: 1048576 bytes",
    ),
    "every size at its largest": (
        Message(height=HUGE, width=HUGE, point_step=HUGE, row_step=HUGE, data=b"12345678"), "data: 8 bytes",
    ),
    "point_step 0 with data": (Message(point_step=0), "field 'x': ends at byte 4, beyond point_step 0"),
    "point_step 0 with data, row_step 0": (Message(point_step=0, row_step=0), "data: .* point_step 0"),
    "point_step 0 without data": (Message(point_step=0, row_step=0, data=b""), "field 'x'.* point_step 0"),
    "point_step 1, so points overlap": (
        Message(point_step=1, row_step=WIDTH, data=bytes(HEIGHT * WIDTH)), "field 'x': ends at byte 4, .* point_step 1",
    ),
    "no points by height, but data": (Message(height=0), "data: 800000 bytes"),
    "no points by width, but data": (Message(width=0, row_step=0), "data: 800000 bytes"),
    # Fields
    "no fields": (Message(fields=[]), "field 'x': missing; the cloud has no fields"),
    "no x": (Message(fields=standard_fields()[1:]), "field 'x': missing"),
    "no y": (with_field(1, name="Y"), "field 'y': missing"),
    "no z": (with_field(2, name="height"), "field 'z': missing; the cloud has 'x', 'y', 'height', 'intensity'"),
    "no intensity": (Message(fields=standard_fields()[:3]), "field 'intensity': missing .*intensity_field"),
    "x twice": (with_extra("x", 4, 7, 1), "field 'x': 2 fields"),
    "intensity twice": (with_extra("intensity", 4, 7, 1), "field 'intensity': 2 fields"),
    "x, y, z as one field of three": (with_field(0, count=3), "field 'x': count is 3"),
    "intensity of two values": (with_field(3, offset=8, count=2), "field 'intensity': count is 2"),
    "x of 40,000 values": (with_field(0, count=40_000), "field 'x': ends at byte 160000"),
    "another field of 40,000 values": (with_extra("feature", 0, 8, 40_000), "field 'feature': ends at byte 320000"),
    "a field of 4 billion values": (with_extra("feature", 0, 8, HUGE), "field 'feature': ends at byte 34359738360"),
    "x reaches beyond point_step": (with_field(0, offset=13), "field 'x': ends at byte 17"),
    "x starts beyond point_step": (with_field(0, offset=HUGE), "field 'x': ends at byte 4294967299"),
    "x is float64 where there is room for float32": (with_field(3, datatype=8), "field 'intensity': ends at byte 20"),
    "another field beyond point_step": (with_extra("ring", 16, 4, 1), "field 'ring': ends at byte 18"),
    "datatype 0": (with_field(0, datatype=0), "field 'x': datatype 0"),
    "datatype 9": (with_field(2, datatype=9), "field 'z': datatype 9"),
    "datatype 255 in another field": (with_extra("ring", 0, 255, 1), "field 'ring': datatype 255"),
    "datatype 9 without points": (nothing(fields=[PointField("x", 0, 9, 1)]), "field 'x': datatype 9"),
    "100,000 fields": (Message(fields=standard_fields() * 25_000), "fields: there are 100000"),
    "negative offset": (with_field(0, offset=-4), "field 'x': offset -4"),
    "negative count": (with_field(0, count=-1), "field 'x': count -1"),
    "a name of a megabyte": (with_field(0, name="x" * 2**20), "field 'x': missing"),
    "a name of a megabyte, beyond point_step": (with_extra("x" * 2**20, 16, 2, 1), "field 'xxxx"),
    "a name that is no text": (with_field(0, name=7), "fields: a name is int"),
    "offset is text": (with_field(0, offset="0"), "field 'x': offset must be an integer"),
    "datatype is a fraction": (with_field(0, datatype=7.5), "field 'x': datatype must be an integer"),
    "fields are numbers": (Message(fields=[1, 2, 3]), "name: missing"),
    "fields is None": (Message(fields=None), "fields must be a sequence"),
    "fields is text": (Message(fields="xyz"), "fields must be a sequence"),
    # Attributes that are absent or of another type
    "no data attribute": (without("data"), "data: missing"),
    "no fields attribute": (without("fields"), "fields: missing"),
    "no point_step attribute": (without("point_step"), "point_step: missing"),
    "no is_bigendian attribute": (without("is_bigendian"), "is_bigendian: missing"),
    "None": (None, "height: missing, so this NoneType is no"),
    "height negative": (Message(height=-1), "height -1"),
    "width beyond uint32": (Message(width=2**32), "width 4294967296"),
    "width is a fraction": (Message(width=2500.0), "width must be an integer"),
    "is_bigendian is text": (Message(is_bigendian="false"), "is_bigendian must be true or false"),
    "data is None": (Message(data=None), "data must be a sequence of bytes"),
    "data is text": (Message(data="0" * 800_000), "data must be a sequence of bytes"),
    "data is a number": (Message(data=800_000), "data must be a sequence of bytes"),
    "data is 16-bit": (Message(data=array.array("H", bytes(800_000))), "data must be a sequence of bytes"),
    "data is float": (Message(data=POINTS), "data must be a sequence of bytes"),
    "data is objects": (Message(data=np.array([None] * 8)), "data must be a sequence of bytes"),
    "data is a list with 256": (Message(data=[256] * 16), "data must be a sequence of bytes"),
    "data is a list of text": (Message(data=["a"] * 16), "data must be a sequence of bytes"),
}  # fmt: skip

SWAPPED = POINTS.astype(">f4").tobytes()
PADDED = np.pad(POINTS.view(np.uint8).reshape(HEIGHT, -1), ((0, 0), (0, 12))).tobytes()

DECODED: dict[str, Message] = {
    "row_step 0, as from the Velodyne driver": Message(row_step=0),
    "row_step that stayed from before filtering": Message(row_step=123_456),
    "row_step of the whole cloud": Message(row_step=HEIGHT * WIDTH * STEP),
    "row_step overflowed": Message(row_step=HUGE),
    "rows padded": Message(data=PADDED, row_step=WIDTH * STEP + 12),
    "rows padded, but for the last": Message(data=PADDED[:-12], row_step=WIDTH * STEP + 12),
    "one row padded": Message(height=1, width=HEIGHT * WIDTH, row_step=800_100, data=POINTS.tobytes() + bytes(100)),
    "width and height swapped, as from one RoboSense branch": Message(height=WIDTH, width=HEIGHT, row_step=0),
    "one point a row": Message(height=HEIGHT * WIDTH, width=1, row_step=STEP),
    "big-endian": Message(is_bigendian=True, data=SWAPPED),
    "is_bigendian is 0": Message(is_bigendian=0),
    "numpy integers": Message(height=np.uint32(HEIGHT), width=np.int64(WIDTH), is_bigendian=np.False_),
    "count 0, as from old drivers": Message(fields=[replace(f, count=0) for f in standard_fields()]),
    "overlapping fields": with_extra("xyz", 0, 7, 3),
    "another name twice": Message(fields=[*standard_fields(), *[PointField("", 0, 2, 1)] * 2]),
    "fields in reverse": Message(fields=standard_fields()[::-1]),
    "fields in a tuple": Message(fields=tuple(standard_fields())),
    "data in an array": Message(data=array.array("B", POINTS.tobytes())),
    "data of signed bytes": Message(data=np.frombuffer(POINTS.tobytes(), np.int8)),
    "data in two dimensions": Message(data=POINTS.view(np.uint8)),
    "a name of a megabyte": with_extra("a" * 2**20, 0, 2, 1),
}


def bounded(action: Any, message: Any) -> None:
    """Run with the contract's bounds: 100 ms, with slack for a busy machine, and twice the message in extra memory."""
    size = POINTS.nbytes
    tracemalloc.start()
    started = time.perf_counter()
    try:
        action()
    finally:
        seconds = time.perf_counter() - started
        peak = tracemalloc.get_traced_memory()[1]
        tracemalloc.stop()
    assert seconds < 1.0
    assert peak <= 2 * size + 2**16, f"{peak} bytes for a message of {size}"


@pytest.mark.parametrize("case", REFUSED)
def test_refused_with_the_field_and_the_reason(case: str) -> None:
    message, reason = REFUSED[case]

    def attempt() -> None:
        with pytest.raises(CloudError, match=reason) as caught:
            read_points(message)
        assert len(str(caught.value)) < 500

    bounded(attempt, message)


@pytest.mark.parametrize("case", DECODED)
def test_decoded_right(case: str) -> None:
    message = DECODED[case]
    before = bytes(message.data)
    bounded(lambda: read_points(message), message)
    np.testing.assert_array_equal(read_points(message), POINTS)
    assert bytes(message.data) == before


@pytest.mark.parametrize("case", DECODED)
def test_labelled_right(case: str) -> None:
    message, labelled = DECODED[case], []
    n = HEIGHT * WIDTH
    class_id, probability, rgb = np.full(n, 9, np.uint8), np.ones(n, np.float32), np.zeros((n, 3), np.uint8)
    bounded(lambda: labelled.append(label_cloud(message, class_id, probability, rgb)), message)
    np.testing.assert_array_equal(read_points(labelled[0]), POINTS)
    np.testing.assert_array_equal(read_points(labelled[0], "class_id")[:, 3], class_id)


def test_the_table_is_as_long_as_the_contract_asks() -> None:
    assert len(REFUSED) + len(DECODED) >= 40


def test_an_empty_cloud_whose_fields_no_message_can_hold() -> None:
    message = nothing(fields=[PointField("x", HUGE, 7, 1)])
    assert read_points(message).shape == (0, 4)
    with pytest.raises(CloudError, match="point_step"):
        label_cloud(message, np.zeros(0, np.uint8), np.zeros(0, np.float32), np.zeros((0, 3), np.uint8))


SIZES = st.one_of(st.integers(0, 40), st.sampled_from([2**16, 2**31, 2**32 - 1]))
FIELDS = st.builds(
    PointField,
    name=st.sampled_from(["x", "y", "z", "intensity", "ring", ""]),
    offset=SIZES,
    datatype=st.integers(0, 10),
    count=st.one_of(st.integers(0, 2), SIZES),
)


@given(
    st.builds(Message, SIZES, SIZES, st.lists(FIELDS, max_size=6), st.booleans(), SIZES, SIZES, st.binary(max_size=200))
)
@settings(max_examples=300)
def test_random_headers_are_decoded_or_refused(message: Message) -> None:
    try:
        points = read_points(message)
    except CloudError:
        return
    assert points.shape == (message.height * message.width, 4)


@given(
    st.fixed_dictionaries(
        {},
        optional={
            "height": st.integers(0, 3), "width": st.integers(0, 3), "point_step": st.integers(12, 20),
            "row_step": st.integers(0, 64), "data": st.binary(max_size=128),
        },
    )
)  # fmt: skip
@settings(max_examples=300)
def test_nearly_sound_headers_are_decoded_or_refused(changes: dict[str, Any]) -> None:
    message = replace(Message(height=2, width=2, row_step=32, data=bytes(64)), **changes)
    try:
        points = read_points(message)
    except CloudError:
        return
    assert points.shape == (message.height * message.width, 4)


def test_labels_that_would_make_rows_longer_than_a_message_can_say_are_refused() -> None:
    """An empty cloud may be of any width; it would be of 4 GiB a row with 12 bytes more for each point."""
    message = Message(height=0, width=2**28 - 1, row_step=0, data=b"")
    nothing = np.zeros(0, np.uint8), np.zeros(0, np.float32), np.zeros((0, 3), np.uint8)
    assert read_points(message).shape == (0, 4)
    with pytest.raises(CloudError, match="more than row_step can say"):
        label_cloud(message, *nothing)
