"""Checkpoints of the authors' code: read without running anything in them, and converted to weights."""

from twodpass_core.official.checkpoint import SKIPPED, ImportOptions, ImportReport, import_official

__all__ = ["SKIPPED", "ImportOptions", "ImportReport", "import_official"]
