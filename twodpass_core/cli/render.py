"""The command `twodpass render`."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from twodpass_core.cli.options import Columns, Overwrite, Topic


def render(
    scan: Annotated[Path, typer.Argument(help="A scan, or a folder or bag with --index.")],
    out: Annotated[Path, typer.Option("--out", "-o", help="PNG to write.")],
    labels: Annotated[Path | None, typer.Option(help="Its .label file (uint32 raw ids); without, all is grey.")] = None,
    class_map: Annotated[
        str | None, typer.Option(metavar="NAME|YAML", help="What their raw ids mean (semantickitti unless given).")
    ] = None,
    index: Annotated[int, typer.Option(min=0, help="Which scan of a folder or bag.")] = 0,
    columns: Columns = None,
    topic: Topic = None,
    overwrite: Overwrite = False,
) -> None:
    """Draw a scan from above, coloured by its labels."""
    from twodpass_core.classes import ClassMap
    from twodpass_core.cli.work.render import render_scan
    from twodpass_core.cloud import NO_INTENSITY
    from twodpass_core.data.scans import open_scans
    from twodpass_core.errors import ConfigError

    if class_map is not None and labels is None:
        raise ConfigError("--class-map says what labels mean: give --labels, too")
    scans = open_scans([scan], columns=columns, topic=topic, intensity_field=NO_INTENSITY)
    render_scan(scans, index, labels, ClassMap.load(class_map or "semantickitti"), out, overwrite=overwrite)
