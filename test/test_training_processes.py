"""Two processes (gloo) train as one would."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import torch
from lightning.pytorch import seed_everything
from training_data import Blobs, tiny_config
from two_processes import FRAMES, VALIDATION_FRAMES, make_config

from twodpass_core.benchmark.machine import using_threads
from twodpass_core.data.batch import TrainingSet, collate
from twodpass_core.data.mixture import AllFrames
from twodpass_core.evaluation.evaluate import evaluate
from twodpass_core.segmenter import Segmenter
from twodpass_core.training.batches import Share, TrainingBatches
from twodpass_core.training.config_text import dump_config
from twodpass_core.training.network import TrainingNetwork

SCRIPT = Path(__file__).parent / "support/two_processes.py"
Ranks = tuple[dict[str, Any], dict[str, Any]]


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("two")
    torchrun = [sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc-per-node", "2"]
    path = os.pathsep.join([str(SCRIPT.parents[2]), os.environ.get("PYTHONPATH", "")])
    command = [*torchrun, str(SCRIPT), str(folder)]
    done = subprocess.run(command, capture_output=True, text=True, timeout=300, env={**os.environ, "PYTHONPATH": path})
    assert done.returncode == 0, done.stderr[-4000:]
    return folder


@pytest.fixture(scope="module")
def ranks(folder: Path) -> Ranks:
    first, second = (torch.load(folder / f"rank{rank}.pt") for rank in range(2))
    return first, second


def test_mean_iou_is_that_of_one_process_exactly(folder: Path, ranks: Ranks) -> None:
    frames = Blobs(VALIDATION_FRAMES, seed=1)
    segmenter = Segmenter.from_weights(folder / "run/weights.safetensors", device="cpu")
    alone = evaluate(segmenter, [frames[index] for index in range(VALIDATION_FRAMES)])
    expected = torch.tensor(alone.scores.mean_iou).item()  # logs are float32
    assert [rank["mean_iou"] for rank in ranks] == [expected, expected]


def test_parameters_are_the_same_on_both(ranks: Ranks) -> None:
    one, other = (rank["parameters"] for rank in ranks)
    assert one
    assert all(torch.equal(one[name], other[name]) for name in one)


def test_no_frame_is_seen_twice(ranks: Ranks) -> None:
    trained = [*ranks[0]["trained_on"], *ranks[1]["trained_on"]]
    assert len(set(trained)) == len(trained) == FRAMES - 1  # the odd one sits out
    assert sorted([*ranks[0]["validated_on"], *ranks[1]["validated_on"]]) == list(range(VALIDATION_FRAMES))


@pytest.fixture
def one_thread() -> Iterator[None]:
    """As the processes: with another number of threads sums are rounded in another way, and units near zero switch."""
    with using_threads(1):
        yield


@pytest.mark.usefixtures("one_thread")
def test_the_gradient_is_the_mean_of_the_halves(ranks: Ranks, tmp_path: Path) -> None:
    config = make_config(tmp_path)
    halves = []
    for rank in range(2):
        seed_everything(config.seed, verbose=False)
        source = Blobs(FRAMES)
        network = TrainingNetwork(config, source.class_map, source.grid)
        (keys, *_) = TrainingBatches(AllFrames(FRAMES), 1, config.seed, Share(rank, 2), lambda: 0)
        samples = TrainingSet(source, config.augmentation, config.seed)
        network(collate([samples[key] for key in keys])).total.backward()
        halves.append({f"network.{name}": value.grad for name, value in network.named_parameters()})
    for name, gradient in ranks[0]["gradients"].items():
        left, right = halves[0][name], halves[1][name]
        assert left is not None
        assert right is not None
        mean = (left + right) / 2
        assert float((gradient - mean).abs().max()) <= 1e-6 * max(float(mean.abs().max()), 1.0), name
        assert torch.equal(gradient, ranks[1]["gradients"][name])


def test_warnings_come_once(tmp_path: Path) -> None:
    seen = {"streets": 4, "frames": 1, "beams": 16, "columns": 64, "image_width": 104}
    source = {"kind": "simulation", "simulation": seen}
    settings = tiny_config(
        tmp_path / "run",
        epochs=1,
        data={"train": source, "validation": None},
        augmentation={"crop": (64, 24)},
        distillation={"kind": "msfskd"},
        optimiser={"warmup_steps": 99},
    )
    (tmp_path / "two.yaml").write_text(dump_config(settings))
    command = [sys.executable, "-m", "twodpass_core", "train", str(tmp_path / "two.yaml"), "--devices", "2"]
    done = subprocess.run(command, capture_output=True, text=True, timeout=300, env={**os.environ, "COLUMNS": "200"})
    assert done.returncode == 0, done.stderr[-4000:]
    assert [line[:40] for line in done.stderr.splitlines() if line] == ["the learning rate is to rise over 99 ste"]
