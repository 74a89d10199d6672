"""The command `twodpass simulate`."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Literal

import typer

from twodpass_core.cli.edge import not_nan
from twodpass_core.wording import counted


def simulate(
    out: Annotated[Path, typer.Argument(help="Folder to write sequences/NN to; made if missing.")],
    frames: Annotated[int, typer.Option(min=1, help="Scans with their images.")] = 100,
    seed: Annotated[int, typer.Option(min=0, max=2**32 - 1, help="Which street: every number is another one.")] = 0,
    form: Annotated[Literal["kitti"], typer.Option("--format", help="SemanticKITTI's layout.")] = "kitti",
    sequence: Annotated[int, typer.Option(min=0, max=99, help="Number of the sequence; the splits have 0 to 21.")] = 0,
    period: Annotated[
        float, typer.Option(min=0.001, max=3600, callback=not_nan, help="Seconds from frame to frame.")
    ] = 0.1,
    columns: Annotated[
        int, typer.Option(min=8, max=2**16, help="Measurements of each of the 64 beams per turn.")
    ] = 2048,
    image_width: Annotated[
        int, typer.Option(min=32, max=2**14, help="Width of the images, pixels; the view is KITTI's.")
    ] = 1242,
) -> None:
    """Drive down a simulated street; write LiDAR scans, labels, images, calibration and poses."""
    from dataclasses import replace

    from rich.console import Console
    from rich.progress import track

    from twodpass_core.simulation import HDL_64E, Drive, kitti_camera
    from twodpass_core.simulation.kitti import write_sequence

    drive = Drive(seed, replace(HDL_64E, columns=columns))
    stamps_ns = [round(frame * period * 1e9) for frame in range(frames)]
    folder = out / "sequences" / f"{sequence:02d}"
    console = Console(stderr=True)
    write_sequence(
        folder, drive, track(stamps_ns, "simulating", console=console, transient=True), kitti_camera(image_width)
    )
    typer.echo(f"{counted(frames, 'frame')} of street {seed} in {folder} ({form})")
