"""The command `twodpass info`."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer


def info(
    weights: Annotated[
        Path | None, typer.Argument(help="Weights file (.safetensors); those that come with twodpass if none.")
    ] = None,
    json: Annotated[bool, typer.Option("--json", help="Print the card as JSON.")] = False,
) -> None:
    """Show the card of a weights file: what it is, what it expects, where it comes from."""
    from twodpass_core.cli.work.info import print_card
    from twodpass_core.pretrained import weights_file
    from twodpass_core.weights import read_card

    weights = weights_file(weights)
    card = read_card(weights)
    if json:
        typer.echo(card.model_dump_json(indent=2))
    else:
        print_card(card, weights)
