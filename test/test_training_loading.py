"""Loading that keeps up: batches for a GPU, processes that stay, and what the waiting is measured by."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from pathlib import Path
from types import SimpleNamespace
from typing import Any, cast

import pytest
import torch
from lightning.pytorch import Trainer
from recording_data import wait_for
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator  # type: ignore[import-untyped]
from torch.utils.data import DataLoader
from training_data import Blobs, tiny_config

from twodpass_core.data.augment import AugmentationConfig
from twodpass_core.data.batch import Batch, TrainingSet
from twodpass_core.data.frame import Frame
from twodpass_core.data.mixture import AllFrames
from twodpass_core.errors import MissingDependencyError, ScanError
from twodpass_core.training.batches import FrameShare, Share, TrainingBatches, load_batches, load_frames
from twodpass_core.training.config import TrainingConfig
from twodpass_core.training.data_wait import NAME, DataWait
from twodpass_core.training.loader import TrainingData
from twodpass_core.training.loading_processes import load_ahead
from twodpass_core.training.run import train

CPU, CUDA = torch.device("cpu"), torch.device("cuda")


def loader(workers: int, device: torch.device) -> DataLoader[Any]:
    samples = TrainingSet(Blobs(5), AugmentationConfig(crop=None))
    return load_batches(samples, TrainingBatches(AllFrames(5), 2, 0, Share(), lambda: 0), workers, device)


def training_data(config: TrainingConfig, device: torch.device) -> TrainingData:
    """That of a training in one process on a device, as set up by a trainer."""
    data = TrainingData(TrainingSet(Blobs(5), config.augmentation), Blobs(3), config)
    strategy = SimpleNamespace(root_device=device)
    data.trainer = cast(Trainer, SimpleNamespace(strategy=strategy, global_rank=0, world_size=1))
    return data


def test_batches_for_a_gpu_are_page_locked() -> None:
    assert loader(0, CUDA).pin_memory
    assert not loader(0, CPU).pin_memory


@pytest.mark.parametrize(("workers", "device"), [(0, CUDA), (1, CPU)])
def test_a_training_loads_for_its_device_by_its_workers(tmp_path: Path, workers: int, device: torch.device) -> None:
    data = training_data(tiny_config(tmp_path, data={"workers": workers}), device)
    for loading in (data.train_dataloader(), data.val_dataloader()):
        assert isinstance(loading, DataLoader)
        assert loading.num_workers == workers
    assert data.train_dataloader().pin_memory == (device == CUDA)


def test_the_last_step_of_an_epoch_may_have_fewer_parts(tmp_path: Path) -> None:
    """Five frames, each a part of its own."""
    assert training_data(tiny_config(tmp_path, optimiser={"accumulate": 2}), CPU).steps_per_epoch == 3


def test_the_seed_decides_the_order_of_frames(tmp_path: Path) -> None:
    class Noting(Blobs):
        """Has the order in which its frames are read."""

        def __init__(self) -> None:
            super().__init__(8)
            self.read: list[int] = []

        def __getitem__(self, index: int) -> Frame:
            self.read.append(index)
            return super().__getitem__(index)

    frames = Noting(), Noting()
    for seed, source in enumerate(frames):
        train(tiny_config(tmp_path / str(seed), epochs=1, seed=seed), training=source)
    first, second = (source.read for source in frames)
    assert sorted(first) == sorted(second) == list(range(8))
    assert first != second


def test_loading_draws_none_of_the_numbers_that_a_network_may_draw() -> None:
    before = torch.get_rng_state()
    list(loader(0, CPU))
    assert torch.equal(torch.get_rng_state(), before)


class Signalled:
    """All that load are told to stop while an item is made."""

    def __getitem__(self, key: int) -> int:
        for number in (signal.SIGTERM, signal.SIGINT):
            for process in (os.getpid(), os.getppid()):  # the parent is the server that it is forked from
                os.kill(process, number)
        return key


def test_what_stops_a_training_does_not_stop_those_that_load_for_it() -> None:
    assert list(load_ahead(Signalled(), range(6), processes=2)) == list(range(6))
    assert not signal.pthread_sigmask(signal.SIG_BLOCK, []) & {signal.SIGTERM, signal.SIGINT}  # but the training


@pytest.mark.skipif(not torch.cuda.is_available(), reason="page-locked memory needs a GPU")
def test_batches_reach_a_gpu_from_page_locked_memory() -> None:
    for batch in loader(1, CUDA):
        assert batch.points.is_pinned()
        assert batch.images.is_pinned()
        assert batch.to("cuda", non_blocking=True).points.is_cuda


def test_loading_processes_stay_from_epoch_to_epoch_and_give_the_same_batches() -> None:
    alone, shared = loader(0, CPU), loader(1, CPU)
    for _ in range(2):
        for mine, theirs in zip(alone, shared, strict=True):
            assert isinstance(mine, Batch)
            assert mine.frame_ids == theirs.frame_ids
            assert torch.equal(mine.points, theirs.points)
        (process,) = shared._iterator._workers  # type: ignore[union-attr]
        assert process.is_alive()
    first = process.pid
    next(iter(shared))
    assert shared._iterator._workers[0].pid == first  # type: ignore[union-attr]


class Unreadable(Blobs):
    """Its second frame is damaged."""

    def __init__(self, error: Exception) -> None:
        super().__init__(3)
        self.error = error

    def __getitem__(self, index: int) -> Frame:
        if index == 1:
            raise self.error
        return super().__getitem__(index)


@pytest.mark.filterwarnings("error")
def test_there_are_no_more_processes_than_processors() -> None:
    assert loader(10_000, torch.device("cpu")).num_workers == len(os.sched_getaffinity(0))


@pytest.mark.parametrize("workers", [0, 1])
def test_an_error_in_loading_is_the_same_whichever_process_loads(workers: int) -> None:
    errors = ScanError("a.bin: is cut off"), OSError(5, "broken", "b.bin"), MissingDependencyError("cv", "it", "do so")
    for error in errors if workers == 0 else errors[2:]:
        frames = iter(load_frames(FrameShare(Unreadable(error), Share()), workers))
        next(frames)
        with pytest.raises(type(error)) as raised:
            next(frames)
        assert str(raised.value) == str(error)
        assert "in __getitem__" in str(raised.value.__cause__)  # for --debug


LOADING = (
    "from test_training_loading import CPU, loader\nloader = loader(1, CPU)\nbatches = iter(loader)\nnext(batches)\n"
)
"""A script for which a process still loads when it is at its end."""


@pytest.mark.slow
def test_a_program_ends_while_others_load_for_it() -> None:
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join(sys.path)}
    subprocess.run([sys.executable, "-c", LOADING], env=environment, check=True, timeout=120)


@pytest.mark.slow
def test_loading_processes_end_with_a_process_that_is_killed() -> None:
    script = LOADING + "print(loader._iterator._workers[0].pid, flush=True)\ninput()\n"
    path = os.pathsep.join(sys.path)
    with subprocess.Popen(
        [sys.executable, "-c", script],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
        env={**os.environ, "PYTHONPATH": path},
    ) as process:
        assert process.stdout is not None
        worker = Path("/proc") / process.stdout.readline().strip()
        assert worker.exists()
        process.kill()
    wait_for(lambda: not worker.exists())


def test_frames_are_given_as_they_are() -> None:
    source = Blobs(3)
    loaded = load_frames(FrameShare(source, Share()), 0)
    assert [frame.id for frame in loaded if frame is not None] == list(source.ids)


@pytest.mark.parametrize(("frames", "processes"), [(1, 2), (5, 2), (4, 4), (5, 3)])
def test_processes_validate_each_frame_once_and_equally_long(frames: int, processes: int) -> None:
    shares = [FrameShare(Blobs(frames), Share(rank, processes)) for rank in range(processes)]
    assert len({len(share) for share in shares}) == 1
    entries = [share[position] for share in shares for position in range(len(share))]
    assert sorted(frame.id for frame in entries if frame is not None) == list(Blobs(frames).ids)


def test_images_stay_channels_last_on_their_way() -> None:
    batch = next(iter(loader(0, CPU)))
    assert batch.images.is_contiguous(memory_format=torch.channels_last)
    assert batch.to("meta").images.is_contiguous(memory_format=torch.channels_last)


def test_the_share_of_waiting_is_that_between_steps() -> None:
    times = iter([0.0, 2.0, 5.0, 6.0, 10.0])  # the epoch, then begin and end of two steps
    logged: dict[str, float] = {}
    logger = SimpleNamespace(log_metrics=lambda metrics, step: logged.update(metrics))
    trainer, module = cast(Trainer, SimpleNamespace(logger=logger, global_step=2)), cast(Any, None)
    wait = DataWait(now=lambda: next(times))
    wait.on_train_epoch_start(trainer, module)
    for index in range(2):
        wait.on_train_batch_start(trainer, module, None, index)
        wait.on_train_batch_end(trainer, module, None, None, index)
    wait.on_train_epoch_end(trainer, module)
    assert logged == {NAME: (2 + 1) / 10}


def test_a_training_shows_it(tmp_path: Path) -> None:
    train(tiny_config(tmp_path / "run"), training=Blobs(4))
    events = EventAccumulator(str(tmp_path / "run/tensorboard"))
    events.Reload()
    shares = [event.value for event in events.Scalars(NAME)]
    assert len(shares) == 2
    assert all(0 <= share <= 1 for share in shares)
