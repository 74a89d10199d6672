"""Options that several commands share."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Annotated, get_args

import typer

from twodpass_core.choices import BackendName, Precision

Columns = Annotated[
    int | None, typer.Option(min=4, help="float32 columns of .bin files (4 unless given; 5 for nuScenes' .pcd.bin).")
]
Topic = Annotated[str | None, typer.Option(help="PointCloud2 topic of a bag that has several.")]
IntensityField = Annotated[
    str | None,
    typer.Option(
        help="Field of .pcd files and bags to read as intensity, none for zeros (found by its name unless given)."
    ),
]
SensorTransform = Annotated[
    str,
    typer.Option(
        metavar="X,Y,Z,R,P,Y",
        help="Pose of the sensor in the training frame: metres and radians. That frame: x forward, y left, origin at "
        "the training sensor's height; nuScenes': y forward, x right, there a sensor with x forward has yaw 1.5708.",
    ),
]
Device = Annotated[str, typer.Option(help="auto, cpu, cuda or cuda:N.")]
PrecisionOption = Annotated[Precision, typer.Option(help="Number format of the network.")]
Backend = Annotated[
    BackendName, typer.Option(metavar="BACKEND", help="Sparse convolution: auto, torch, torchsparse, triton.")
]
EvaluatedWeights = Annotated[
    Path, typer.Argument(help="Weights file (.safetensors) of twodpass, or default: those that come with it.")
]
Votes = Annotated[
    int, typer.Option(min=1, help="Passes per scan, each rotated; their scores are averaged (the paper reports 12).")
]
Overwrite = Annotated[bool, typer.Option("--overwrite", help="Replace files that exist.")]


def one_of(choices: object) -> Callable[[str], str]:
    """A parser for an option that may be given several times: of those typer takes none that is a Literal."""
    names = get_args(choices)

    def parse(text: str) -> str:
        if text not in names:
            raise typer.BadParameter(f"'{text}' is not one of {', '.join(names)}")
        return text

    return parse
