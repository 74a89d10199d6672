"""The command `twodpass prepare`."""

from __future__ import annotations

import shlex
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from twodpass_core.cli.bag_options import (
    ClassMapOption,
    IntensityField,
    IntensityScale,
    SensorTransform,
    Topic,
    bag_config,
)
from twodpass_core.cli.edge import floats
from twodpass_core.wording import counted

if TYPE_CHECKING:
    from twodpass_core.data.prepare import PreparedSequence


def prepare(
    *,  # so that an argument that may be missing comes before one that may not
    bags: Annotated[
        list[Path] | None,  # none is not refused here, where the message would be that BAG is missing and not OUT
        typer.Argument(metavar="BAG", help="ROS 2 bags, or folders of them; one at least."),
    ] = None,
    out: Annotated[Path, typer.Argument(help="Folder to write sequences/NN to, one for each bag; made if missing.")],
    topic: Topic = None,
    camera: Annotated[
        list[str] | None, typer.Option(help="Image topic to use; give several, or none for all that are calibrated.")
    ] = None,
    no_cameras: Annotated[bool, typer.Option("--no-cameras", help="Scans and labels only.")] = False,
    calibration: Annotated[
        Path | None, typer.Option(help="YAML file with cameras that the bags do not calibrate.")
    ] = None,
    max_offset: Annotated[
        float | None, typer.Option(help="Seconds between a scan and its images (0.05 unless given).")
    ] = None,
    fixed_frame: Annotated[
        str | None,
        typer.Option(help="Frame in which the world stands still (odom, else the outermost that the LiDAR moves in)."),
    ] = None,
    class_map: ClassMapOption = "semantickitti",
    proposals: Annotated[bool, typer.Option("--proposals", help="Where labels are missing, write proposals.")] = False,
    intensity_field: IntensityField = None,
    intensity_scale: IntensityScale = 1.0,
    sensor_transform: SensorTransform = "0,0,0,0,0,0",
    sequence: Annotated[int, typer.Option(min=0, max=99, help="Number of the first sequence.")] = 0,
) -> None:
    """Write bags in SemanticKITTI's layout, for labelling tools: scans, images, calibration, poses, labels so far.

    `twodpass labels import` takes the labels back to the bags.
    """
    transform = floats(sensor_transform, "--sensor-transform", 6)

    from rich.console import Console
    from rich.progress import track

    from twodpass_core.data.bags.frames import BagFrames
    from twodpass_core.data.prepare import prepare as write
    from twodpass_core.errors import ConfigError

    if not bags:
        raise ConfigError(f"give the bags and then the folder to write to: twodpass prepare {out} FOLDER")
    if no_cameras and (camera or calibration or max_offset is not None):
        raise ConfigError("--no-cameras leaves no use for --camera, --calibration and --max-offset: leave one out")
    config = bag_config(
        topic=topic,
        calibration=calibration,
        max_offset=max_offset,
        fixed_frame=fixed_frame,
        class_map=class_map,
        proposals=proposals,
        intensity_field=intensity_field,
        intensity_scale=intensity_scale,
        training_from_sensor=transform,
    )
    frames = BagFrames(bags, config, cameras=[] if no_cameras else camera or None)
    console = Console(stderr=True)
    done = write(
        frames,
        out,
        first_sequence=sequence,
        progress=lambda indices: track(indices, "preparing", console=console, transient=True),
    )
    _tell(done)
    if not frames.labels_inside.all():
        options = [
            *(["--topic", topic] if topic else []),
            *(["--class-map", class_map] if class_map != "semantickitti" else []),
        ]
        _tell_next(done, options)


def _tell(done: Sequence[PreparedSequence]) -> None:
    """What has become of each bag."""
    for entry in done:
        images = ", ".join(
            f"{counted(count, 'image')} of {name} in {folder}" for name, (folder, count) in entry.images.items()
        )
        labels = f"{entry.labelled} labelled" + (f", {entry.proposed} with proposals" if entry.proposed else "")
        typer.echo(f"{entry.bag} is {entry.folder}: {counted(entry.scans, 'scan')}, {labels}, {images or 'no images'}")
        if entry.unknown_poses:
            instead = "those nearest in time" if entry.unknown_poses < entry.scans else "a vehicle that stands still"
            typer.echo(f"  {entry.unknown_poses} of {entry.scans} poses unknown: poses.txt has {instead} instead")


def _tell_next(done: Sequence[PreparedSequence], options: Sequence[str]) -> None:
    """How labels are made, and come back to the bags."""
    typer.echo(
        "next: label the scans of velodyne/ there, as in SemanticKITTI into labels/, then bring them to the bag:"
    )
    for entry in done:
        typer.echo(f"  twodpass labels import {shlex.join([str(entry.bag), str(entry.folder), *options])}")
