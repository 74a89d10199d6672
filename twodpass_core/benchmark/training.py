"""How fast a training step is, and how much memory it takes: student, image network, distillation and SGD."""

from __future__ import annotations

import statistics
import time
from collections.abc import Sequence
from dataclasses import asdict, dataclass, field, replace

import numpy as np
import numpy.typing as npt
import torch
from rich.console import Group
from rich.table import Table
from rich.text import Text
from torch.optim import SGD

from twodpass_core.benchmark.machine import Machine, using_threads
from twodpass_core.benchmark.memory import peak_bytes
from twodpass_core.benchmark.prepared import Prepared
from twodpass_core.benchmark.scans import count_points, turned
from twodpass_core.choices import Precision, Variant
from twodpass_core.classes import ClassMap
from twodpass_core.data.batch import Batch
from twodpass_core.data.sample import given_points
from twodpass_core.device import choose_device, current_device
from twodpass_core.models.student import StudentConfig, StudentShape
from twodpass_core.process import return_large_blocks
from twodpass_core.segmenter import DTYPES
from twodpass_core.sparse.backend import make_backend
from twodpass_core.sparse.grid import KITTI_GRID
from twodpass_core.training.config import TrainingConfig
from twodpass_core.training.network import TrainingNetwork
from twodpass_core.wording import counted

FIELD_OF_VIEW = 0.55  # radians that the image sees of the scan: of 480 of KITTI's 1241 columns
WARM_UP = 2  # steps; the optimiser's momentum is made in the first


@dataclass(frozen=True, eq=False)
class TrainingCase:
    """A step on scans (N, 4), with SemanticKITTI's classes and volume; labels and images are random numbers."""

    scans: tuple[npt.NDArray[np.float32], ...]
    precision: Precision = "fp32"
    network: StudentConfig = field(default_factory=StudentConfig)
    variant: Variant = "authors"
    patch: tuple[int, int] = (480, 320)  # width, height
    device: str = "auto"
    threads: int | None = None
    save_memory: bool = False
    backend: str = "auto"

    def prepare(self) -> Prepared[None]:
        """Make the networks; what comes back takes one step on a batch."""
        if self.save_memory:
            return_large_blocks()
        device = choose_device(self.device)
        config = TrainingConfig.model_validate(
            {
                "student": self.network.model_dump(include=set(StudentShape.model_fields)),
                "distillation": {"variant": self.variant},
                "machine": {"save_memory": self.save_memory},
            }
        )
        network = TrainingNetwork(config, ClassMap.load("semantickitti"), KITTI_GRID).to(device)
        network.student.backend = make_backend(self.backend, device, [DTYPES[self.precision]], self.network.width)
        optimiser = SGD(network.parameters(), lr=1e-3, momentum=0.9, nesterov=True, weight_decay=1e-4)
        mixed = self.precision != "fp32"

        def step(batch: Batch) -> None:
            with current_device(device):
                optimiser.zero_grad(set_to_none=True)
                with torch.autocast(device.type, DTYPES[self.precision], enabled=mixed):
                    terms = network(batch)
                terms.total.backward()
                torch.nn.utils.clip_grad_norm_(network.parameters(), 1.0)
                optimiser.step()
                if device.type == "cuda":
                    torch.cuda.synchronize(device)

        return Prepared(step, network.student.backend.name)

    def __call__(self) -> None:
        """Make all and take steps, for a measurement of memory."""
        with using_threads(self.threads):
            step = self.prepare()
            for repeat in range(WARM_UP):
                step(self.batch(repeat))

    def batch(self, repeat: int) -> Batch:
        """The scans, turned a little more at every repeat, on the device."""
        rng = np.random.default_rng(repeat)
        moved = (turned(scan, repeat) for scan in self.scans)
        scans = [scan[given_points(scan, KITTI_GRID)] for scan in moved]
        points = np.concatenate(scans)
        sample = np.repeat(np.arange(len(scans)), [len(scan) for scan in scans])
        seen = np.flatnonzero(np.abs(np.arctan2(points[:, 1], points[:, 0])) < FIELD_OF_VIEW / 2)
        width, height = self.patch
        pixels = np.stack([sample[seen], rng.integers(height, size=len(seen)), rng.integers(width, size=len(seen))], 1)
        batch = Batch(
            frame_ids=tuple(str(index) for index in range(len(scans))),
            points=torch.from_numpy(points),
            sample=torch.from_numpy(sample),
            labels=torch.from_numpy(rng.integers(self.network.num_classes, size=len(points))),
            images=torch.from_numpy(rng.random((len(scans), 3, height, width), np.float32)),
            image_points=torch.from_numpy(seen),
            pixels=torch.from_numpy(pixels),
        )
        return batch.to(choose_device(self.device))


