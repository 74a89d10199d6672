"""What a training runs on: what is refused, and that weights are written whatever its layers have become."""

from __future__ import annotations

from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import torch
from lightning.fabric.plugins.environments.slurm import SLURMEnvironment
from lightning.pytorch.plugins.layer_sync import LayerSync
from lightning.pytorch.strategies import DDPStrategy
from table_backend import TableBackend
from torch import nn
from torch.nn.modules.batchnorm import _BatchNorm
from training_data import Blobs, tiny_config

from twodpass_core.data.batch import SampleKey, TrainingSet, collate
from twodpass_core.errors import ConfigError
from twodpass_core.models.folded import FoldedStudent
from twodpass_core.sparse import backend
from twodpass_core.sparse.backend import SparseBackend
from twodpass_core.training.machine import is_first_process, trainer_options
from twodpass_core.training.module import TrainingModule
from twodpass_core.training.network import TrainingNetwork
from twodpass_core.training.run import make_card, train


@pytest.mark.parametrize(
    ("machine", "message"),
    [
        ({"accelerator": "gpu"}, r"machine\.accelerator is gpu, but torch sees no CUDA device"),
        ({"accelerator": "cpu", "sync_batch_norm": True}, r"machine\.sync_batch_norm is for GPUs"),
    ],
)
def test_without_a_gpu_what_needs_one_is_refused(
    machine: dict[str, Any], message: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    with pytest.raises(ConfigError, match=message):
        trainer_options(tiny_config(tmp_path, machine=machine))


def test_more_gpus_than_there_are_are_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 2)
    with pytest.raises(ConfigError, match="3 devices are asked for, but torch sees 2"):
        trainer_options(tiny_config(tmp_path, machine={"accelerator": "auto", "devices": 3}, data={"batch_size": 3}))
    assert trainer_options(tiny_config(tmp_path, machine={"accelerator": "auto"}))["accelerator"] == "cuda"


TORCHRUN = {"TORCHELASTIC_RUN_ID": "1", "LOCAL_WORLD_SIZE": "4", "WORLD_SIZE": "8"}
SLURM = {"SLURM_NTASKS": "8", "SLURM_NTASKS_PER_NODE": "4", "SLURM_NNODES": "2", "SLURM_JOB_NAME": "train"}


def test_srun_in_a_way_that_lightning_cannot_work_with_is_told_what_to_change(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name, value in {"SLURM_NTASKS": "2", "SLURM_JOB_NAME": "train"}.items():
        monkeypatch.setenv(name, value)
    with pytest.raises(ConfigError, match=r"^SLURM: You set `--ntasks=2` .*Use `--ntasks-per-node=2`"):
        trainer_options(tiny_config(tmp_path))


@pytest.mark.parametrize("environment", [TORCHRUN, SLURM, TORCHRUN | SLURM | {"SLURM_NNODES": "1"}])
def test_processes_are_those_that_were_started(
    environment: dict[str, str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name, value in environment.items():
        monkeypatch.setenv(name, value)
    options = trainer_options(tiny_config(tmp_path, data={"batch_size": 8}))
    assert (options["num_nodes"], options["devices"]) == (2, 4)
    assert isinstance(options["strategy"], DDPStrategy)
    requeue = [plugin.auto_requeue for plugin in options["plugins"] if isinstance(plugin, SLURMEnvironment)]
    assert requeue == ([] if "TORCHELASTIC_RUN_ID" in environment else [False])


def test_machines_that_cannot_find_each_other_are_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    config = tiny_config(tmp_path, data={"batch_size": 2}, machine={"nodes": 2})
    with pytest.raises(ConfigError, match=r"2 machines .* torchrun or SLURM.* or set MASTER_ADDR, MASTER_PORT, NODE_R"):
        trainer_options(config)
    for name, value in {"MASTER_ADDR": "first", "MASTER_PORT": "29500", "NODE_RANK": "1"}.items():
        monkeypatch.setenv(name, value)
    assert trainer_options(config)["num_nodes"] == 2
    assert not is_first_process()
    monkeypatch.setenv("NODE_RANK", "0")
    assert is_first_process()


def test_statistics_over_all_gpus_are_the_students_alone(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The image network does not run in a process whose batch has no image: the others would wait for it."""
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 2)
    machine = {"accelerator": "auto", "devices": 2, "sync_batch_norm": True}
    config, source = tiny_config(tmp_path, machine=machine, distillation={"kind": "msfskd"}), Blobs(1)
    options = trainer_options(config)
    assert not options.get("sync_batchnorm")  # Lightning's own is of all networks
    (sync,) = (plugin for plugin in options["plugins"] if isinstance(plugin, LayerSync))
    network = TrainingNetwork(config, source.class_map, source.grid)
    module = sync.apply(TrainingModule(network, config, make_card(config, network, source, images=True)))
    norms = [layer for layer in network.student.modules() if isinstance(layer, _BatchNorm)]
    assert {type(layer) for layer in norms} == {nn.SyncBatchNorm}
    others = [layer for layer in module.modules() if isinstance(layer, nn.SyncBatchNorm)]
    assert len(others) == len(norms)


def test_a_batch_that_cannot_be_shared_out_is_refused_before_a_folder_is_made(tmp_path: Path) -> None:
    config = tiny_config(tmp_path / "run", data={"batch_size": 4}, optimiser={"accumulate": 3}, machine={"devices": 2})
    with pytest.raises(
        ConfigError, match=r"batch_size 4 .* over 2 processes with 3 parts each .*: choose a multiple of 6$"
    ):
        train(config)
    assert not (tmp_path / "run").exists()


def test_one_process_needs_no_strategy(tmp_path: Path) -> None:
    assert trainer_options(tiny_config(tmp_path))["strategy"] == "auto"


def test_a_backend_is_tried_in_the_formats_of_training_and_of_validation(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    trials: list[tuple[object, ...]] = []

    def noting(*trial: object) -> SparseBackend:
        trials.append(trial)
        return TableBackend()

    monkeypatch.setattr(backend, "_make_triton", noting)
    config = tiny_config(tmp_path, machine={"precision": "bf16", "backend": "triton"}, student={"width": 6})
    source, device = Blobs(1), torch.device("cpu")
    network = TrainingNetwork(config, source.class_map, source.grid)
    module = TrainingModule(network, config, make_card(config, network, source, images=False))
    module.trainer = SimpleNamespace(strategy=SimpleNamespace(root_device=device))  # type: ignore[assignment]
    module.setup("fit")
    assert network.student.backend.name == "table"
    assert module.deployed_student().backend.name == "table"  # validated with it, too
    assert trials == [(device, (torch.bfloat16, torch.float32), 6)]


def test_synchronised_batch_normalisation_is_deployed_as_any_other(tmp_path: Path) -> None:
    config, source = tiny_config(tmp_path), Blobs(1)
    network = TrainingNetwork(config, source.class_map, source.grid)
    network(collate([TrainingSet(source, config.augmentation)[SampleKey(0, 0)]]))  # moves the running statistics
    module = TrainingModule(network, config, make_card(config, network, source, images=False))
    before = module.deployed_student().state_dict()
    nn.SyncBatchNorm.convert_sync_batchnorm(network)  # as Lightning does on several GPUs
    generator = torch.get_rng_state()
    student = module.deployed_student()
    assert torch.equal(torch.get_rng_state(), generator)
    assert all(torch.equal(value, before[name]) for name, value in student.state_dict().items())
    FoldedStudent(student, torch.float32, torch.device("cpu"))
