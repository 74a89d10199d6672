"""What is told on /diagnostics, and when a failure is one: levels, failures in a row, and their publication."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping

from diagnostic_msgs.msg import DiagnosticArray, DiagnosticStatus, KeyValue
from rclpy.node import Node

from twodpass_core.wording import without_numbers

RUN = 3
"""So many failures in a row are an error; fewer are a warning."""

OK: bytes = DiagnosticStatus.OK
WARN: bytes = DiagnosticStatus.WARN
ERROR: bytes = DiagnosticStatus.ERROR


@dataclasses.dataclass
class Streak:
    """Failures in a row, and the longest run since the last look: a short one between two looks is not missed."""

    reason: str = ""
    current: int = 0
    longest: int = 0

    def bad(self, reason: str) -> None:
        self.reason = reason
        self.current += 1
        self.longest = max(self.longest, self.current)

    def good(self) -> None:
        self.current = 0

    def look(self) -> bytes:
        """The worst level since the last look."""
        worst, self.longest = max(self.longest, self.current), 0
        return ERROR if worst >= RUN else WARN if worst else OK


class Reporter:
    """Publishes one status on /diagnostics, and logs its changes."""

    def __init__(self, node: Node, task: str) -> None:
        self._node = node
        self._task = task
        self._publisher = node.create_publisher(DiagnosticArray, "/diagnostics", 10)
        self._logged = OK, ""

    def publish(self, level: bytes, message: str, values: Mapping[str, object]) -> None:
        status = DiagnosticStatus(
            level=level,
            name=f"{self._node.get_fully_qualified_name()}: {self._task}",
            message=message,
            hardware_id=self._node.get_fully_qualified_name(),
            values=[KeyValue(key=key, value=str(value)) for key, value in values.items()],
        )
        array = DiagnosticArray(status=[status])
        array.header.stamp = self._node.get_clock().now().to_msg()
        self._publisher.publish(array)

    def log_change(self, level: bytes, message: str) -> None:
        """Logs the message where it, or its level, is another one than before, but for its numbers."""
        change = level, without_numbers(message)
        if change == self._logged:
            return
        self._logged = change
        if level == ERROR:  # three calls: rclpy refuses one that logs at changing severities
            self._node.get_logger().error(message)
        elif level == WARN:
            self._node.get_logger().warning(message)
        else:
            self._node.get_logger().info(message)
