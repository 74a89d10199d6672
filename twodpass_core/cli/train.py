"""The command `twodpass train`."""

from __future__ import annotations

import json
import logging
import os
import warnings
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

if TYPE_CHECKING:
    from twodpass_core.training.folder import RunFolder


def train(
    config: Annotated[
        Path | None,
        typer.Argument(help="Settings: a YAML file, or the name of one that comes with twodpass, as semantickitti."),
    ] = None,
    overrides: Annotated[
        list[str] | None,
        typer.Option("--set", metavar="KEY=VALUE", help="A setting, as in optimiser.learning_rate=0.1."),
    ] = None,
    devices: Annotated[int | None, typer.Option(min=1, help="Devices per node; as --set machine.devices=N.")] = None,
    nodes: Annotated[int | None, typer.Option(min=1, help="Nodes; as --set machine.nodes=N.")] = None,
    resume: Annotated[
        bool, typer.Option("--resume", help="Go on with the run in the folder, if it has begun.")
    ] = False,
    print_config: Annotated[
        bool, typer.Option("--print-config", help="Show all settings, defaults included, and end.")
    ] = False,
) -> None:
    """Train 2DPASS. Settings come from a YAML file and --set; the results are in the run's folder."""
    # Each process of several would warn of parameters that are sought though all have a use: not in a batch without
    # an image. torch reads this when it is imported.
    os.environ.setdefault("TORCH_CPP_LOG_LEVEL", "ERROR")
    given = list(overrides or [])
    given += [f"machine.devices={devices}"] if devices else []
    given += [f"machine.nodes={nodes}"] if nodes else []

    from twodpass_core.errors import ConfigError
    from twodpass_core.training import require_packages
    from twodpass_core.training.config_file import load_config
    from twodpass_core.training.config_text import dump_config
    from twodpass_core.training.shipped import shipped_settings

    settings = load_config(config, given)
    if print_config:
        typer.echo(dump_config(settings), nl=False)
        return
    if config is None:
        raise ConfigError(f"give the settings of the training: a YAML file, or {', '.join(shipped_settings())}")
    require_packages("training")

    from twodpass_core.process import return_large_blocks
    from twodpass_core.training.folder import RunFolder
    from twodpass_core.training.machine import is_first_process
    from twodpass_core.training.run import train as run

    quiet_lightning()
    if not is_first_process():
        quiet_process()
    if settings.machine.save_memory:
        return_large_blocks()
    weights = run(settings, resume=resume)
    if is_first_process():
        typer.echo(f"weights: {weights}{_score(RunFolder(settings.run))}; log, curves and checkpoints: {settings.run}")


def _score(run: RunFolder) -> str:
    """Of the weights, where they were validated."""
    mean_iou = json.loads(run.scores.read_text(encoding="utf-8"))["mean_iou"] if run.scores.exists() else None
    return "" if mean_iou is None else f", mean IoU {100 * mean_iou:.2f} % on data.validation"


def quiet_lightning() -> None:
    """Lightning talks a lot, and advertises: only warnings are let through."""
    for name in ("lightning.pytorch", "lightning.fabric"):
        logging.getLogger(name).setLevel(logging.WARNING)
    warnings.filterwarnings("ignore", module=r"lightning\.")
    # Of 1x1 convolutions between several processes, whose layout is the same in either order.
    warnings.filterwarnings("ignore", "Grad strides do not match bucket view strides")


def quiet_process() -> None:
    """Only errors are let through: of what all processes find in the same settings and data, the first one warns."""
    logging.getLogger("twodpass_core").setLevel(logging.ERROR)
    warnings.simplefilter("ignore")
