"""Data whose form is checked where it comes in: settings, cards of weights, class maps."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from pydantic import BaseModel, ConfigDict, ValidationError


class Checked(BaseModel):
    """Immutable; keys that it does not have, and numbers that are not finite, are refused by pydantic's error."""

    model_config = ConfigDict(frozen=True, extra="forbid", allow_inf_nan=False)


PLAINER = {
    "model_type": "must have keys and values",
    "model_attributes_type": "must have keys and values",
    "dict_type": "must have keys and values",
    "path_type": "must be a path",
    "tuple_type": "must be a list",
}
"""Plain words for what pydantic says in terms of Python, by its type of problem."""
BOUNDS = ("greater_than", "greater_than_equal", "less_than", "less_than_equal")
"""Types of problem with a number, which is not in pydantic's message."""


def describe_problems(error: ValidationError) -> str:
    """pydantic's problems in one line, each with the place it is at."""
    return "; ".join(_describe_problem(dict(problem)) for problem in error.errors())


def plain_message(problem: Mapping[str, Any]) -> str:
    """What is wrong, of one of pydantic's problems."""
    return PLAINER.get(problem["type"], str(problem["msg"]).removeprefix("Value error, "))


def _describe_problem(problem: Mapping[str, Any]) -> str:
    place = ".".join(map(str, problem["loc"]))
    message = plain_message(problem)
    if problem["type"] in BOUNDS:
        message += f", not {problem['input']}"
    if place == "format_version":
        return f"{message} (format {problem['input']!r}): a newer twodpass wrote it, update this one"
    return f"{place}: {message}" if place else message
