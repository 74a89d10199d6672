"""The command `twodpass ablation`."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from twodpass_core.wording import counted


def ablation(
    config: Annotated[
        Path, typer.Argument(help="Settings of a training, such as `ablation`, which comes with twodpass.")
    ],
    out: Annotated[Path, typer.Option("--out", "-o", help="Folder for the runs and the result; made if missing.")],
    seeds: Annotated[int, typer.Option(min=1, help="Trainings of each row, with seeds from `seed` on.")] = 3,
    overrides: Annotated[
        list[str] | None, typer.Option("--set", metavar="KEY=VALUE", help="A setting, as for `twodpass train`.")
    ] = None,
) -> None:
    """Table 5 of the paper: train without a camera, with KL, with fusion, with the 2D learner; compare over seeds.

    The settings of all runs are the same but for `distillation` and `seed`. Started again, it goes on where it stopped,
    and does more seeds if asked to. The result is in ablation.md and ablation.json, after every run.
    """
    from twodpass_core.training import require_packages

    require_packages("an ablation")

    from twodpass_core.cli.train import quiet_lightning
    from twodpass_core.training.ablation import ablate
    from twodpass_core.training.config_file import load_config

    quiet_lightning()
    result = None
    for result in ablate(load_config(config, overrides or []), seeds, out):
        done = sum(len(row.runs) for row in result.rows)
        typer.echo(f"{counted(done, 'run')} done of {seeds * len(result.rows)}")
    if result is not None:
        typer.echo(f"{result.markdown()}\n\nwritten to {out}")
