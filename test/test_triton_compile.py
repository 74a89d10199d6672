"""The Triton kernels compile to machine code for the GPUs there are, with or without one at hand."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

pytest.importorskip("triton", reason="triton is not installed: see CONTRIBUTING.md")
from twodpass_core.sparse.triton_backend import exact_float32  # imports triton

SCRIPT = Path(__file__).parent / "support/triton_compilation.py"
FAST_TENSOR_CORES = (80, 90, 100)  # where float32, too, is multiplied on them
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
        on_tensor_cores = precision != "fp32" or capability in FAST_TENSOR_CORES
        assert (kernel["tensor_core_products"] > 0) == on_tensor_cores, name


def test_kernels_compile_for_an_ampere_card(tmp_path: Path) -> None:
    check(80, "bf16", 64, tmp_path)


def test_float32_is_multiplied_on_the_tensor_cores_of_data_centre_cards_alone() -> None:
    by_card = {capability: exact_float32(divmod(capability, 10)) for capability in (75, 80, 86, 87, 89, 90, 120)}
    assert [capability for capability, how in by_card.items() if how == "tf32x3"] == [80, 90]
    assert set(by_card.values()) == {"tf32x3", "ieee"}


@pytest.mark.slow
@pytest.mark.parametrize("capability", [80, 89, 90, 100, 120])
@pytest.mark.parametrize("precision", ["fp32", "bf16", "fp16"])
def test_wide_kernels_compile_for_other_cards_and_formats(capability: int, precision: str, tmp_path: Path) -> None:
    check(capability, precision, 256, tmp_path)
