"""Measures what the node adds to the network: publisher, node and reader in three processes, DDS between them.

python -m twodpass_ros.benchmark [SCAN] [--weights W] [--precision fp32] [--threads N]; --help tells of more
"""

from __future__ import annotations

import json
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import asdict, dataclass, fields
from functools import partial
from multiprocessing.connection import Connection
from pathlib import Path
from statistics import median
from tempfile import TemporaryDirectory
from typing import Annotated

import numpy as np
import typer
from rich.console import Console, Group
from rich.table import Table
from rich.text import Text

from twodpass_core.cli.edge import in_words, print_error
from twodpass_core.cloud import CloudData
from twodpass_core.errors import TwodpassError
from twodpass_core.process import tune_process
from twodpass_core.wording import counted

try:
    import rclpy
    from builtin_interfaces.msg import Time
    from rclpy.signals import SignalHandlerOptions
    from sensor_msgs.msg import PointCloud2
    from std_msgs.msg import Header

    from twodpass_ros.child_process import exit_on_signals, helper_process, running_node, use_own_domain
    from twodpass_ros.conversion import point_cloud2
    from twodpass_ros.errors import NodeError
    from twodpass_ros.player import SCAN_TIMEOUT, Answer, Player, cloud_of
    from twodpass_ros.transport import RESULTS
except ImportError as error:
    sys.exit(f"This benchmark needs ROS 2 and the built messages ({error}): `make setup`, then source .venv/ros2.sh")

WARM_UP = 5  # scans
PAUSE = 0.1  # seconds between scans, as of a sensor at 10 Hz whose scans the node keeps up with

app = typer.Typer(add_completion=False)


@dataclass(frozen=True)
class Timing:
    """Milliseconds of one scan: round_trip = segment + overhead, overhead = decode + encode + transport."""

    round_trip: float
    """Publication to the labelled cloud's receipt."""
    segment: float
    """Inside Segmenter.segment, as the node reports it."""
    decode: float
    encode: float
    transport: float
    """Everything else: both ways over DDS, (de)serialisation, waking the threads."""
    overhead: float

    @classmethod
    def of(cls, answer: Answer) -> Timing:
        status = answer.status
        segment = status.voxelise_ms + status.network_ms
        overhead = answer.round_trip_ms - segment
        transport = overhead - status.decode_ms - status.encode_ms
        return cls(answer.round_trip_ms, segment, status.decode_ms, status.encode_ms, transport, overhead)


@dataclass(frozen=True)
class Report:
    """What was found."""

    points: int
    source: str
    device: str
    precision: str
    timings: Sequence[Timing]

    def summary(self, statistic: Callable[[list[float]], float]) -> dict[str, float]:
        """A statistic over the scans, by stage."""
        return {f.name: statistic([getattr(timing, f.name) for timing in self.timings]) for f in fields(Timing)}

    def statistics(self) -> dict[str, dict[str, float]]:
        return {"median": self.summary(median), "min": self.summary(min), "p95": self.summary(_p95)}

    def to_dict(self) -> dict[str, object]:
        """Plain data, for JSON."""
        return asdict(self) | {f"{name}_ms": values for name, values in self.statistics().items()}

    def render(self) -> Group:
        """For a terminal."""
        statistics = self.statistics()
        title = f"milliseconds per scan, {counted(len(self.timings), 'scan')}"
        table = Table("stage", title=title, title_justify="left")
        for name in statistics:
            table.add_column(name, justify="right")
        for stage in ("decode", "segment", "encode", "transport", "round_trip", "overhead"):
            style = "bold" if stage == "overhead" else None
            table.add_row(
                stage.replace("_", " "), *(f"{values[stage]:.1f}" for values in statistics.values()), style=style
            )
        return Group(
            Text(f"{self.points:,} points ({self.source}); {self.precision} on {self.device}"),
            table,
            "round trip: publication to labelled cloud received; overhead: the same without segment",
        )


