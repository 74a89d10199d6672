"""Run the network several ways on one scan, in turn, and measure."""

from __future__ import annotations

import logging
import statistics
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from itertools import product
from pathlib import Path
from typing import cast, get_args

import numpy as np
import numpy.typing as npt

from twodpass_core.benchmark.machine import Machine, using_threads
from twodpass_core.benchmark.memory import peak_bytes
from twodpass_core.benchmark.peer import PEER_BACKENDS, prepare_peer
from twodpass_core.benchmark.prepared import Prepared
from twodpass_core.benchmark.report import Agreement, BenchmarkReport, Measurement
from twodpass_core.benchmark.scans import count_points, turned
from twodpass_core.choices import Peer, Precision
from twodpass_core.classes import UNLABELLED
from twodpass_core.device import choose_device
from twodpass_core.errors import ConfigError, MissingDependencyError
from twodpass_core.segmenter import DTYPES, Segmenter
from twodpass_core.weights import Card, read_card

logger = logging.getLogger(__name__)

CLEAR_MARGIN = 0.5  # logits; where the best class leads by more, rounding should not decide


@dataclass(frozen=True, eq=False)
class Contender:
    """One way of running the network on one scan: what a process of its own needs to know to do it."""

    kind: str  # a precision, or a peer
    weights: Path
    points: npt.NDArray[np.float32]  # (N, 4)
    device: str
    backend: str
    name: str  # in the report
    threads: int
    optional: bool = False  # left out where it is not installed or does not work

    def prepare(self) -> Prepared[Mapping[str, float]]:
        """Load the network; what comes back runs it on points (N, 4) and gives its stages' seconds, if it tells any."""
        if self.kind in DTYPES:
            segmenter = self.segmenter()
            return Prepared(lambda points: segmenter.segment(points).stage_seconds, segmenter.backend)
        return prepare_peer(self.kind, self.weights, choose_device(self.device), self.backend)

    def segmenter(self) -> Segmenter:
        return Segmenter.from_weights(self.weights, self.device, cast(Precision, self.kind), self.backend)

    def __call__(self) -> None:
        """Load and run once, for a measurement of memory."""
        with using_threads(self.threads):
            self.prepare()(self.points)


def run_benchmark(
    points: npt.NDArray[np.float32],
    weights: Path,
    *,
    device: str = "auto",
    precisions: Sequence[Precision] = ("fp32", "bf16"),
    backends: Sequence[str] = ("auto",),
    peer: Peer = "none",
    threads: int | None = None,
    repeats: int = 10,
    progress: Callable[[str], None] = lambda _: None,
) -> BenchmarkReport:
    """Time `Segmenter.segment` on one scan (N, 4), from host points to host labels, in turn with a peer.

    Every repeat turns the scan a little (`turned`).

    Args:
        backends: implementations of the sparse convolution; each runs in every precision.
        peer: `unfolded` (the trainable network as it is, on the first of the backends), `torchsparse` (the same, with
            that library's convolutions), `spconv` (as the authors run it; either must be installed), `none`, or `auto`:
            `spconv` where it is installed and works. The peer comes first in the report, and times are given as shares
            of its time.
        threads: CPU threads; None leaves torch's choice.
        progress: told what is being done.

    Raises:
        WeightsError, ConfigError: as Segmenter.from_weights; unknown peer.
        ScanError: no point of the scan is a return in the volume.
        MissingDependencyError: the peer is not installed.
        BenchmarkError: the memory that a scan takes cannot be measured.
    """
    if peer not in get_args(Peer):
        raise ConfigError(f"unknown peer '{peer}': choose {', '.join(get_args(Peer))}")
    if repeats < 1:
        raise ConfigError(f"repeats must be at least 1, not {repeats}")
    with using_threads(threads) as cpu_threads:
        card, chosen = read_card(weights), choose_device(device)
        points_in_volume = count_points(points, card.grid)
        make = partial(Contender, weights=weights, points=points, device=device, threads=cpu_threads)
        contenders, runs = [], []
        for contender in _wanted(make, peer, precisions, backends):
            progress(f"loading {contender.name}")
            if run := _warmed_up(contender):
                contenders.append(contender)
                runs.append(run)
        totals: list[list[float]] = [[] for _ in runs]
        stages: list[list[Mapping[str, float]]] = [[] for _ in runs]
        for repeat in range(repeats):
            progress(f"measuring, {repeat + 1} of {repeats}")
            scan = turned(points, repeat + 1)
            for index, run in enumerate(runs):
                started = time.perf_counter()
                stages[index].append(run(scan))
                totals[index].append(time.perf_counter() - started)
        progress("measuring memory")
        peaks = [peak_bytes(contender, chosen) for contender in contenders]
        return BenchmarkReport(
            machine=Machine.of(chosen),
            network=_network(card),
            points=len(points),
            points_in_volume=points_in_volume,
            repeats=repeats,
            measurements=tuple(map(_measurement, contenders, runs, totals, stages, peaks)),
            agreements=_agreements([contender for contender in contenders if contender.kind in precisions]),
        )


def _wanted(
    make: Callable[..., Contender], peer: Peer, precisions: Sequence[Precision], backends: Sequence[str]
) -> Iterator[Contender]:
    """The peer, if any, then every precision on every backend."""
    if peer != "none":
        kind = "spconv" if peer == "auto" else peer
        yield make(kind=kind, backend=PEER_BACKENDS.get(kind, backends[0]), name=kind, optional=peer == "auto")
    for precision, backend in product(precisions, backends):
        name = precision if len(backends) == 1 else f"{precision} {backend}"
        yield make(kind=precision, backend=backend, name=name)


def _warmed_up(contender: Contender) -> Prepared[Mapping[str, float]] | None:
    """Ready, and run once, since the first run is slow. None where it is optional and cannot run: the log says why."""
    try:
        run = contender.prepare()
        run(contender.points)
    except MissingDependencyError as error:
        if not contender.optional:
            raise
        logger.info("nothing is timed beside: %s", error)
        return None
    except Exception as error:  # libraries, drivers and cards disagree in more ways than can be foreseen
        if not contender.optional:
            raise
        logger.warning("%s is installed and not timed beside, because it fails here: %s", contender.name, error)
        return None
    return run


def _measurement(
    contender: Contender,
    run: Prepared[Mapping[str, float]],
    totals: list[float],
    stages: list[Mapping[str, float]],
    peak: int | None,
) -> Measurement:
    return Measurement(
        name=contender.name,
        backend=run.backend,
        median_ms=statistics.median(totals) * 1e3,
        min_ms=min(totals) * 1e3,
        stages_ms={stage: statistics.median(times[stage] for times in stages) * 1e3 for stage in stages[0]},
        peak_memory_mb=None if peak is None else peak / 1e6,
    )


def _agreements(contenders: Sequence[Contender]) -> tuple[Agreement, ...]:
    exact = next((contender.name for contender in contenders if contender.kind == "fp32"), None)
    if exact is None:
        return ()
    results = {
        contender.name: contender.segmenter().segment(contender.points, return_scores=True) for contender in contenders
    }
    reference = results.pop(exact)
    answered = reference.class_id != UNLABELLED
    assert reference.scores is not None
    logits = reference.scores[answered]
    first_two = np.partition(logits[:, 1:], -2, axis=1)[:, -2:]
    clear = first_two[:, 1] - first_two[:, 0] > CLEAR_MARGIN
    found = []
    for name, other in results.items():
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
