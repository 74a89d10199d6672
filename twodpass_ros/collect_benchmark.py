"""Measures how much of a vehicle's data `collect` records: sensors and node in two processes, DDS between them.

python -m twodpass_ros.collect_benchmark [--cameras 2] [--seconds 20] [--folder DISK] [--json]
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
import time
from array import array
from contextlib import suppress
from dataclasses import asdict, dataclass
from multiprocessing.connection import Connection
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Annotated, Any

import numpy as np
import typer
from rich.console import Console
from rich.table import Table

from twodpass_core.cli.edge import in_words, print_error
from twodpass_core.errors import TwodpassError
from twodpass_core.recording import Manifest
from twodpass_core.simulation import Drive, kitti_camera
from twodpass_core.wording import counted

try:
    import rclpy
    from builtin_interfaces.msg import Time
    from geometry_msgs.msg import TransformStamped
    from rclpy.signals import SignalHandlerOptions
    from sensor_msgs.msg import CameraInfo, Image, PointCloud2
    from std_msgs.msg import Header
    from std_srvs.srv import Trigger
    from tf2_msgs.msg import TFMessage

    from twodpass_ros.child_process import exit_on_signals, helper_process, running_node, use_own_domain
    from twodpass_ros.conversion import point_cloud2
    from twodpass_ros.errors import NodeError
    from twodpass_ros.msg import CollectionStatus
    from twodpass_ros.player import cloud_of
    from twodpass_ros.transport import LATCHED, RESULTS
except ImportError as error:
    sys.exit(f"This benchmark needs ROS 2 and the built messages ({error}): `make setup`, then source .venv/ros2.sh")

POINTS = 125_000
RATE = 10.0  # sets a second
MOMENTS = 4  # different ones, over and over
START_TIMEOUT = 60.0  # seconds
CAMERA = kitti_camera()

app = typer.Typer(add_completion=False)


@dataclass(frozen=True)
class Report:
    """What was found."""

    cameras: int
    megabytes_per_set: float
    sent: int  # sets, between the first and the last recorded
    recorded: int
    share: float
    dropped: dict[str, int]
    cpu: float  # of one core, that the node used
    memory_mb: float  # of the node, at the end
    received_mb_per_s: float
    written_mb_per_s: float
    scores: int  # sets whose calibration was scored
    seconds: float

    def render(self) -> Table:
        table = Table(
            title=f"{self.seconds:.0f} s, {RATE:g} sets a second of one scan and {counted(self.cameras, 'image')}, "
            f"{self.megabytes_per_set:.1f} MB a set",
            title_justify="left",
            show_header=False,
        )
        table.add_row("sets recorded", f"{self.recorded} of {self.sent}, {self.share:.1%}")
        dropped = ", ".join(f"{count} of {name}" for name, count in self.dropped.items())
        table.add_row("messages dropped", dropped or "none")
        table.add_row("received", f"{self.received_mb_per_s:.1f} MB/s")
        table.add_row("written", f"{self.written_mb_per_s:.1f} MB/s")
        table.add_row("processor", f"{self.cpu:.0%} of one core")
        table.add_row("memory", f"{self.memory_mb:.0f} MB")
        table.add_row("calibrations scored", str(self.scores))
        return table


@app.command()
def main(
    cameras: Annotated[int, typer.Option(min=0, help="Cameras of 1242 x 375 pixels, 1.4 MB an image.")] = 2,
    seconds: Annotated[float, typer.Option(min=2.0, help="How long to record.")] = 20.0,
    folder: Annotated[
        Path | None, typer.Option(help="Folder on the disk to measure; that of temporary files if none.")
    ] = None,
    as_json: Annotated[bool, typer.Option("--json", help="Print the result as JSON.")] = False,
) -> None:
    """Record simulated sensors for a while; tell the share of sets that reached the disk, and what that took."""
    exit_on_signals()
    use_own_domain()
    try:
        with TemporaryDirectory(dir=folder) as temporary:
            report = measure(Path(temporary), cameras, seconds)
    except (TwodpassError, OSError) as error:
        print_error(in_words(error))
        raise typer.Exit(1) from error
    if as_json:
        typer.echo(json.dumps(asdict(report)))
    else:
        Console(highlight=False).print(report.render())


def measure(folder: Path, cameras: int, seconds: float) -> Report:
    """Records into a folder. Raises TwodpassError."""
    names = [f"camera_{number}" for number in range(cameras)]
    images = [f"/{name}/image_raw" for name in names] or [""]
    with (
        running_node({"folder": str(folder / "bags"), "images": images}, folder / "log", "collect") as process,
        helper_process(_publish, names) as connection,
        _Watcher() as watcher,
    ):
        watcher.wait_for_recording(process)
        begun, cpu = time.monotonic(), _cpu_seconds(process.pid)
        watcher.spin(seconds)
        cpu, lasted = _cpu_seconds(process.pid) - cpu, time.monotonic() - begun
        memory = _memory(process.pid)
        watcher.stop()
        connection.send("stop")
        stamps: list[int] = connection.recv()
        set_bytes: int = connection.recv()
    (bag,) = (folder / "bags").iterdir()
    manifest = Manifest.read(bag)
    if not manifest.sets:
        raise NodeError("no set was recorded")
    first, last = manifest.sets[0].stamp_ns, manifest.sets[-1].stamp_ns
    sent = sum(first <= stamp <= last for stamp in stamps)
    recording_s = 1e-9 * (last - first)
    return Report(
        cameras=cameras,
        megabytes_per_set=set_bytes / 1e6,
        sent=sent,
        recorded=len(manifest.sets),
        share=len(manifest.sets) / sent,
        dropped=dict(manifest.dropped),
        cpu=cpu / lasted,
        memory_mb=memory / 1e6,
        received_mb_per_s=set_bytes / 1e6 * sent / recording_s,
        written_mb_per_s=sum(file.stat().st_size for file in bag.glob("*.mcap")) / 1e6 / recording_s,
        scores=sum(entry.calibration_score is not None for entry in manifest.sets),
        seconds=lasted,
    )


class _Watcher:
    """Reads the node's status and stops it."""

    def __enter__(self) -> _Watcher:
        rclpy.init(args=[], signal_handler_options=SignalHandlerOptions.NO)
        self._node = rclpy.create_node("watcher")
        self._newest: CollectionStatus | None = None
        self._node.create_subscription(CollectionStatus, "/collect/status", self._take, RESULTS)
        return self

    def __exit__(self, *_: object) -> None:
        self._node.destroy_node()
        rclpy.try_shutdown()

    def _take(self, status: CollectionStatus) -> None:
        self._newest = status

    def spin(self, seconds: float) -> None:
        end = time.monotonic() + seconds
        while (left := end - time.monotonic()) > 0:
            rclpy.spin_once(self._node, timeout_sec=left)

    def wait_for_recording(self, process: subprocess.Popen[bytes]) -> None:
        end = time.monotonic() + START_TIMEOUT
        while self._newest is None or not self._newest.recording:
            if process.poll() is not None:
                raise NodeError("the node has ended")
            if time.monotonic() > end:
                raise NodeError(f"the node did not begin to record within {START_TIMEOUT:.0f} s")
            self.spin(0.1)

    def stop(self) -> None:
        client = self._node.create_client(Trigger, "/collect/stop")
        client.wait_for_service(START_TIMEOUT)
        future = client.call_async(Trigger.Request())
        rclpy.spin_until_future_complete(self._node, future, timeout_sec=START_TIMEOUT)
        if not future.done():
            raise NodeError(f"the recording did not end within {START_TIMEOUT:.0f} s")


