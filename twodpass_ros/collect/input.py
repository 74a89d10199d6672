"""A topic as it is recorded: found by its publishers, read as they offer it, each message as serialised bytes."""

from __future__ import annotations

import math
import struct
import time
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from rclpy.node import Node
from rclpy.qos import DurabilityPolicy, HistoryPolicy, QoSProfile, ReliabilityPolicy
from rclpy.serialization import deserialize_message
from rclpy.subscription import Subscription

from twodpass_core.errors import MissingDependencyError
from twodpass_core.recording import RecordedTopic, offered_qos
from twodpass_ros.diagnostics import Streak
from twodpass_ros.errors import NodeError
from twodpass_ros.sequence_gaps import SequenceGaps
from twodpass_ros.transport import SubscriptionEventCallbacks, describe_publishers, has_one_publisher

try:
    import message_filters
except ImportError as error:
    raise MissingDependencyError(
        "message_filters", "collect", "sudo apt install ros-$ROS_DISTRO-message-filters (PyPI does not have it)"
    ) from error

HEADER_START = 4
"""Bytes before the content of a serialised message; the second of them says the byte order (CDR)."""


@dataclass(frozen=True)
class Message:
    """A message as it was received."""

    topic: RecordedTopic
    data: bytes
    received_ns: int  # ROS time
    stamp_ns: int  # of its header; of messages that have none, when it was received
    frame_id: str = ""

    @property
    def age(self) -> float:
        """Seconds from its stamp to its arrival."""
        return 1e-9 * (self.received_ns - self.stamp_ns)

    def content(self, message_type: type[Any]) -> Any:
        """Deserialised. Raises NodeError."""
        try:
            return deserialize_message(self.data, message_type)
        except Exception as error:  # the bytes are foreign, and rclpy has no error of its own for them
            raise NodeError(f"{self.topic.name} cannot be read: {error}") from None


def read_header(data: bytes) -> tuple[int, str]:
    """Stamp in nanoseconds and frame_id of a serialised message that begins with a Header. Raises struct.error."""
    order = "<" if data[1:2] == b"\x01" else ">"
    seconds, nanoseconds, length = struct.unpack_from(f"{order}iII", data, HEADER_START)
    (frame_id,) = struct.unpack_from(f"{max(length - 1, 0)}s", data, HEADER_START + 12)
    return seconds * 10**9 + nanoseconds, frame_id.decode(errors="replace")


