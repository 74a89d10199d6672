"""What a hostile or damaged pickle can do: nothing."""

from __future__ import annotations

import os
import pickle
import subprocess
import sys
from collections import OrderedDict
from contextlib import suppress
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from twodpass_core.errors import WeightsError
from twodpass_core.official.restricted_unpickler import MAX_PICKLE_BYTES, Global, InertObject, read_pickle

ORDERED_DICT = Global("collections", "OrderedDict")


def read(data: bytes) -> Any:
    return read_pickle(data, {ORDERED_DICT: dict}, lambda key: ("persistent", key))[0]


class Calls:
    """Pickles as a call of a function."""

    def __init__(self, function: Any, *arguments: Any) -> None:
        self.call = function, arguments

    def __reduce__(self) -> Any:
        return self.call


class Widget(dict[str, Any]):
    """Of a module that a reader of the file may not have."""


plain_values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False) | st.text(),
    lambda inner: st.lists(inner) | st.tuples(inner, inner) | st.dictionaries(st.text(), inner),
)


@pytest.mark.parametrize("protocol", range(pickle.HIGHEST_PROTOCOL + 1))
@given(value=plain_values)
def test_plain_data_reads_as_pickle_would(value: Any, protocol: int) -> None:
    assert read(pickle.dumps(value, protocol)) == value


@pytest.mark.parametrize("protocol", range(3, pickle.HIGHEST_PROTOCOL + 1))
def test_bytes_and_sets_read_as_bytes_and_lists(protocol: int) -> None:
    value = [b"abc", bytearray(b"def") if protocol > 4 else b"", b"x" * 300]
    assert read(pickle.dumps(value, protocol)) == value
    if protocol > 3:
        for of in (set, frozenset):
            assert sorted(read(pickle.dumps(of([1, 2]), protocol))) == [1, 2]


def test_shared_and_recursive_values_keep_their_identity() -> None:
    inner: list[Any] = [1]
    inner.append(inner)
    result = read(pickle.dumps({"a": inner, "b": inner}, 2))
    assert result["a"] is result["b"]
    assert result["a"][1] is result["a"]


@pytest.mark.parametrize("protocol", range(pickle.HIGHEST_PROTOCOL + 1))
@pytest.mark.parametrize("length", [1, 5])
def test_tuples_that_hold_themselves(length: int, protocol: int) -> None:
    inner: list[Any] = []
    value = (inner,) * length
    inner.append(value)
    result = read(pickle.dumps([value, 1], protocol))
    assert result[0][0][0] is result[0]
    assert len(result[0]) == length
    assert result[1] == 1


@pytest.mark.parametrize(
    ("data", "value"),
    [
        (b"K\x012\x86.", (1, 1)),  # what is on the stack, once more
        (b"\x8d\x02" + bytes(7) + b"ab.", "ab"),  # text of 4 GB or more
        (b"\x8e\x02" + bytes(7) + b"ab.", b"ab"),
        (pickle.dumps(1 << 3000), 1 << 3000),
        (pickle.dumps({None: 1}), {None: 1}),
    ],
)
def test_what_is_rarely_in_a_pickle_is_read(data: bytes, value: Any) -> None:
    assert read(data) == value


def test_objects_of_unknown_classes_become_inert_data() -> None:
    widget = Widget(colour="red")
    widget.size = 3  # type: ignore[attr-defined]
    result, inert = read_pickle(pickle.dumps({"w": widget}, 2), {}, lambda key: key)
    kind = Global(Widget.__module__, "Widget")
    assert result["w"] == InertObject(kind, (), {"size": 3}, {"colour": "red"})
    assert inert == {kind}


class Several(list[int]):
    """Of a module that a reader of the file may not have, with data of every kind."""

    def __getnewargs_ex__(self) -> tuple[tuple[int, ...], dict[str, int]]:
        return (1, 2), {"size": 3}


def test_arguments_and_elements_of_unknown_classes_are_kept() -> None:
    kind = Global(Several.__module__, "Several")
    arguments = (1, 2, {"size": 3})
    assert read(pickle.dumps(Several([4, 5]), 4)) == InertObject(kind, arguments, elements=[4, 5])


class Plain:
    """Without a way of its own to be pickled."""


def test_objects_in_the_oldest_protocol_are_inert_too() -> None:
    plain = Plain()
    plain.size = 3  # type: ignore[attr-defined]
    result = read(pickle.dumps(plain, 0))
    assert result.kind == Global("copyreg", "_reconstructor")
    assert result.arguments == (Global(Plain.__module__, "Plain"), Global("builtins", "object"), None)
    assert result.state == {"size": 3}


def test_classes_as_dict_keys_stay_names() -> None:
    assert read(pickle.dumps({Widget: 1}, 2)) == {Global(Widget.__module__, "Widget"): 1}


def test_ordered_dict_with_attributes_is_a_dict() -> None:
    content = OrderedDict(a=1)
    content._metadata = {"version": 1}  # type: ignore[attr-defined]
    assert read(pickle.dumps(content, 2)) == {"a": 1}


def test_functions_of_unknown_modules_are_not_called(tmp_path: Path) -> None:
    marker = tmp_path / "marker"
    result = read(b"cevil_module\nrun\n(X" + len(str(marker)).to_bytes(4, "little") + str(marker).encode() + b"tR.")
    assert result == InertObject(Global("evil_module", "run"), (str(marker),))
    assert "evil_module" not in sys.modules
    assert not marker.exists()


