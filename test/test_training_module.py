"""The module of a training by itself: its optimiser, clipped and skipped steps, and when it has diverged."""

from __future__ import annotations

import logging
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import torch
from torch.optim import SGD
from training_data import Blobs, tiny_config

from twodpass_core.errors import TrainingError
from twodpass_core.training.module import TrainingModule
from twodpass_core.training.network import TrainingNetwork
from twodpass_core.training.run import make_card


def make_module(step: int = 0, **changes: object) -> TrainingModule:
    """Of a training that has made so many of its steps, five in an epoch."""
    config, source = tiny_config(Path("unused"), **changes), Blobs(1)
    network = TrainingNetwork(config, source.class_map, source.grid)
    module = TrainingModule(network, config, make_card(config, network, source, images=False))
    data = SimpleNamespace(steps_per_epoch=5)
    module.trainer = SimpleNamespace(global_step=step, datamodule=data)  # type: ignore[assignment]
    return module


def set_gradients(module: TrainingModule, value: float) -> None:
    for parameter in module.parameters():
        parameter.grad = torch.full_like(parameter, value)


def gradient_norm(module: TrainingModule) -> float:
    return float(torch.cat([p.grad.flatten() for p in module.parameters() if p.grad is not None]).norm())


def optimisers(module: TrainingModule) -> tuple[SGD, Any]:
    """The optimiser and Lightning's settings of the schedule."""
    found = module.configure_optimizers()
    return found["optimizer"], found["lr_scheduler"]


def test_the_optimiser_is_that_of_the_settings() -> None:
    settings = {"learning_rate": 0.3, "momentum": 0.7, "nesterov": True, "weight_decay": 0.01}
    optimiser, _ = optimisers(make_module(optimiser=settings))
    (group,) = optimiser.param_groups
    assert {name: group[name] for name in ("momentum", "nesterov", "weight_decay")} == {
        name: settings[name] for name in ("momentum", "nesterov", "weight_decay")
    }
    assert group["initial_lr"] == 0.3
    assert optimisers(make_module(optimiser={"nesterov": False}))[0].param_groups[0]["nesterov"] is False


@pytest.mark.parametrize("max_steps", [None, 7])
def test_the_learning_rate_has_come_to_zero_at_the_last_step(max_steps: int | None) -> None:
    optimiser, schedule = optimisers(make_module(max_steps=max_steps))
    assert schedule["interval"] == "step"
    rates = []
    for _ in range(max_steps or 2 * 5):
        rates.append(optimiser.param_groups[0]["lr"])
        optimiser.step()
        schedule["scheduler"].step()
    assert min(rates) > 0
    assert optimiser.param_groups[0]["lr"] == pytest.approx(0, abs=1e-15)


def test_a_step_has_as_many_parts_as_are_left_for_it() -> None:
    module = make_module(data={"batch_size": 3}, optimiser={"accumulate": 3})
    module.trainer.num_training_batches = 8  # type: ignore[misc]
    assert [module.parts_of_step(index) for index in range(8)] == [3, 3, 3, 3, 3, 3, 2, 2]


@pytest.mark.parametrize(("limit", "norm"), [(0.5, 0.5), (None, None), (1e9, None)])
def test_gradients_are_clipped_by_the_norm_of_all_of_them(limit: float | None, norm: float | None) -> None:
    module = make_module(optimiser={"clip_norm": limit})
    optimiser, _ = optimisers(module)
    set_gradients(module, 0.1)
    before = gradient_norm(module)
    module.configure_gradient_clipping(optimiser)
    assert gradient_norm(module) == pytest.approx(norm or before, rel=1e-4)


def test_only_steps_in_a_row_end_a_training(caplog: pytest.LogCaptureFixture) -> None:
    module = make_module()
    optimiser, _ = optimisers(module)

    def skip(steps: int) -> None:
        for _ in range(steps):
            module.on_train_batch_start(None, 0)  # type: ignore[arg-type]
            set_gradients(module, float("nan"))
            module.configure_gradient_clipping(optimiser)

    with caplog.at_level(logging.WARNING):
        skip(19)
        set_gradients(module, 0.1)
        module.configure_gradient_clipping(optimiser)
        skip(19)
    assert caplog.text.count("is skipped") == 38
    with pytest.raises(TrainingError, match="20 steps in a row"):
        skip(1)


@pytest.mark.parametrize(
    ("skipped", "of", "diverged"),
    [(0, 0, False), (10, 12, False), (11, 12, True), (11, 1000, False), (50, 100, False), (51, 100, True)],
)
def test_a_training_that_ends_on_skipped_steps_has_diverged(skipped: int, of: int, diverged: bool) -> None:
    module = make_module(step=of)
    module.skipped_in_a_row = skipped
    if diverged:
        with pytest.raises(TrainingError, match=f"the last {skipped} of {of} steps had no finite gradient"):
            module.refuse_divergence()
    else:
        module.refuse_divergence()
