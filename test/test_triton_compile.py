"""The Triton kernels compile to machine code for the GPUs there are, with or without one at hand."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

pytest.importorskip("triton", reason="triton is not installed: see CONTRIBUTING.md")
SCRIPT = Path(__file__).with_name("triton_compilation.py")
SMALLEST_SHARED_MEMORY = 99 * 1024  # bytes a block may have on cards since Ampere; data-centre ones have more


def compiled(capability: int, precision: str, width: int, cache: Path) -> dict[str, dict[str, int]]:
    environment = {name: value for name, value in os.environ.items() if name != "TRITON_INTERPRET"}
    environment |= {"TRITON_CACHE_DIR": str(cache), "PYTHONPATH": os.pathsep.join(sys.path)}
    command = [sys.executable, "-W", "ignore", str(SCRIPT), str(capability), precision, str(width)]
    done = subprocess.run(command, env=environment, capture_output=True, text=True, timeout=300)
    assert done.returncode == 0, done.stderr
    found: dict[str, dict[str, int]] = json.loads(done.stdout)
    return found


def check(capability: int, precision: str, width: int, cache: Path) -> None:
    kernels = compiled(capability, precision, width, cache)
    assert len(kernels) == 4
    for name, kernel in kernels.items():
        assert kernel["machine_code_bytes"] > 0
        assert kernel["shared_bytes"] <= SMALLEST_SHARED_MEMORY, name
        assert kernel["loads_ahead"] > 0, name  # the next block's loads overlap with this one's product
        assert (kernel["tensor_core_products"] > 0) == (precision != "fp32"), name


def test_kernels_compile_for_an_ampere_card(tmp_path: Path) -> None:
    check(80, "bf16", 64, tmp_path)


@pytest.mark.slow
@pytest.mark.parametrize("capability", [80, 89, 90, 120])
@pytest.mark.parametrize("precision", ["fp32", "bf16", "fp16"])
def test_wide_kernels_compile_for_other_cards_and_formats(capability: int, precision: str, tmp_path: Path) -> None:
    check(capability, precision, 256, tmp_path)
