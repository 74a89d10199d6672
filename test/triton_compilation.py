"""Compiles the Triton kernels for GPUs that need not be there; prints what they take, as JSON.

    python test/triton_compilation.py COMPUTE_CAPABILITY FORMAT WIDTH

For a process of its own without TRITON_INTERPRET: interpreted kernels cannot be compiled.
"""

from __future__ import annotations

import json
import sys
from typing import Any

import torch
import triton
from triton.backends.compiler import GPUTarget
from triton.compiler import ASTSource

from twodpass_core.segmenter import DTYPES
from twodpass_core.sparse.neighbours import NUM_OFFSETS
from twodpass_core.sparse.strided import NUM_STRIDED_OFFSETS
from twodpass_core.sparse.triton_backend import Blocks, exact_float32
from twodpass_core.sparse.triton_kernels import convolve_kernel, weight_gradient_kernel

TYPES = {torch.float32: "*fp32", torch.bfloat16: "*bf16", torch.float16: "*fp16"}


def compile_kernel(
    kernel: Any, capability: int, types: dict[str, str], constants: dict[str, Any], num_warps: int
) -> dict[str, int]:
    names = [parameter.name for parameter in kernel.params]
    pointers = [index for index, name in enumerate(names) if types.get(name, "").startswith("*")]
    source = ASTSource(
        fn=kernel,
        signature={name: types.get(name, "constexpr") for name in names},
        constexprs={name: constants[name] for name in names if name not in types},
        attrs={(index,): [["tt.divisibility", 16]] for index in pointers},  # torch aligns its memory
    )
    target, options = GPUTarget("cuda", capability, 32), {"num_warps": num_warps}
    compiled = triton.compile(source, target=target, options=options)
    return {
        "shared_bytes": compiled.metadata.shared,
        "machine_code_bytes": len(compiled.asm["cubin"]),
        "tensor_core_products": compiled.asm["ptx"].count("mma"),
        "loads_ahead": compiled.asm["ttgir"].count("async_copy_global_to_local"),
    }


def main(capability: int, precision: str, width: int) -> None:
    dtype = DTYPES[precision]
    blocks, pointer = Blocks.of(dtype, width, width), TYPES[dtype]
    constants = {
        "WIDTH_IN": width,
        "WIDTH_OUT": width,
        "ADDEND_STRIDE": width,
        "BLOCK_ROWS": blocks.rows,
        "BLOCK_IN": blocks.width_in,
        "BLOCK_OUT": blocks.width_out,
        "PRECISION": exact_float32(divmod(capability, 10)),
        "UPCAST": False,
    }
    rows = {"features": pointer, "table": "*i32", "num_rows": "i32"}
    convolve = {**rows, "weight": pointer, "addend": pointer, "out": pointer}
    gradient = {**rows, "grad": pointer, "parts": "*fp32", "rows_per_part": "i32"}
    kernels = ("convolve", convolve_kernel, convolve), ("weight_gradient", weight_gradient_kernel, gradient)
    found = {}
    for kind, num_offsets in (("submanifold", NUM_OFFSETS), ("strided", NUM_STRIDED_OFFSETS)):
        constants["NUM_OFFSETS"] = num_offsets
        for name, kernel, types in kernels:
            found[f"{kind} {name}"] = compile_kernel(kernel, capability, types, constants, blocks.num_warps)
    sys.stdout.write(json.dumps(found))


if __name__ == "__main__":
    main(int(sys.argv[1]), sys.argv[2], int(sys.argv[3]))
