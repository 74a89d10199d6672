"""Scratch memory that outlives one call: every scan needs the same large buffers, and fresh pages are slow."""

from __future__ import annotations

import torch
from torch import Tensor


class Workspace:
    """Named buffers that grow to the largest size asked for. Contents are undefined; one user at a time."""

    def __init__(self) -> None:
        self._buffers: dict[tuple[str, torch.dtype, torch.device], Tensor] = {}

    def rows(self, name: str, count: int, width: int, like: Tensor) -> Tensor:
        """(count, width) of `like`'s dtype and device, uninitialised; the next call with this name reuses it."""
        key = (name, like.dtype, like.device)
        size = count * width
        buffer = self._buffers.get(key)
        if buffer is None or buffer.numel() < size:
            with torch.inference_mode(False):  # buffers of a scan that was only labelled serve in training, too
                buffer = torch.empty(size + size // 8, dtype=like.dtype, device=like.device)
            self._buffers[key] = buffer
        return buffer[:size].view(count, width)
