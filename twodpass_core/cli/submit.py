"""The command `twodpass submit`."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from twodpass_core.choices import BenchmarkKind
from twodpass_core.cli.options import Backend, Device, EvaluatedWeights, PrecisionOption, Votes


def submit(
    weights: EvaluatedWeights,
    data: Annotated[
        Path, typer.Argument(help="Folder of the data, or a training's settings, whose data.validation is taken.")
    ],
    out: Annotated[Path, typer.Argument(help="Folder, or .zip, for the benchmark's server.")],
    kind: Annotated[
        BenchmarkKind | None,
        typer.Option(metavar="KIND", help="Form of the data in a folder: semantickitti (unless given), nuscenes."),
    ] = None,
    split: Annotated[
        str | None, typer.Option(help="Part of a folder's data (test unless given), or of the settings'.")
    ] = None,
    votes: Votes = 12,
    device: Device = "auto",
    precision: PrecisionOption = "fp32",
    backend: Backend = "auto",
) -> None:
    """Label the test set of SemanticKITTI or nuScenes-lidarseg in the form that its benchmark takes."""
    from twodpass_core.cli.work.evaluation_data import submission_settings
    from twodpass_core.cli.work.submit import run_submission
    from twodpass_core.pretrained import weights_file
    from twodpass_core.segmenter import Segmenter

    settings = submission_settings(data, kind, split)
    segmenter = Segmenter.from_weights(weights_file(weights), device, precision, backend)
    run_submission(segmenter, settings, out, votes=votes)
