"""Compiles the Triton kernels for a GPU that need not be there; prints what they take, as JSON.

    python test/support/triton_compilation.py COMPUTE_CAPABILITY FORMAT WIDTH

For a process of its own without TRITON_INTERPRET: interpreted kernels cannot be compiled.
"""

from __future__ import annotations

import json
import sys
from typing import Any

import torch
from triton.backends.compiler import GPUTarget
from triton.runtime import driver

from twodpass_core.segmenter import DTYPES
from twodpass_core.sparse.neighbours import NUM_OFFSETS
from twodpass_core.sparse.strided import NUM_STRIDED_OFFSETS
from twodpass_core.sparse.triton_backend import Blocks, exact_float32
from twodpass_core.sparse.triton_kernels import convolve_kernel, weight_gradient_kernel

ROWS = 1000


class AbsentCard:
    """As much of Triton's driver as compiling asks for."""

    def __init__(self, capability: int) -> None:
        self._target = GPUTarget("cuda", capability, 32)

    def get_current_target(self) -> GPUTarget:
        return self._target

    def get_current_device(self) -> int:
        return 0

    def get_current_stream(self, device: int) -> int:
        return 0


def compile_kernel(kernel: Any, arguments: tuple[Any, ...], num_warps: int) -> dict[str, int]:
    """`arguments` as in a launch, formats in place of tensors."""
    compiled = kernel.warmup(*arguments, num_warps=num_warps, grid=(1, 1, 1))
    return {
        "shared_bytes": compiled.metadata.shared,
        "machine_code_bytes": len(compiled.asm["cubin"]),
        "tensor_core_products": compiled.asm["ptx"].count("mma"),
        "loads_ahead": compiled.asm["ttgir"].count("async_copy_global_to_local"),
    }


def main(capability: int, precision: str, width: int) -> None:
    driver.set_active(AbsentCard(capability))
    dtype = DTYPES[precision]
    blocks = Blocks.of(dtype, width, width)
    sizes = blocks.rows, blocks.width_in, blocks.width_out
    how = exact_float32(divmod(capability, 10)), False
    found = {}
    for kind, offsets in (("submanifold", NUM_OFFSETS), ("strided", NUM_STRIDED_OFFSETS)):
        convolve = (dtype, dtype, torch.int32, dtype, dtype, ROWS, offsets, width, width, width, *sizes, *how)
        gradient = (dtype, dtype, torch.int32, torch.float32, ROWS, blocks.rows, offsets, width, width, *sizes, *how)
        found[f"{kind} convolve"] = compile_kernel(convolve_kernel, convolve, blocks.num_warps)
        found[f"{kind} weight_gradient"] = compile_kernel(weight_gradient_kernel, gradient, blocks.num_warps)
    sys.stdout.write(json.dumps(found))


if __name__ == "__main__":
    main(int(sys.argv[1]), sys.argv[2], int(sys.argv[3]))