@dataclass(frozen=True)
class StepMeasurement:
    """Medians and peaks of one precision. Memory is beyond the process's imports: networks, optimiser and step."""

    precision: str
    backend: str
    seconds: float
    scans_per_second: float
    peak_memory_mb: float | None


@dataclass(frozen=True)
class TrainingReport:
    """Steps of one network on one batch, in several number formats."""

    machine: Machine
    network: str
    scans: int
    points: int
    repeats: int
    measurements: tuple[StepMeasurement, ...]

    def to_dict(self) -> dict[str, object]:
        """Plain data, for JSON."""
        return asdict(self)

    def render(self) -> Group:
        """For a terminal."""
        batch = f"{counted(self.scans, 'scan')} of {counted(self.points, 'point')}"
        title = f"training step on {batch}, median of {self.repeats}"
        table = Table("precision", "backend", "seconds a step", "scans/s", "peak memory, MB", title=title)
        for entry in self.measurements:
            peak = "" if entry.peak_memory_mb is None else f"{entry.peak_memory_mb:,.0f}"
            speed = f"{entry.seconds:.3f}", f"{entry.scans_per_second:.2f}"
            table.add_row(entry.precision, entry.backend, *speed, peak)
        return Group(Text(str(self.machine)), Text(self.network), table)


def measure_training(case: TrainingCase, precisions: Sequence[Precision], repeats: int) -> TrainingReport:
    """Time a case's steps in each precision in turn, after a warm-up, and their memory, each in a process of its own.

    Raises:
        ScanError: no point of a scan is a return in the volume.
        BenchmarkError: the memory that a step takes cannot be measured.
    """
    for scan in case.scans:
        count_points(scan, KITTI_GRID)
    device = choose_device(case.device)
    cases = [replace(case, precision=precision) for precision in precisions]
    peaks = [peak_bytes(case, device) for case in cases]
    with using_threads(case.threads):
        steps = [case.prepare() for case in cases]
        seconds: list[list[float]] = [[] for _ in cases]
        for repeat in range(WARM_UP + repeats):
            batch = case.batch(repeat)
            for step, times in zip(steps, seconds, strict=True):
                started = time.perf_counter()
                step(batch)
                if repeat >= WARM_UP:
                    times.append(time.perf_counter() - started)
        return TrainingReport(
            machine=Machine.of(device),
            network=_described(case),
            scans=len(case.scans),
            points=sum(map(len, case.scans)),
            repeats=repeats,
            measurements=tuple(map(_measurement, cases, steps, seconds, peaks)),
        )


def _measurement(case: TrainingCase, step: Prepared[None], seconds: list[float], peak: int | None) -> StepMeasurement:
    median = statistics.median(seconds)
    speed = median, len(case.scans) / median
    return StepMeasurement(case.precision, step.backend, *speed, None if peak is None else peak / 1e6)


def _described(case: TrainingCase) -> str:
    scales, patch = ",".join(map(str, case.network.scales)), "x".join(map(str, case.patch))
    saved = ", saving memory" if case.save_memory else ""
    return f"{case.variant} variant, width {case.network.width}, scales {scales}, images {patch}{saved}"
