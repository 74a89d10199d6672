"""Training 2DPASS: configuration, the Lightning module, and the run that ends in a weights file."""

from __future__ import annotations

from collections.abc import Sequence
from importlib.util import find_spec

from twodpass_core.errors import MissingDependencyError

TRAINING = ("lightning", "torchmetrics", "tensorboard")
EVALUATION = ("torchmetrics",)


def require_packages(purpose: str, packages: Sequence[str] = TRAINING) -> None:
    """Raise MissingDependencyError unless they are installed: what training, or evaluation alone, stands on."""
    for package in packages:
        if find_spec(package) is None:
            raise MissingDependencyError(package, purpose, 'pip install "twodpass[train]"')
