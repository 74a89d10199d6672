"""Run the network several ways on one scan, in turn, and measure."""

from __future__ import annotations

import platform
import statistics
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
import numpy.typing as npt
import torch

from twodpass_core.benchmark.memory import peak_memory_bytes
from twodpass_core.benchmark.report import Agreement, BenchmarkReport, Measurement
from twodpass_core.benchmark.spconv_peer import SpconvStudent
from twodpass_core.errors import ConfigError
from twodpass_core.models.student import PointVoxelStudent
from twodpass_core.segmenter import Precision, Segmenter, choose_device
from twodpass_core.sparse.backend import make_backend
from twodpass_core.weights import Card, load_weights

CLEAR_MARGIN = 0.5  # logits; where the best class leads by more, rounding should not decide
PEERS = ("none", "unfolded", "spconv")


@dataclass
class _Contender:
    """One way of running the network: gives the seconds of its stages, or of the whole."""

    name: str
    run: Callable[[], Mapping[str, float]]
    totals: list[float] = field(default_factory=list)
    stages: list[Mapping[str, float]] = field(default_factory=list)
    peak_bytes: int | None = None

    def measure(self) -> None:
        started = time.perf_counter()
        stages = self.run()
        self.totals.append(time.perf_counter() - started)
        self.stages.append(stages)

    def measurement(self) -> Measurement:
        names = self.stages[0].keys()
        return Measurement(
            name=self.name,
            median_ms=statistics.median(self.totals) * 1e3,
            min_ms=min(self.totals) * 1e3,
            stages_ms={name: statistics.median(stages[name] for stages in self.stages) * 1e3 for name in names},
            peak_memory_mb=None if self.peak_bytes is None else self.peak_bytes / 1e6,
        )


def run_benchmark(
    points: npt.NDArray[np.float32],
    weights: Path,
    *,
    device: str = "auto",
    precisions: Sequence[Precision] = ("fp32", "bf16"),
    backend: str = "auto",
    peer: str = "none",
    threads: int | None = None,
    repeats: int = 10,
    progress: Callable[[str], None] = lambda _: None,
) -> BenchmarkReport:
    """Time `Segmenter.segment` on one scan (N, 4), from host points to host labels, in turn with a peer.

    Args:
        peer: `unfolded` (the trainable network as it is), `spconv` (as the authors run it; must be installed) or
            `none`. The peer comes first in the report, and times are given as shares of its time.
        threads: CPU threads; None leaves torch's choice.
        progress: told what is being done.

    Raises:
        WeightsError, ConfigError: as Segmenter.from_weights; unknown peer.
        MissingDependencyError: the peer is not installed.
    """
    if peer not in PEERS:
        raise ConfigError(f"unknown peer '{peer}': choose {', '.join(PEERS)}")
    if repeats < 1:
        raise ConfigError(f"repeats must be at least 1, not {repeats}")
    torch.set_num_threads(threads or torch.get_num_threads())
    segmenters = {name: Segmenter.from_weights(weights, device, name, backend) for name in precisions}
    card, chosen = next(iter(segmenters.values())).card, choose_device(device)
    inside = card.grid.contains(torch.from_numpy(points))
    contenders = [_contender(name, segmenter, points) for name, segmenter in segmenters.items()]
    if peer != "none":
        contenders.insert(0, _peer(peer, weights, points[inside.numpy()], chosen))
    for contender in contenders:
        progress(f"warming up {contender.name}")
        contender.peak_bytes = peak_memory_bytes(contender.run, chosen)
    for repeat in range(repeats):
        progress(f"measuring, {repeat + 1} of {repeats}")
        for contender in contenders:
            contender.measure()
    return BenchmarkReport(
        machine=_machine(chosen),
        network=_network(card),
        points=len(points),
        points_in_volume=int(inside.sum()),
        threads=torch.get_num_threads(),
        repeats=repeats,
        measurements=tuple(contender.measurement() for contender in contenders),
        agreements=_agreements(segmenters, points),
    )


def _contender(name: str, segmenter: Segmenter, points: npt.NDArray[np.float32]) -> _Contender:
    return _Contender(name, lambda: segmenter.segment(points).stage_seconds)


def _peer(name: str, weights: Path, inside: npt.NDArray[np.float32], device: torch.device) -> _Contender:
    card, state_dict = load_weights(weights)
    student = PointVoxelStudent(card.architecture, card.grid, make_backend("torch"))
    student.load_state_dict(state_dict)
    student.to(device).eval()
    network = SpconvStudent(student, device) if name == "spconv" else lambda points: student(points).logits

    def run() -> Mapping[str, float]:
        with torch.no_grad():
            network(torch.tensor(inside, device=device)).argmax(dim=1).cpu()
        return {}

    return _Contender(name, run)


def _agreements(segmenters: Mapping[Precision, Segmenter], points: npt.NDArray[np.float32]) -> tuple[Agreement, ...]:
    if "fp32" not in segmenters:
        return ()
    reference = segmenters["fp32"].segment(points, return_scores=True)
    answered = reference.class_id != 255
    assert reference.scores is not None
    logits = reference.scores[answered]
    first_two = np.partition(logits[:, 1:], -2, axis=1)[:, -2:]
    clear = first_two[:, 1] - first_two[:, 0] > CLEAR_MARGIN
    found = []
    for name, segmenter in segmenters.items():
        if name == "fp32":
            continue
        other = segmenter.segment(points, return_scores=True)
        assert other.scores is not None
        equal = other.class_id[answered] == reference.class_id[answered]
        found.append(
            Agreement(
                name=name,
                equal=float(equal.mean()),
                equal_where_clear=float(equal[clear].mean()) if clear.any() else None,
                clear_share=float(clear.mean()),
                clear_margin=CLEAR_MARGIN,
                mean_logit_error=float(np.abs(other.scores[answered] - logits).mean()),
                logit_spread=float(logits.std()),
            )
        )
    return tuple(found)


def _network(card: Card) -> str:
    architecture = card.architecture
    scales = ",".join(str(scale) for scale in architecture.scales)
    trained = "" if card.trained else ", UNTRAINED"
    return f"{card.class_map.name}, width {architecture.width}, scales {scales}{trained}"


def _machine(device: torch.device) -> str:
    if device.type == "cuda":
        return f"{torch.cuda.get_device_name(device)}, torch {torch.__version__}"
    return f"{_cpu_name()}, torch {torch.__version__}"


def _cpu_name() -> str:
    try:
        lines = Path("/proc/cpuinfo").read_text().splitlines()
    except OSError:
        return platform.processor() or platform.machine()
    return next((line.split(":", 1)[1].strip() for line in lines if line.startswith("model name")), platform.machine())
