"""Training 2DPASS: configuration, the Lightning module, and the run that ends in a weights file."""

from __future__ import annotations

from importlib.util import find_spec

from twodpass_core.errors import MissingDependencyError

PACKAGES = ("lightning", "torchmetrics", "tensorboard")


def require_packages(purpose: str) -> None:
    """Raise MissingDependencyError unless the packages that training stands on are installed."""
    for package in PACKAGES:
        if find_spec(package) is None:
            raise MissingDependencyError(package, purpose, 'pip install "twodpass[train]"')
