"""metadata.yaml of a rosbag2 bag, in version 5: what Humble writes, and every later release reads."""

from __future__ import annotations

import os
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

import yaml

from twodpass_core.files import replacing
from twodpass_core.recording.mcap_file import McapFile, sync_folder

METADATA: Final = "metadata.yaml"


@dataclass(frozen=True)
class StoredTopic:
    """A topic in one file."""

    name: str
    type: str
    qos: str
    encoding: str
    count: int


@dataclass(frozen=True)
class StoredFile:
    """One file of a bag."""

    name: str
    first_ns: int | None
    last_ns: int | None
    topics: tuple[StoredTopic, ...]

    @classmethod
    def of(cls, file: McapFile) -> StoredFile:
        """A file as far as it is written."""
        topics = tuple(
            StoredTopic(
                channel.topic,
                file.schemas[channel.schema_id].name if channel.schema_id in file.schemas else "",
                channel.metadata.get("offered_qos_profiles", ""),
                channel.message_encoding,
                file.counts[channel.id],
            )
            for channel in file.channels.values()
        )
        return cls(file.path.name, file.first_ns, file.last_ns, topics)

    @property
    def count(self) -> int:
        return sum(topic.count for topic in self.topics)


def describe(files: Sequence[StoredFile]) -> dict[str, Any]:
    """What rosbag2 calls a bag's metadata, for a bag of these files."""
    topics: dict[str, StoredTopic] = {}
    for topic in (topic for file in files for topic in file.topics):
        before = topics[topic.name].count if topic.name in topics else 0
        topics[topic.name] = StoredTopic(topic.name, topic.type, topic.qos, topic.encoding, before + topic.count)
    return {
        "version": 5,
        "storage_identifier": "mcap",
        **_span(files),
        "message_count": sum(file.count for file in files),
        "topics_with_message_count": [
            {
                "topic_metadata": {
                    "name": topic.name,
                    "type": topic.type,
                    "serialization_format": topic.encoding,
                    "offered_qos_profiles": topic.qos,
                },
                "message_count": topic.count,
            }
            for topic in topics.values()
        ],
        "compression_format": "",
        "compression_mode": "",
        "relative_file_paths": [file.name for file in files],
        "files": [{"path": file.name, **_span([file]), "message_count": file.count} for file in files],
    }


def write_metadata(bag: Path, files: Sequence[StoredFile]) -> None:
    """Write metadata.yaml of a bag's folder, whole or not at all. Raises OSError."""
    with replacing(bag / METADATA) as partial:
        partial.write_text(yaml.safe_dump({"rosbag2_bagfile_information": describe(files)}, sort_keys=False), "utf-8")
        with partial.open("rb") as file:
            os.fsync(file.fileno())
    sync_folder(bag)


def _span(files: Sequence[StoredFile]) -> dict[str, Any]:
    first = min((file.first_ns for file in files if file.first_ns is not None), default=0)
    last = max((file.last_ns for file in files if file.last_ns is not None), default=0)
    return {
        "duration": {"nanoseconds": last - first},
        "starting_time": {"nanoseconds_since_epoch": first},
    }
