"""A backend made of two kernels: maps and gradients of all its convolutions follow from them."""

from __future__ import annotations

from abc import ABC, abstractmethod
from dataclasses import dataclass
from typing import Any, Generic, TypeVar

from torch import Tensor
from torch.autograd import Function

from twodpass_core.sparse.backend import StridedMaps, check_operands
from twodpass_core.sparse.neighbours import NUM_OFFSETS
from twodpass_core.sparse.pyramid import Halving, VoxelLevel
from twodpass_core.sparse.strided import NUM_STRIDED_OFFSETS

Table = TypeVar("Table")
"""What a backend's kernels read: which rows of the features meet which rows of the result, at which offset."""


@dataclass(frozen=True)
class KernelMap(Generic[Table]):
    """A convolution's table from the features to the result, and the one back."""

    num_offsets: int
    num_sources: int  # rows of the features
    forward: Table
    backward: Table

    @property
    def is_mutual(self) -> bool:
        """Whether one table serves both ways, as neighbours' does: the neighbour at k has this voxel at -k."""
        return self.forward is self.backward


class KernelBackend(ABC, Generic[Table]):
    """Subclasses make tables, convolve, and find the weights' gradient; the features' is a convolution again."""

    @abstractmethod
    def neighbour_table(self, level: VoxelLevel) -> Table:
        """Of the submanifold convolution."""

    @abstractmethod
    def strided_tables(self, halving: Halving) -> tuple[Table, Table]:
        """Of the strided convolution, and of its inverse."""

    @abstractmethod
    def forward(self, features: Tensor, weight: Tensor, table: Table, addend: Tensor) -> Tensor:
        """SparseBackend.convolve without gradients."""

    @abstractmethod
    def weight_gradient(self, features: Tensor, grad: Tensor, table: Table) -> Tensor:
        """(K, C_in, C_out): dW[k] = sum of features[source] (outer) grad[target] over what meets at offset k."""

    def build_map(self, level: VoxelLevel) -> KernelMap[Table]:
        table = self.neighbour_table(level)
        return KernelMap(NUM_OFFSETS, level.num_voxels, table, table)

    def build_strided_maps(self, halving: Halving) -> StridedMaps:
        down, up = self.strided_tables(halving)
        return StridedMaps(
            down=KernelMap(NUM_STRIDED_OFFSETS, halving.fine.num_voxels, down, up),
            up=KernelMap(NUM_STRIDED_OFFSETS, halving.coarse.num_voxels, up, down),
        )

    def convolve(self, features: Tensor, weight: Tensor, kernel_map: KernelMap[Table], addend: Tensor) -> Tensor:
        check_operands(features, weight, kernel_map.num_sources, kernel_map.num_offsets)
        out: Tensor = _Convolution.apply(features, weight, addend, kernel_map, self)  # type: ignore[no-untyped-call]
        return out


class _Convolution(Function):
    @staticmethod
    def forward(
        ctx: Any,
        features: Tensor,
        weight: Tensor,
        addend: Tensor,
        kernel_map: KernelMap[Any],
        backend: KernelBackend[Any],
    ) -> Tensor:
        ctx.save_for_backward(features, weight)
        ctx.kernel_map, ctx.backend, ctx.addend_is_bias = kernel_map, backend, addend.ndim == 1
        return backend.forward(features, weight, kernel_map.forward, addend)

    @staticmethod
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor | None, ...]:
        features, weight = ctx.saved_tensors
        kernel_map: KernelMap[Any] = ctx.kernel_map
        grad = grad.contiguous()
        grad_features = grad_weight = None
        if ctx.needs_input_grad[0]:
            # The gradient is a convolution back, with the weights transposed; by a mutual table at opposite offsets.
            ahead = weight.flip(0) if kernel_map.is_mutual else weight
            back = ahead.transpose(1, 2).contiguous()
            grad_features = ctx.backend.forward(grad, back, kernel_map.backward, grad.new_zeros(weight.shape[1]))
        if ctx.needs_input_grad[1]:
            grad_weight = ctx.backend.weight_gradient(features, grad, kernel_map.forward)
        return grad_features, grad_weight, grad.sum(0) if ctx.addend_is_bias else grad, None, None
