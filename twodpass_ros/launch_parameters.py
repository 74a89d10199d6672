"""How launch files hand their arguments to a node, so that these go before what a file of parameters says."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from launch import LaunchContext
from launch.actions import OpaqueFunction
from launch.substitutions import LaunchConfiguration
from launch_ros.actions import Node
from launch_ros.descriptions import Parameter, ParameterValue


def node_with_arguments(types: Mapping[str, Any], **node: Any) -> OpaqueFunction:
    """A launch_ros `Node`, whose parameters are those of `params_file` and the launch arguments that are not empty.

    In a file, entries for all nodes (`/**:`) and for this one (`/NAME:`) are both heeded, and that which stands last
    wins. An argument takes the place of an entry with its own key only; so it is given with both.

    All are given to this node itself. What SetParameter and SetParametersFromFile add outlasts the group they are in,
    and reaches other nodes, where a launch file that includes ours has set a parameter before.

    Args:
        types: names of launch arguments, which are those of parameters, and the parameters' types.
        node: what `Node` takes.
    """

    def start(context: LaunchContext) -> list[Any]:
        values = {name: LaunchConfiguration(name) for name in types}
        given = {name: value for name, value in values.items() if value.perform(context) != ""}
        for_all_nodes = [Parameter(name, value, value_type=types[name]) for name, value in given.items()]
        for_this_one = {name: ParameterValue(value, value_type=types[name]) for name, value in given.items()}
        arguments = [*for_all_nodes, for_this_one] if given else []
        return [Node(**node, parameters=[_params_file(context), *arguments])]

    return OpaqueFunction(function=start)


def _params_file(context: LaunchContext) -> Path:
    """As given; ~ is the home folder. Raises RuntimeError where it is not there: launch_ros would go on without it."""
    path = Path(LaunchConfiguration("params_file").perform(context)).expanduser()
    if not path.is_file():
        raise RuntimeError(f"params_file {path}: there is no such file")
    return path
