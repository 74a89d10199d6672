"""Stands in for the node `segment` and does one thing wrong, the one its argument names."""

from __future__ import annotations

import sys
from contextlib import suppress
from typing import Any

import numpy as np
import rclpy
from diagnostic_msgs.msg import DiagnosticArray, DiagnosticStatus
from lifecycle_msgs.msg import State
from lifecycle_msgs.srv import GetState
from rclpy.executors import ExternalShutdownException
from rclpy.node import Node
from sensor_msgs.msg import PointCloud2

from twodpass_core.cloud import label_cloud, make_cloud, read_points
from twodpass_ros.conversion import point_cloud2
from twodpass_ros.msg import SegmentationStatus
from twodpass_ros.transport import RESULTS


class FaultyNode(Node):  # type: ignore[misc]
    def __init__(self, fault: str) -> None:
        super().__init__("segment")
        self._fault = fault
        self._received = 0
        self._clouds = self.create_publisher(PointCloud2, "~/output/points", RESULTS)
        self._reports = self.create_publisher(SegmentationStatus, "~/status", RESULTS)
        if fault == "unconfigured":
            self._alarms = self.create_publisher(DiagnosticArray, "/diagnostics", 10)
            self.create_timer(0.1, self._raise_alarm)
        else:
            self.create_subscription(PointCloud2, "~/input/points", self._answer, RESULTS)
        self.create_service(GetState, "~/get_state", self._tell_state)

    def _tell_state(self, request: Any, response: Any) -> Any:
        unconfigured = self._fault == "unconfigured"
        response.current_state = State(
            id=State.PRIMARY_STATE_UNCONFIGURED if unconfigured else State.PRIMARY_STATE_ACTIVE
        )
        response.current_state.label = "unconfigured" if unconfigured else "active"
        return response

    def _raise_alarm(self) -> None:
        status = DiagnosticStatus(level=DiagnosticStatus.ERROR, message="Cannot configure: no weights")
        self._alarms.publish(DiagnosticArray(status=[status]))

    def _answer(self, scan: PointCloud2) -> None:
        if self._fault == "dies":
            sys.exit(7)
        self._received += 1
        if self._fault == "is slow once" and self._received == 1:
            return  # the answer comes when the scan is sent again
        points = read_points(scan)
        if self._fault == "loses a point":
            points = points[1:]
        if self._fault == "swaps points":
            points = points[::-1]
        cloud = make_cloud({"x": points[:, 0], "y": points[:, 1], "z": points[:, 2], "intensity": points[:, 3]})
        n = len(points)
        labelled = label_cloud(cloud, np.full(n, 9, np.uint8), np.ones(n, np.float32), np.zeros((n, 3), np.uint8))
        self._clouds.publish(point_cloud2(scan.header, labelled))
        self._reports.publish(SegmentationStatus(header=scan.header, points=n, labelled=n))


if __name__ == "__main__":
    rclpy.init()
    with suppress(ExternalShutdownException):  # by a signal
        rclpy.spin(FaultyNode(sys.argv[1]))
