"""What the names of image topics tell, by the customs of image_transport and of camera drivers."""

from __future__ import annotations

import re
from collections.abc import Sequence
from typing import Final

COMPRESSED: Final = "/compressed"  # below the topic of the image
INFO: Final = "camera_info"  # beside it


def namespace(topic: str) -> str:
    """The camera's namespace: "/front" for /front/image_raw and for /front/image_raw/compressed."""
    return topic.removesuffix(COMPRESSED).rpartition("/")[0]


def info_topic(topic: str) -> str:
    """Where the CameraInfo of an image topic is published."""
    return f"{namespace(topic)}/{INFO}"


def info_topics(topic: str) -> list[str]:
    """Where it may be: for /front/compressed, whose driver sends nothing else, below /front as well."""
    below = [f"{topic.removesuffix(COMPRESSED)}/{INFO}"] if is_compressed(topic) else []
    return [*below, info_topic(topic)]


def is_compressed(topic: str) -> bool:
    """Whether a topic has the compressed images of another one."""
    return topic.endswith(COMPRESSED)


def is_rectified(topic: str) -> bool:
    """Whether its images are without distortion: image_rect, image_rect_color."""
    return re.search(r"(^|_)rect(ified)?(_|$)", topic.removesuffix(COMPRESSED).rpartition("/")[2]) is not None


def camera_names(topics: Sequence[str]) -> list[str]:
    """A name for each image topic, all different: the last part of its namespace, or as much more as that takes.

    /front/image_raw is front, /cameras/left/image_raw/compressed is left.
    """
    namespaces = [namespace(topic).strip("/") for topic in topics]
    short = [name.rpartition("/")[2] for name in namespaces]
    if all(short) and len(set(short)) == len(short):
        return short
    whole = [name.replace("/", "_") for name in namespaces]
    if all(whole) and len(set(whole)) == len(whole):
        return whole
    full = [topic.strip("/").replace("/", "_") for topic in topics]
    if len(set(full)) == len(full):
        return full
    return [f"{name}_{number}" for number, name in enumerate(full)]
