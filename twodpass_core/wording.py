"""Words around numbers, for what people read."""

from __future__ import annotations


def counted(number: int, noun: str) -> str:
    """A number with its noun: "1 scan", "2 scans", "3 processes"."""
    plural = "es" if noun.endswith("s") else "s"
    return f"{number:,} {noun}" + plural * (number != 1)
