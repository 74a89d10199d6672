"""The device that the network runs on: its name, what CUDA wants around a computation, and what is slow there."""

from __future__ import annotations

import logging
import re
import time
import traceback
from collections.abc import Iterator
from contextlib import AbstractContextManager, contextmanager, nullcontext
from functools import lru_cache

import torch

from twodpass_core.errors import ConfigError

logger = logging.getLogger(__name__)

FULL = ("out of memory", "alloc_failed", "can't allocate memory")
"""What the driver and Triton say; cuBLAS, cuDNN and cuSPARSE; torch on a CPU."""
SLOW = 3.0  # times as long as in float32


def choose_device(name: str) -> torch.device:
    """The device called `auto`, `cpu`, `cuda` or `cuda:N`; ConfigError where it is unknown or absent."""
    if name == "auto":
        return torch.device("cuda" if torch.cuda.is_available() else "cpu")
    known = re.fullmatch(r"cpu|cuda(?::(0|[1-9][0-9]*))?", name)
    if known is None:
        raise ConfigError(f"unknown device '{name}': choose auto, cpu, cuda or cuda:N")
    # Not torch.device(name).index, which is 8 bits wide: cuda:200 would be one below zero.
    if name != "cpu" and int(known[1] or 0) >= torch.cuda.device_count():
        raise ConfigError(f"device '{name}' is not there: torch sees {torch.cuda.device_count()} CUDA devices")
    return torch.device(name)


def current_device(device: torch.device) -> AbstractContextManager[object]:
    """Makes a CUDA device the current one: events are recorded there, and kernels that do not look start there."""
    return torch.cuda.device(device) if device.type == "cuda" else nullcontext()


@contextmanager
def computing_on(device: torch.device) -> Iterator[None]:
    """The device is the current one; when its memory is full, torch.cuda.OutOfMemoryError, whoever found that out.

    torch's allocator on CUDA raises that. Its allocator on a CPU, and libraries and compilers that allocate for
    themselves, raise plain RuntimeErrors.
    """
    with current_device(device):
        try:
            yield
        except RuntimeError as error:
            if isinstance(error, torch.cuda.OutOfMemoryError) or not _tells_of_full_memory(error):
                raise
            traceback.clear_frames(error.__traceback__)  # their tensors would live as long as the new error does
            raise torch.cuda.OutOfMemoryError(str(error)) from error


def _tells_of_full_memory(error: RuntimeError) -> bool:
    return any(sign in str(error).lower() for sign in FULL)


def allows_tf32() -> bool:
    """Whether torch may round float32 to TF32 in matrix products on CUDA; both of its switches for that are heeded.

    Since torch 2.9 there is a newer one, after whose use the older one cannot be read; the newer one tells of both.
    """
    matmul = torch.backends.cuda.matmul
    precision = getattr(matmul, "fp32_precision", None)
    return bool(matmul.allow_tf32) if precision is None else precision == "tf32"


def give_back_memory(device: torch.device) -> None:
    """Let others have the GPU memory that is kept for the next computation, cuBLAS's workspaces among it.

    Not while another thread computes on a GPU: the workspaces are those of all threads.
    """
    if device.type != "cuda":
        return
    # torch has no public name for it. Where this one is gone, some MB stay: 32 on Hopper.
    clear_workspaces = getattr(torch._C, "_cuda_clearCublasWorkspaces", None)
    if clear_workspaces is not None:
        clear_workspaces()
    torch.cuda.empty_cache()


@lru_cache(maxsize=8)
def warn_if_slow(dtype: torch.dtype, device: torch.device) -> None:
    """Log, once, that a CPU has no instructions for a number format: it is measured on a small product."""
    if device.type != "cpu" or dtype == torch.float32:
        return
    # In turn, so that whatever else the machine does for a while slows both.
    seconds = [(seconds_of_a_product(dtype), seconds_of_a_product(torch.float32)) for _ in range(10)]
    ratio = min(of_this for of_this, _ in seconds) / min(of_float32 for _, of_float32 in seconds)
    if ratio > SLOW:
        name = str(dtype).removeprefix("torch.")
        logger.warning("products in %s take %.0f times as long as in float32 on this CPU: choose fp32", name, ratio)


def seconds_of_a_product(dtype: torch.dtype) -> float:
    """Seconds of one (2048, 64) @ (64, 64) product on the CPU, the size of a convolution's."""
    features, weight = torch.ones(2048, 64, dtype=dtype), torch.ones(64, 64, dtype=dtype)
    started = time.perf_counter()
    features @ weight
    return time.perf_counter() - started