@app.command()
def main(
    scan: Annotated[
        Path | None, typer.Argument(help="A scan, or a folder or bag whose first is taken; a simulated one if none.")
    ] = None,
    weights: Annotated[
        Path | None,
        typer.Option("--weights", "-w", help="Weights file (.safetensors), or default; random ones if none."),
    ] = None,
    device: Annotated[str, typer.Option(help="Where the network runs: auto, cpu, cuda or cuda:N.")] = "auto",
    precision: Annotated[str, typer.Option(help="Number format of the network: fp32, bf16 or fp16.")] = "fp32",
    threads: Annotated[int, typer.Option(min=0, max=1024, help="The node's parameter of that name.")] = 0,
    scans: Annotated[int, typer.Option(min=1, help="How many scans to measure.")] = 30,
    points: Annotated[int, typer.Option(min=1, help="Points a scan: the scan's are repeated or cut.")] = 125_000,
    as_json: Annotated[bool, typer.Option("--json", help="Print the result as JSON.")] = False,
) -> None:
    """Time the way of a scan through the node, from publication to the labelled cloud, by stage."""
    tune_process()
    exit_on_signals()
    parameters: dict[str, str | float] = {"device": device, "precision": precision, "threads": threads}
    try:
        report = measure(scan, weights, parameters, points, scans)
    except (TwodpassError, OSError) as error:
        print_error(in_words(error))
        raise typer.Exit(1) from error
    if as_json:
        typer.echo(json.dumps(report.to_dict()))
    else:
        Console(highlight=False).print(report.render())


def measure(
    path: Path | None, weights: Path | None, parameters: dict[str, str | float], num_points: int, scans: int
) -> Report:
    """Play one scan again and again, each when the one before has come back. Raises TwodpassError."""
    # These import torch, after the process is tuned for it.
    from twodpass_core.cli.work.benchmark import first_scan, weights_or_random
    from twodpass_core.models.student import StudentConfig

    scan = first_scan(path)
    cloud = cloud_of(np.resize(scan, (num_points, 4)))
    use_own_domain()
    with (
        Console(stderr=True).status("starting the node") as status,
        weights_or_random(weights or StudentConfig()) as file,
        TemporaryDirectory() as folder,
        running_node({"weights": str(file), **parameters}, Path(folder, "log")) as process,
        Player(process) as player,
        publisher_process(cloud) as publish,
    ):
        player.wait_until_active()
        # A scan that is sent before the node has found the publisher is lost.
        player.request("the first scan", Time(), cloud, partial(publish, 0), resend_after=1.0)
        answers = []
        for number in range(1, 1 + WARM_UP + scans):
            status.update(f"measuring, {number} of {WARM_UP + scans}")
            time.sleep(PAUSE)
            answers.append(player.request(f"scan {number}", Time(sec=number), cloud, partial(publish, number)))
    return Report(
        points=num_points,
        source=f"{path.name if path else 'a simulated street'}, which has {len(scan):,}",
        device=answers[-1].status.device,
        precision=str(parameters["precision"]),
        timings=[Timing.of(answer) for answer in answers[WARM_UP:]],
    )


@contextmanager
def publisher_process(cloud: CloudData) -> Iterator[Callable[[int], float]]:
    """Another process that publishes the cloud; gives what asks it to, as `Player.request` wants it.

    The cloud's stamp is the number that is given.
    """
    with helper_process(_publish_on_request, cloud) as connection:

        def publish(number: int) -> float:
            try:
                connection.send(number)
                if connection.poll(SCAN_TIMEOUT):
                    return float(connection.recv())
            except (EOFError, OSError) as error:
                raise NodeError("the publisher ended, see above") from error
            raise NodeError(f"the publisher has not found the node within {SCAN_TIMEOUT:.0f} s")

        yield publish


def _publish_on_request(requests: Connection, cloud: CloudData) -> None:
    """The publisher: publishes once per number that comes, and answers when it did so."""
    tune_process()
    rclpy.init(args=[], signal_handler_options=SignalHandlerOptions.NO)
    node = rclpy.create_node("publisher")
    publisher = node.create_publisher(PointCloud2, "segment/input/points", RESULTS)
    message = point_cloud2(Header(frame_id="lidar"), cloud)
    try:
        while True:
            message.header.stamp = Time(sec=requests.recv())
            while not publisher.get_subscription_count():
                if requests.poll(0.01):  # nothing is asked meanwhile: the other end is closed
                    raise EOFError
            published = time.monotonic()
            publisher.publish(message)
            requests.send(published)
    except (EOFError, BrokenPipeError):
        rclpy.shutdown()


def _p95(values: Sequence[float]) -> float:
    return float(np.percentile(values, 95))


if __name__ == "__main__":
    app()
