"""YAML that people write."""

from __future__ import annotations

import pytest
import yaml
from hypothesis import given
from hypothesis import strategies as st

from twodpass_core.yaml_files import read_yaml

TEXT = st.text(st.characters(categories=["L", "N", "P"]))  # PyYAML itself does not write line separators that it reads
SCALARS = st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False) | TEXT
VALUES = st.recursive(SCALARS, lambda inner: st.lists(inner) | st.dictionaries(TEXT | st.integers(), inner))


@given(VALUES)
def test_what_yaml_writes_is_read(value: object) -> None:
    assert read_yaml(yaml.safe_dump(value, allow_unicode=True)) == value


@pytest.mark.parametrize("text", ["a: 1\nb: 2\na: 1\n", "{x: {y: 1, 'y': 2}}", "- {1: a, 1: b}"])
def test_a_key_that_is_there_twice_is_refused_with_its_place(text: str) -> None:
    with pytest.raises(yaml.YAMLError, match=r"(?s)duplicate key.*line \d"):
        read_yaml(text)


def test_keys_of_other_mappings_and_merged_ones_may_be_the_same() -> None:
    text = "base: &base {a: 1, b: 2}\nown: {<<: *base, a: 3}\nlist: [{a: 1}, {a: 2}]\n1: x\n'1': y\n"
    assert read_yaml(text) == {
        "base": {"a": 1, "b": 2},
        "own": {"a": 3, "b": 2},
        "list": [{"a": 1}, {"a": 2}],
        1: "x",
        "1": "y",
    }


@pytest.mark.parametrize("text", ["2024-02-28", "2024-02-30", "2024-02-28 12:30:00"])
def test_dates_are_text(text: str) -> None:
    assert read_yaml(f"run: {text}") == {"run": text}


@pytest.mark.parametrize(
    "value", ["!!map [a]", "!!map a", "!!bool z", "!!timestamp 2024-02-30", "!!timestamp a", "0x_", "!!int a"]
)
def test_text_that_does_not_fit_its_tag_is_told_with_its_place(value: str) -> None:
    with pytest.raises(yaml.YAMLError, match=r"(?s)line 2"):
        read_yaml(f"good: 1\nbad: {value}\n")


@pytest.mark.parametrize("text", ["[" * 2000, "a: &a [*a]", "&a {a: *a}"])
def test_what_has_no_end_is_a_yaml_error(text: str) -> None:
    with pytest.raises(yaml.YAMLError):
        read_yaml(text)


@pytest.mark.parametrize("text", ["{[1, 2]: a}", "{{a: 1}: b}", "!!python/object/apply:os.getcwd []"])
def test_what_is_no_plain_value_is_a_yaml_error(text: str) -> None:
    with pytest.raises(yaml.YAMLError):
        read_yaml(text)
