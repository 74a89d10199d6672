"""Checkpoints of the authors' code: read without running anything in them, and converted to weights."""

from twodpass_core.official.checkpoint import ImportOptions, ImportReport, import_official

__all__ = ["ImportOptions", "ImportReport", "import_official"]
