"""Sparse convolution with Triton kernels of our own, on CUDA; on the CPU in Triton's interpreter, for tests."""

from __future__ import annotations

import math
from dataclasses import dataclass

import torch
from torch import Tensor

from twodpass_core.device import allows_tf32
from twodpass_core.sparse.backend import is_interpreting
from twodpass_core.sparse.kernel_backend import KernelBackend
from twodpass_core.sparse.neighbour_table import build_neighbour_table
from twodpass_core.sparse.pyramid import Halving, VoxelLevel
from twodpass_core.sparse.strided import build_strided_tables
from twodpass_core.sparse.triton_kernels import convolve_kernel, weight_gradient_kernel

DTYPES = (torch.float32, torch.bfloat16, torch.float16)
DATA_CENTRE = (8, 0), (9, 0), (10, 0), (10, 3)  # compute capabilities: A100, H100, B200, B300
WEIGHT_GRADIENT_PROGRAMS = 1024  # enough for any card; more parts of the rows would only cost memory


@dataclass(frozen=True)
class Blocks:
    """How a matrix product is cut. With two blocks ahead in flight, at most 97 KiB of shared memory.

    What is wide is cut into few blocks: each gathers the features anew.
    """

    rows: int
    width_in: int
    width_out: int
    num_warps: int

    @classmethod
    def of(cls, dtype: torch.dtype, width_in: int, width_out: int) -> Blocks:
        """For features (N, width_in) of a type times weights (width_in, width_out)."""
        if dtype == torch.float32:
            return cls(64, _power_of_two(width_in, 32), _power_of_two(width_out, 64), num_warps=4)
        across = _power_of_two(width_out, 128)
        return cls(128, _power_of_two(width_in, 64), across, num_warps=8 if across == 128 else 4)


def _power_of_two(width: int, limit: int) -> int:
    """The power of two that holds `width`, between 16, the least that tensor cores take, and `limit`."""
    return min(max(16, 1 << (width - 1).bit_length()), limit)


def exact_float32(capability: tuple[int, int]) -> str:
    """How Triton is to multiply in float32 where TF32 will not do, by the card's compute capability.

    As three products in TF32, whose sum has nearly all bits, where tensor cores are some eight times as fast as the
    rest of the card; elsewhere, where they are at most twice as fast, without them.
    """
    return "tf32x3" if capability in DATA_CENTRE else "ieee"


class TritonBackend(KernelBackend[Tensor]):
    """Takes float32, bfloat16 and float16. In float32, TF32 is used where torch may use it for matrix products.

    Otherwise see `exact_float32`.
    """

    name = "triton"

    def neighbour_table(self, level: VoxelLevel) -> Tensor:
        return build_neighbour_table(level)

    def strided_tables(self, halving: Halving) -> tuple[Tensor, Tensor]:
        return build_strided_tables(halving)

    def forward(self, features: Tensor, weight: Tensor, table: Tensor, addend: Tensor) -> Tensor:
        _check_dtypes(features, weight, addend)
        num_rows, (num_offsets, width_in, width_out) = table.shape[1], weight.shape
        out = features.new_empty(num_rows, width_out)
        blocks = Blocks.of(features.dtype, width_in, width_out)
        grid = math.ceil(num_rows / blocks.rows), math.ceil(width_out / blocks.width_out)
        if num_rows:
            with torch.cuda.device_of(features):  # Triton launches on the current device
                convolve_kernel[grid](
                    *(tensor.contiguous() for tensor in (features, weight, table, addend)),
                    out,
                    num_rows,
                    num_offsets,
                    width_in,
                    width_out,
                    0 if addend.ndim == 1 else width_out,
                    blocks.rows,
                    blocks.width_in,
                    blocks.width_out,
                    _input_precision(features.device),
                    _must_upcast(features),
                    num_warps=blocks.num_warps,
                )
        return out

    def weight_gradient(self, features: Tensor, grad: Tensor, table: Tensor) -> Tensor:
        _check_dtypes(features, grad)
        (num_offsets, num_rows), width_in, width_out = table.shape, features.shape[1], grad.shape[1]
        blocks = Blocks.of(features.dtype, width_in, width_out)
        tiles = math.ceil(width_in / blocks.width_in) * math.ceil(width_out / blocks.width_out)
        wanted_parts = math.ceil(WEIGHT_GRADIENT_PROGRAMS / (num_offsets * tiles))
        rows_per_part = blocks.rows * math.ceil(num_rows / (wanted_parts * blocks.rows))
        num_parts = math.ceil(num_rows / rows_per_part) if num_rows else 0
        # Parts are summed afterwards, not added up in place: the result is the same every time.
        parts = features.new_empty(num_parts, num_offsets, width_in, width_out, dtype=torch.float32)
        if num_parts:
            with torch.cuda.device_of(features):
                weight_gradient_kernel[num_offsets, num_parts, tiles](
                    *(tensor.contiguous() for tensor in (features, grad, table)),
                    parts,
                    num_rows,
                    rows_per_part,
                    num_offsets,
                    width_in,
                    width_out,
                    blocks.rows,
                    blocks.width_in,
                    blocks.width_out,
                    _input_precision(features.device),
                    _must_upcast(features),
                    num_warps=blocks.num_warps,
                )
        return parts.sum(dim=0).to(features.dtype)


def _check_dtypes(*tensors: Tensor) -> None:
    found = {tensor.dtype for tensor in tensors}
    if len(found) > 1 or not found <= set(DTYPES):
        raise ValueError(f"the triton backend takes one of {', '.join(map(str, DTYPES))} throughout, not {found}")


def _input_precision(device: torch.device) -> str:
    if allows_tf32():
        return "tf32"
    return exact_float32(torch.cuda.get_device_capability(device)) if device.type == "cuda" else "ieee"


def _must_upcast(features: Tensor) -> bool:
    return is_interpreting() and features.dtype == torch.bfloat16