@pytest.mark.parametrize("protocol", range(pickle.HIGHEST_PROTOCOL + 1))
@pytest.mark.parametrize(
    ("function", "name"),
    [
        (os.system, "posix.system"),
        (subprocess.Popen, "subprocess.Popen"),
        (eval, "builtins.eval"),
        (exec, "builtins.exec"),
        (getattr, "builtins.getattr"),
        (open, "io.open"),
    ],
)
def test_side_effects_are_refused_by_name(function: Any, name: str, protocol: int, tmp_path: Path) -> None:
    marker = tmp_path / "marker"
    bomb = pickle.dumps({"weights": [1, Calls(function, f"touch {marker}")]}, protocol)
    with pytest.raises(WeightsError, match=name):
        read(bomb)
    assert not marker.exists()


@pytest.mark.parametrize(
    "data",
    [
        b"cos\nsystem\n(X\x04\x00\x00\x00truetR.",  # GLOBAL, REDUCE
        b"(S'true'\nios\nsystem\n.",  # INST
        b"(cos\nsystem\nX\x04\x00\x00\x00trueo.",  # OBJ
        b"\x80\x04\x8c\x02os\x8c\x06system\x93\x8c\x04true\x85R.",  # STACK_GLOBAL
        b"cos\nsystem\n.",  # only named
        b"cos.path\nexpanduser\n.",  # in a module of a module
        b"c__builtin__\neval\n(X\x01\x00\x00\x001tR.",  # by its name in Python 2
        b"ccPickle\nloads\n.",
    ],
)
def test_every_way_to_name_a_function_is_refused(data: bytes) -> None:
    with pytest.raises(WeightsError, match=r"os\.system|os\.path\.expanduser|builtins\.eval|_pickle\.loads"):
        read(data)


@pytest.mark.parametrize(
    ("data", "reason"),
    [
        (b"\x82\x01.", "EXT1"),  # a class by its number in copyreg's registry
        (b"X\x01\x00\x00\x00a)R.", "call"),  # calls a string
        (b"cx\ny\nK\x01R.", "call x.y"),  # with a number as arguments
        (b"cx\ny\n}b.", "set the state of x.y"),  # sets attributes of a class
        (b"cx\ny\nK\x01K\x02s.", "set items of x.y"),
        (b")K\x01a.", "append to"),
        (b"}K\x01K\x02\x86K\x01s.", "key"),  # tuples as keys: hashing nested ones takes forever
        (b"(K\x01\x85K\x02d.", "key"),
        (b"cx\ny\n)R(K\x01\x85K\x02u.", "key"),
        (b"}\x8a\x09" + b"\x00" * 8 + b"\x01K\x01s.", "key"),
        (b"}\x8a\x09" + b"\x00" * 8 + b"\xffK\x01s.", "key"),
        (b"cx\nname with \x1b[31m escape\n.", "cannot be one"),
        (b"cx\na name\n.", "cannot be one"),
        (b"K\x0cX\x03\x00\x00\x00abc\x93.", "cannot be one"),  # a number
        (b"X\x03\x00\x00\x00abcK\x0c\x93.", "cannot be one"),
        (b"", "damaged"),
        (b"K\x01", "damaged"),  # no end
        (b"K", "damaged"),  # no argument
        (b".", "damaged"),  # nothing on the stack
        (b"h\x07.", "damaged"),  # a memo entry that is not there
        (b"\x86.", "damaged"),
        (b"}(K\x01u.", "damaged"),  # a key without a value
        (b"t.", "damaged"),  # no mark
        (b"not a pickle", "damaged"),
        (b"ccollections\nOrderedDict\nK\x01\x85R.", "damaged"),  # not its arguments
        (b"X\xff\xff\xff\x7fabc.", "damaged"),  # claims 2 GB of text
        (b"\x8b\xff\xff\xff\x7f.", "damaged"),  # claims a number of 2 GB
    ],
)
def test_damaged_or_unwanted_content_is_refused(data: bytes, reason: str) -> None:
    with pytest.raises(WeightsError, match=reason):
        read(data)


@given(st.binary(max_size=200))
def test_any_bytes_give_a_value_or_a_weights_error(data: bytes) -> None:
    with suppress(WeightsError):
        read(data)


@given(st.data())
def test_flipped_bytes_give_a_value_or_a_weights_error(data: st.DataObject) -> None:
    original = bytearray(pickle.dumps({"w": Widget(a=1), "n": [1, (2.0, "x")], "k": {Widget: None}}, 2))
    position = data.draw(st.integers(0, len(original) - 1))
    original[position] = data.draw(st.integers(0, 255))
    with suppress(WeightsError):
        read(bytes(original))


def test_nested_sharing_stays_small() -> None:
    # Thirty levels of a list of twice the level before: 2**30 elements if ever copied or compared.
    value: list[Any] = []
    for _ in range(30):
        value = [value, value]
    result = read(pickle.dumps(value, 2))
    assert result[0] is result[1]


def test_a_pickle_of_absurd_size_is_refused() -> None:
    with pytest.raises(WeightsError, match="no checkpoint needs"):
        read(b"N" * (MAX_PICKLE_BYTES + 1))
