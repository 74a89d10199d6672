"""The other side of `segment`: sends scans and reads all that comes back."""

from __future__ import annotations

import contextlib
import time
from collections.abc import Iterator
from typing import Any

from clouds import scan
from lifecycle_msgs.msg import State, Transition
from lifecycle_msgs.srv import ChangeState, GetState
from node_process import HANG
from ros_peer import MANY, RosPeer
from sensor_msgs.msg import PointCloud2

from twodpass_ros.msg import SegmentationStatus

INACTIVE, ACTIVE, UNCONFIGURED, FINALIZED = (
    State.PRIMARY_STATE_INACTIVE,
    State.PRIMARY_STATE_ACTIVE,
    State.PRIMARY_STATE_UNCONFIGURED,
    State.PRIMARY_STATE_FINALIZED,
)


class Peer(RosPeer):
    """Sends scans to /segment and keeps all that comes back."""

    def __init__(self) -> None:
        super().__init__("/segment")
        self.labelled: list[PointCloud2] = []
        self.statuses: list[SegmentationStatus] = []
        self.scans = self.node.create_publisher(PointCloud2, "/segment/input/points", MANY)
        self._results = self._read_results()
        self.client(ChangeState, "/segment/change_state")  # before that of `state`: who answers there knows this

    def wait_for_active_node(self) -> None:
        """Until scans and results have found their ways."""
        self.spin_until(
            lambda: (
                self.scans.get_subscription_count()
                and self.node.count_publishers("/segment/output/points")
                and self.node.count_publishers("/segment/status")
                and self.diagnostics
            ),
            "an active node",
        )
        while not (self.labelled and self.statuses):  # then the node has found this reader, too
            self.scans.publish(scan())
            self.spin(0.1)
        last = scan(stamp=(0, 1))  # when it is back none of the others is in work any more
        self.label(last)
        self.spin_until(lambda: self.statuses[-1].header == last.header, "the status of a labelled cloud")
        self.clear()

    def clear(self) -> None:
        """Forgets what has come so far."""
        self.spin(0.1)
        self.labelled.clear()
        self.statuses.clear()
        self.diagnostics.clear()

    @contextlib.contextmanager
    def not_reading(self) -> Iterator[None]:
        """Nobody reads the results meanwhile."""
        for subscription in self._results:
            self.node.destroy_subscription(subscription)
        yield
        self._results = self._read_results()

    def _read_results(self) -> list[Any]:
        return [
            self.node.create_subscription(PointCloud2, "/segment/output/points", self.labelled.append, MANY),
            self.node.create_subscription(SegmentationStatus, "/segment/status", self.statuses.append, MANY),
        ]

    def label(self, message: PointCloud2) -> PointCloud2:
        """Sends a scan and waits for its labelled cloud."""
        before = len(self.labelled)
        self.scans.publish(message)
        self.spin_until(
            lambda: any(cloud.header == message.header for cloud in self.labelled[before:]), "a labelled cloud"
        )
        return self.labelled[-1]

    def dropped(self) -> int:
        return int(self.value("dropped"))

    def published(self) -> int:
        return int(self.value("published"))

    def state(self) -> int:
        return int(self.ask(GetState, "/segment/get_state", GetState.Request()).current_state.id)

    def change_state(self, transition: int) -> bool:
        request = ChangeState.Request(transition=Transition(id=transition))
        return bool(self.call(ChangeState, "/segment/change_state", request).success)

    def wait_for_state(self, state: int) -> None:
        end = time.monotonic() + HANG
        while self.state() != state:
            assert time.monotonic() < end, f"state {state} was not reached"
