"""Recovery of what other recorders leave."""

from __future__ import annotations

from pathlib import Path

import pytest
import recording_data as data
import yaml
from mcap.reader import make_reader
from mcap.writer import CompressionType, Writer
from recorded_bags import chunks_of, cut, record, write_foreign
from rosbags.rosbag2 import CompressionFormat, CompressionMode, Reader, StoragePlugin
from rosbags.rosbag2 import Writer as BagsWriter

from twodpass_core.data.bags import open_clouds
from twodpass_core.data.bags.frames import BagFrames
from twodpass_core.mcap_files.check import check_mcap
from twodpass_core.recording.recovery import recover


@pytest.mark.parametrize("compression", list(CompressionType))
@pytest.mark.parametrize("chunked", [True, False])
def test_a_single_file_of_another_recorder(tmp_path: Path, chunked: bool, compression: CompressionType) -> None:
    path = tmp_path / "foreign.mcap"
    write_foreign(path, chunked=chunked, compression=compression)
    whole = path.read_bytes()
    expected = data.read_mcap(path)
    assert not recover(path).mended
    cut(path, int(0.8 * len(whole)))
    report = recover(path)
    messages = data.read_mcap(path)
    assert 4 <= len(messages) == report.messages < len(expected)
    assert messages == expected[: len(messages)]
    assert report.lost_sets is None
    check_mcap(path)
    with path.open("rb") as file:
        reader = make_reader(file)
        assert [m.metadata for m in reader.iter_metadata() if m.name == "drive"] == [{"weather": "rain"}]
        assert [a.data for a in reader.iter_attachments()] == [b"left lens dirty"]
        stored = [(c.metadata, m.publish_time - m.log_time, m.sequence) for _, c, m in reader.iter_messages()]
    assert stored == [({"kept": "as it was"}, -7, index // 2) for index in range(len(messages))]


@pytest.mark.parametrize("compression", [CompressionMode.NONE, CompressionMode.STORAGE, CompressionMode.MESSAGE])
def test_a_bag_of_another_recorder(tmp_path: Path, compression: CompressionMode) -> None:
    bag = tmp_path / "other"
    writer = BagsWriter(bag, version=9, storage_plugin=StoragePlugin.MCAP)
    writer.set_compression(compression, CompressionFormat.ZSTD)
    writer.set_custom_data("driver", "somebody")
    with Reader(record(tmp_path / "drive", sets=1)) as reader:
        qos = {c.topic: c.ext.offered_qos_profiles for c in reader.connections}  # type: ignore[union-attr]
    with writer:
        connection = writer.add_connection(
            "/points", data.POINTS.type, typestore=data.TYPES, offered_qos_profiles=qos["/points"]
        )
        for index in range(400):
            writer.write(connection, data.stamp(index), data.scan(data.stamp(index)))
    path = bag / "other.mcap"
    before = yaml.safe_load((bag / "metadata.yaml").read_text())
    assert not recover(bag).mended
    assert yaml.safe_load((bag / "metadata.yaml").read_text()) == before
    cut(path, path.stat().st_size // 2)
    report = recover(bag)
    assert 100 < report.messages < 400
    with Reader(bag) as reader:
        assert reader.message_count == report.messages == sum(1 for _ in reader.messages())
    information = yaml.safe_load((bag / "metadata.yaml").read_text())["rosbag2_bagfile_information"]
    old = before["rosbag2_bagfile_information"]
    for key in ("compression_mode", "compression_format", "custom_data", "version"):
        assert information[key] == old[key]
    assert yaml.safe_load((bag / "metadata.yaml.damaged").read_text()) == before


def test_a_recorder_that_compressed_messages_and_was_killed(tmp_path: Path) -> None:
    """It has written no metadata.yaml, so the messages alone tell."""
    bag = tmp_path / "drive"
    writer = BagsWriter(bag, version=9, storage_plugin=StoragePlugin.MCAP)
    writer.set_compression(CompressionMode.MESSAGE, CompressionFormat.ZSTD)
    with writer:
        connection = writer.add_connection("/points", data.POINTS.type, typestore=data.TYPES)
        for index in range(400):
            writer.write(connection, data.stamp(index), data.scan(data.stamp(index)))
    path = bag / "drive.mcap"
    (bag / "metadata.yaml").unlink()
    assert sum(1 for _ in open_clouds(path)) == len(BagFrames([path])) == 400
    cut(path, path.stat().st_size // 2)
    kept = recover(bag).messages
    with Reader(bag) as reader:
        assert [raw for _, _, raw in reader.messages()] == [data.scan(data.stamp(index)) for index in range(kept)]
    assert sum(1 for _ in open_clouds(bag)) == len(BagFrames([bag])) == kept > 100


def test_messages_outlive_the_head_of_their_chunk(tmp_path: Path) -> None:
    path = tmp_path / "drive_0.mcap"
    write_foreign(path, chunked=True, compression=CompressionType.NONE)
    expected = data.read_mcap(path)
    start, _ = chunks_of(path)[1]
    content = bytearray(path.read_bytes())
    content[start : start + 49] = bytes(49)
    path.write_bytes(content)
    report = recover(path)
    assert (report.messages, report.lost_bytes) == (len(expected), 49)
    assert data.read_mcap(path) == expected


def test_messages_outlive_the_end_of_their_chunk(tmp_path: Path) -> None:
    path = tmp_path / "drive_0.mcap"
    write_foreign(path, chunked=True, compression=CompressionType.NONE)
    expected = data.read_mcap(path)
    start, length = chunks_of(path)[0]
    cut(path, start + length - 10)
    report = recover(path)
    assert data.read_mcap(path) == expected[: report.messages]
    assert report.messages > 0


def test_messages_of_topics_that_are_described_are_kept(tmp_path: Path) -> None:
    """A writer that describes each topic once: the second one is lost with the first chunk that has it."""
    path = tmp_path / "drive_0.mcap"
    with path.open("wb") as file:
        writer = Writer(file, chunk_size=100, compression=CompressionType.NONE)
        writer.start(profile="ros2", library="another")
        schema = writer.register_schema("std_msgs/msg/String", "ros2msg", b"string data\n")
        known = writer.register_channel("/known", "cdr", schema)
        writer.add_message(known, 0, b"a" * 100, 0)
        lost = writer.register_channel("/lost", "cdr", schema)
        writer.add_message(lost, 1, b"x" * 100, 1)
        for index in range(2, 6):
            writer.add_message(lost, index, b"b", index)
            writer.add_message(known, index, b"c" * 100, index)
        writer.finish()
    content, chunks = bytearray(path.read_bytes()), chunks_of(path)
    start, length = chunks[1]
    content[start + length - 20] ^= 1
    path.write_bytes(content[: chunks[-1][0] + chunks[-1][1]])
    report = recover(path)
    assert report.messages == 5
    assert "4 messages" not in str(report.files[0].damage[0])
    assert {topic for topic, _, _ in data.read_mcap(path)} == {"/known"}
