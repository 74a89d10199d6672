"""Words around numbers, for what people read."""

from __future__ import annotations

import re
from collections.abc import Sequence


def counted(number: int, noun: str) -> str:
    """A number with its noun: "1 scan", "2 scans", "3 processes"."""
    plural = "es" if noun.endswith("s") else "s"
    return f"{number:,} {noun}" + plural * (number != 1)


def without_numbers(text: str) -> str:
    """What a message is about, whatever its numbers are just now; those in names stay."""
    return re.sub(r"(?<![\w/])\d+(\.\d+)?", "", text)


def shorten(items: Sequence[str]) -> str:
    """At most 20 of them, for an error message."""
    return ", ".join(items[:20]) + (f" and {len(items) - 20} more" if len(items) > 20 else "")
