"""Convolution of images: most of a training step on a CPU."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, nn
from torch.autograd import Function
from torch.autograd.function import once_differentiable
from torch.nn import functional as F  # noqa: N812
from torch.nn.grad import conv2d_input, conv2d_weight


class Convolution(nn.Conv2d):
    """torch's, channels last and without bias, trained faster where the CPU has no AVX-512.

    For float32 with AVX2, oneDNN is fastest with the channels last in all but the weights' gradient, where it is two to
    three times as fast with the channels first, the time for the copies included.
    """

    def __init__(self, channels_in: int, channels: int, size: int, stride: int = 1, padding: int = 0) -> None:
        super().__init__(channels_in, channels, size, stride, padding, bias=False)

    def forward(self, images: Tensor) -> Tensor:
        """(B, C_in, H, W) -> (B, C, H', W') as torch.nn.Conv2d."""
        if images.dtype != torch.float32 or torch.is_autocast_enabled("cpu") or not _is_avx2(images):
            return super().forward(images)
        out: Tensor = _Convolution.apply(images, self.weight, self.stride, self.padding)  # type: ignore[no-untyped-call]
        return out


def _is_avx2(tensor: Tensor) -> bool:
    return tensor.device.type == "cpu" and torch.backends.cpu.get_cpu_capability() == "AVX2"


class _Convolution(Function):
    @staticmethod
    def forward(ctx: Any, images: Tensor, weight: Tensor, stride: Any, padding: Any) -> Tensor:
        ctx.save_for_backward(images, weight)
        ctx.stride, ctx.padding = stride, padding
        return F.conv2d(images, weight, None, stride, padding)

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor | None, ...]:
        images, weight = ctx.saved_tensors
        grad_images = grad_weight = None
        if ctx.needs_input_grad[0]:
            grad_images = conv2d_input(images.shape, weight, grad, ctx.stride, ctx.padding)
        if ctx.needs_input_grad[1]:
            grad_weight = conv2d_weight(images.contiguous(), weight.shape, grad.contiguous(), ctx.stride, ctx.padding)
        return grad_images, grad_weight, None, None
