"""What `twodpass import-weights` does and shows."""

from __future__ import annotations

from pathlib import Path

from rich.console import Console

from twodpass_core.cli.edge import refuse_existing
from twodpass_core.cli.work.info import print_card
from twodpass_core.errors import ConfigError
from twodpass_core.official import SKIPPED, ImportOptions, ImportReport, import_official
from twodpass_core.weights import save_weights
from twodpass_core.wording import counted


def import_to(checkpoint: Path, out: Path, options: ImportOptions, *, overwrite: bool) -> None:
    """Import the authors' checkpoint into the weights file `out`, and tell what was taken from where."""
    if out.suffix != ".safetensors":
        raise ConfigError(f"{out}: the name of a weights file ends in .safetensors")
    if out.resolve() == checkpoint.resolve():
        raise ConfigError(f"{out} is the checkpoint itself: choose another name for the weights")
    refuse_existing(out, overwrite)
    card, state_dict, report = import_official(checkpoint, options)
    save_weights(out, state_dict, card)
    print_report(report, checkpoint.name)
    print_card(card, out)


def print_report(report: ImportReport, name: str) -> None:
    output = Console(soft_wrap=True)
    output.print(f"{name}: {counted(report.imported, 'tensor')} imported", markup=False)
    for prefix, count in report.skipped.items():
        what = f"{SKIPPED[prefix]}, needed in training only"
        output.print(f"  skipped {counted(count, 'tensor')} of {prefix}*: {what}", markup=False)
    if report.not_constructed:
        output.print(f"  not constructed, not run: {', '.join(report.not_constructed)}", markup=False)
    for source in ("option", "checkpoint", "data set"):
        if settings := [setting for setting, origin in report.sources.items() if origin == source]:
            output.print(f"  from the {source}: {', '.join(settings)}", markup=False)
