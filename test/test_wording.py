"""Words around numbers."""

from __future__ import annotations

import pytest

from twodpass_core.wording import counted, shorten


@pytest.mark.parametrize(("number", "text"), [(0, "0 scans"), (1, "1 scan"), (2, "2 scans"), (12345, "12,345 scans")])
def test_a_noun_goes_with_its_number(number: int, text: str) -> None:
    assert counted(number, "scan") == text


def test_a_noun_that_ends_in_s() -> None:
    assert (counted(1, "process"), counted(2, "process")) == ("1 process", "2 processes")


def test_long_lists_are_cut() -> None:
    names = [str(number) for number in range(23)]
    assert shorten(names[:20]) == ", ".join(names[:20])
    assert shorten(names) == f"{', '.join(names[:20])} and 3 more"
