"""The demo: starts the node `segment`, plays scans to it over DDS, and shows what comes back.

python -m twodpass_ros.demo [SCAN...] [--weights W] [--out demo_output] [--frames N]; --help tells of more
"""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from itertools import chain, islice
from pathlib import Path
from statistics import median
from typing import Annotated

import numpy as np
import typer
from rich.console import Console
from rich.markup import escape
from rich.table import Table

from twodpass_core.classes import IGNORED, UNLABELLED, ClassMap
from twodpass_core.cli.edge import floats, in_words, print_note
from twodpass_core.cli.options import Columns, Device, IntensityField, SensorTransform, Topic
from twodpass_core.data.scans import Scan, ScanSequence, open_scans, refuse_unheeded
from twodpass_core.errors import ScanError, TwodpassError
from twodpass_core.pretrained import USED_UNASKED, weights_file
from twodpass_core.process import tune_process
from twodpass_core.render import render_bird_eye
from twodpass_core.sensor import doubt_of_unit
from twodpass_core.simulation import STREET_SEED, simulate_scans
from twodpass_core.weights import UNTRAINED, Card, read_card
from twodpass_core.wording import counted

try:
    from twodpass_ros.child_process import exit_on_signals, running_node, use_own_domain
    from twodpass_ros.player import Answer, Player
except ImportError as error:
    sys.exit(f"The demo needs ROS 2 and the built messages ({error}): run `make demo`, or source .venv/ros2.sh first")

INDENT = "    "
TRUTH_CLASSES = "semantickitti"
"""Whose class ids the simulation's truth has."""

app = typer.Typer(add_completion=False)
console = Console(highlight=False, soft_wrap=True)


@app.command()
def main(
    scans: Annotated[
        list[Path] | None, typer.Argument(help="Scan files, folders of them, or ROS bags; a simulated street if none.")
    ] = None,
    weights: Annotated[
        Path | None, typer.Option(help="Weights file (.safetensors); default, or none: those that come with twodpass.")
    ] = None,
    out: Annotated[Path, typer.Option(help="Folder for pictures and the node's log.")] = Path("demo_output"),
    frames: Annotated[int, typer.Option(min=1, help="How many scans to play at most.")] = 10,
    device: Device = "auto",
    columns: Columns = None,
    topic: Topic = None,
    intensity_field: IntensityField = None,
    intensity_scale: Annotated[
        float | None,
        typer.Option(
            help="Factor from the scans' intensity to the training data's unit (see `twodpass info`); "
            "1 unless given, for the simulated street what the weights need."
        ),
    ] = None,
    sensor_transform: SensorTransform = "0,0,0,0,0,0",
) -> None:
    """Start the node `segment`, play scans to it over DDS, show classes and latency, and draw a bird's-eye picture."""
    tune_process()
    exit_on_signals()
    try:
        if scans:
            files = open_scans(scans, columns=columns, topic=topic, intensity_field=intensity_field)
        else:
            refuse_unheeded([], columns=columns, topic=topic, intensity_field=intensity_field)
            files = None
        pose = floats(sensor_transform, "--sensor-transform", 6)
        run_demo(files, weights, out, frames, device, intensity_scale, pose)
    except (TwodpassError, OSError) as error:
        console.print("The demo failed:", in_words(error), style="bold red", markup=False)
        raise typer.Exit(1) from error


def run_demo(
    files: ScanSequence | None,
    weights: Path | None,
    out: Path,
    frames: int,
    device: str = "auto",
    intensity_scale: float | None = None,
    training_from_sensor: Sequence[float] = (0.0,) * 6,
) -> None:
    """The demo, step by step; without files a street is simulated. Raises TwodpassError when a step fails."""
    _say_step(1, "Choosing the weights")
    out.mkdir(parents=True, exist_ok=True)
    if files and weights is None:
        print_note(f"No --weights given: {USED_UNASKED}", console)
    weights = weights_file(weights)
    card = read_card(weights)
    _say(f"{weights}: {card.class_map.name}, {card.origin}")
    _warn_if_untrained(card)

    _say_step(2, "Opening the scans")
    scans = read_scans(files, frames) if files else simulate_street(frames)
    try:
        first, first_truth = next(scans)
    except StopIteration:
        raise ScanError("the input holds no scan") from None
    _say(f"{'files given' if files else 'a simulated street, seen by a spinning 64-beam LiDAR'}: {first.name}, ...")
    if intensity_scale is None:
        intensity_scale = 1.0 if files else card.intensity_max  # the simulation's goes up to 1
    if doubt := doubt_of_unit(first.points[:, 3] * np.float32(intensity_scale), card.intensity_max):
        print_note(f"{first.name}: {doubt}; --intensity-scale converts it", console)

    parameters = {
        "weights": str(weights),
        "device": device,
        "intensity_scale": intensity_scale,
        "training_from_sensor": list(training_from_sensor),
    }
    answers, truths = play(chain([(first, first_truth)], scans), parameters, out / "node.log")

    _say_step(5, "Results")
    caveat = "" if card.trained else f", {UNTRAINED}"
    print_classes(answers, card.class_map, caveat)
    print_latency(answers)
    print_agreement(answers, truths, card.class_map)
    _draw(first, answers[0].class_id, card.class_map, out, f"labels by the node{caveat}")
    if first_truth is not None:
        _draw(first, first_truth, ClassMap.load(TRUTH_CLASSES), out, "truth of the simulation")
    _warn_if_untrained(card)


