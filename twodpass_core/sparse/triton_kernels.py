"""The sparse convolution as Triton kernels: gather, multiply and sum at once, without products in memory.

Both read a table with a row per offset (of build_neighbour_table or build_strided_tables) and accumulate in float32.
Offsets into features are 64-bit: many scans of a wide network exceed 2^31 numbers. UPCAST multiplies bf16 as float32,
for Triton's interpreter, which has no bf16; products of bf16 numbers are exact in float32.
"""
# ruff: noqa: N803
# Annotations are not postponed here: the interpreter of Triton 3.0 knows tl.constexpr as a type alone.

import triton
import triton.language as tl


# Without do_not_specialize, a number of rows that happens to be a multiple of 16 would be compiled for anew, mid-drive.
@triton.jit(do_not_specialize=["num_rows"])
def convolve_kernel(
    features,  # (M, WIDTH_IN)
    weight,  # (NUM_OFFSETS, WIDTH_IN, WIDTH_OUT)
    table,  # (NUM_OFFSETS, num_rows) int32: the row of features there, -1 for none
    addend,  # (num_rows, WIDTH_OUT), or a bias (WIDTH_OUT,) with ADDEND_STRIDE 0
    out,  # (num_rows, WIDTH_OUT)
    num_rows,
    NUM_OFFSETS: tl.constexpr,
    WIDTH_IN: tl.constexpr,
    WIDTH_OUT: tl.constexpr,
    ADDEND_STRIDE: tl.constexpr,
    BLOCK_ROWS: tl.constexpr,
    BLOCK_IN: tl.constexpr,
    BLOCK_OUT: tl.constexpr,
    PRECISION: tl.constexpr,
    UPCAST: tl.constexpr,
) -> None:
    """One program per block of output rows (axis 0) and of output channels (axis 1)."""
    rows = tl.program_id(0) * BLOCK_ROWS + tl.arange(0, BLOCK_ROWS)
    to = tl.program_id(1) * BLOCK_OUT + tl.arange(0, BLOCK_OUT)
    row_exists, to_exists = rows < num_rows, to < WIDTH_OUT
    inside = row_exists[:, None] & to_exists[None, :]
    rows_wide = rows.to(tl.int64)[:, None]
    total = tl.load(addend + rows_wide * ADDEND_STRIDE + to[None, :], mask=inside, other=0.0).to(tl.float32)
    # One loop, not one within another: the next steps' loads are issued while this step's product is computed.
    blocks_in: tl.constexpr = (WIDTH_IN + BLOCK_IN - 1) // BLOCK_IN
    for step in range(NUM_OFFSETS * blocks_in):
        offset = step // blocks_in
        of = (step % blocks_in) * BLOCK_IN + tl.arange(0, BLOCK_IN)
        of_exists = of < WIDTH_IN
        # Before 3.3, Triton fails to compile a load ahead that gives anything but 0 for what is not there.
        sources = tl.load(table + offset * num_rows + rows, mask=row_exists, other=0)
        present = (row_exists & (sources >= 0))[:, None]
        first = sources.to(tl.int64)[:, None] * WIDTH_IN
        gathered = tl.load(features + first + of[None, :], mask=present & of_exists[None, :], other=0.0)
        place = (offset * WIDTH_IN + of)[:, None] * WIDTH_OUT + to[None, :]
        weights = tl.load(weight + place, mask=of_exists[:, None] & to_exists[None, :], other=0.0)
        if UPCAST:
            gathered, weights = gathered.to(tl.float32), weights.to(tl.float32)
        total = tl.dot(gathered, weights, total, input_precision=PRECISION)
    tl.store(out + rows_wide * WIDTH_OUT + to[None, :], total.to(out.dtype.element_ty), mask=inside)


@triton.jit(do_not_specialize=["num_rows", "rows_per_part"])
def weight_gradient_kernel(
    features,  # (M, WIDTH_IN)
    grad,  # (num_rows, WIDTH_OUT)
    table,  # (NUM_OFFSETS, num_rows) int32
    parts,  # (number of parts, NUM_OFFSETS, WIDTH_IN, WIDTH_OUT) float32: to be summed over parts
    num_rows,
    rows_per_part,
    NUM_OFFSETS: tl.constexpr,
    WIDTH_IN: tl.constexpr,
    WIDTH_OUT: tl.constexpr,
    BLOCK_ROWS: tl.constexpr,
    BLOCK_IN: tl.constexpr,
    BLOCK_OUT: tl.constexpr,
    PRECISION: tl.constexpr,
    UPCAST: tl.constexpr,
) -> None:
    """One program per offset (axis 0), part of the rows (1) and block of the offset's matrix (2)."""
    offset, part, block = tl.program_id(0), tl.program_id(1), tl.program_id(2)
    blocks_across: tl.constexpr = (WIDTH_OUT + BLOCK_OUT - 1) // BLOCK_OUT
    of = (block // blocks_across) * BLOCK_IN + tl.arange(0, BLOCK_IN)
    to = (block % blocks_across) * BLOCK_OUT + tl.arange(0, BLOCK_OUT)
    of_exists, to_exists = of < WIDTH_IN, to < WIDTH_OUT
    begin = part * rows_per_part
    end = tl.minimum(begin + rows_per_part, num_rows)
    total = tl.zeros((BLOCK_IN, BLOCK_OUT), tl.float32)
    for start in range(begin, end, BLOCK_ROWS):
        rows = start + tl.arange(0, BLOCK_ROWS)
        row_exists = rows < end
        sources = tl.load(table + offset * num_rows + rows, mask=row_exists, other=0)
        present = (row_exists & (sources >= 0))[:, None]
        first = sources.to(tl.int64)[:, None] * WIDTH_IN
        gathered = tl.load(features + first + of[None, :], mask=present & of_exists[None, :], other=0.0)
        first = rows.to(tl.int64)[:, None] * WIDTH_OUT
        arriving = tl.load(grad + first + to[None, :], mask=present & to_exists[None, :], other=0.0)
        if UPCAST:
            gathered, arriving = gathered.to(tl.float32), arriving.to(tl.float32)
        total = tl.dot(tl.trans(gathered), arriving, total, input_precision=PRECISION)
    place = ((part * NUM_OFFSETS + offset) * WIDTH_IN + of)[:, None] * WIDTH_OUT + to[None, :]
    tl.store(parts + place, total, mask=of_exists[:, None] & to_exists[None, :])
