"""What `twodpass benchmark`, `benchmark-training` and `benchmark-kernels` do."""

from __future__ import annotations

import json
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from itertools import cycle, islice
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any, Protocol

import numpy as np
from rich.console import Console, Group

from twodpass_core.benchmark.untrained import write_untrained_weights
from twodpass_core.cli.edge import checked_settings, integers, print_whole
from twodpass_core.data.scans import open_scans, refuse_unheeded
from twodpass_core.models.student import StudentConfig
from twodpass_core.simulation import STREET_SEED, simulate_scans


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


@contextmanager
def weights_or_random(network: Path | StudentConfig) -> Iterator[Path]:
    """A weights file: the one given, or, while in use, one of that shape with random weights, which are as fast."""
    if isinstance(network, Path):
        yield network
        return
    with TemporaryDirectory() as folder:
        path = Path(folder) / "untrained.safetensors"
        write_untrained_weights(path, network)
        yield path


def print_report(report: Report, *, as_json: bool) -> None:
    if as_json:
        Console(soft_wrap=True).print_json(json.dumps(report.to_dict()))
    else:
        print_whole(report.render())
