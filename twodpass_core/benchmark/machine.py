"""What a measurement was made on."""

from __future__ import annotations

import platform
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from importlib.metadata import packages_distributions, version
from pathlib import Path

import torch

PACKAGES = ("torch", "triton", "torchsparse", "spconv")


@dataclass(frozen=True)
class Machine:
    """A device and what computes on it."""

    device: str  # name of the GPU or the CPU
    versions: Mapping[str, str]  # of the packages that are installed; on a GPU, CUDA's as well
    threads: int

    @classmethod
    def of(cls, device: torch.device) -> Machine:
        installed = packages_distributions()
        versions = {name: version(installed[name][0]) for name in PACKAGES if name in installed}
        if device.type == "cuda":
            name, versions = torch.cuda.get_device_name(device), versions | {"CUDA": str(torch.version.cuda)}
        else:
            name = _cpu_name()
        return cls(name, versions, torch.get_num_threads())

    def __str__(self) -> str:
        parts = [self.device, *(f"{name} {number}" for name, number in self.versions.items())]
        return ", ".join([*parts, "1 thread" if self.threads == 1 else f"{self.threads} threads"])


@contextmanager
def using_threads(number: int | None) -> Iterator[int]:
    """With so many CPU threads, torch's own number for None; afterwards with as many as before. Gives the number."""
    before = torch.get_num_threads()
    torch.set_num_threads(number or before)
    try:
        yield number or before
    finally:
        torch.set_num_threads(before)


def _cpu_name() -> str:
    try:
        lines = Path("/proc/cpuinfo").read_text().splitlines()
    except OSError:
        return platform.processor() or platform.machine()
    return next((line.split(":", 1)[1].strip() for line in lines if line.startswith("model name")), platform.machine())
