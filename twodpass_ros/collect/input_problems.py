"""What is wrong with the messages of a topic, as far as the newest ones tell."""

from __future__ import annotations

from collections.abc import Iterator

from sensor_msgs.msg import PointCloud2

from twodpass_core.cloud import view_cloud
from twodpass_core.errors import CloudError, ConfigError
from twodpass_core.recording import check_message_size
from twodpass_ros.collect.input import Input
from twodpass_ros.errors import NodeError

STILL = 2
"""Repetitions of a stamp after which it is none by accident."""


def stillness(topic: Input) -> Iterator[str]:
    """That its stamps do not move."""
    if topic.newest is not None and topic.repeats >= STILL:
        yield (
            f"stamps of {topic.name} do not move: {topic.repeats + 1} messages in a row are of "
            f"{1e-9 * topic.newest.stamp_ns:.3f} s: have its driver set them"
        )


def malformation(scans: Input) -> Iterator[str]:
    """Why the newest scan can be read by nobody."""
    if scans.newest is not None:
        try:
            view_cloud(scans.newest.content(PointCloud2))
        except CloudError as error:
            yield f"{scans.name} is malformed: {error}"
        except NodeError as error:
            yield str(error)


def oversize(topic: Input) -> Iterator[str]:
    """That its messages are larger than what can be recorded."""
    try:
        check_message_size(topic.name, len(topic.newest.data) if topic.newest is not None else 0)
    except ConfigError as error:
        yield str(error)
