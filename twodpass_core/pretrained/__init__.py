"""The weights that come with twodpass: a small student, trained by 2DPASS on simulated streets."""

from __future__ import annotations

from pathlib import Path
from typing import Final

from twodpass_core.errors import WeightsError

USED_UNASKED = "using those that come with twodpass, which know simulated streets only"
"""What to say where they are used unasked."""

DEFAULT: Final = Path("default")
"""What they are called where a file of weights is to be named."""


def default_weights() -> Path:
    """The weights file to use where none is named. Raises WeightsError where this installation lacks it."""
    path = Path(__file__).parent / "default.safetensors"
    if not path.exists():
        raise WeightsError(f"{path}: the weights that come with twodpass are missing: install it again, or name a file")
    return path


def weights_file(given: Path | None) -> Path:
    """The file that is meant: `default_weights` for none, and for the word `default` unless such a file is there."""
    return default_weights() if given is None or (given == DEFAULT and not given.is_file()) else given
