"""Parameters of a node as one table, a dataclass: from it they are declared, described, checked and read."""

from __future__ import annotations

import dataclasses
import json
from array import array
from collections.abc import Callable, Collection, Sequence
from difflib import get_close_matches
from typing import Any, TypeVar

from rcl_interfaces.msg import FloatingPointRange, IntegerRange, ParameterDescriptor, SetParametersResult
from rclpy.exceptions import ParameterException, ParameterUninitializedException
from rclpy.node import Node
from rclpy.parameter import Parameter

from twodpass_ros.errors import NodeError

Table = TypeVar("Table")

ROS_PREFIX = "qos_overrides."
"""Of parameters that are ROS's own and declared later, with the topics; the others are declared with the node."""


@dataclasses.dataclass(frozen=True)
class Rule:
    """What a parameter means and which values it takes."""

    description: str
    constraint: str = ""
    """For people: which values are accepted, where type and range do not say it."""
    accepts: Callable[[Any], bool] = lambda _: True
    minimum: int | float | None = None
    maximum: int | float | None = None
    read_only: bool = False
    fixed_at_work: bool = False
    """Read when the node's work begins: a change would silently do nothing until it begins again."""


def parameter(default: Any, description: str, **rule: Any) -> Any:
    """A field of a table: its default and its Rule."""
    return dataclasses.field(default=default, metadata={"rule": Rule(description, **rule)})


def one_of(*choices: str) -> dict[str, Any]:
    """The part of a rule that takes these values only."""
    return {"constraint": "one of " + ", ".join(choices), "accepts": choices.__contains__}


def describe_table(table: type[Any]) -> dict[str, str]:
    """Name of every field -> what it means, which values it takes, and its default as a command line has it."""
    return {field.name: _description(field) for field in _fields(table)}


def declare_table(node: Node, table: type[Any], at_work: Callable[[], str]) -> None:
    """Declares every field of a table as a parameter and has each change checked.

    `at_work` says why those cannot be changed now that are `fixed_at_work`, and what to do first; "": they can.
    Raises NodeError when a value given at start is refused.
    """
    fields = {field.name: field for field in _fields(table)}

    def check(parameters: Sequence[Parameter[Any]]) -> SetParametersResult:
        ours = [parameter for parameter in parameters if parameter.name in fields]
        reasons = [reason for parameter in ours if (reason := _refusal(parameter, fields[parameter.name], at_work()))]
        return SetParametersResult(successful=not reasons, reason="; ".join(reasons))

    node.add_on_set_parameters_callback(check)
    for field in fields.values():
        default = list(field.default) if isinstance(field.default, tuple) else field.default
        try:
            node.declare_parameter(field.name, default, _descriptor(field.metadata["rule"]))
        except ParameterException as error:
            raise NodeError(_sentence(error, field.name)) from error
    _warn_of_unknown(node, fields)


def read_table(node: Node, table: type[Table]) -> Table:
    """The values as they are now."""
    return table(**{field.name: _value(node, field) for field in _fields(table)})


def _sentence(error: ParameterException, name: str) -> str:
    """What is wrong with a parameter's value, without what each version of rclpy puts around it."""
    reason = str(error.args[0]).removesuffix(f": {name}").rpartition("Reason: ")[2]
    return reason + _how_to_write(reason, name)


def _how_to_write(reason: str, name: str) -> str:
    """The value of a parameter, after rclpy's reason for not taking one of another type."""
    given, _, expected = reason.rpartition("expecting")
    if "ARRAY" in expected and "ARRAY" not in given:
        return f"; a list is written in brackets, {name}:='[FIRST, SECOND]'"
    return "; whole numbers are written with a decimal point, 1.0" if "DOUBLE" in expected else ""


def _fields(table: type[Any]) -> tuple[dataclasses.Field[Any], ...]:
    return dataclasses.fields(table)


def _warn_of_unknown(node: Node, known: Collection[str]) -> None:
    """Of values given at start for no parameter. They are not refused: a file may hold those of other nodes, too."""
    unknown = []
    for name in node._parameter_overrides:  # rclpy has no public way to ask
        if not node.has_parameter(name) and not name.startswith(ROS_PREFIX):
            near = get_close_matches(name, known, n=1)
            unknown.append(f"{name} (did you mean {near[0]}?)" if near else name)
    if unknown:
        node.get_logger().warning(f"Ignored, as this node has no parameter of that name: {', '.join(unknown)}")


def _description(field: dataclasses.Field[Any]) -> str:
    rule: Rule = field.metadata["rule"]
    is_bounded = rule.minimum is not None and rule.maximum is not None
    takes = f"{rule.minimum:,} to {rule.maximum:,}" if is_bounded else rule.constraint
    details = "; ".join(filter(None, (takes, f"default {json.dumps(field.default)}")))
    return f"{rule.description} [{details}]"


def _value(node: Node, field: dataclasses.Field[Any]) -> Any:
    if not isinstance(field.default, tuple):
        return node.get_parameter(field.name).value
    try:
        return tuple(node.get_parameter(field.name).value)
    except ParameterUninitializedException:  # `[]` says of no type that it is empty
        return ()


def _refusal(parameter: Parameter[Any], field: dataclasses.Field[Any], at_work: str) -> str | None:
    """Why a value is not taken. Types, ranges and read-only ones are rclpy's to check, from the descriptor."""
    rule: Rule = field.metadata["rule"]
    value = list(parameter.value) if isinstance(parameter.value, array) else parameter.value
    if parameter.type_ == Parameter.Type.NOT_SET:  # `[]`, which says of no type that it is empty
        if not isinstance(field.default, tuple):
            return f"{parameter.name} must have a value"
        value = []
    if not rule.accepts(value):
        return f"{parameter.name} must be {rule.constraint}, not {value!r}"
    if rule.fixed_at_work and at_work:
        return f"{parameter.name} {at_work}"
    return None


def _descriptor(rule: Rule) -> ParameterDescriptor:
    descriptor = ParameterDescriptor(
        description=rule.description, additional_constraints=rule.constraint, read_only=rule.read_only
    )
    if isinstance(rule.minimum, int) and isinstance(rule.maximum, int):
        descriptor.integer_range = [IntegerRange(from_value=rule.minimum, to_value=rule.maximum, step=1)]
    elif rule.minimum is not None and rule.maximum is not None:
        descriptor.floating_point_range = [FloatingPointRange(from_value=rule.minimum, to_value=rule.maximum)]
    return descriptor
