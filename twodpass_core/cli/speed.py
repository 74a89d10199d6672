"""What `twodpass benchmark` and `twodpass benchmark-training` do."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Literal

import numpy as np
from rich.console import Console

from twodpass_core.benchmark import run_benchmark
from twodpass_core.benchmark.report import BenchmarkReport
from twodpass_core.data.scans import open_scans
from twodpass_core.errors import ScanError
from twodpass_core.segmenter import Precision
from twodpass_core.simulation import simulate_scans
from twodpass_core.untrained import STREET_SEED, write_untrained_weights


def first_scan(path: Path | None, columns: int | None, topic: str | None) -> np.ndarray:
    """(N, 4) points of the first scan at `path`, or of a simulated one. Raises ScanError and BagError."""
    if path is None:
        return next(simulate_scans(1, STREET_SEED)).points
    for scan in open_scans([path], columns=columns, topic=topic):
        return scan.points
    raise ScanError(f"{path}: holds no scan")


def first_scans(paths: Sequence[Path], number: int) -> tuple[np.ndarray, ...]:
    """(N, 4) points of the first scan at each path, or of `number` simulated ones. Raises ScanError and BagError."""
    if paths:
        return tuple(first_scan(path, None, None) for path in paths)
    return tuple(scan.points for scan in simulate_scans(number, STREET_SEED))


def print_training_benchmark(
    scans: tuple[np.ndarray, ...],
    precisions: Sequence[Precision],
    *,
    variant: Literal["paper", "authors"],
    width: int,
    patch: tuple[int, int],
    device: str,
    threads: int | None,
    save_memory: bool,
    backend: str,
    repeats: int,
) -> None:
    """Measure a training step in each number format and print the table."""
    from twodpass_core.benchmark.training import TrainingCase, measure_training, training_table

    cases = [
        TrainingCase(scans, entry, variant, width, patch, device, threads, save_memory, backend) for entry in precisions
    ]
    with Console(stderr=True).status("measuring"):
        measurements = measure_training(cases, repeats)
    Console().print(training_table(cases[0], measurements))


def measure(
    points: np.ndarray,
    weights: Path | None,
    precisions: Sequence[Precision],
    *,
    device: str,
    backends: Sequence[str],
    peer: str,
    threads: int | None,
    repeats: int,
) -> BenchmarkReport:
    """Run the benchmark, saying on stderr what it is at. Without weights: random ones, which are as fast."""
    with TemporaryDirectory() as folder, Console(stderr=True).status("preparing") as status:
        if weights is None:
            weights = Path(folder) / "untrained.safetensors"
            write_untrained_weights(weights)
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


def print_report(report: BenchmarkReport, *, as_json: bool) -> None:
    output = Console(soft_wrap=as_json)
    if as_json:
        output.print_json(json.dumps(report.to_dict()))
    else:
        output.print(report.render())
