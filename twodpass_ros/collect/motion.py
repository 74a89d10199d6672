"""Where the vehicle and its sensors are: /tf, /tf_static and odometry, as `collect` hears and records them."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Iterator
from typing import Any

import numpy as np
import numpy.typing as npt
from nav_msgs.msg import Odometry
from rclpy.node import Node

from twodpass_core.errors import ConfigError, MissingDependencyError, TransformError
from twodpass_core.geometry.rigid_transform import RigidTransform
from twodpass_core.geometry.transform_tree import TransformTree, add_transforms, frame_name
from twodpass_core.message_types import header_stamp_ns
from twodpass_ros.collect.camera import SYNCHRONISE
from twodpass_ros.collect.input import Input, Message

try:
    from tf2_msgs.msg import TFMessage
except ImportError as error:
    raise MissingDependencyError(
        "tf2_msgs", "collect", "sudo apt install ros-$ROS_DISTRO-tf2-msgs (without apt's ROS, `make setup` builds it)"
    ) from error

DEPTH = 100
"""Messages that the middleware holds for the node."""
HISTORY_NS = 10 * 10**9
TOLERANCE_NS = 200 * 10**6  # /tf may come a little later than what it is asked for
RECENT_NS = 2 * 10**9
"""A recording begins with the motion of this time before it, for the sets that are formed of what has come before."""
RECENT_MESSAGES = 2000
ODOMETRY_AGE_NS = 10**9
"""Odometry farther than this from a scan does not tell where the vehicle was."""
SAME = 1e-6  # metres, and of a rotation's numbers


class Motion:
    """Reads the topics of transforms and odometry in the executor's thread, and hands all messages on."""

    def __init__(self, node: Node, odometry: str, on_message: Callable[[Message], None]) -> None:
        self.tree = TransformTree(HISTORY_NS, TOLERANCE_NS)
        self.changes: dict[str, None] = {}
        """Mountings that have been told otherwise since this was emptied, each once, in the order of their changes."""
        self._on_message = on_message
        self._static: dict[tuple[tuple[str, str], ...], Message] = {}
        self._recent: deque[Message] = deque(maxlen=RECENT_MESSAGES)
        self._ages: dict[str, float] = {}
        """Of moving frames: seconds from the stamp of the newest transform to its arrival."""
        self._tf = Input(
            node, "/tf", [TFMessage], self._on_motion, DEPTH, has_header=False, on_content=self._keep_moving
        )
        self._tf_static = Input(
            node, "/tf_static", [TFMessage], on_message, DEPTH, has_header=False, on_content=self._keep_static,
            latched_if=any,
        )  # fmt: skip
        self._odometry = self._make_odometry(node, odometry) if odometry else None

    def _make_odometry(self, node: Node, topic: str) -> Input:
        def can_be_read(*_: object) -> None:
            """Which is enough."""

        return Input(node, topic, [Odometry], self._on_motion, DEPTH, on_content=can_be_read)

    @property
    def inputs(self) -> list[Input]:
        return [self._tf, self._tf_static, *filter(None, [self._odometry])]

    def beginning(self, now_ns: int) -> tuple[list[Message], list[Message]]:
        """What a recording begins with: all static transforms, and the latest motion."""
        first_ns = max(1, now_ns - RECENT_NS)  # at 0 a simulated clock has not begun
        recent = [message for message in self._recent if first_ns <= message.received_ns <= now_ns]
        return list(self._static.values()), recent

    def pose(self, stamp_ns: int, lidar: str, fixed: str) -> RigidTransform | None:
        """Where the vehicle was, as far as odometry says, or else /tf: how the LiDAR stood in the fixed frame."""
        odometry = self._odometry.newest if self._odometry is not None else None
        if odometry is not None and abs(odometry.stamp_ns - stamp_ns) <= ODOMETRY_AGE_NS:
            pose = _pose(odometry.content(Odometry))
            if pose is not None:
                return pose
        try:
            return self.tree.lookup(fixed, lidar, stamp_ns)
        except TransformError:
            return None

    def still_frame(self, lidar: str, fixed: str) -> str:
        """The fixed frame where /tf tells how the LiDAR stands in it; else the LiDAR's own, as if nothing moved."""
        try:
            roots = {self.tree.ancestry(frame)[-1] for frame in (fixed, lidar)}
        except TransformError:
            return lidar
        return fixed if len(roots) == 1 else lidar

    def problems(self, scan: Message, fixed: str, max_difference: float) -> Iterator[str]:
        """Motion by another clock than that of the scans would be of another moment."""
        of_scan = scan.age
        for name, age in self._known_ages(scan.frame_id, fixed):
            if abs(age - of_scan) > max_difference:
                yield (
                    f"the clocks differ: on arrival stamps of {name} were {age:.3f} s old, of {scan.topic.name} "
                    f"{of_scan:.3f} s: {SYNCHRONISE}"
                )

    def _known_ages(self, lidar: str, fixed: str) -> Iterator[tuple[str, float]]:
        try:
            chain = self.tree.ancestry(lidar)
        except TransformError:
            chain = []
        moving = chain[: chain.index(frame_name(fixed))] if frame_name(fixed) in chain else chain
        for child in moving:
            if child in self._ages:
                yield f"'{child}' on {self._tf.name}", self._ages[child]
        if self._odometry is not None and self._odometry.newest is not None:
            yield self._odometry.name, self._odometry.newest.age

    def _on_motion(self, message: Message) -> None:
        self._recent.append(message)
        self._on_message(message)

    def _keep_moving(self, message: Message, content: TFMessage) -> None:
        for entry in content.transforms:
            age_ns = message.received_ns - header_stamp_ns(entry.header)
            self._ages[frame_name(entry.child_frame_id)] = 1e-9 * age_ns
        add_transforms(self.tree, content, static=False)

    def _keep_static(self, message: Message, content: TFMessage) -> None:
        frames = tuple((entry.header.frame_id, entry.child_frame_id) for entry in content.transforms)
        self._static.pop(frames, None)  # the newest comes last: it may contradict what others have said
        self._static[frames] = message
        before = [self._known(entry) for entry in content.transforms]
        add_transforms(self.tree, content, static=True)
        for old, new in zip(before, content.transforms, strict=True):
            if old is not None and not np.allclose(old, _matrix(new), rtol=0, atol=SAME):
                self.changes[f"'{new.child_frame_id}' in '{new.header.frame_id}'"] = None

    def _known(self, entry: Any) -> npt.NDArray[np.float64] | None:
        """(4, 4) parent_from_child, of a TransformStamped's frames, as it has been told so far."""
        try:
            return self.tree.lookup(entry.header.frame_id, entry.child_frame_id).matrix()
        except TransformError:
            return None


def _pose(odometry: Odometry) -> RigidTransform | None:
    """None of an odometry that tells of speed alone: its pose is none, or that of no motion while there is a speed."""
    q, t = odometry.pose.pose.orientation, odometry.pose.pose.position
    speed = odometry.twist.twist.linear
    if (speed.x or speed.y) and not (t.x or t.y or t.z):
        return None
    try:
        return RigidTransform.from_quaternion((q.w, q.x, q.y, q.z), (t.x, t.y, t.z))
    except ConfigError:
        return None


def _matrix(entry: Any) -> npt.NDArray[np.float64]:
    """(4, 4) parent_from_child of a geometry_msgs/TransformStamped."""
    q, t = entry.transform.rotation, entry.transform.translation
    return RigidTransform.from_quaternion((q.w, q.x, q.y, q.z), (t.x, t.y, t.z)).matrix()
