"""The parameters of the node `segment`: one table, from which they are declared, described, checked and read."""

from __future__ import annotations

import dataclasses
import math
import re
from collections.abc import Callable, Sequence
from typing import Any

from rcl_interfaces.msg import FloatingPointRange, IntegerRange, ParameterDescriptor, SetParametersResult
from rclpy.node import Node
from rclpy.parameter import Parameter

from twodpass_core.segmenter import Precision


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
    fixed_while_loaded: bool = False
    """Used when the weights are loaded: a change would silently do nothing until they are loaded again."""


def _parameter(default: Any, description: str, **rule: Any) -> Any:
    return dataclasses.field(default=default, metadata={"rule": Rule(description, **rule)})


def _one_of(*choices: str) -> dict[str, Any]:
    return {"constraint": "one of " + ", ".join(choices), "accepts": choices.__contains__}


@dataclasses.dataclass(frozen=True)
class Parameters:
    """A snapshot of all parameters."""

    weights: str = _parameter(
        "",
        "Weights file (.safetensors). Empty: the weights that come with twodpass.",
        fixed_while_loaded=True,
    )
    device: str = _parameter(
        "auto",
        "Where the network runs; auto: the first GPU, else the CPU.",
        constraint="auto, cpu, cuda or cuda:N",
        accepts=re.compile(r"auto|cpu|cuda(:\d+)?").fullmatch,
        fixed_while_loaded=True,
    )
    precision: Precision = _parameter(  # noqa: RUF009
        "fp32",
        "Arithmetic of the network; bf16 and fp16 are faster where the device has them.",
        fixed_while_loaded=True,
        **_one_of("fp32", "bf16", "fp16"),
    )
    backend: str = _parameter(
        "auto",
        "Implementation of the sparse convolutions.",
        fixed_while_loaded=True,
        **_one_of("auto", "torch"),
    )
    autostart: bool = _parameter(
        True,
        "Configure and activate at start; false: wait for lifecycle transitions.",
        read_only=True,
    )
    intensity_field: str = _parameter(
        "",
        "Field of the input cloud with the intensity. Empty: found by name (intensity, i, reflectivity, ...).",
    )
    intensity_scale: float = _parameter(
        1.0,
        "Factor from the sensor's intensity to the unit of the weights' training data (`twodpass info WEIGHTS`).",
        constraint="a number above 0",
        accepts=lambda value: math.isfinite(value) and value > 0.0,
    )
    training_from_sensor: tuple[float, ...] = _parameter(
        (0.0,) * 6,
        "Pose of the sensor in the frame the weights were trained in: x, y, z [m], roll, pitch, yaw [rad]. "
        "That frame: x forward, y left, z up, origin at the training sensor's height.",
        constraint="six finite numbers",
        accepts=lambda value: len(value) == 6 and all(map(math.isfinite, value)),
    )
    votes: int = _parameter(
        1,
        "Passes a scan, each with the scan rotated about z; their scores are averaged. Time grows with it.",
        minimum=1,
        maximum=36,
    )
    input_timeout: float = _parameter(
        2.0,
        "Seconds without a scan after which the diagnostics say ERROR.",
        minimum=0.1,
        maximum=3600.0,
    )
    late_after: float = _parameter(
        1.0,
        "Seconds from a scan's receipt to its labelled cloud, beyond which it counts as late in the diagnostics.",
        minimum=0.001,
        maximum=3600.0,
    )


RULES: dict[str, Rule] = {field.name: field.metadata["rule"] for field in dataclasses.fields(Parameters)}


def declare_parameters(node: Node, is_loaded: Callable[[], bool]) -> None:
    """Declares every parameter and has each change checked; `is_loaded` says whether the weights are loaded.

    Raises rclpy's ParameterException when a value given at start is refused.
    """

    def check(parameters: Sequence[Parameter[Any]]) -> SetParametersResult:
        reasons = [reason for parameter in parameters if (reason := _refusal(parameter, is_loaded()))]
        return SetParametersResult(successful=not reasons, reason="; ".join(reasons))

    node.add_on_set_parameters_callback(check)
    for field in dataclasses.fields(Parameters):
        default = list(field.default) if isinstance(field.default, tuple) else field.default
        node.declare_parameter(field.name, default, _descriptor(RULES[field.name]))


def read_parameters(node: Node) -> Parameters:
    """The values as they are now."""
    values = {name: node.get_parameter(name).value for name in RULES}
    values["training_from_sensor"] = tuple(values["training_from_sensor"])
    return Parameters(**values)


def _refusal(parameter: Parameter[Any], loaded: bool) -> str | None:
    """Why a value is not taken. Types, ranges and read-only ones are rclpy's to check, from the descriptor."""
    rule = RULES.get(parameter.name)
    if rule is None or parameter.type_ == Parameter.Type.NOT_SET:
        return None
    if not rule.accepts(parameter.value):
        return f"{parameter.name} must be {rule.constraint}, not {parameter.value!r}"
    if rule.fixed_while_loaded and loaded:
        return f"{parameter.name} is read when the weights are loaded: deactivate or clean up first"
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
