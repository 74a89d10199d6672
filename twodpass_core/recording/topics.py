"""What is recorded: topics as a bag describes them, serialised messages, and sets of messages that belong together."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

import yaml
from rosbags.typesys import Stores, get_typestore

from twodpass_core.errors import ConfigError
from twodpass_core.message_types import CAMERA_INFO, TF_MESSAGE, is_static_tf

_TYPE = re.compile(r"\w+/(msg|srv|action)/\w+")
_FOREVER = {"sec": 9223372036, "nsec": 854775807}  # RMW_DURATION_INFINITE


@dataclass(frozen=True)
class RecordedTopic:
    """A topic as rosbag2 stores it. Raises ConfigError for a name, type or QoS that rosbag2 would not read."""

    name: str  # "/camera/image_raw"
    type: str  # "sensor_msgs/msg/Image"
    definition: str  # the type's text and that of all types in it, in MCAP's form ros2msg
    qos: str = ""  # YAML list of the publishers' QoS, as `offered_qos` makes it; "": not known

    def __post_init__(self) -> None:
        if not self.name.startswith("/"):
            raise ConfigError(f"a recorded topic needs its full name, as in /{self.name}, not {self.name!r}")
        if not _TYPE.fullmatch(self.type):
            raise ConfigError(f"{self.name}: {self.type!r} is not a message type, such as sensor_msgs/msg/Image")
        _check_qos(self.name, self.qos)

    @classmethod
    def of_type(cls, name: str, message_type: str, qos: str = "") -> RecordedTopic:
        """A topic of one of ROS 2's own message types, whose definition is known here. Raises ConfigError."""
        return cls(name, message_type, definition_of(message_type), qos)

    @property
    def is_static(self) -> bool:
        """Whether it tells transforms that hold for ever."""
        return is_static_tf(self.name, self.type)


@dataclass(frozen=True)
class RecordedMessage:
    """A serialised message (CDR), as received."""

    topic: RecordedTopic
    log_time_ns: int  # when it was received
    data: bytes

    def repetition_key(self) -> tuple[str, ...] | None:
        """Which message of its topic it takes the place of, where each file of a recording needs the last one.

        Of static transforms those with the same child frames, of CameraInfo all; None: files need none of the topic.
        """
        if self.topic.is_static:
            try:
                transforms: Any = get_typestore(Stores.LATEST).deserialize_cdr(self.data, TF_MESSAGE)
            except Exception:  # the bytes are foreign: rosbags meets damage in many ways
                return ()
            return tuple(sorted(transform.child_frame_id for transform in transforms.transforms))
        return () if self.topic.type == CAMERA_INFO else None


@dataclass(frozen=True)
class RecordedSet:
    """A scan and its images: all of them are recorded, or none."""

    stamp_ns: int  # of the scan
    messages: tuple[RecordedMessage, ...]
    offsets_ns: Mapping[str, int] = field(default_factory=dict)  # camera -> image time less scan time
    calibration_score: float | None = None  # 0 to 1, None where there is none


def definition_of(message_type: str) -> str:
    """The text of a message type of ROS 2's common interfaces, in MCAP's form ros2msg. Raises ConfigError."""
    typestore = get_typestore(Stores.LATEST)
    if message_type not in typestore.types:
        raise ConfigError(f"{message_type} is not among ROS 2's common messages: give its definition")
    return typestore.generate_msgdef(message_type, ros_version=2)[0]


def offered_qos(*, reliable: bool = True, latched: bool = False, depth: int = 10) -> str:
    """A publisher's QoS as rosbag2 stores it in bags up to version 8: `ros2 bag play` offers the same.

    Numbers are those of rmw/types.h. `latched` is durability transient local.
    """
    profile: dict[str, Any] = {
        "history": 1,  # keep last
        "depth": depth,
        "reliability": 1 if reliable else 2,
        "durability": 1 if latched else 2,
        "deadline": dict(_FOREVER),
        "lifespan": dict(_FOREVER),
        "liveliness": 1,  # automatic
        "liveliness_lease_duration": dict(_FOREVER),
        "avoid_ros_namespace_conventions": False,
    }
    return yaml.safe_dump([profile], sort_keys=False).strip()


def _check_qos(topic: str, qos: str) -> None:
    try:
        profiles = yaml.safe_load(qos) if qos else []
    except yaml.YAMLError as error:
        raise ConfigError(f"{topic}: its QoS is not YAML: {error}") from None
    numbers = ("history", "depth", "reliability", "durability", "liveliness")
    sound = isinstance(profiles, list) and all(
        isinstance(profile, dict) and all(isinstance(profile.get(key), int) for key in numbers) for profile in profiles
    )
    if not sound:
        raise ConfigError(f"{topic}: its QoS is not a list of profiles with numbers, as offered_qos() makes them")
