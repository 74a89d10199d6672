"""A backend made of two kernels: the gradients of the convolution follow from them."""

from __future__ import annotations

from abc import ABC, abstractmethod
from typing import Any

from torch import Tensor
from torch.autograd import Function


class KernelBackend(ABC):
    """Subclasses convolve and find the weights' gradient; the features' gradient is a convolution again."""

    @abstractmethod
    def forward(self, features: Tensor, weight: Tensor, neighbour_map: Any, addend: Tensor) -> Tensor:
        """SparseBackend.convolve without gradients."""

    @abstractmethod
    def weight_gradient(self, features: Tensor, grad: Tensor, neighbour_map: Any) -> Tensor:
        """(27, C_in, C_out): dW[k] = sum over p of features[p + k] (outer) grad[p], where p + k is occupied."""

    def convolve(self, features: Tensor, weight: Tensor, neighbour_map: Any, addend: Tensor) -> Tensor:
        out: Tensor = _Convolution.apply(features, weight, addend, neighbour_map, self)  # type: ignore[no-untyped-call]
        return out


class _Convolution(Function):
    @staticmethod
    def forward(
        ctx: Any, features: Tensor, weight: Tensor, addend: Tensor, neighbour_map: Any, backend: KernelBackend
    ) -> Tensor:
        ctx.save_for_backward(features, weight)
        ctx.neighbour_map, ctx.backend, ctx.addend_is_bias = neighbour_map, backend, addend.ndim == 1
        return backend.forward(features, weight, neighbour_map, addend)

    @staticmethod
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor | None, ...]:
        features, weight = ctx.saved_tensors
        grad = grad.contiguous()
        grad_features = grad_weight = None
        if ctx.needs_input_grad[0]:
            # Neighbourhood is mutual: the gradient is a convolution with the weights transposed, at opposite offsets.
            opposite = weight.flip(0).transpose(1, 2).contiguous()
            grad_features = ctx.backend.forward(grad, opposite, ctx.neighbour_map, grad.new_zeros(weight.shape[1]))
        if ctx.needs_input_grad[1]:
            grad_weight = ctx.backend.weight_gradient(features, grad, ctx.neighbour_map)
        return grad_features, grad_weight, grad.sum(0) if ctx.addend_is_bias else grad, None, None
