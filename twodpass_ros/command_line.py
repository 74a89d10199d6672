"""The command line of a program: what follows --ros-args is for ROS; of the rest, a node takes --help alone."""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Any

from rclpy.utilities import remove_ros_args

from twodpass_core.errors import MissingDependencyError
from twodpass_ros.errors import NodeError
from twodpass_ros.parameter_table import describe_table

MIXED_NUMBERS = "same type"
"""In rcl's words about a list of whole and decimal numbers."""


@contextmanager
def importing_for(name: str) -> Iterator[None]:
    """A module that a program lacks within, as torch or the built messages in another shell, is told in a sentence.

    Raises MissingDependencyError.
    """
    try:
        yield
    except ModuleNotFoundError as error:
        sourced = "source venv/bin/activate and install/setup.bash in this shell, or, after make setup, .venv/ros2.sh"
        raise MissingDependencyError(str(error.name), name, sourced) from error


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


def own_arguments(arguments: Sequence[str]) -> list[str]:
    """Those that are not for ROS. Raises NodeError where those for ROS cannot be read."""
    with reading_ros_arguments():
        return list(remove_ros_args(list(arguments)))


def asks_for_help(arguments: Sequence[str]) -> bool:
    """Whether a node's arguments do. Raises NodeError where there are others that are not for ROS."""
    own = own_arguments(arguments)
    if {"-h", "--help"} & set(own):
        return True
    if own:
        raise NodeError(
            f"'{own[0]}' is not an argument of this node: parameters (-p NAME:=VALUE) and topics (-r FROM:=TO) follow "
            "--ros-args; --help lists the parameters"
        )
    return False


def print_node_help(name: str, purpose: str, parameters: type[Any]) -> None:
    """How to start a node, and the parameters of its table."""
    from rich.console import Console  # from the virtual environment, without which programs still say what they need
    from rich.table import Table
    from rich.text import Text

    table = Table(title="Parameters", title_justify="left", show_header=False, box=None, padding=(0, 2, 0, 0))
    for parameter, text in describe_table(parameters).items():
        table.add_row(parameter, Text(text))  # in which brackets are no markup
    Console().print(
        f"Usage: ros2 run twodpass_ros {name} --ros-args -p NAME:=VALUE -r FROM:=TO ...",
        f"   or: python -m twodpass_ros.{name} --ros-args ...",
        f"\n{purpose}",
        "Its scans come from another topic by -r '~/input/points:=/TOPIC'.\n",
        table,
        sep="\n",
    )
