"""What `twodpass import-weights` and `twodpass info` do and show."""

from __future__ import annotations

from pathlib import Path

from rich.console import Console
from rich.markup import escape
from rich.table import Table

from twodpass_core.cli.edge import refuse_existing
from twodpass_core.errors import ConfigError
from twodpass_core.official import SKIPPED, ImportOptions, ImportReport, import_official
from twodpass_core.weights import UNTRAINED, Card, save_weights
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


def print_card(card: Card, path: Path) -> None:
    """The card of the weights file `path`, and where that is."""
    table = Table("", "", title=escape(path.name), show_header=False)
    if not card.trained:
        table.add_row("[bold red]weights[/]", f"[bold red]{UNTRAINED}[/]")
    network, grid = card.architecture, card.grid
    table.add_row("network", f"{network.width} channels, scales {', '.join(map(str, network.scales))}")
    table.add_row("volume", f"{_vector(grid.minimum)} .. {_vector(grid.maximum)} m")
    table.add_row("cells", f"{_vector(grid.cells)}, each {_vector(_cell_size(card))} m")
    table.add_row("intensity", f"0 .. {card.intensity_max:g}")
    table.add_row("classes", f"{escape(card.class_map.name)}: " + escape(", ".join(card.class_map.names[1:])))
    table.add_row("origin", escape(card.origin))
    table.add_row("licence", escape(card.licence))
    table.add_row("created", card.created.isoformat())
    Console().print(table)
    Console(soft_wrap=True).print(str(path), markup=False, highlight=False)


def _cell_size(card: Card) -> tuple[float, ...]:
    sides = zip(card.grid.minimum, card.grid.maximum, card.grid.cells, strict=True)
    return tuple((high - low) / cells for low, high, cells in sides)


def _vector(values: tuple[float, ...]) -> str:
    return "(" + ", ".join(f"{value:g}" for value in values) + ")"
