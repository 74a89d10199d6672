"""Options that several commands share."""

from __future__ import annotations

from enum import Enum
from typing import Annotated

import typer


class Precision(str, Enum):
    """Number format of the network."""

    fp32 = "fp32"
    bf16 = "bf16"
    fp16 = "fp16"


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
Device = Annotated[str, typer.Option(help="auto, cpu, cuda or cuda:N.")]
PrecisionOption = Annotated[Precision, typer.Option(help="Number format of the network.")]
Backend = Annotated[str, typer.Option(help="Sparse convolution: auto, torch, torchsparse, triton.")]
