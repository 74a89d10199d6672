"""Layouts of clouds for tests: those of drivers, and any others, written without the code under test."""

from __future__ import annotations

import array
import struct
from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
from hypothesis import strategies as st

from twodpass_core.cloud import Datatype, PointFieldSpec

F32, F64, U8, U16, U32 = Datatype.FLOAT32, Datatype.FLOAT64, Datatype.UINT8, Datatype.UINT16, Datatype.UINT32
XYZ = (("x", 0, F32), ("y", 4, F32), ("z", 8, F32))


DRIVERS: dict[str, tuple[int, tuple[tuple[str, int, int], ...], str]] = {
    "velodyne": (22, (*XYZ, ("intensity", 12, F32), ("ring", 16, U16), ("time", 18, F32)), "intensity"),
    "ouster": (
        48,
        (*XYZ, ("intensity", 16, F32), ("t", 20, U32), ("reflectivity", 24, U16), ("ring", 26, U16)),
        "intensity",
    ),
    "livox": (
        26,
        (*XYZ, ("intensity", 12, F32), ("tag", 16, U8), ("line", 17, U8), ("timestamp", 18, F64)),
        "intensity",
    ),
    "hesai": (26, (*XYZ, ("intensity", 12, F32), ("ring", 16, U16), ("timestamp", 18, F64)), "intensity"),
    "robosense": (16, (*XYZ, ("intensity", 12, F32)), "intensity"),
    "nebula": (
        32,
        (*XYZ, ("intensity", 12, U8), ("return_type", 13, U8), ("channel", 14, U16), ("azimuth", 16, F32)),
        "intensity",
    ),
    "nebula, old": (32, (*XYZ, ("intensity", 16, F32), ("ring", 20, U16)), "intensity"),
    "kitti2bag": (16, (*XYZ, ("i", 12, F32)), "i"),
}


@dataclass
class Message:
    """Stands for a ROS message: nothing but attributes."""

    height: int
    width: int
    fields: list[PointFieldSpec]
    is_bigendian: bool
    point_step: int
    row_step: int
    data: Any
    is_dense: bool = True


@dataclass(frozen=True)
class Layout:
    """A cloud's layout with the values (N, sum of counts) it holds, field by field."""

    height: int
    width: int
    is_bigendian: bool
    point_step: int
    row_step: int
    fields: tuple[PointFieldSpec, ...]
    values: tuple[tuple[tuple[float, ...], ...], ...]  # point, field, element

    def encode(self, filler: int = 0xA5) -> Message:
        """Written value by value with struct, so that nothing is shared with the code under test."""
        data = bytearray([filler]) * (self.height * self.row_step)
        order = ">" if self.is_bigendian else "<"
        for index, point in enumerate(self.values):
            row, column = divmod(index, self.width)
            start = row * self.row_step + column * self.point_step
            for field, elements in zip(self.fields, point, strict=True):
                letter = " bBhHiIfd"[field.datatype]
                struct.pack_into(f"{order}{len(elements)}{letter}", data, start + field.offset, *elements)
        return Message(
            self.height, self.width, list(self.fields), self.is_bigendian, self.point_step, self.row_step, bytes(data)
        )

    def column(self, name: str) -> list[float]:
        index = [field.name for field in self.fields].index(name)
        return [point[index][0] for point in self.values]


RANGES = {
    1: (-128, 127),
    2: (0, 255),
    3: (-(2**15), 2**15 - 1),
    4: (0, 2**16 - 1),
    5: (-(2**31), 2**31 - 1),
    6: (0, 2**32 - 1),
}


def element(datatype: int) -> st.SearchStrategy[float]:
    if datatype in RANGES:
        return st.integers(*RANGES[datatype])
    return st.floats(width=32 if datatype == F32 else 64)


@st.composite
def layouts(draw: st.DrawFn) -> Layout:
    names = draw(
        st.permutations(
            ["x", "y", "z", "intensity", *draw(st.lists(st.text("abc", min_size=1), max_size=3, unique=True))]
        )
    )
    offset = 0
    fields = []
    for name in names:
        offset += draw(st.integers(0, 5))
        count = draw(st.integers(0, 1)) if name in ("x", "y", "z", "intensity") else draw(st.integers(0, 4))
        fields.append(PointFieldSpec(name, offset, draw(st.integers(1, 8)), count))
        offset = fields[-1].end
    point_step = offset + draw(st.integers(0, 6))
    height, width = draw(st.integers(0, 3)), draw(st.integers(0, 5))
    row_step = width * point_step + draw(st.integers(0, 9))
    point = st.tuples(*(st.tuples(*[element(field.datatype)] * max(field.count, 1)) for field in fields))
    values = draw(st.lists(point, min_size=height * width, max_size=height * width))
    is_bigendian = draw(st.booleans())
    return Layout(height, width, is_bigendian, point_step, row_step, tuple(fields), tuple(values))


def with_buffer(message: Message, kind: str) -> Message:
    convert: dict[str, Callable[[Any], Any]] = {
        "bytes": bytes,
        "bytearray": bytearray,
        "array": lambda data: array.array("B", data),
        "list": list,
        "numpy": lambda data: np.frombuffer(data, np.uint8).copy(),
        "memoryview": memoryview,
    }
    return replace(message, data=convert[kind](message.data))