def read_scans(files: ScanSequence, frames: int) -> Iterator[tuple[Scan, None]]:
    """The user's scans."""
    return ((scan, None) for scan in islice(files, frames))


def simulate_street(frames: int) -> Iterator[tuple[Scan, np.ndarray]]:
    """Scans of a drive along a street, with the true class ids (N,) uint8 of their points."""
    class_map = ClassMap.load(TRUTH_CLASSES)
    for number, scan in enumerate(simulate_scans(frames, STREET_SEED)):
        yield Scan(f"street_{number:06d}", scan.points, scan.stamp_ns), class_map.training_ids(scan.raw_labels)


def play(
    scans: Iterable[tuple[Scan, np.ndarray | None]], parameters: Mapping[str, object], log: Path
) -> tuple[list[Answer], list[np.ndarray | None]]:
    """Starts the node with parameters and sends it the scans: its answers, and the truths. Raises NodeError."""
    _say_step(3, f"Starting the node `segment` (ROS domain {use_own_domain()}, log in {log})")
    answers: list[Answer] = []
    truths: list[np.ndarray | None] = []
    with running_node(parameters, log) as process, Player(process) as player:
        with console.status("waiting until it is active"):
            player.wait_until_active()
        _say("active")
        _say_step(4, "Playing scans to ~/input/points, receiving ~/output/points and ~/status")
        for scan, truth in scans:
            answers.append(player.send(scan))
            truths.append(truth)
            _say_answer(scan, answers[-1])
    came_back = f"{counted(len(answers), 'scan')} in, {counted(len(answers), 'labelled cloud')} out"
    _say(f"{came_back}: every point, same order, unchanged", style="green")
    return answers, truths


def print_classes(answers: Sequence[Answer], class_map: ClassMap, caveat: str) -> None:
    counts = np.sum([np.bincount(answer.class_id, minlength=256) for answer in answers], axis=0)
    table = Table("class", title=f"Points per class{caveat}", title_justify="left")
    table.add_column("points", justify="right")
    table.add_column("share", justify="right")
    for class_id in np.argsort(-counts, kind="stable"):
        if counts[class_id]:
            name = "unlabelled" if class_id == UNLABELLED else class_map.names[class_id]
            red, green, blue = class_map.colour_table[class_id]
            share = f"{counts[class_id] / counts.sum():.1%}"
            table.add_row(f"[rgb({red},{green},{blue})]██[/] {escape(name)}", f"{counts[class_id]:,}", share)
    console.print(table)


def print_latency(answers: Sequence[Answer]) -> None:
    rows: dict[str, Callable[[Answer], float]] = {
        "decode the cloud": lambda answer: answer.status.decode_ms,
        "voxelise, neighbour maps": lambda answer: answer.status.voxelise_ms,
        "network": lambda answer: answer.status.network_ms,
        "encode the labels": lambda answer: answer.status.encode_ms,
        "node, receipt to publication": lambda answer: answer.status.total_ms,
        "round trip over DDS": lambda answer: answer.round_trip_ms,
    }
    title = f"Latency on {answers[0].status.device}, median of {counted(len(answers), 'scan')}"
    table = Table("stage", title=title, title_justify="left")
    table.add_column("ms", justify="right")
    for name, milliseconds in rows.items():
        table.add_row(name, f"{median(map(milliseconds, answers)):.1f}")
    console.print(table)


def print_agreement(answers: Sequence[Answer], truths: Sequence[np.ndarray | None], class_map: ClassMap) -> None:
    """How many of the points whose class is known have it, or why that cannot be told; nothing where none is known."""
    if truths[0] is not None and class_map.names != ClassMap.load(TRUTH_CLASSES).names:
        classes = f"the truth is in classes of {TRUTH_CLASSES}, the labels in those of {class_map.name}"
        _say(f"{classes}: they are not compared")
        return
    right = known = 0
    for answer, truth in zip(answers, truths, strict=True):
        if truth is not None:
            right += int((answer.class_id == truth)[truth != IGNORED].sum())
            known += int((truth != IGNORED).sum())
    if known:
        _say(f"the simulation knows the truth: the node is right on {right / known:.1%} of {known:,} points")


def _draw(scan: Scan, class_id: np.ndarray, class_map: ClassMap, out: Path, what: str) -> None:
    path = out / f"{scan.name}_{what.split()[0]}.png"
    render_bird_eye(scan.points, class_id, class_map, path, title=f"{scan.name}: {what}")
    _say(f"picture: {path} ({what})")


def _say_step(number: int, what: str) -> None:
    console.print(f"{number}/5  {what}", style="bold", markup=False)


def _say(what: str, style: str | None = None) -> None:
    console.print(INDENT + what, style=style, markup=False)


def _say_answer(scan: Scan, answer: Answer) -> None:
    labelled = f"{answer.status.labelled:,} of them in the network's volume"
    _say(f"{scan.name}: {counted(len(scan.points), 'point')} in and out, {labelled}; {answer.round_trip_ms:.0f} ms")


def _warn_if_untrained(card: Card) -> None:
    if not card.trained:
        _say(UNTRAINED, style="bold white on red")


if __name__ == "__main__":
    app()
