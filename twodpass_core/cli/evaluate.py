"""The command `twodpass evaluate`."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Literal

import typer

from twodpass_core.choices import Definition
from twodpass_core.cli.bag_options import (
    ClassMapOption,
    IntensityField,
    IntensityScale,
    SensorTransform,
    Topic,
    bag_config,
)
from twodpass_core.cli.edge import floats, name_list
from twodpass_core.cli.options import Backend, Device, EvaluatedWeights, PrecisionOption, Votes

KindOption = Annotated[
    Literal["semantickitti", "nuscenes", "bag"] | None,
    typer.Option(
        metavar="KIND",
        help="Form of the data in a folder: semantickitti (unless given), nuscenes, bag; bags are known by themselves.",
    ),
]


def evaluate(
    weights: EvaluatedWeights,
    data: Annotated[
        list[Path],
        typer.Argument(
            help="Folders of data, bags, or settings (YAML, or shipped ones), whose data.validation is taken."
        ),
    ],
    before: Annotated[
        Path | None,
        typer.Option(
            "--before", help="Other weights, as those before fine-tuning, or default: tells what changed by class."
        ),
    ] = None,
    kind: KindOption = None,
    split: Annotated[
        str | None, typer.Option(help="Part of a folder's data (val unless given), or of the settings'.")
    ] = None,
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

    Frames of folders and bags without labels are left out, and how many is told; what becomes of those of settings,
    their `unlabelled` says.

    Definitions. benchmark: a labelled point without a prediction is a miss (nuScenes' devkit, semantic-kitti-api).
    semantic-kitti-api: the same, but classes neither labelled nor predicted count as 0 in the mean, where the others
    leave them out. authors: such points are left out.
    """
    from twodpass_core.cli.work.evaluate import check_all_classes, report_folders, run_comparison, run_evaluation
    from twodpass_core.cli.work.evaluation_data import evaluation_sources
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
