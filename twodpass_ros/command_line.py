"""The command line of a program: what follows --ros-args is for ROS, the rest is its own."""

from __future__ import annotations

import re
from collections.abc import Iterator
from contextlib import contextmanager

from twodpass_ros.errors import NodeError

MIXED_NUMBERS = "same type"
"""In rcl's words about a list of whole and decimal numbers."""


@contextmanager
def reading_ros_arguments() -> Iterator[None]:
    """What rclpy has to say inside against what follows --ros-args becomes a NodeError of one line."""
    try:
        yield
    except RuntimeError as error:  # all that rclpy's own errors have in common
        text = re.sub(r"\s*, at [^\s,]+:\d+", "", str(error))  # places in rcl's sources
        text = text.removeprefix("failed to initialize rcl: ")
        hint = ". Write all numbers of a list alike, with a decimal point: 0.0" if MIXED_NUMBERS in text else ""
        raise NodeError(f"ROS arguments cannot be read: {text}{hint}") from error
