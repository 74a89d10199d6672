"""The parameters of the node `segment`."""

from __future__ import annotations

import dataclasses
import math
from typing import get_args

from twodpass_core.choices import DEVICE, DEVICES, BackendName, Precision
from twodpass_ros.parameter_table import one_of, parameter


@dataclasses.dataclass(frozen=True)
class SegmentParameters:
    """A snapshot of all parameters."""

    weights: str = parameter(
        "",
        "Weights file (.safetensors). Empty, or default: the weights that come with twodpass.",
        fixed_at_work=True,
    )
    device: str = parameter(
        "auto",
        "Where the network runs; auto: the first GPU, else the CPU.",
        constraint=DEVICES,
        accepts=DEVICE.fullmatch,
        fixed_at_work=True,
    )
    precision: Precision = parameter(  # noqa: RUF009
        "fp32",
        "Arithmetic of the network; bf16 and fp16 are faster where the device has them.",
        fixed_at_work=True,
        **one_of(*get_args(Precision)),
    )
    backend: str = parameter(
        "auto",
        "Implementation of the sparse convolutions; auto: on CUDA the first that works of torchsparse, triton, torch.",
        fixed_at_work=True,
        **one_of(*get_args(BackendName)),
    )
    threads: int = parameter(
        0,
        "CPU threads of the network; 0: as many as there are processors, or as OMP_NUM_THREADS says. Leave out those "
        "that other programs keep busy: each scan waits for the slowest thread.",
        minimum=0,
        maximum=1024,
        fixed_at_work=True,
    )
    autostart: bool = parameter(
        True,
        "Configure and activate at start; false: wait for lifecycle transitions.",
        read_only=True,
    )
    intensity_field: str = parameter(
        "",
        "Field of the input cloud with the intensity. Empty: found by name (intensity, i, reflectivity, ...); "
        "none: 0 at every point.",
    )
    intensity_scale: float = parameter(
        1.0,
        "Factor from the sensor's intensity to the unit of the weights' training data (`twodpass info WEIGHTS`).",
        constraint="a number above 0",
        accepts=lambda value: math.isfinite(value) and value > 0.0,
    )
    training_from_sensor: tuple[float, ...] = parameter(
        (0.0,) * 6,
        "Pose of the sensor in the frame the weights were trained in: x, y, z [m], roll, pitch, yaw [rad]. "
        "That frame: x forward, y left, z up, origin at the training sensor's height. nuScenes': y forward, x right; "
        "in it a sensor whose x is forward has yaw 1.5708.",
        constraint="six finite numbers",
        accepts=lambda value: len(value) == 6 and all(map(math.isfinite, value)),
    )
    votes: int = parameter(
        1,
        "Passes a scan, each with the scan rotated about z; their scores are averaged. Time grows with it.",
        minimum=1,
        maximum=36,
    )
    input_timeout: float = parameter(
        2.0,
        "Seconds without a scan after which the diagnostics say ERROR.",
        minimum=0.1,
        maximum=3600.0,
    )
    late_after: float = parameter(
        1.0,
        "Seconds from a scan's receipt to its labelled cloud, beyond which it counts as late in the diagnostics.",
        minimum=0.001,
        maximum=3600.0,
    )
