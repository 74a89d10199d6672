"""Stands in for the node `segment` and does one thing wrong, the one its argument names."""

from __future__ import annotations

import sys
from typing import Any

import numpy as np
import rclpy
from lifecycle_msgs.msg import State
from lifecycle_msgs.srv import GetState
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
        self._clouds = self.create_publisher(PointCloud2, "~/output/points", RESULTS)
        self._reports = self.create_publisher(SegmentationStatus, "~/status", RESULTS)
        self.create_subscription(PointCloud2, "~/input/points", self._answer, RESULTS)
        self.create_service(GetState, "~/get_state", self._tell_state)

    def _tell_state(self, request: Any, response: Any) -> Any:
        unconfigured = self._fault == "unconfigured"
        response.current_state = State(
            id=State.PRIMARY_STATE_UNCONFIGURED if unconfigured else State.PRIMARY_STATE_ACTIVE
        )
        response.current_state.label = "unconfigured" if unconfigured else "active"
        return response

    def _answer(self, scan: PointCloud2) -> None:
        if self._fault == "dies":
            sys.exit(7)
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
    rclpy.spin(FaultyNode(sys.argv[1]))
