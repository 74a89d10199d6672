"""The command `twodpass segment`."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from twodpass_core.cli.edge import floats, print_note
from twodpass_core.cli.options import (
    Backend,
    Columns,
    Device,
    IntensityField,
    Overwrite,
    PrecisionOption,
    SensorTransform,
    Topic,
)

ScanInputs = Annotated[
    list[Path],
    typer.Argument(
        metavar="INPUT", help="Scans: .bin, .pcd.bin, .npy, .pcd, folders of them, KITTI sequences, ROS 2 bags."
    ),
]
Weights = Annotated[
    Path | None,
    typer.Option("--weights", "-w", help="Weights file (.safetensors); those that come with twodpass if none."),
]


def segment(
    inputs: ScanInputs,
    out: Annotated[Path, typer.Option("--out", "-o", help="Folder for the results; made if missing.")],
    weights: Weights = None,
    columns: Columns = None,
    topic: Topic = None,
    intensity_field: IntensityField = None,
    intensity_scale: Annotated[
        float, typer.Option(help="Factor from the scans' intensity to the training data's unit (see `twodpass info`).")
    ] = 1.0,
    sensor_transform: SensorTransform = "0,0,0,0,0,0",
    device: Device = "auto",
    precision: PrecisionOption = "fp32",
    backend: Backend = "auto",
    votes: Annotated[int, typer.Option(min=1, help="Passes per scan, each rotated; their scores are averaged.")] = 1,
    random_angles: Annotated[
        bool, typer.Option("--random-angles", help="Random rotations and shifts for the votes, as the authors do.")
    ] = False,
    picture: Annotated[bool, typer.Option("--picture", help="Also write a bird's-eye NAME.png.")] = False,
    probabilities: Annotated[
        bool, typer.Option("--probabilities", help="Also write NAME.probability.npy, float32 per point.")
    ] = False,
    overwrite: Overwrite = False,
) -> None:
    """Label scans: NAME.label for each, one uint32 per point in the order of the scan, in the class map's raw ids.

    Points without an answer (no return, outside the volume) get the raw id of the ignored class, 0 in shipped maps.
    """
    transform = floats(sensor_transform, "--sensor-transform", 6)

    from twodpass_core.cli.work.segment import LabelFolder, label_scans, print_summary
    from twodpass_core.data.scans import open_scans
    from twodpass_core.pretrained import USED_UNASKED, weights_file
    from twodpass_core.segmenter import Segmenter
    from twodpass_core.sensor import SensorMounting

    mounting = SensorMounting.of(transform, intensity_scale)
    scans = open_scans(inputs, columns=columns, topic=topic, intensity_field=intensity_field)
    folder = LabelFolder(out, picture, probabilities)
    folder.prepare(inputs, scans.names, overwrite=overwrite)
    if weights is None:
        print_note(f"No --weights given: {USED_UNASKED}")
    segmenter = Segmenter.from_weights(weights_file(weights), device, precision, backend)
    tally = label_scans(scans, segmenter, mounting, folder, votes=votes, random_angles=random_angles)
    print_summary(tally, segmenter, folder)
    raise typer.Exit(1 if tally.missing else 0)
