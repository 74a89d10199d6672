"""What `twodpass benchmark`, `benchmark-training` and `benchmark-kernels` do."""

from __future__ import annotations

import json
from collections.abc import Sequence
from itertools import cycle, islice
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any, Literal, Protocol

import numpy as np
from rich.console import Console, Group

from twodpass_core.benchmark import run_benchmark
from twodpass_core.benchmark.report import BenchmarkReport
from twodpass_core.cli.edge import checked_settings, integers, print_whole
from twodpass_core.data.scans import open_scans, refuse_unheeded
from twodpass_core.models.student import StudentConfig
from twodpass_core.segmenter import Precision
from twodpass_core.simulation import simulate_scans
from twodpass_core.untrained import STREET_SEED, write_untrained_weights


class Report(Protocol):
    """What a benchmark found."""

    def to_dict(self) -> dict[str, object]: ...

    def render(self) -> Group: ...


def first_scan(
    path: Path | None, columns: int | None = None, topic: str | None = None, intensity_field: str | None = None
) -> np.ndarray:
    """(N, 4) points of the first scan at `path`, or of a simulated one. Raises ScanError and BagError."""
    if path is None:
        refuse_unheeded([], columns=columns, topic=topic, intensity_field=intensity_field)
        return next(simulate_scans(1, STREET_SEED)).points
    scans = open_scans([path], columns=columns, topic=topic, intensity_field=intensity_field)
    return scans[0].points.copy()  # torch wants arrays that it could write to


def batch_of_scans(paths: Sequence[Path], number: int | None) -> tuple[np.ndarray, ...]:
    """(N, 4) points of `number` scans: the first one at each path, over and over, or simulated ones.

    Without a number, each path's once, or two simulated ones. Raises ScanError and BagError.
    """
    if paths:
        return tuple(islice(cycle([first_scan(path) for path in paths]), number or len(paths)))
    return tuple(scan.points for scan in simulate_scans(number or 2, STREET_SEED))


def network_shape(width: int | None, scales: str | None) -> StudentConfig:
    """Of a network for SemanticKITTI; the published one but for what is given. ConfigError where it does not fit."""
    given: dict[str, Any] = {} if width is None else {"width": width}
    if scales is not None:
        given["scales"] = integers(scales, "--scales")
    return checked_settings(StudentConfig, given)


def measure(
    points: np.ndarray,
    network: Path | StudentConfig,
    precisions: Sequence[Precision],
    *,
    device: str,
    backends: Sequence[str],
    peer: str,
    threads: int | None,
    repeats: int,
) -> BenchmarkReport:
    """Run the benchmark, saying on stderr what it is at.

    `network`: a weights file, or the shape of one with random weights, which are as fast.
    """
    with TemporaryDirectory() as folder, Console(stderr=True).status("preparing") as status:
        weights = network if isinstance(network, Path) else Path(folder) / "untrained.safetensors"
        if isinstance(network, StudentConfig):
            write_untrained_weights(weights, network)
        return run_benchmark(
            points,
            weights,
            device=device,
            precisions=precisions,
            backends=backends,
            peer=peer,
            threads=threads,
            repeats=repeats,
            progress=status.update,
        )


def measure_steps(
    scans: tuple[np.ndarray, ...],
    precisions: Sequence[Precision],
    network: StudentConfig,
    *,
    variant: Literal["paper", "authors"],
    patch: tuple[int, int],
    device: str,
    threads: int | None,
    save_memory: bool,
    backend: str,
    repeats: int,
) -> Report:
    """Measure a training step in each number format."""
    from twodpass_core.benchmark.training import TrainingCase, measure_training

    cases = [
        TrainingCase(
            scans,
            precision,
            variant,
            width=network.width,
            scales=network.scales,
            patch=patch,
            device=device,
            threads=threads,
            save_memory=save_memory,
            backend=backend,
        )
        for precision in precisions
    ]
    with Console(stderr=True).status("measuring"):
        return measure_training(cases, repeats)


def measure_convolutions(
    points: np.ndarray, network: StudentConfig, precisions: Sequence[Precision], *, device: str, backend: str
) -> Report:
    """Measure the network's convolutions alone, saying on stderr which."""
    from twodpass_core.benchmark.kernels import measure_kernels

    with Console(stderr=True).status("preparing") as status:
        return measure_kernels(
            points, network, device=device, backend=backend, precisions=precisions, progress=status.update
        )


def print_report(report: Report, *, as_json: bool) -> None:
    if as_json:
        Console(soft_wrap=True).print_json(json.dumps(report.to_dict()))
    else:
        print_whole(report.render())
