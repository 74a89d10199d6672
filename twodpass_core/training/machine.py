"""What a training runs on, in Lightning's terms: accelerator, processes, precision."""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any, Literal

import torch
from lightning.fabric.plugins.environments.slurm import SLURMEnvironment
from lightning.fabric.utilities.rank_zero import rank_zero_only
from lightning.pytorch.plugins import MixedPrecision
from lightning.pytorch.plugins.layer_sync import TorchSyncBatchNorm
from lightning.pytorch.strategies import DDPStrategy
from torch import distributed, nn

from twodpass_core.errors import ConfigError
from twodpass_core.training.checkpoint_io import WholeCheckpoints
from twodpass_core.training.config import MachineSettings, TrainingConfig
from twodpass_core.wording import counted

OTHER_MACHINES = ("MASTER_ADDR", "MASTER_PORT", "NODE_RANK")
"""What Lightning finds them by, without torchrun and SLURM."""
PRECISIONS: dict[str, Any] = {"fp32": "32-true", "bf16": "bf16-mixed", "fp16": "16-mixed"}


@dataclass(frozen=True)
class Processes:
    """How many train together: `nodes` machines, with `per_node` processes on each (auto: one for each GPU)."""

    nodes: int
    per_node: int | Literal["auto"]


def trainer_options(config: TrainingConfig) -> dict[str, Any]:
    """Arguments of Lightning's Trainer, under torchrun, SLURM or on its own.

    Raises:
        ConfigError: the settings ask for GPUs that are not there, for machines that do not know of each other, or for a
            batch that cannot be shared out evenly.
    """
    machine = config.machine
    gpus = torch.cuda.device_count() if torch.cuda.is_available() and machine.accelerator != "cpu" else 0
    processes = _launched() or _own_processes(machine)
    _check_gpus(machine, processes, gpus)
    half_on_cpu = machine.precision == "fp16" and not gpus
    number = processes.nodes * (gpus or 1 if processes.per_node == "auto" else processes.per_node)
    _check_batch(config, number)
    return {
        "accelerator": "cuda" if gpus else "cpu",
        "devices": processes.per_node,
        "num_nodes": processes.nodes,
        # A batch may have no image: the teachers' parameters then go without gradient.
        "strategy": "auto" if number == 1 else DDPStrategy(find_unused_parameters=config.distillation.kind != "none"),
        "precision": None if half_on_cpu else PRECISIONS[machine.precision],
        "plugins": list(_plugins(half_on_cpu, machine.sync_batch_norm)),
    }


class StudentSyncBatchNorm(TorchSyncBatchNorm):
    """Statistics over all GPUs in the student alone.

    The image network runs only where a batch has an image: waiting for each other in it, processes would for ever.
    """

    def apply(self, model: nn.Module) -> nn.Module:
        """`model` is the TrainingModule."""
        network = model.get_submodule("network")
        network.student = super().apply(network.get_submodule("student"))
        return model


def _launched() -> Processes | None:
    """What torchrun or SLURM (srun) has started; None where this process starts the others."""
    if _in_torchrun():
        per_node = int(os.environ["LOCAL_WORLD_SIZE"])
        return Processes(int(os.environ["WORLD_SIZE"]) // per_node, per_node)
    if _slurm():
        return Processes(int(os.environ.get("SLURM_NNODES", 1)), int(os.environ.get("SLURM_NTASKS_PER_NODE", 1)))
    return None


def _own_processes(machine: MachineSettings) -> Processes:
    """What this process is to start. Raises ConfigError where it could not find the other machines."""
    if machine.nodes > 1 and (missing := [name for name in OTHER_MACHINES if name not in os.environ]):
        raise ConfigError(
            f"{machine.nodes} machines (--nodes, machine.nodes) find each other by torchrun or SLURM: start it "
            f"by one of these, or set {', '.join(missing)} on each"
        )
    return Processes(machine.nodes, machine.devices)


def is_first_process() -> bool:
    """Whether this is the first of the processes that train together."""
    # Before it has started processes of its own, a machine's first one has no rank but that of its machine.
    return getattr(rank_zero_only, "rank", 0) == 0 and int(os.environ.get("NODE_RANK", 0)) == 0


@contextmanager
def leaving_processes() -> Iterator[None]:
    """Ends the connection to other processes that is made inside.

    Lightning leaves it open between processes on CPUs, and its threads then abort some that end.
    """
    before = _is_connected()
    try:
        yield
    finally:
        if not before and _is_connected():
            distributed.destroy_process_group()


def _is_connected() -> bool:
    return distributed.is_available() and distributed.is_initialized()


def _check_gpus(machine: MachineSettings, processes: Processes, gpus: int) -> None:
    if machine.accelerator == "gpu" and not gpus:
        raise ConfigError("machine.accelerator is gpu, but torch sees no CUDA device here: set it to cpu or auto")
    if machine.sync_batch_norm and not gpus:
        raise ConfigError("machine.sync_batch_norm is for GPUs, and this training runs on the CPU: set it to false")
    if gpus and processes.per_node != "auto" and processes.per_node > gpus:
        raise ConfigError(f"{processes.per_node} devices are asked for, but torch sees {gpus} here: ask for less")


def _check_batch(config: TrainingConfig, processes: int) -> None:
    size, parts = config.data.batch_size, config.optimiser.accumulate
    if size % (processes * parts):
        among = counted(processes, "process")
        raise ConfigError(
            f"data.batch_size {size} cannot be divided evenly over {among} with {counted(parts, 'part')} each "
            f"(optimiser.accumulate): choose a multiple of {processes * parts}"
        )


def _in_torchrun() -> bool:
    return "TORCHELASTIC_RUN_ID" in os.environ


def _slurm() -> SLURMEnvironment | None:
    """What srun has started, if it has. Raises ConfigError where it did so in a way that Lightning cannot work with."""
    if _in_torchrun():
        return None
    try:
        # Requeued, a job would run the same command again, without --resume.
        return SLURMEnvironment(auto_requeue=False) if SLURMEnvironment.detect() else None
    except RuntimeError as error:
        raise ConfigError(f"SLURM: {error}") from error


def _plugins(half_on_cpu: bool, sync_batch_norm: bool) -> Iterator[Any]:
    """What Lightning would otherwise choose in a way of its own."""
    yield WholeCheckpoints()
    if sync_batch_norm:
        yield StudentSyncBatchNorm()
    if half_on_cpu:
        yield MixedPrecision("16-mixed", "cpu")  # not bf16
    if slurm := _slurm():
        yield slurm
