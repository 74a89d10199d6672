"""What a backend's convolutions reach, level by level, beside what the device can do: products and bytes a second."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass
from functools import partial

import numpy as np
import numpy.typing as npt
import torch
from rich.box import SIMPLE
from rich.console import Group
from rich.table import Table
from rich.text import Text
from torch import Tensor
from torch.utils.benchmark import Timer

from twodpass_core.benchmark.machine import Machine
from twodpass_core.benchmark.scans import count_points
from twodpass_core.choices import Precision
from twodpass_core.device import choose_device, current_device
from twodpass_core.models.student import StudentConfig
from twodpass_core.segmenter import DTYPES
from twodpass_core.sparse.backend import SparseBackend, make_backend
from twodpass_core.sparse.grid import KITTI_GRID
from twodpass_core.sparse.neighbour_table import build_neighbour_table
from twodpass_core.sparse.neighbours import NUM_OFFSETS
from twodpass_core.sparse.pyramid import VoxelLevel, build_pyramid

SECONDS = 0.1  # of every measurement, at least
COPIED, MULTIPLIED = {"cuda": 1 << 28, "cpu": 1 << 24}, {"cuda": 8192, "cpu": 512}  # numbers; rows and columns


@dataclass(frozen=True)
class Ceilings:
    """What the device does with large dense tensors, by torch."""

    bytes_per_second: float  # read and written, in a copy
    flop_per_second: Mapping[str, float]  # by number format, in a matrix product


@dataclass(frozen=True)
class Pass:
    """A submanifold convolution of one level, or one of its gradients, with as many channels in as out."""

    scale: int
    voxels: int
    pairs: int  # of voxels that meet, every one with itself included
    precision: str
    kind: str
    seconds: float  # median; with what the host needs to launch it, where that is longer
    useful_flop: int  # of the pairs
    dense_flop: int  # of all 27 offsets of every voxel, which is what the Triton kernels compute
    least_bytes: int  # everything read once and written once


@dataclass(frozen=True)
class KernelReport:
    """All passes of one network's levels on one scan."""

    machine: Machine
    backend: str
    width: int
    ceilings: Ceilings
    passes: tuple[Pass, ...]

    def to_dict(self) -> dict[str, object]:
        """Plain data, for JSON."""
        return asdict(self)

    def render(self) -> Group:
        """For a terminal."""
        products = ", ".join(f"{rate / 1e9:,.0f} in {name}" for name, rate in self.ceilings.flop_per_second.items())
        lines = (
            str(self.machine),
            f"ceilings: {self.ceilings.bytes_per_second / 1e9:,.0f} GB/s in a copy; GFLOP/s in a product: {products}",
            "GFLOP/s of the pairs, with their share of the ceiling, and of all 27 offsets; GB/s of what is read and "
            "written at least",
        )
        table = Table(title=f"convolutions of backend {self.backend}, width {self.width}", box=SIMPLE)
        for name in ("scale", "voxels", "pairs each", "format", "pass", "ms", "pairs", "%", "all 27", "GB/s", "%"):
            table.add_column(name, justify="left" if name in ("format", "pass") else "right")
        for entry in self.passes:
            table.add_row(*self._row(entry))
        return Group(*map(Text, lines), table)

    def _row(self, entry: Pass) -> tuple[str, ...]:
        useful, dense, moved = (n / entry.seconds for n in (entry.useful_flop, entry.dense_flop, entry.least_bytes))
        product, copy = self.ceilings.flop_per_second[entry.precision], self.ceilings.bytes_per_second
        size = str(entry.scale), f"{entry.voxels:,}", f"{entry.pairs / entry.voxels:.1f}"
        speed = f"{useful / 1e9:,.0f}", f"{useful / product:.0%}", f"{dense / 1e9:,.0f}"
        traffic = f"{moved / 1e9:,.0f}", f"{moved / copy:.0%}"
        return (*size, entry.precision, entry.kind, f"{entry.seconds * 1e3:.3f}", *speed, *traffic)


