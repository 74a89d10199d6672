"""The command `twodpass`. Each subcommand is in a module of its name; what it needs is imported on use."""

from __future__ import annotations

import logging
import signal
import sys
from collections.abc import Sequence
from io import TextIOWrapper
from types import FrameType
from typing import Annotated, NoReturn

import typer

from twodpass_core.cli import (
    ablation,
    benchmark,
    evaluate,
    import_weights,
    info,
    labels,
    prepare,
    recover,
    render,
    segment,
    simulate,
    submit,
    train,
)
from twodpass_core.cli.edge import ReportingGroup, print_version
from twodpass_core.process import tune_process

app = typer.Typer(
    cls=ReportingGroup,
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
    help="LiDAR semantic segmentation, trained with camera images, deployed without a camera.",
)


@app.callback()
def global_options(
    debug: Annotated[
        bool,
        typer.Option("--debug", envvar="TWODPASS_DEBUG", help="Show the log, and the whole traceback of an error."),
    ] = False,
    version: Annotated[
        bool, typer.Option("--version", callback=print_version, is_eager=True, help="Show the version.")
    ] = False,
) -> None:
    """Options of all commands; ReportingGroup reads `debug`."""
    if debug:
        logging.basicConfig(level=logging.INFO, format="%(name)s: %(message)s")


app.command()(segment.segment)
app.command()(import_weights.import_weights)
app.command()(info.info)
app.command()(render.render)
app.command()(benchmark.benchmark)
app.command()(train.train)
app.command()(ablation.ablation)
app.command()(evaluate.evaluate)
app.command()(submit.submit)
app.command()(benchmark.benchmark_training)
app.command()(benchmark.benchmark_kernels)
app.command()(simulate.simulate)
app.command()(prepare.prepare)
app.add_typer(labels.app, name="labels")
app.command()(recover.recover)


def main(arguments: Sequence[str] | None = None) -> None:
    """Entry point of the command; `arguments` are those of the process unless given. Raises SystemExit, always."""
    signal.signal(signal.SIGTERM, _end)
    if isinstance(sys.stdout, TextIOWrapper):
        sys.stdout.reconfigure(errors="surrogateescape")  # names of files that are no text come out as they are
    tune_process()  # before a subcommand imports torch
    app(arguments, prog_name="twodpass")


def _end(number: int, frame: FrameType | None) -> NoReturn:
    """As after Ctrl-C, half written files are removed."""
    raise SystemExit(128 + number)
