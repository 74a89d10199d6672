"""Activations that are computed again in the backward pass, to save memory, change nothing."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from torch.profiler import ProfilerActivity, profile
from training_data import Blobs, tiny_config
from training_runs import assert_same

from twodpass_core.data.batch import SampleKey, TrainingSet, collate
from twodpass_core.models.resnet import BasicBlock
from twodpass_core.training.config import TrainingConfig
from twodpass_core.training.network import IMAGE_CONVOLUTIONS, TrainingNetwork
from twodpass_core.training.recompute import recompute_in_backward

DISTILLED = {"kind": "msfskd"}


@pytest.mark.parametrize("variant", ["paper", "authors"])
@pytest.mark.parametrize("save_memory", [False, True])
def test_recomputed_activations_change_nothing(
    tmp_path: Path, variant: str, save_memory: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    changes = {
        "distillation": {**DISTILLED, "variant": variant, "width": 64},
        "machine": {"save_memory": save_memory},
    }
    recomputing = after_two_batches(tiny_config(tmp_path, **changes))
    monkeypatch.setattr("twodpass_core.training.network.recompute_in_backward", lambda *_, **__: None)
    keeping = after_two_batches(tiny_config(tmp_path, **changes))
    assert_same(recomputing.state_dict(), keeping.state_dict())
    gradients = [{name: value.grad for name, value in net.named_parameters()} for net in (recomputing, keeping)]
    assert_same(gradients[0], gradients[1])


def test_what_is_kept_is_computed_once() -> None:
    block = BasicBlock(8, 8, stride=1)
    recompute_in_backward(block, keep=IMAGE_CONVOLUTIONS)
    with profile(activities=[ProfilerActivity.CPU]) as profiled:
        block(torch.rand(2, 8, 8, 8, requires_grad=True)).sum().backward()
    times = {entry.key: entry.count for entry in profiled.key_averages()}
    assert (times["aten::_convolution"], times["aten::batch_norm"]) == (2, 4)


def test_recomputation_takes_the_batch_normalisation_of_several_gpus(tmp_path: Path) -> None:
    """Of one process on the CPU, where it is as any other."""
    config = tiny_config(tmp_path, machine={"save_memory": True})
    alone, together = (
        after_two_batches(config),
        after_two_batches(config, torch.nn.SyncBatchNorm.convert_sync_batchnorm),
    )
    assert_same(alone.state_dict(), together.state_dict())


def after_two_batches(
    config: TrainingConfig, change: Callable[[TrainingNetwork], TrainingNetwork] = lambda network: network
) -> TrainingNetwork:
    """A network with the gradients of two batches, one after the other."""
    torch.manual_seed(0)
    source = Blobs(2)
    network = change(TrainingNetwork(config, source.class_map, source.grid))
    samples = TrainingSet(source, config.augmentation, config.seed)
    for epoch in range(2):
        network(collate([samples[SampleKey(epoch, index)] for index in range(2)])).total.backward()
    return network
