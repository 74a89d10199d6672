"""The settings that come with twodpass, by name: simulation, semantickitti, ..."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

PACKAGE = Path(__file__).resolve().parents[1]
FOLDERS = PACKAGE / "settings", PACKAGE.parent / "config/train"  # where it is installed; in the repository


def shipped_settings() -> Mapping[str, Path]:
    """Name and YAML file of each."""
    files = next((found for folder in FOLDERS if (found := sorted(folder.glob("*.yaml")))), [])
    return {path.stem: path for path in files}


def settings_file(given: Path) -> Path:
    """The file that is meant: a shipped one where that is the name of one, and no file of that name is there."""
    return given if given.exists() else shipped_settings().get(str(given), given)


def is_settings(given: Path) -> bool:
    """Whether this is a settings file and not data."""
    return settings_file(given).suffix in (".yaml", ".yml")
