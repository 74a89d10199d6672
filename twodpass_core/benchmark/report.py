"""What a benchmark found, for people and for programs."""

from __future__ import annotations

from dataclasses import asdict, dataclass

from rich.console import Group
from rich.table import Table
from rich.text import Text

from twodpass_core.benchmark.machine import Machine
from twodpass_core.wording import counted


@dataclass(frozen=True)
class Measurement:
    """One way of running the network. Times in milliseconds, host points to host labels."""

    name: str
    backend: str  # of the sparse convolution; for a peer, its library
    median_ms: float
    min_ms: float
    stages_ms: dict[str, float]  # medians
    peak_memory_mb: float | None  # of loading and one run: the process beyond its imports; on CUDA, torch's


@dataclass(frozen=True)
class Agreement:
    """How the labels of one way of running compare with the first one's, in float32."""

    name: str
    equal: float  # share of points with the same label
    equal_where_clear: float | None  # the same, where the reference's best logit leads by more than `clear_margin`
    clear_share: float  # share of points where it does
    clear_margin: float
    mean_logit_error: float
    logit_spread: float  # standard deviation of the reference's logits


@dataclass(frozen=True)
class BenchmarkReport:
    """All measurements of one run; the first one is what the others are compared with."""

    machine: Machine
    network: str
    points: int
    points_in_volume: int
    repeats: int
    measurements: tuple[Measurement, ...]
    agreements: tuple[Agreement, ...]

    def to_dict(self) -> dict[str, object]:
        """Plain data, for JSON."""
        return asdict(self)

    def render(self) -> Group:
        """For a terminal."""
        lines = [
            Text(str(self.machine)),
            Text(f"{self.network}; {counted(self.points, 'point')}, {self.points_in_volume:,} in the volume"),
        ]
        return Group(*lines, self._table(), *(Text(_sentence(agreement)) for agreement in self.agreements))

    def _table(self) -> Table:
        table = Table(title=f"milliseconds per scan, median of {self.repeats}")
        table.add_column("stage")
        for measurement in self.measurements:
            table.add_column(measurement.name, justify="right")
        table.add_row("backend", *(m.backend for m in self.measurements))
        table.add_section()
        stages = list(dict.fromkeys(stage for measurement in self.measurements for stage in measurement.stages_ms))
        for stage in stages:
            table.add_row(stage, *(_number(m.stages_ms.get(stage)) for m in self.measurements))
        table.add_section()
        reference = self.measurements[0]
        table.add_row("total", *(_number(m.median_ms) for m in self.measurements))
        table.add_row("fastest", *(_number(m.min_ms) for m in self.measurements))
        table.add_row(
            f"speed, {reference.name} = 1", *(f"{reference.median_ms / m.median_ms:.2g}" for m in self.measurements)
        )
        table.add_row("peak memory, MB", *(_number(m.peak_memory_mb) for m in self.measurements))
        return table


def _number(value: float | None) -> str:
    return "" if value is None else f"{value:,.1f}"


def _sentence(agreement: Agreement) -> str:
    clear = "no points"
    if agreement.equal_where_clear is not None:
        clear = f"{agreement.equal_where_clear:.3%} of the {agreement.clear_share:.1%} of points"
    return (
        f"{agreement.name}: {agreement.equal:.2%} of the labels as in fp32; {clear} where fp32 leads by more than "
        f"{agreement.clear_margin:g}; mean |logit error| {agreement.mean_logit_error:.4f}, "
        f"spread of logits {agreement.logit_spread:.2f}"
    )
