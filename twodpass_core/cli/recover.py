"""The command `twodpass recover`."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from twodpass_core.wording import counted


def recover(bag: Annotated[Path, typer.Argument(help="Folder of a bag, or one .mcap file, of any recorder.")]) -> None:
    """Make a bag readable after a kill, a loss of power or damage, and say what was lost.

    Files that are not whole are replaced by what is whole in them; files with messages outside of chunks, where readers
    do not find each, are packed into chunks. Each is kept as it was, as NAME.mcap.damaged.
    """
    from rich.console import Console
    from rich.markup import escape

    from twodpass_core.recording.recovery import recover as make_readable

    with Console(stderr=True).status(escape(f"checking {bag}")):
        report = make_readable(bag)
    for file in report.mended:
        kept, lost = counted(file.messages, "message"), counted(file.lost_bytes, "byte")
        packed = "" if file.damage else ", packed into chunks"
        typer.echo(f"{file.path.name}: {kept} kept, {lost} lost{packed}")
        for damage in file.damage:
            typer.echo(f"  at byte {damage.offset}: {damage.reason}")
        typer.echo(f"  as it was: {file.original}")
    if report.sets is not None:
        typer.echo(f"{counted(report.sets, 'set')} readable, {report.lost_sets} lost")
    what = "nothing had to be mended" if not report.mended else f"{len(report.mended)} mended"
    files = counted(len(report.files), "file")
    typer.echo(f"{bag}: {counted(report.messages, 'message')} readable in {files}, {what}")
