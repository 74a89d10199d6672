"""Plays scans to a running node `segment` over DDS and waits for the labelled clouds."""

from __future__ import annotations

import subprocess
import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt
import rclpy
from builtin_interfaces.msg import Time
from diagnostic_msgs.msg import DiagnosticArray, DiagnosticStatus
from lifecycle_msgs.msg import State
from lifecycle_msgs.srv import GetState
from rclpy.executors import SingleThreadedExecutor
from rclpy.signals import SignalHandlerOptions
from sensor_msgs.msg import PointCloud2
from std_msgs.msg import Header

from twodpass_core.cloud import CloudData, make_cloud, view_cloud
from twodpass_core.data.scans import Scan
from twodpass_core.wording import counted
from twodpass_ros.conversion import point_cloud2
from twodpass_ros.errors import NodeError
from twodpass_ros.msg import SegmentationStatus
from twodpass_ros.transport import RESULTS

START_TIMEOUT, SCAN_TIMEOUT = 180.0, 60.0
"""Seconds."""
RESEND_AFTER = 15.0
"""Seconds without an answer after which a scan is sent again: the node's reader is best effort."""


@dataclass(frozen=True)
class Answer:
    """What the node made of a scan: class_id (N,) uint8, its own report, first sending to receipt in milliseconds."""

    class_id: np.ndarray
    status: SegmentationStatus
    round_trip_ms: float


class Player:
    """The other side of the node's topics. A context manager; every failure is a NodeError."""

    def __init__(self, process: subprocess.Popen[bytes]) -> None:
        self._process = process
        self._context = rclpy.Context()
        rclpy.init(args=[], context=self._context, signal_handler_options=SignalHandlerOptions.NO)
        self._node = rclpy.create_node("player", context=self._context)
        self._executor = SingleThreadedExecutor(context=self._context)
        self._executor.add_node(self._node)
        self._state = self._node.create_client(GetState, "segment/get_state")
        self._alarm = ""
        self._scans = self._node.create_publisher(PointCloud2, "segment/input/points", RESULTS)
        self._clouds: dict[tuple[int, int], tuple[PointCloud2, float]] = {}
        self._reports: dict[tuple[int, int], SegmentationStatus] = {}
        self._node.create_subscription(PointCloud2, "segment/output/points", self._on_cloud, RESULTS)
        self._node.create_subscription(SegmentationStatus, "segment/status", self._on_report, RESULTS)
        self._node.create_subscription(DiagnosticArray, "/diagnostics", self._on_diagnostics, RESULTS)

    def __enter__(self) -> Player:
        return self

    def __exit__(self, *_: object) -> None:
        self._executor.shutdown()
        self._node.destroy_node()
        rclpy.try_shutdown(context=self._context)

    def wait_until_active(self) -> None:
        """Returns when the node is ready for scans, and this side is connected to it."""
        self._wait(lambda: self._is_connected() or self._alarm, START_TIMEOUT, "starting")
        if not self._is_connected():
            reply = self._state.call_async(GetState.Request())
            self._wait(reply.done, SCAN_TIMEOUT, "telling its state")
            state = reply.result().current_state
            if state.id != State.PRIMARY_STATE_ACTIVE:
                raise NodeError(f"the node did not start, it is {state.label}: {self._alarm}")
        self._wait(self._is_connected, START_TIMEOUT, "connecting")

    def send(self, scan: Scan, resend_after: float = RESEND_AFTER) -> Answer:
        """Plays one scan and waits for its labels. Exactly its points must come back, in order, byte for byte."""
        stamp = self._node.get_clock().now().to_msg()
        cloud = cloud_of(scan.points)
        message = point_cloud2(Header(stamp=stamp, frame_id="lidar"), cloud)

        def publish() -> float:
            published = time.monotonic()
            self._scans.publish(message)
            return published

        return self.request(scan.name, stamp, cloud, publish, resend_after)

    def request(
        self,
        name: str,
        stamp: Time,
        cloud: CloudData,
        publish: Callable[[], float],
        resend_after: float = RESEND_AFTER,
    ) -> Answer:
        """As `send`, by another publisher: `publish` has the cloud sent under that stamp, and returns when it was.

        That is a time of time.monotonic(), which is the same in all processes.
        """
        key = _key(stamp)
        self._clouds.clear()  # answers to what was sent twice may still come after the first
        self._reports.clear()
        sent_at = [publish()]

        def is_answered() -> bool:
            if time.monotonic() > sent_at[-1] + resend_after:
                sent_at.append(publish())
            return key in self._clouds and key in self._reports

        self._wait(is_answered, SCAN_TIMEOUT, f"labelling {name}")
        received, received_at = self._clouds.pop(key)
        labelled = view_cloud(received)
        if labelled.num_points != cloud.width:
            raise NodeError(f"{name}: {counted(cloud.width, 'point')} went in, {labelled.num_points:,} came out")
        if labelled.point_bytes(0, cloud.point_step).tobytes() != cloud.data.tobytes():
            raise NodeError(f"{name}: the points came out changed")
        return Answer(labelled.column("class_id").ravel(), self._reports.pop(key), 1e3 * (received_at - sent_at[0]))

    def _is_connected(self) -> bool:
        return bool(
            self._scans.get_subscription_count()
            and self._node.count_publishers("segment/output/points")
            and self._node.count_publishers("segment/status")
        )

    def _on_diagnostics(self, diagnostics: DiagnosticArray) -> None:
        """Of the only node there is beside this one."""
        for status in diagnostics.status:
            self._alarm = status.message if status.level == DiagnosticStatus.ERROR else ""

    def _on_cloud(self, cloud: PointCloud2) -> None:
        self._clouds[_key(cloud.header.stamp)] = cloud, time.monotonic()

    def _on_report(self, report: SegmentationStatus) -> None:
        self._reports[_key(report.header.stamp)] = report

    def _wait(self, is_done: Callable[[], Any], seconds: float, task: str) -> None:
        deadline = time.monotonic() + seconds
        while not is_done():
            if (code := self._process.poll()) is not None:
                raise NodeError(f"the node ended with exit code {code} while {task}")
            if time.monotonic() > deadline:
                raise NodeError(f"the node gave no answer within {seconds:.0f} s while {task}")
            self._executor.spin_once(timeout_sec=0.1)


def cloud_of(points: npt.NDArray[np.float32]) -> CloudData:
    """The cloud that carries points (N, 4): x, y, z, intensity."""
    return make_cloud(dict(zip(("x", "y", "z", "intensity"), points.T, strict=True)))


def _key(stamp: Time) -> tuple[int, int]:
    return stamp.sec, stamp.nanosec
