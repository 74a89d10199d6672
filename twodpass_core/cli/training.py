"""Commands around training: train, evaluate, submit."""

from __future__ import annotations

import json
import logging
import warnings
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Literal

import typer

from twodpass_core.choices import BenchmarkKind, Definition
from twodpass_core.cli.bag_options import (
    ClassMapOption,
    IntensityField,
    IntensityScale,
    SensorTransform,
    Topic,
    bag_config,
)
from twodpass_core.cli.options import Backend, Device, PrecisionOption

if TYPE_CHECKING:
    from twodpass_core.training.folder import RunFolder

Data = Annotated[
    Path, typer.Argument(help="Folder of the data, or a training's settings, whose data.validation is taken.")
]
KindOption = Annotated[
    Literal["semantickitti", "nuscenes", "bag"] | None,
    typer.Option(
        metavar="KIND",
        help="Form of the data in a folder: semantickitti (unless given), nuscenes, bag; bags are known by themselves.",
    ),
]
Weights = Annotated[
    Path, typer.Argument(help="Weights file (.safetensors) of twodpass, or default: those that come with it.")
]
Votes = Annotated[
    int, typer.Option(min=1, help="Passes per scan, each rotated; their scores are averaged (the paper reports 12).")
]


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
    from twodpass_core.training.run import is_first_process
    from twodpass_core.training.run import train as run

    quiet_lightning()
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
    logging.getLogger("lightning.pytorch").setLevel(logging.WARNING)
    warnings.filterwarnings("ignore", module=r"lightning\.")
    # Of 1x1 convolutions between several processes, whose layout is the same in either order.
    warnings.filterwarnings("ignore", "Grad strides do not match bucket view strides")


def evaluate(
    weights: Weights,
    data: Annotated[
        list[Path], typer.Argument(help="Folders of data, or trainings' settings, whose data.validation is taken.")
    ],
    before: Annotated[
        Path | None,
        typer.Option(
            "--before", help="Other weights, as those before fine-tuning, or default: tells what changed by class."
        ),
    ] = None,
    kind: KindOption = None,
    split: Annotated[str | None, typer.Option(help="Part of the data in a folder: val unless given.")] = None,
    sequences: Annotated[
        str | None,
        typer.Option(metavar="NN,NN", help="In a folder of SemanticKITTI's form: these instead of the split's."),
    ] = None,
    votes: Votes = 1,
    definition: Annotated[
        Definition,
        typer.Option(metavar="DEFINITION", help="How scores are counted: benchmark, semantic-kitti-api, authors."),
    ] = "benchmark",
    out: Annotated[
        Path | None,
        typer.Option("--out", "-o", help="Folder for the table, the confusion matrix and the picture by distance."),
    ] = None,
    topic: Topic = None,
    held_out: Annotated[
        float | None,
        typer.Option(metavar="SHARE", help="Only this last share of each bag, as bag.held_out kept it from training."),
    ] = None,
    class_map: ClassMapOption = "semantickitti",
    intensity_field: IntensityField = None,
    intensity_scale: IntensityScale = 1.0,
    sensor_transform: SensorTransform = "0,0,0,0,0,0",
    device: Device = "auto",
    precision: PrecisionOption = "fp32",
    backend: Backend = "auto",
) -> None:
    """Measure weights on labelled data: IoU by class and by distance, over all raw points. No image is opened.

    Frames without labels are left out, and how many is told.

    Definitions. benchmark: a labelled point without a prediction is a miss (nuScenes' devkit, semantic-kitti-api).
    semantic-kitti-api: the same, but classes neither labelled nor predicted count as 0 in the mean, where the others
    leave them out. authors: such points are left out.
    """
    from twodpass_core.training import EVALUATION, require_packages

    require_packages("evaluation", EVALUATION)

    from twodpass_core.cli.edge import floats, name_list
    from twodpass_core.cli.evaluating import (
        check_all_classes,
        evaluation_sources,
        report_folders,
        run_comparison,
        run_evaluation,
    )
    from twodpass_core.pretrained import weights_file
    from twodpass_core.segmenter import Segmenter

    bag = bag_config(
        topic=topic,
        held_out=held_out,
        class_map=class_map,
        intensity_field=intensity_field,
        intensity_scale=intensity_scale,
        training_from_sensor=floats(sensor_transform, "--sensor-transform", 6),
    )
    sources = evaluation_sources(data, kind, split, bag, name_list(sequences, "--sequences"))
    segmenter = Segmenter.from_weights(weights_file(weights), device, precision, backend)
    earlier = before and weights_file(before)
    other = None if earlier is None else Segmenter.from_weights(earlier, device, precision, backend)
    check_all_classes([segmenter] if other is None else [other, segmenter], sources)
    for path, source, folder in zip(data, sources, report_folders(out, data), strict=True):
        if len(data) > 1:
            typer.echo(f"\n{path}")
        if other is None:
            run_evaluation(segmenter, source, votes=votes, definition=definition, out=folder)
        else:
            names = str(before), str(weights)
            run_comparison(other, segmenter, source, names=names, votes=votes, definition=definition, out=folder)


def submit(
    weights: Weights,
    data: Data,
    out: Annotated[Path, typer.Argument(help="Folder, or .zip, for the benchmark's server.")],
    kind: Annotated[
        BenchmarkKind | None,
        typer.Option(metavar="KIND", help="Form of the data in a folder: semantickitti (unless given), nuscenes."),
    ] = None,
    split: Annotated[str | None, typer.Option(help="Part of the data in a folder: test unless given.")] = None,
    votes: Votes = 12,
    device: Device = "auto",
    precision: PrecisionOption = "fp32",
    backend: Backend = "auto",
) -> None:
    """Label the test set of SemanticKITTI or nuScenes-lidarseg in the form that its benchmark takes."""
    from twodpass_core.training import EVALUATION, require_packages

    require_packages("evaluation", EVALUATION)

    from twodpass_core.cli.evaluating import run_submission, submission_settings
    from twodpass_core.pretrained import weights_file
    from twodpass_core.segmenter import Segmenter

    settings = submission_settings(data, kind, split)
    segmenter = Segmenter.from_weights(weights_file(weights), device, precision, backend)
    run_submission(segmenter, settings, out, votes=votes)
