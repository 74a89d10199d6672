"""What a training runs on, in Lightning's terms: accelerator, processes, precision."""

from __future__ import annotations

import os
from typing import Any

import torch
from lightning.pytorch.plugins import MixedPrecision
from lightning.pytorch.strategies import DDPStrategy

from twodpass_core.errors import ConfigError
from twodpass_core.training.config import MachineSettings, TrainingConfig

PRECISIONS: dict[str, Any] = {"fp32": "32-true", "bf16": "bf16-mixed", "fp16": "16-mixed"}


def trainer_options(config: TrainingConfig) -> dict[str, Any]:
    """Arguments of Lightning's Trainer, under torchrun, SLURM or on its own.

    Raises:
        ConfigError: the settings ask for GPUs that are not there.
    """
    machine = config.machine
    gpus = torch.cuda.device_count() if torch.cuda.is_available() and machine.accelerator != "cpu" else 0
    devices = _torchrun_processes() or machine.devices
    _check_gpus(machine, devices, gpus)
    processes = machine.nodes * (devices if isinstance(devices, int) else gpus or 1)
    return {
        "accelerator": "cuda" if gpus else "cpu",
        "devices": devices,
        "num_nodes": machine.nodes,
        "strategy": _strategy(config, processes),
        "sync_batchnorm": machine.sync_batch_norm,
        **_precision(machine, gpus),
    }


def _check_gpus(machine: MachineSettings, devices: int | str, gpus: int) -> None:
    if machine.accelerator == "gpu" and not gpus:
        raise ConfigError("machine.accelerator is gpu, but torch sees no CUDA device here: set it to cpu or auto")
    if machine.sync_batch_norm and not gpus:
        raise ConfigError("machine.sync_batch_norm is for GPUs, and this training runs on the CPU: set it to false")
    if gpus and isinstance(devices, int) and devices > gpus:
        raise ConfigError(f"{devices} devices are asked for, but torch sees {gpus} here: set machine.devices to less")


def _precision(machine: MachineSettings, gpus: int) -> dict[str, Any]:
    if machine.precision == "fp16" and not gpus:
        return {"plugins": MixedPrecision("16-mixed", "cpu")}  # left to itself, Lightning takes bf16 here
    return {"precision": PRECISIONS[machine.precision]}


def _strategy(config: TrainingConfig, processes: int) -> Any:
    if processes <= 1 and _torchrun_processes() is None:
        return "auto"
    # A batch may have no image: the teachers' parameters then go without gradient.
    return DDPStrategy(find_unused_parameters=config.distillation.kind != "none")


def _torchrun_processes() -> int | None:
    """Processes on this node that torchrun has started, None where it has not."""
    return int(os.environ["LOCAL_WORLD_SIZE"]) if "TORCHELASTIC_RUN_ID" in os.environ else None