def _publish(requests: Connection, names: list[str]) -> None:
    """Publishes sets; told to stop, it sends the scans' stamps and the size of a set."""
    rclpy.init(args=[], signal_handler_options=SignalHandlerOptions.NO)
    node = rclpy.create_node("sensors")
    points = node.create_publisher(PointCloud2, "/collect/input/points", RESULTS)
    images = {name: node.create_publisher(Image, f"/{name}/image_raw", RESULTS) for name in names}
    infos = {name: node.create_publisher(CameraInfo, f"/{name}/camera_info", RESULTS) for name in names}
    static = node.create_publisher(TFMessage, "/tf_static", LATCHED)
    static.publish(TFMessage(transforms=[_mounting(name) for name in names]))
    drive = Drive(1)
    moments = [_moment(drive, number * 10**9) for number in range(MOMENTS)]
    set_bytes = len(moments[0][0].data) + len(names) * len(moments[0][1].data)
    stamps: list[int] = []
    next_ns = time.monotonic_ns()
    while not requests.poll():
        cloud, image = moments[len(stamps) % MOMENTS]
        stamp_ns = node.get_clock().now().nanoseconds
        cloud.header = _header("lidar", stamp_ns)
        points.publish(cloud)
        for name in names:
            image.header = _header(name, stamp_ns)
            images[name].publish(image)
            infos[name].publish(_info(image.header))
        stamps.append(stamp_ns)
        next_ns += round(1e9 / RATE)
        time.sleep(max(0, next_ns - time.monotonic_ns()) * 1e-9)
    with suppress(BrokenPipeError):  # the other end may be closed: then nobody wants to know
        requests.send(stamps)
        requests.send(set_bytes)
    rclpy.shutdown()


def _moment(drive: Drive, stamp_ns: int) -> tuple[PointCloud2, Image]:
    points = drive.scan(stamp_ns).points
    cloud = point_cloud2(Header(), cloud_of(np.resize(points, (POINTS, 4))))
    picture = drive.picture(stamp_ns, CAMERA).image
    image = Image(height=picture.shape[0], width=picture.shape[1], encoding="rgb8", step=3 * picture.shape[1])
    image.data = array("B", picture.tobytes())
    return cloud, image


def _header(frame_id: str, stamp_ns: int) -> Header:
    return Header(frame_id=frame_id, stamp=Time(sec=stamp_ns // 10**9, nanosec=stamp_ns % 10**9))


def _info(header: Header) -> CameraInfo:
    model = CAMERA.model
    info = CameraInfo(header=header, width=model.width, height=model.height, distortion_model="plumb_bob")
    info.d, info.k = [0.0] * 5, model.matrix.ravel().tolist()
    return info


def _mounting(name: str) -> TransformStamped:
    lidar_from_camera = CAMERA.camera_from_lidar.inverse()
    message: Any = TransformStamped(header=Header(frame_id="lidar"), child_frame_id=name)
    rotation, translation = message.transform.rotation, message.transform.translation
    rotation.w, rotation.x, rotation.y, rotation.z = lidar_from_camera.quaternion().tolist()
    translation.x, translation.y, translation.z = lidar_from_camera.translation.tolist()
    return message


def _cpu_seconds(pid: int) -> float:
    """Of all threads of a process, in user and system mode (proc(5))."""
    fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")


def _memory(pid: int) -> int:
    """Resident bytes."""
    return int(Path(f"/proc/{pid}/statm").read_text().split()[1]) * os.sysconf("SC_PAGE_SIZE")


if __name__ == "__main__":
    app()
