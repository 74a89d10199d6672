"""The commands `twodpass labels status|import|export|propose`."""

from __future__ import annotations

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
from twodpass_core.cli.edge import floats, not_nan, print_error
from twodpass_core.cli.options import Backend, Device, PrecisionOption
from twodpass_core.wording import counted

if TYPE_CHECKING:
    from twodpass_core.data.bags.frames import BagFrames

app = typer.Typer(no_args_is_help=True, help="Labels of ROS 2 bags, kept beside them in BAG_labels/.")

Bags = Annotated[list[Path], typer.Argument(metavar="BAG", help="ROS 2 bags, or folders of them.")]
Bag = Annotated[Path, typer.Argument(help="ROS 2 bag, or a folder of them.")]
Overwrite = Annotated[bool, typer.Option("--overwrite", help="Replace labels that differ.")]


@app.command()
def status(bags: Bags, topic: Topic = None, class_map: ClassMapOption = "semantickitti") -> None:
    """Show how much is labelled and proposed, and check every label file. Exit code 1 where one does not fit."""
    from rich.console import Console

    from twodpass_core.cli.work.labels import class_table, status_table
    from twodpass_core.labels.status import label_status

    frames = _open(bags, topic, class_map)
    found = label_status(frames)
    output = Console()
    output.print(status_table(found))
    if any(entry.points.any() for entry in found):
        output.print(class_table(found, frames.class_map))
    problems = [problem for entry in found for problem in entry.problems]
    for problem in problems:
        print_error(problem)
    raise typer.Exit(1 if problems else 0)


@app.command(name="import")
def import_(
    bag: Bag,
    folder: Annotated[
        Path, typer.Argument(help="What `twodpass prepare` wrote, labelled since, or a folder of STAMP_NS.label files.")
    ],
    topic: Topic = None,
    class_map: ClassMapOption = "semantickitti",
    overwrite: Overwrite = False,
    accept_proposals: Annotated[
        bool, typer.Option("--accept-proposals", help="Also files that are just what the network has proposed.")
    ] = False,
) -> None:
    """Take label files over: into BAG_labels/, each checked for its scan, length and ids before any is written."""
    from twodpass_core.labels.exchange import import_labels

    frames = _open([bag], topic, class_map)
    done = import_labels(frames, folder, overwrite=overwrite, accept_proposals=accept_proposals)
    typer.echo(
        f"{done.new} new, {done.replaced} replaced, {done.unchanged} unchanged, {done.empty} left out: nothing labelled"
    )
    if done.proposed:
        typer.echo(
            f"{done.proposed} left out: just as the network proposed them; --accept-proposals takes these as labels"
        )


@app.command()
def export(
    bag: Bag,
    folder: Annotated[
        Path, typer.Argument(help="What `twodpass prepare` wrote, or a folder for STAMP_NS.label files.")
    ],
    proposals: Annotated[
        bool, typer.Option("--proposals", help="Also proposals, for scans without labels: to be corrected.")
    ] = False,
    topic: Topic = None,
    class_map: ClassMapOption = "semantickitti",
    overwrite: Overwrite = False,
) -> None:
    """Write labels from beside the bag as SemanticKITTI's label files; `import` takes them back."""
    from twodpass_core.labels.exchange import export_labels

    done = export_labels(_open([bag], topic, class_map), folder, proposals=proposals, overwrite=overwrite)
    typer.echo(f"{counted(done.labels, 'label')} and {counted(done.proposals, 'proposal')} written to {folder}")
    if done.left_out:
        typer.echo(f"{counted(done.left_out, 'labelled scan')} left out: in no sequence of {folder}")


@app.command()
def propose(
    bags: Bags,
    weights: Annotated[
        Path,
        typer.Option(
            "--weights", "-w", help="Weights file (.safetensors) of twodpass, or default: those that come with it."
        ),
    ],
    min_probability: Annotated[
        float,
        typer.Option(min=0, max=1, callback=not_nan, help="Points that the network is less sure of stay unlabelled."),
    ] = 0.9,
    votes: Annotated[int, typer.Option(min=1, help="Passes per scan, each rotated; their scores are averaged.")] = 12,
    again: Annotated[bool, typer.Option("--again", help="Also scans that have proposals: these are replaced.")] = False,
    topic: Topic = None,
    intensity_field: IntensityField = None,
    intensity_scale: IntensityScale = 1.0,
    sensor_transform: SensorTransform = "0,0,0,0,0,0",
    class_map: ClassMapOption = "semantickitti",
    device: Device = "auto",
    precision: PrecisionOption = "fp32",
    backend: Backend = "auto",
) -> None:
    """Let a network propose labels for the scans without any. They are kept apart, in BAG_labels/proposed/.

    Training uses them only where bag.proposals says so; `export --proposals` gives them out to be corrected.
    """
    transform = floats(sensor_transform, "--sensor-transform", 6)

    from twodpass_core.cli.work.labels import print_proposals
    from twodpass_core.data.bags.frames import BagFrames
    from twodpass_core.labels.proposals import log_run, propose, unlabelled_scans
    from twodpass_core.pretrained import weights_file
    from twodpass_core.segmenter import Segmenter

    config = bag_config(
        topic=topic,
        class_map=class_map,
        intensity_field=intensity_field,
        intensity_scale=intensity_scale,
        training_from_sensor=transform,
    )
    frames = BagFrames(bags, config, cameras=[])
    indices = unlabelled_scans(frames, again=again)
    segmenter = Segmenter.from_weights(weights_file(weights), device, precision, backend)
    proposals = propose(frames, indices, segmenter, votes=votes, min_probability=min_probability)
    log_run(
        {frames.origin(index)[0] for index in indices},
        weights=str(weights),
        origin=segmenter.card.origin,
        votes=votes,
        min_probability=min_probability,
    )
    print_proposals(proposals, len(indices), min_probability=min_probability, trained=segmenter.card.trained)
    left_out = {
        "with labels": int(frames.labelled.sum()),
        "with proposals, which --again replaces": int((~frames.labelled).sum()) - len(indices),
    }
    if told := [f"{counted(number, 'scan')} {what}" for what, number in left_out.items() if number]:
        typer.echo(f"left out: {', '.join(told)}")


def _open(bags: list[Path], topic: str | None, class_map: str) -> BagFrames:
    from twodpass_core.data.bags.frames import BagFrames

    return BagFrames(bags, bag_config(topic=topic, class_map=class_map), cameras=[])