def measure_kernels(
    points: npt.NDArray[np.float32],
    network: StudentConfig,
    *,
    device: str = "auto",
    backend: str = "auto",
    precisions: Sequence[Precision] = ("fp32", "bf16"),
    progress: Callable[[str], None] = lambda _: None,
) -> KernelReport:
    """Measure the convolutions that `network`, for SemanticKITTI's volume, makes of a scan (N, 4).

    Raises:
        ConfigError: unknown or unavailable device or backend.
        ScanError: no point of the scan is a return in the volume.
        MissingDependencyError: the backend's package is not installed.
    """
    chosen = choose_device(device)
    count_points(points, KITTI_GRID)
    with current_device(chosen):
        sparse = make_backend(backend, chosen, [DTYPES[precision] for precision in precisions], network.width)
        on_device = torch.from_numpy(points).to(chosen)
        levels = build_pyramid(on_device[KITTI_GRID.admits(on_device)], None, KITTI_GRID, network.scales).levels
        progress("measuring what the device can do")
        ceilings = _ceilings(chosen, precisions)
        passes: list[Pass] = []
        for scale in dict.fromkeys(network.input_scales):
            for precision in precisions:
                progress(f"measuring scale {scale} in {precision}")
                passes += _passes(sparse, levels[scale], network.width, precision)
    return KernelReport(Machine.of(chosen), sparse.name, network.width, ceilings, tuple(passes))


def _ceilings(device: torch.device, precisions: Sequence[Precision]) -> Ceilings:
    source = torch.randn(COPIED[device.type], device=device)
    target = torch.empty_like(source)
    copied = 2 * source.nbytes / _seconds(partial(target.copy_, source))
    size = MULTIPLIED[device.type]
    products: dict[str, float] = {}
    for precision in precisions:
        matrix = torch.randn(size, size, device=device).to(DTYPES[precision])  # zeros would be faster
        products[precision] = 2 * size**3 / _seconds(partial(torch.mm, matrix, matrix))
    return Ceilings(copied, products)


def _passes(sparse: SparseBackend, level: VoxelLevel, width: int, precision: Precision) -> Iterator[Pass]:
    voxels, of_a_pair, of_a_number = level.num_voxels, 2 * width**2, DTYPES[precision].itemsize
    pairs = int((build_neighbour_table(level) >= 0).sum())
    flop = of_a_pair * pairs, of_a_pair * NUM_OFFSETS * voxels
    table = 4 * NUM_OFFSETS * voxels
    least_bytes = table + of_a_number * (2 * voxels * width + NUM_OFFSETS * width**2)
    for kind, run in _runs(sparse, level, width, DTYPES[precision]).items():
        yield Pass(level.scale, voxels, pairs, precision, kind, _seconds(run), *flop, least_bytes)


def _runs(sparse: SparseBackend, level: VoxelLevel, width: int, dtype: torch.dtype) -> dict[str, Callable[[], object]]:
    """What to call for each pass."""
    kernel_map = sparse.build_map(level)

    def normal(*shape: int) -> Tensor:
        return torch.randn(shape, device=level.keys.device, dtype=dtype)

    features, weight, bias = normal(level.num_voxels, width), normal(NUM_OFFSETS, width, width), normal(width)
    arriving = normal(level.num_voxels, width)
    features_leaf, weight_leaf = features.clone().requires_grad_(), weight.clone().requires_grad_()

    def gradient(leaf: Tensor, features: Tensor, weight: Tensor) -> Callable[[], object]:
        out = sparse.convolve(features, weight, kernel_map, bias)
        return lambda: torch.autograd.grad(out, leaf, arriving, retain_graph=True)

    return {
        "forward": partial(sparse.convolve, features, weight, kernel_map, bias),
        "input gradient": gradient(features_leaf, features_leaf, weight),
        "weight gradient": gradient(weight_leaf, features, weight_leaf),
    }


def _seconds(run: Callable[[], object]) -> float:
    """Median, the device's work included."""
    timer = Timer("run()", globals={"run": run}, num_threads=torch.get_num_threads())
    return float(timer.blocked_autorange(min_run_time=SECONDS).median)
