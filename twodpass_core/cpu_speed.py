"""Which number formats a CPU is slow in."""

from __future__ import annotations

import logging
import time

import torch

logger = logging.getLogger(__name__)

SLOW = 3.0  # times as long as in float32


def warn_if_slow(dtype: torch.dtype, device: torch.device) -> None:
    """Log that a CPU has no instructions for a number format: it is measured on a small product."""
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
    features, weight = torch.ones(2048, 64, dtype=dtype, device="cpu"), torch.ones(64, 64, dtype=dtype, device="cpu")
    started = time.perf_counter()
    features @ weight
    return time.perf_counter() - started
