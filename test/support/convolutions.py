"""The three kinds of sparse convolution, for tests that go through all of them."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from twodpass_core.sparse.backend import SparseBackend
from twodpass_core.sparse.pyramid import Halving, VoxelLevel

STRIDED = ("down", "up")
KINDS = ("submanifold", *STRIDED)


@dataclass(frozen=True)
class Convolution:
    """Submanifold on the fine level of a halving, `down` to the coarse one, or `up` from there."""

    kind: str
    halving: Halving

    @property
    def source(self) -> VoxelLevel:
        return self.halving.coarse if self.kind == "up" else self.halving.fine

    @property
    def target(self) -> VoxelLevel:
        return self.halving.coarse if self.kind == "down" else self.halving.fine

    @property
    def num_offsets(self) -> int:
        return 27 if self.kind == "submanifold" else 8

    def map_of(self, backend: SparseBackend) -> Any:
        if self.kind == "submanifold":
            return backend.build_map(self.halving.fine)
        return getattr(backend.build_strided_maps(self.halving), self.kind)

    def inputs(self, width_in: int, width_out: int, *, addend_is_bias: bool, dtype: torch.dtype) -> list[Tensor]:
        """Random features, weight and addend, and a gradient that arrives; always the same."""
        generator = torch.Generator().manual_seed(0)
        addend_shape = (width_out,) if addend_is_bias else (self.target.num_voxels, width_out)
        shapes = (self.source.num_voxels, width_in), (self.num_offsets, width_in, width_out), addend_shape
        arriving = self.target.num_voxels, width_out
        return [
            torch.randn(*shape, generator=generator, dtype=torch.float64).to(dtype) for shape in (*shapes, arriving)
        ]

    def results(self, backend: SparseBackend, *inputs: Tensor) -> list[Tensor]:
        """The result, and the gradients of features, weight and addend."""
        *given, arriving = (tensor.detach().clone() for tensor in inputs)
        features, weight, addend = (tensor.requires_grad_() for tensor in given)
        out = backend.convolve(features, weight, self.map_of(backend), addend)
        return [out.detach(), *torch.autograd.grad(out, (features, weight, addend), arriving)]
