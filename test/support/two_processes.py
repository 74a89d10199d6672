"""Run by torchrun in test_training_processes.py: a tiny training; each process writes down what it did."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Any

import torch
from lightning.pytorch import Callback, LightningModule, Trainer
from training_data import Blobs, tiny_config

from twodpass_core.data.frame import Frame
from twodpass_core.training.config import TrainingConfig
from twodpass_core.training.run import train

FRAMES, VALIDATION_FRAMES = 5, 3


def make_config(run: Path) -> TrainingConfig:
    return tiny_config(
        run, epochs=1, distillation={"kind": "msfskd"}, optimiser={"clip_norm": None}, checkpoint_steps=99
    )


class Noting(Blobs):
    """Notes which frames are read."""

    def __init__(self, frames: int, seed: int = 0) -> None:
        super().__init__(frames, seed)
        self.read: list[int] = []

    def __getitem__(self, index: int) -> Frame:
        self.read.append(index)
        return super().__getitem__(index)


class Witness(Callback):
    """Keeps the gradients of the first step, and in the end the parameters."""

    def __init__(self) -> None:
        self.gradients: dict[str, torch.Tensor] = {}
        self.parameters: dict[str, torch.Tensor] = {}

    def on_before_optimizer_step(self, trainer: Trainer, pl_module: LightningModule, optimizer: Any) -> None:
        if not self.gradients:
            named = pl_module.named_parameters()
            self.gradients = {name: value.grad.clone() for name, value in named if value.grad is not None}

    def on_train_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        self.parameters = {name: value.detach().clone() for name, value in pl_module.named_parameters()}
        self.mean_iou = float(trainer.callback_metrics["val/mean_iou"])
        self.rank = trainer.global_rank


if __name__ == "__main__":
    folder = Path(sys.argv[1])
    torch.set_num_threads(1)
    witness, training, validation = Witness(), Noting(FRAMES), Noting(VALIDATION_FRAMES, seed=1)
    train(make_config(folder / "run"), training=training, validation=validation, callbacks=[witness])
    content = {
        "gradients": witness.gradients,
        "parameters": witness.parameters,
        "mean_iou": witness.mean_iou,
        "trained_on": training.read,
        "validated_on": validation.read,
    }
    torch.save(content, folder / f"rank{witness.rank}.pt")
