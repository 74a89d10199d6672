"""The command `twodpass import-weights`."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from twodpass_core.cli.edge import floats, integers
from twodpass_core.cli.options import Overwrite


def import_weights(
    checkpoint: Annotated[Path, typer.Argument(help="Checkpoint of the 2DPASS authors' code (.ckpt).")],
    out: Annotated[Path, typer.Argument(help="Weights file to write (.safetensors).")],
    class_map: Annotated[
        str | None, typer.Option(metavar="NAME|YAML", help="semantickitti, nuscenes, or a YAML file of your own.")
    ] = None,
    scales: Annotated[str | None, typer.Option(metavar="S,S,...", help="Output scale of each block.")] = None,
    volume_min: Annotated[str | None, typer.Option(metavar="X,Y,Z", help="Lower corner of the volume, metres.")] = None,
    volume_max: Annotated[str | None, typer.Option(metavar="X,Y,Z", help="Upper corner of the volume, metres.")] = None,
    cells: Annotated[str | None, typer.Option(metavar="X,Y,Z", help="Cells of the volume at scale 1.")] = None,
    intensity_max: Annotated[
        float | None, typer.Option(help="Full scale of intensity in the training data: 1 for KITTI, 255 for nuScenes.")
    ] = None,
    licence: Annotated[str | None, typer.Option(help="Licence of the weights, for their card.")] = None,
    overwrite: Overwrite = False,
) -> None:
    """Convert a checkpoint of the authors' 2DPASS code. Runs nothing from the file.

    What is not given is taken from the checkpoint, else from the published configuration with as many classes.
    """
    from twodpass_core.classes import ClassMap
    from twodpass_core.cli.work.import_weights import import_to
    from twodpass_core.official import ImportOptions

    options = ImportOptions(
        class_map=None if class_map is None else ClassMap.load(class_map),
        scales=None if scales is None else integers(scales, "--scales"),
        volume_minimum=None if volume_min is None else floats(volume_min, "--volume-min", 3),
        volume_maximum=None if volume_max is None else floats(volume_max, "--volume-max", 3),
        cells=None if cells is None else integers(cells, "--cells", 3),
        intensity_max=intensity_max,
        licence=licence,
    )
    import_to(checkpoint, out, options, overwrite=overwrite)
