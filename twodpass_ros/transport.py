"""How scans and labels travel: quality of service, and what is said when it does not match."""

from __future__ import annotations

from collections.abc import Callable, Collection, Mapping
from pathlib import Path
from typing import Any

from rclpy.node import Node
from rclpy.qos import DurabilityPolicy, HistoryPolicy, QoSProfile, ReliabilityPolicy, qos_policy_name_from_kind
from rclpy.subscription import Subscription
from rclpy.utilities import get_rmw_implementation_identifier

from twodpass_core.wording import counted
from twodpass_ros.sequence_gaps import SequenceGaps

try:
    from rclpy.event_handler import PublisherEventCallbacks
    from rclpy.event_handler import SubscriptionEventCallbacks as SubscriptionEventCallbacks
except ImportError:  # Humble
    from rclpy.qos_event import PublisherEventCallbacks
    from rclpy.qos_event import SubscriptionEventCallbacks as SubscriptionEventCallbacks

LARGEST_RECEIVE_BUFFER = Path("/proc/sys/net/core/rmem_max")
ENOUGH_FOR_CLOUDS = 32 << 20  # bytes; as in config/cyclonedds.xml

SCANS = QoSProfile(
    history=HistoryPolicy.KEEP_LAST,
    depth=1,
    reliability=ReliabilityPolicy.BEST_EFFORT,
    durability=DurabilityPolicy.VOLATILE,
)
"""Sensor data, the newest only: takes from every kind of publisher."""

RESULTS = QoSProfile(
    history=HistoryPolicy.KEEP_LAST,
    depth=1,
    reliability=ReliabilityPolicy.RELIABLE,
    durability=DurabilityPolicy.VOLATILE,
)
"""The newest result, to reliable and best-effort readers alike."""

LATCHED = QoSProfile(
    history=HistoryPolicy.KEEP_LAST,
    depth=1,
    reliability=ReliabilityPolicy.RELIABLE,
    durability=DurabilityPolicy.TRANSIENT_LOCAL,
)
"""Reaches readers that join late, too."""


def create_publisher(node: Node, message_type: type[Any], topic: str, qos: QoSProfile) -> Any:
    """A publisher that logs, with what to do, when a reader asks for a quality of service it does not offer."""
    resolved = node.resolve_topic_name(topic)

    def explain(event: Any) -> None:
        node.get_logger().warning(
            f"A reader of {resolved} gets nothing: its {_policy(event)} is not compatible with what is offered. "
            f"Set the reader (in RViz: under the display's Topic) to {qos.reliability.name}, {qos.durability.name}."
        )

    return node.create_publisher(
        message_type, topic, qos, event_callbacks=PublisherEventCallbacks(incompatible_qos=explain)
    )


def create_subscription(
    node: Node,
    message_type: type[Any],
    topic: str,
    on_message: Callable[[Any], None],
    on_lost: Callable[[int], None],
) -> Any:
    """A subscription to the newest message; `on_lost` hears how many were lost or replaced before they were taken.

    Logs, with what to do, when a publisher offers less than is asked for.
    """
    resolved = node.resolve_topic_name(topic)
    gaps = SequenceGaps(lambda: has_one_publisher(node, topic))

    def explain(event: Any) -> None:
        node.get_logger().warning(
            f"A publisher on {resolved} is not heard: its {_policy(event)} is not compatible with what is asked for. "
            f"Set the publisher to {SCANS.reliability.name}, {SCANS.durability.name}."
        )

    def lost_on_the_way(event: Any) -> None:
        if not gaps.tells_of_losses:
            on_lost(event.total_count_change)

    def take(message: Any, info: Mapping[str, Any]) -> None:
        missing = gaps.before(info)
        if missing is None:
            return
        if missing:
            on_lost(missing)
        on_message(message)

    events = SubscriptionEventCallbacks(incompatible_qos=explain, message_lost=lost_on_the_way)
    # Humble's callbacks hear nothing of a message's origin.
    callback = take if hasattr(Subscription, "CallbackType") else on_message
    return node.create_subscription(message_type, topic, callback, SCANS, event_callbacks=events)


def has_one_publisher(node: Node, topic: str) -> bool:
    """Whether no more than one publishes a topic of this node, which is looked up."""
    return len(node.get_publishers_info_by_topic(topic)) <= 1


def describe_publishers(node: Node, topic: str, wanted: Collection[str]) -> str:
    """Who publishes a topic of this node; where nobody does, what to do, and where the wanted types are to be had."""
    resolved = node.resolve_topic_name(topic)
    publishers = node.get_publishers_info_by_topic(topic)  # which applies the remappings itself
    if publishers:
        types = ", ".join(sorted({info.topic_type for info in publishers}))
        return f"{resolved} has {counted(len(publishers), 'publisher')} of {types}{doubt_of_receive_buffer()}"
    what_to_do = f", remap {topic} to the topic of the sensor" if topic.startswith("~") else ""
    others = f" ({' or '.join(wanted)} comes on {', '.join(found)})" if (found := _published(node, wanted)) else ""
    return f"{resolved} has no publisher{what_to_do}{others}"


def doubt_of_receive_buffer() -> str:
    """What to do where all messages come by UDP, for which Linux's usual buffer holds less than one cloud; else ""."""
    if get_rmw_implementation_identifier() != "rmw_cyclonedds_cpp" or not LARGEST_RECEIVE_BUFFER.exists():
        return ""
    size = int(LARGEST_RECEIVE_BUFFER.read_text())
    if size >= ENOUGH_FOR_CLOUDS:
        return ""
    return (
        f"; large ones may get lost, as Cyclone DDS has a receive buffer of {size:,} bytes at most: "
        f"sudo sysctl -w net.core.rmem_max={ENOUGH_FOR_CLOUDS}, and have CYCLONEDDS_URI name config/cyclonedds.xml"
    )


def _published(node: Node, types: Collection[str]) -> list[str]:
    """Topics of these types that other nodes publish."""

    def is_of_another(publisher: Any) -> bool:
        return (publisher.node_namespace, publisher.node_name) != (node.get_namespace(), node.get_name())

    named = [name for name, has_types in node.get_topic_names_and_types() if not set(types).isdisjoint(has_types)]
    return sorted(name for name in named if any(map(is_of_another, node.get_publishers_info_by_topic(name))))


def _policy(event: Any) -> str:
    return str(qos_policy_name_from_kind(event.last_policy_kind)).lower()
