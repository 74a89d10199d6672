"""Fixtures shared by all tests."""

from __future__ import annotations

import os
from importlib.util import find_spec
from pathlib import Path

import pytest
from hypothesis import settings

settings.register_profile("untimed", deadline=None)  # on a busy machine any example may take long
settings.load_profile("untimed")

if find_spec("triton") is not None:
    import torch

    if not torch.cuda.is_available():
        os.environ["TRITON_INTERPRET"] = "1"  # read when triton is imported: its kernels then run on the CPU

SHARED = Path(__file__).resolve().parents[2] / "shared"


def shared_path(relative: str) -> Path:
    """A file or folder of real recordings and reference values beside the repository; skips where they are absent."""
    path = SHARED / relative
    if not path.exists():
        pytest.skip(f"needs ../shared/{relative}, which is not beside this checkout")
    return path


@pytest.fixture(scope="session")
def shared_data() -> Path:
    return shared_path("data")


@pytest.fixture(scope="session")
def golden() -> Path:
    return shared_path("golden")


@pytest.fixture(scope="session")
def golden_case() -> Path:
    """The folder of the tiny case: TWODPASS_GOLDEN, for another case of the same form, or ../shared/golden."""
    named = os.environ.get("TWODPASS_GOLDEN")
    return Path(named) if named else shared_path("golden")


@pytest.fixture(scope="session")
def kitti_scan(shared_data: Path) -> Path:
    return shared_data / "semantickitti_00/velodyne/000000.bin"
