"""The command `twodpass recover`."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer


def recover(bag: Annotated[Path, typer.Argument(help="Folder of a bag, or one .mcap file, of any recorder.")]) -> None:
    """Make a bag readable after a kill, a loss of power or damage, and say what was lost.

    Files that are not whole are replaced by what is whole in them, and kept as NAME.mcap.damaged.
    """
    from rich.console import Console

    from twodpass_core.recording.recovery import recover as make_readable

    with Console(stderr=True).status(f"checking {bag}"):
        report = make_readable(bag)
    for file in report.mended:
        typer.echo(f"{file.path.name}: {file.messages} messages kept, {file.lost_bytes} bytes lost")
        for damage in file.damage:
            typer.echo(f"  at byte {damage.offset}: {damage.reason}")
        typer.echo(f"  as it was: {file.original}")
    if report.lost_sets is not None:
        typer.echo(f"{report.sets} sets readable, {report.lost_sets} lost")
    what = "nothing had to be mended" if not report.mended else f"{len(report.mended)} mended"
    typer.echo(f"{bag}: {report.messages} messages readable in {len(report.files)} files, {what}")
