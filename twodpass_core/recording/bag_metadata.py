"""metadata.yaml of a rosbag2 bag: version 5, which Humble and every later release read.

Files of newer recorders, whose QoS is written with names, get version 9 instead.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Final

import yaml
from mcap.records import Channel, Schema

from twodpass_core.files import write_durably
from twodpass_core.mcap_files.file import McapFile

METADATA: Final = "metadata.yaml"
NOTE: Final = "rosbag2"  # the metadata record in a file


@dataclass(frozen=True)
class StoredTopic:
    """A topic in one file."""

    name: str
    type: str
    qos: str
    type_hash: str
    encoding: str
    count: int


@dataclass(frozen=True)
class StoredFile:
    """One file of a bag."""

    name: str
    first_ns: int | None
    last_ns: int | None
    topics: tuple[StoredTopic, ...]
    compresses_messages: bool = False  # one by one

    @classmethod
    def of(
        cls,
        name: str,
        first_ns: int | None,
        last_ns: int | None,
        schemas: Mapping[int, Schema],
        channels: Mapping[int, Channel],
        counts: Mapping[int, int],
        *,
        compresses_messages: bool = False,
    ) -> StoredFile:
        """From what MCAP calls schemas and channels, with the messages of each channel."""
        topics = tuple(
            StoredTopic(
                channel.topic,
                schemas[channel.schema_id].name if channel.schema_id in schemas else "",
                channel.metadata.get("offered_qos_profiles", ""),
                channel.metadata.get("topic_type_hash", ""),
                channel.message_encoding,
                counts.get(channel.id, 0),
            )
            for channel in channels.values()
        )
        return cls(name, first_ns, last_ns, topics, compresses_messages)

    @property
    def count(self) -> int:
        return sum(topic.count for topic in self.topics)


def describe(files: Sequence[StoredFile]) -> dict[str, Any]:
    """What rosbag2 calls a bag's metadata, for a bag of these files."""
    topics: dict[str, StoredTopic] = {}
    for topic in (topic for file in files for topic in file.topics):
        before = topics[topic.name].count if topic.name in topics else 0
        topics[topic.name] = replace(topic, count=before + topic.count)
    compressed = any(file.compresses_messages for file in files)
    newest = any(_names_policies(topic.qos) for topic in topics.values())
    return {
        "version": 9 if newest else 5,
        "storage_identifier": "mcap",
        **_span(files),
        "message_count": sum(file.count for file in files),
        "topics_with_message_count": [
            {"topic_metadata": _describe_topic(topic, newest), "message_count": topic.count}
            for topic in topics.values()
        ],
        "compression_format": "zstd" if compressed else "",
        "compression_mode": "message" if compressed else "",
        "relative_file_paths": [file.name for file in files],
        "files": [{"path": file.name, **_span([file]), "message_count": file.count} for file in files],
        **({"custom_data": {}, "ros_distro": ""} if newest else {}),
    }


def stored_file(file: McapFile, name: str) -> StoredFile:
    """A file as far as it is written, under the name that it has in its bag."""
    return StoredFile.of(
        name,
        file.first_ns,
        file.last_ns,
        file.schemas,
        file.channels,
        file.counts,
        compresses_messages=file.compresses_messages,
    )


def end_file(file: McapFile, name: str) -> StoredFile:
    """Finish a file, with what rosbag2 puts there to know its version where the folder is not at hand."""
    stored = stored_file(file, name)
    file.note(NOTE, {"serialized_metadata": yaml.safe_dump(describe([stored]), sort_keys=False)})
    file.finish()
    return stored


def write_metadata(bag: Path, files: Sequence[StoredFile], kept: Mapping[str, Any] | None = None) -> None:
    """Write metadata.yaml of a bag, whole or not at all; what is in `kept` stays as it was. Raises OSError."""
    information = {**describe(files), **(kept or {})}
    text = yaml.safe_dump({"rosbag2_bagfile_information": information}, sort_keys=False)
    write_durably(bag / METADATA, text.encode())


def _describe_topic(topic: StoredTopic, newest: bool) -> dict[str, Any]:
    described = {"name": topic.name, "type": topic.type, "serialization_format": topic.encoding}
    if not newest:
        return {**described, "offered_qos_profiles": topic.qos}
    profiles = yaml.safe_load(topic.qos) if topic.qos else []
    return {**described, "offered_qos_profiles": profiles, "type_description_hash": topic.type_hash}


def _names_policies(qos: str) -> bool:
    """Whether QoS is written with names, as since version 9, not with numbers."""
    try:
        profiles = yaml.safe_load(qos) if qos else None
    except yaml.YAMLError:
        return False
    return isinstance(profiles, list) and any(
        isinstance(profile, dict) and isinstance(profile.get("reliability"), str) for profile in profiles
    )


def _span(files: Sequence[StoredFile]) -> dict[str, Any]:
    first = min((file.first_ns for file in files if file.first_ns is not None), default=0)
    last = max((file.last_ns for file in files if file.last_ns is not None), default=0)
    return {
        "duration": {"nanoseconds": last - first},
        "starting_time": {"nanoseconds_since_epoch": first},
    }
