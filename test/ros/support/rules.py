"""The rules of a table of parameters."""

from __future__ import annotations

import dataclasses
from typing import Any

from twodpass_ros.parameter_table import Rule


def rules_of(table: type[Any]) -> dict[str, Rule]:
    """By the names of its fields."""
    return {field.name: field.metadata["rule"] for field in dataclasses.fields(table)}
