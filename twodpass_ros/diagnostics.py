"""How the node fares: counts, failures in a row, silence and lateness, told on /diagnostics."""

from __future__ import annotations

import dataclasses
import threading
import time
from collections.abc import Callable, Mapping

from diagnostic_msgs.msg import DiagnosticArray, DiagnosticStatus, KeyValue
from rclpy.node import Node

RUN = 3
"""So many failures in a row are an error; fewer are a warning."""

OK: bytes = DiagnosticStatus.OK
WARN: bytes = DiagnosticStatus.WARN
ERROR: bytes = DiagnosticStatus.ERROR


@dataclasses.dataclass
class Counts:
    """Scans since activation: received = published + dropped + unread + those still in work (two at most)."""

    received: int = 0
    published: int = 0
    dropped: int = 0
    unread: int = 0
    """Not labelled, because nobody read the result."""
    latency: float = 0.0
    """Seconds from receipt to publication, of the newest."""


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


class Health:
    """What has happened since activation. Its methods may be called from any thread.

    `clock` gives seconds. It is not ROS time, which stands still or jumps back when a bag is played.
    """

    def __init__(self, clock: Callable[[], float] = time.monotonic) -> None:
        self._clock = clock
        self._newest_scan = clock()
        self._counts = Counts()
        self._failures = Streak()
        self._lateness = Streak()
        self._lock = threading.Lock()

    def counts(self) -> Counts:
        with self._lock:
            return dataclasses.replace(self._counts)

    def scan_received(self) -> None:
        with self._lock:
            self._counts.received += 1
            self._newest_scan = self._clock()

    def scan_unread(self) -> None:
        with self._lock:
            self._counts.unread += 1

    def scan_replaced(self) -> None:
        """A newer one came before its turn."""
        with self._lock:
            self._counts.dropped += 1

    def scans_lost(self, number: int) -> None:
        """Sent, but lost or replaced before this node took them from the middleware."""
        with self._lock:
            self._counts.received += number
            self._counts.dropped += number

    def scan_failed(self, reason: str) -> None:
        with self._lock:
            self._counts.dropped += 1
            self._failures.bad(reason)

    def scan_published(self, latency: float, late_after: float) -> None:
        """A labelled cloud was published `latency` seconds after its scan's receipt."""
        with self._lock:
            self._counts.published += 1
            self._counts.latency = latency
            self._failures.good()
            if latency > late_after:
                self._lateness.bad(f"a labelled cloud took {latency:.2f} s, more than late_after, {late_after:g} s")
            else:
                self._lateness.good()

    def troubles(self, input_timeout: float, source: str) -> list[tuple[bytes, str]]:
        """(level, message) of what is wrong, or was since the last call, the worst first; empty if all is well.

        `source` says where scans should come from.
        """
        with self._lock:
            silence = self._clock() - self._newest_scan
            found = [
                (ERROR if silence > input_timeout else OK, f"no scan for {silence:.1f} s: {source}"),
                (self._failures.look(), f"scan dropped: {self._failures.reason}"),
                (self._lateness.look(), self._lateness.reason),
            ]
        return sorted((trouble for trouble in found if trouble[0] != OK), key=lambda trouble: trouble[0], reverse=True)


class Reporter:
    """Publishes one status on /diagnostics, and logs its changes."""

    def __init__(self, node: Node, task: str) -> None:
        self._node = node
        self._task = task
        self._publisher = node.create_publisher(DiagnosticArray, "/diagnostics", 10)
        self._logged: tuple[bytes, object] = (OK, ())

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

    def log_change(self, level: bytes, message: str, matter: object = ()) -> None:
        """Logs the message where the level, or what the matter is, is another one than before."""
        if (level, matter) == self._logged:
            return
        self._logged = level, matter
        if level == ERROR:  # three calls: rclpy refuses one that logs at changing severities
            self._node.get_logger().error(message)
        elif level == WARN:
            self._node.get_logger().warning(message)
        else:
            self._node.get_logger().info(message)
