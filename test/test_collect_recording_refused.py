"""What cannot be recorded, and settings that cannot be, are refused."""

from __future__ import annotations

import math
from pathlib import Path

import pytest
import recording_data as data
import yaml
from recording_data import settings

from twodpass_core.errors import BagError, ConfigError, RecordingError
from twodpass_core.recording import (
    BagWriter,
    Manifest,
    RecordedSet,
    RecordedTopic,
    WriterSettings,
    definition_of,
    offered_qos,
)


def test_what_cannot_be_recorded_is_refused_and_costs_nothing(tmp_path: Path) -> None:
    bag = tmp_path / "drive"
    with BagWriter(bag, settings()) as writer:
        writer.write(data.POINTS, 1, data.scan(1))
        with pytest.raises(ConfigError, match="/points: is recorded as sensor_msgs/msg/PointCloud2 and cannot be"):
            writer.write(RecordedTopic.of_type("/points", data.IMAGE.type), 2, b"")
        with pytest.raises(
            ConfigError, match=r"/front/image: a message of 41.0 MiB is more than the 40 MiB .* compressed"
        ):
            writer.write(data.IMAGE, 3, bytes(41 * 2**20))
        with pytest.raises(ConfigError, match="a set needs messages"):
            writer.write_set(RecordedSet(4, ()))
    assert len(data.read_mcap(bag / "drive_0.mcap")) == 1
    with pytest.raises(RecordingError, match="drive exists: a recording begins in a new folder"):
        BagWriter(bag, settings())
    (tmp_path / "file").touch()
    with pytest.raises(RecordingError, match="cannot be made: Not a directory"):
        BagWriter(tmp_path / "file/drive", settings())


@pytest.mark.parametrize(
    ("arguments", "reason"),
    [
        (("points", "sensor_msgs/msg/Image", ""), "needs its full name, as in /points"),
        (("/points", "sensor_msgs/Image", ""), "is not a message type"),
        (("/points", "sensor_msgs/msg/Image", "", "a: ["), "is not YAML"),
        (("/points", "sensor_msgs/msg/Image", "", "- reliability: reliable"), "as offered_qos"),
    ],
)
def test_topics_that_rosbag2_would_not_read(arguments: tuple[str, ...], reason: str) -> None:
    with pytest.raises(ConfigError, match=reason):
        RecordedTopic(*arguments)


def test_ros_own_types_have_definitions_and_others_are_refused() -> None:
    definition = definition_of("sensor_msgs/msg/Image")
    assert "uint32 height" in definition
    assert "MSG: std_msgs/Header" in definition
    with pytest.raises(ConfigError, match="own_msgs/msg/Thing is not among"):
        definition_of("own_msgs/msg/Thing")
    assert yaml.safe_load(offered_qos(latched=True))[0]["durability"] == 1


@pytest.mark.parametrize(
    "wrong",
    [
        {"split_bytes": -1},
        {"split_seconds": math.nan},
        {"chunk_bytes": 0},
        {"chunk_seconds": -1.0},
        {"queue_bytes": 0},
        {"min_free_bytes": -5},
    ],
)
def test_settings_out_of_range(wrong: dict[str, float]) -> None:
    with pytest.raises(ConfigError, match=next(iter(wrong))):
        WriterSettings(**wrong)  # type: ignore[arg-type]


def test_a_folder_without_a_manifest_or_with_a_damaged_one(tmp_path: Path) -> None:
    with pytest.raises(BagError, match=r"manifest.json: cannot be read: No such file"):
        Manifest.read(tmp_path)
    (tmp_path / "manifest.json").write_text('{"version": 1, "software": "x", "sets": [{"stamp_ns": "soon"}]}')
    with pytest.raises(BagError, match=r"is not the manifest of a recording: sets\.0\.stamp_ns"):
        Manifest.read(tmp_path)
