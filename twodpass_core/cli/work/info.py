"""What `twodpass info` shows."""

from __future__ import annotations

from pathlib import Path

from rich.console import Console
from rich.markup import escape
from rich.table import Table

from twodpass_core.weights import UNTRAINED, Card


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
