"""The command `twodpass`: its subcommands and their options. What they do is in the modules beside, imported on use."""

from __future__ import annotations

import logging
import signal
import sys
from collections.abc import Sequence
from io import TextIOWrapper
from pathlib import Path
from types import FrameType
from typing import Annotated, NoReturn

import typer

from twodpass_core.cli import ablating, benchmarking, labels, preparing, recording, simulating, training
from twodpass_core.cli.edge import ReportingGroup, floats, integers, print_note, print_version
from twodpass_core.cli.options import Backend, Columns, Device, IntensityField, PrecisionOption, Topic
from twodpass_core.process import tune_process

app = typer.Typer(
    cls=ReportingGroup,
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
    help="LiDAR semantic segmentation, trained with camera images, deployed without a camera.",
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
Overwrite = Annotated[bool, typer.Option("--overwrite", help="Replace files that exist.")]


@app.callback()
def global_options(
    debug: Annotated[
        bool,
        typer.Option("--debug", envvar="TWODPASS_DEBUG", help="Show the log, and the whole traceback of an error."),
    ] = False,
    version: Annotated[
        bool, typer.Option("--version", callback=print_version, is_eager=True, help="Show the version.")
    ] = False,
) -> None:
    """Options of all commands; ReportingGroup reads `debug`."""
    if debug:
        logging.basicConfig(level=logging.INFO, format="%(name)s: %(message)s")


@app.command()
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
    sensor_transform: Annotated[
        str,
        typer.Option(metavar="X,Y,Z,R,P,Y", help="Pose of the sensor in the training frame: metres and radians."),
    ] = "0,0,0,0,0,0",
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

    from twodpass_core.cli.labelling import LabelFolder, label_scans, print_summary
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


@app.command()
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
    from twodpass_core.cli.cards import import_to
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


@app.command()
def info(
    weights: Annotated[
        Path | None, typer.Argument(help="Weights file (.safetensors); those that come with twodpass if none.")
    ] = None,
    json: Annotated[bool, typer.Option("--json", help="Print the card as JSON.")] = False,
) -> None:
    """Show the card of a weights file: what it is, what it expects, where it comes from."""
    from twodpass_core.cli.cards import print_card
    from twodpass_core.pretrained import weights_file
    from twodpass_core.weights import read_card

    weights = weights_file(weights)
    card = read_card(weights)
    if json:
        typer.echo(card.model_dump_json(indent=2))
    else:
        print_card(card, weights)


@app.command()
def render(
    scan: Annotated[Path, typer.Argument(help="A scan, or a folder or bag with --index.")],
    out: Annotated[Path, typer.Option("--out", "-o", help="PNG to write.")],
    labels: Annotated[Path | None, typer.Option(help="Its .label file (uint32 raw ids); without, all is grey.")] = None,
    class_map: Annotated[
        str | None, typer.Option(metavar="NAME|YAML", help="What their raw ids mean (semantickitti unless given).")
    ] = None,
    index: Annotated[int, typer.Option(min=0, help="Which scan of a folder or bag.")] = 0,
    columns: Columns = None,
    topic: Topic = None,
    overwrite: Overwrite = False,
) -> None:
    """Draw a scan from above, coloured by its labels."""
    from twodpass_core.classes import ClassMap
    from twodpass_core.cli.labelling import render_scan
    from twodpass_core.cloud import NO_INTENSITY
    from twodpass_core.data.scans import open_scans
    from twodpass_core.errors import ConfigError

    if class_map is not None and labels is None:
        raise ConfigError("--class-map says what labels mean: give --labels, too")
    scans = open_scans([scan], columns=columns, topic=topic, intensity_field=NO_INTENSITY)
    render_scan(scans, index, labels, ClassMap.load(class_map or "semantickitti"), out, overwrite=overwrite)


app.command()(benchmarking.benchmark)
app.command()(training.train)
app.command()(ablating.ablation)
app.command()(training.evaluate)
app.command()(training.submit)
app.command()(benchmarking.benchmark_training)
app.command()(benchmarking.benchmark_kernels)
app.command()(simulating.simulate)
app.command()(preparing.prepare)
app.add_typer(labels.app, name="labels")
app.command()(recording.recover)


def main(arguments: Sequence[str] | None = None) -> None:
    """Entry point of the command; `arguments` are those of the process unless given. Raises SystemExit, always."""
    signal.signal(signal.SIGTERM, _end)
    if isinstance(sys.stdout, TextIOWrapper):
        sys.stdout.reconfigure(errors="surrogateescape")  # names of files that are no text come out as they are
    tune_process()  # before a subcommand imports torch
    app(arguments, prog_name="twodpass")


def _end(number: int, frame: FrameType | None) -> NoReturn:
    """As after Ctrl-C, half written files are removed."""
    raise SystemExit(128 + number)
