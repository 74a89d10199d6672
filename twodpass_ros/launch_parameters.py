"""How launch files hand their arguments to a node, so that these go before what a file of parameters says."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from launch import LaunchContext
from launch.actions import OpaqueFunction
from launch.substitutions import LaunchConfiguration
from launch_ros.actions import Node, SetParameter
from launch_ros.parameter_descriptions import ParameterValue


def node_with_arguments(types: Mapping[str, Any], **node: Any) -> OpaqueFunction:
    """A launch_ros `Node`, with those launch arguments as parameters that are not empty.

    In a file, entries for all nodes (`/**:`) and for this one (`/NAME:`) are both heeded, and that which stands last
    wins. An argument takes the place of an entry with its own key only; so it is given with both.

    Args:
        types: names of launch arguments, which are those of parameters, and the parameters' types.
        node: what `Node` takes.
    """

    def start(context: LaunchContext) -> list[Any]:
        values = {name: LaunchConfiguration(name) for name in types}
        given = {
            name: ParameterValue(value, value_type=types[name])
            for name, value in values.items()
            if value.perform(context) != ""
        }
        for_all_nodes = [SetParameter(name, value) for name, value in given.items()]
        return [*for_all_nodes, Node(**node, parameters=[given] if given else None)]

    return OpaqueFunction(function=start)
