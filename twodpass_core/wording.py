"""Words around numbers, for what people read."""

from __future__ import annotations


def counted(number: int, noun: str) -> str:
    """A number with its noun: "1 scan", "2 scans"."""
    return f"{number:,} {noun}" + "s" * (number != 1)
