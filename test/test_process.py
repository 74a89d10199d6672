"""What a process does with the memory that it frees."""

from __future__ import annotations

import ctypes
import os
import subprocess
import sys

import pytest

KEEPS_AFTER = """
import ctypes
from pathlib import Path
from twodpass_core.process import return_large_blocks, tune_process

def resident() -> int:
    return int(Path("/proc/self/statm").read_text().split()[1])

{calls}
libc = ctypes.CDLL(None)
libc.malloc.restype, libc.free.argtypes = ctypes.c_void_p, [ctypes.c_void_p]
size = 64 << 20
block = libc.malloc(ctypes.c_size_t(size))
ctypes.memset(block, 1, size)
held = resident()
guard = libc.malloc(ctypes.c_size_t(1000))
libc.free(block)
print(held - resident() < size // 4096 // 2)
"""
OWN_CHOICE = {"MALLOC_MMAP_THRESHOLD_": str(1 << 25)}


@pytest.mark.skipif(
    sys.platform != "linux" or not hasattr(ctypes.CDLL(None), "mallopt"), reason="it is glibc that is told what to keep"
)
@pytest.mark.parametrize(
    ("calls", "settings", "keeps"),
    [
        ("tune_process()", {}, True),
        ("tune_process(); return_large_blocks()", {}, False),
        ("tune_process()", OWN_CHOICE, False),
    ],
)
def test_large_blocks_are_kept_or_returned(calls: str, settings: dict[str, str], keeps: bool) -> None:
    own = ("MALLOC_", "GLIBC_TUNABLES", "LD_PRELOAD")
    environment = {name: value for name, value in os.environ.items() if not name.startswith(own)} | settings
    command = [sys.executable, "-c", KEEPS_AFTER.format(calls=calls)]
    done = subprocess.run(command, env=environment, capture_output=True, text=True, check=True)
    assert done.stdout.strip() == str(keeps)