class Input:
    """Reads one topic: `on_message` records, and `on_content`, where that is needed at once, takes what a message says.

    Both may raise. What cannot be recorded is counted as lost; what can, and says nothing of use, is told. The next
    message is read.

    What is asked of the publishers is what all of them offer: reliable where all are, latched where all are. So nothing
    is lost on a poor network that need not be, and nobody goes unheard. Where one joins that offers less, another
    subscription takes over, for good. But a topic of which what was said before matters most is asked to be latched
    where any of them offers it (`latched_if`), as tf2 does with /tf_static.
    """

    def __init__(
        self,
        node: Node,
        topic: str,
        types: Sequence[type[Any]],
        on_message: Callable[[Message], None],
        depth: int,
        has_header: bool = True,
        on_content: Callable[[Message, Any], None] | None = None,
        latched_if: Callable[[Iterable[bool]], bool] = all,
    ) -> None:
        self.name: str = node.resolve_topic_name(topic)
        self._topic = topic  # as it was given, for rclpy, which applies the remappings to whatever name it is told
        self.received = 0
        self.lost = 0
        """By the middleware, or by an exception while it was recorded."""
        self.newest: Message | None = None
        """Of those that say something, as far as that is known."""
        self.repeats = 0
        """How many messages in a row have had the stamp of the one before."""
        self.newest_at = -math.inf
        """When a message was received, by time.monotonic(): ROS time may stand still or jump."""
        self.type: type[Any] | None = None
        self.failures = Streak()
        self._types: Mapping[str, type[Any]] = {_name(message_type): message_type for message_type in types}
        self._node = node
        self._on_message = on_message
        self._on_content = on_content
        self._depth = depth
        self._has_header = has_header
        self._latched_if = latched_if
        self._qos: QoSProfile | None = None
        self._recorded: RecordedTopic | None = None
        self._gaps = SequenceGaps(lambda: has_one_publisher(node, topic))
        self._subscriber: Any = None
        self._retiring: Any = None

    @property
    def is_latched(self) -> bool:
        """Whether what was said once holds until something else is said."""
        return self._latched_if is any or (self._qos is not None and _is_latched(self._qos))

    def silence(self) -> float:
        """Seconds since the newest message; 0 before the first one."""
        return 0.0 if self.newest is None else time.monotonic() - self.newest_at

    def connect(self) -> None:
        """Subscribes when there are publishers, and anew when others offer less: to be called once in a while."""
        self._retire()
        publishers = self._node.get_publishers_info_by_topic(self._topic)
        types = self._types if self._recorded is None else [self._recorded.type]  # it stays of the type it had first
        type_name = next((str(info.topic_type) for info in publishers if info.topic_type in types), None)
        if type_name is None:
            return
        offered = [info.qos_profile for info in publishers if info.topic_type == type_name]
        qos = wanted_qos(offered, self._depth, self._latched_if)
        if self._qos is None or self._hears_less(qos):
            self._subscribe(type_name, qos)

    def _hears_less(self, wanted: QoSProfile) -> bool:
        """Whether the subscription misses what one of this quality hears. Nothing is gained where it asks for less.

        But what is to be latched wherever that is offered must be so with the first publisher that offers it.
        """
        assert self._qos is not None
        if self._latched_if is any and wanted.durability != self._qos.durability:
            return True
        return any(offers(self._qos) and not offers(wanted) for offers in (_is_reliable, _is_latched))

    def _subscribe(self, type_name: str, qos: QoSProfile) -> None:
        self._qos = qos
        self.type = self._types[type_name]
        offered = offered_qos(reliable=_is_reliable(qos), latched=_is_latched(qos), depth=self._depth)
        self._recorded = RecordedTopic.of_type(self.name, type_name, offered)
        self._retiring, self._subscriber = (
            self._subscriber,
            _Subscriber(
                self._node,
                self.type,
                self._topic,
                qos_profile=qos,
                raw=True,
                event_callbacks=SubscriptionEventCallbacks(message_lost=self._lose),
            ),
        )
        self._subscriber.gaps = self._gaps
        self._subscriber.registerCallback(self._take)
        if not self._gaps.numbered:  # what comes by both could not be told apart
            self._retire()

    def _retire(self) -> None:
        """Ends the subscription that was before, when publishers have found the one that takes its place."""
        if self._retiring is not None:
            self._node.destroy_subscription(self._retiring.sub)
            self._retiring = None

    def describe_absence(self) -> str:
        """Why nothing comes."""
        others = {info.topic_type for info in self._node.get_publishers_info_by_topic(self._topic)} - self._types.keys()
        if others and self._qos is None:
            return f"{self.name} is {', '.join(sorted(others))}, not {' or '.join(self._types)}"
        if self._qos is None:
            return describe_publishers(self._node, self._topic, self._types)
        return f"nothing comes on {self.name}{self.describe_change()}"

    def describe_change(self) -> str:
        """What comes instead, where a topic has become of another type; else nothing."""
        types = {str(info.topic_type) for info in self._node.get_publishers_info_by_topic(self._topic)}
        if self._recorded is None or not types or self._recorded.type in types:
            return ""
        return f": it is {', '.join(sorted(types))} now, and was {self._recorded.type}; restart collect to record it"

    def _take(self, data: bytes, missing: int = 0) -> None:
        self.received += 1 + missing
        self.lost += missing
        self.newest_at = time.monotonic()
        try:
            message = self._received(data)
            self._on_message(message)
        except Exception as error:
            self.lost += 1
            self.failures.bad(f"a message of {self.name} was dropped: {error}")
            return
        try:
            if self._on_content is not None:
                self._on_content(message, message.content(self._types[message.topic.type]))
        except Exception as error:
            self.failures.bad(f"a message of {self.name} is of no use: {error}")
            return
        is_repeated = self.newest is not None and self.newest.stamp_ns == message.stamp_ns
        self.repeats = self.repeats + 1 if is_repeated else 0
        self.newest = message
        self.failures.good()

    def _received(self, data: bytes) -> Message:
        assert self._recorded is not None
        now = self._node.get_clock().now().nanoseconds
        stamp_ns, frame_id = read_header(data) if self._has_header else (now, "")
        return Message(self._recorded, data, now, stamp_ns, frame_id)

    def _lose(self, event: Any) -> None:
        if not self._gaps.tells_of_losses:
            self.received += event.total_count_change
            self.lost += event.total_count_change


class _Subscriber(message_filters.Subscriber):
    """Passes on each message once, and how many are missing before it."""

    gaps: SequenceGaps

    def _callback_with_info(self, message: bytes, info: Mapping[str, Any]) -> None:
        missing = self.gaps.before(info)
        if missing is not None:
            self.signalMessage(message, missing)

    if hasattr(Subscription, "CallbackType"):  # Humble's callbacks hear nothing of a message's origin
        callback = _callback_with_info


def _name(message_type: type[Any]) -> str:
    """As in sensor_msgs/msg/Image."""
    package = message_type.__module__.split(".")[0]
    return f"{package}/msg/{message_type.__name__}"


def wanted_qos(
    offered: Sequence[QoSProfile], depth: int, latched_if: Callable[[Iterable[bool]], bool] = all
) -> QoSProfile:
    """What to ask of publishers that offer this: see `Input`."""
    latched = latched_if(map(_is_latched, offered))
    reliable = all(_is_reliable(profile) for profile in offered if _is_latched(profile) or not latched)
    return QoSProfile(
        history=HistoryPolicy.KEEP_LAST,
        depth=depth,
        reliability=ReliabilityPolicy.RELIABLE if reliable else ReliabilityPolicy.BEST_EFFORT,
        durability=DurabilityPolicy.TRANSIENT_LOCAL if latched else DurabilityPolicy.VOLATILE,
    )


def _is_reliable(qos: QoSProfile) -> bool:
    return bool(qos.reliability == ReliabilityPolicy.RELIABLE)


def _is_latched(qos: QoSProfile) -> bool:
    return bool(qos.durability == DurabilityPolicy.TRANSIENT_LOCAL)
