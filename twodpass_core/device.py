"""The device that the network runs on: its name, and what CUDA wants around a computation."""

from __future__ import annotations

import logging
import traceback
from collections.abc import Iterator
from contextlib import AbstractContextManager, contextmanager, nullcontext

import torch

from twodpass_core.choices import DEVICE, DEVICES
from twodpass_core.errors import ConfigError

logger = logging.getLogger(__name__)

FULL = ("out of memory", "alloc_failed", "can't allocate memory")
"""What the driver and Triton say; cuBLAS, cuDNN and cuSPARSE; torch on a CPU."""


def choose_device(name: str) -> torch.device:
    """The device called `auto`, `cpu`, `cuda` or `cuda:N`; ConfigError where it is unknown or absent.

    A GPU always comes with its number: `cuda` alone is that which is current, in every thread another.
    """
    known = DEVICE.fullmatch(name)
    if known is None:
        raise ConfigError(f"unknown device '{name}': choose {DEVICES}")
    if name == "auto":
        name = "cuda" if torch.cuda.is_available() else "cpu"
    # Not torch.device(name).index, which is 8 bits wide: cuda:200 would be one below zero.
    if name != "cpu" and int(known[1] or 0) >= torch.cuda.device_count():
        raise ConfigError(f"device '{name}' is not there: torch sees {torch.cuda.device_count()} CUDA devices")
    return torch.device("cuda", torch.cuda.current_device()) if name == "cuda" else torch.device(name)


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
    empty_cache()


def empty_cache() -> None:
    """As torch's, of all GPUs. One that is lost has nothing to give back: that is logged, no more."""
    try:
        torch.cuda.empty_cache()
    except RuntimeError as error:
        logger.warning("GPU memory cannot be given back: %s", error)
