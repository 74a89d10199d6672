"""A backend is tried before it is used: compilers, drivers and cards disagree in more ways than can be foreseen."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import torch
from torch import Tensor

from twodpass_core.device import current_device
from twodpass_core.errors import ConfigError
from twodpass_core.sparse.backend import SparseBackend
from twodpass_core.sparse.grid import VoxelGrid
from twodpass_core.sparse.neighbours import NUM_OFFSETS
from twodpass_core.sparse.pyramid import build_pyramid
from twodpass_core.sparse.strided import NUM_STRIDED_OFFSETS
from twodpass_core.sparse.torch_backend import TorchBackend

GRID = VoxelGrid(minimum=(-4, -4, -4), maximum=(4, 4, 4), cells=(8, 8, 8))
POINTS = 80
TOLERANCE = 0.02
"""Largest mean error as a share of the values' spread: bf16 has 0.003, a wrong order of offsets 1."""


def try_backend(
    name: str, make: Callable[[], SparseBackend], device: torch.device, dtypes: Sequence[torch.dtype], width: int
) -> SparseBackend:
    """Make a backend and have it convolve a few voxels, every way, forward and backward, as the torch backend does.

    Features have each of the types in turn, and so many channels. The torch backend's are always float32.

    Raises:
        ConfigError: it fails, or finds something else.
    """
    with current_device(device):
        return _tried(name, make, device, dtypes, width)


def _tried(
    name: str, make: Callable[[], SparseBackend], device: torch.device, dtypes: Sequence[torch.dtype], width: int
) -> SparseBackend:
    try:
        backend = make()
        found = [_convolutions_and_gradients(backend, device, dtype, width) for dtype in dtypes]
    except Exception as error:  # whatever compilers and drivers raise
        raise ConfigError(_complaint(name, device, str(error) or type(error).__name__)) from error
    expected = _convolutions_and_gradients(TorchBackend(), device, torch.float32, width)
    for dtype, results in zip(dtypes, found, strict=True):
        if not all(map(_is_close, results, expected)):
            raise ConfigError(_complaint(name, device, f"its results in {dtype} differ from the torch backend's"))
    return backend


def _is_close(result: Tensor, expected: Tensor) -> bool:
    return float((result - expected).abs().mean()) < TOLERANCE * float(expected.std())


def _complaint(name: str, device: torch.device, reason: str) -> str:
    return f"the sparse backend '{name}' does not work on {device}: {reason}. Choose auto or torch"


@torch.enable_grad()
def _convolutions_and_gradients(
    backend: SparseBackend, device: torch.device, dtype: torch.dtype, width: int
) -> list[Tensor]:
    generator = torch.Generator().manual_seed(0)

    def normal(*shape: int) -> Tensor:
        return torch.randn(*shape, generator=generator, device="cpu").to(device, dtype).requires_grad_()

    points = torch.rand(POINTS, 3, generator=generator, device="cpu").mul(8).sub(4).to(device)
    halving = build_pyramid(points, None, GRID, ()).levels[1].halve()
    between = backend.build_strided_maps(halving)
    results = []
    for kernel_map, num_offsets, source in (
        (backend.build_map(halving.fine), NUM_OFFSETS, halving.fine),
        (between.down, NUM_STRIDED_OFFSETS, halving.fine),
        (between.up, NUM_STRIDED_OFFSETS, halving.coarse),
    ):
        features, weight, addend = normal(source.num_voxels, width), normal(num_offsets, width, width), normal(width)
        out = backend.convolve(features, weight, kernel_map, addend)
        results += [out.detach(), *torch.autograd.grad(out, (features, weight), normal(*out.shape).detach())]
    return results
