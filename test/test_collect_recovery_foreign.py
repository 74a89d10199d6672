"""Recovery of what other recorders leave."""

from __future__ import annotations

import struct
from itertools import chain
from pathlib import Path

import numpy as np
import pytest
import recording_data as data
import yaml
from bag_data import BagData
from drive_bag import points, scan_ns
from mcap.reader import make_reader
from mcap.writer import CompressionType, Writer
from recorded_bags import chunks_of, cut, record, write_foreign
from rosbags.rosbag2 import CompressionFormat, CompressionMode, Reader, StoragePlugin
from rosbags.rosbag2 import Writer as BagsWriter
from typer.testing import CliRunner

from twodpass_core.cli import app
from twodpass_core.data.bags import open_clouds
from twodpass_core.data.bags.config import BagConfig
from twodpass_core.data.bags.frames import BagFrames
from twodpass_core.errors import BagError
from twodpass_core.mcap_files.check import check_mcap
from twodpass_core.recording.recovery import recover


@pytest.mark.parametrize("compression", list(CompressionType))
@pytest.mark.parametrize("chunked", [True, False])
def test_a_single_file_of_another_recorder(tmp_path: Path, chunked: bool, compression: CompressionType) -> None:
    path = tmp_path / "foreign.mcap"
    write_foreign(path, chunked=chunked, compression=compression)
    whole = path.read_bytes()
    expected = data.read_mcap(path)
    assert bool(recover(path).mended) == (not chunked)
    assert data.read_mcap(path) == expected
    path.write_bytes(whole)
    path.with_name("foreign.mcap.damaged").unlink(missing_ok=True)
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


def test_a_large_message_is_read_and_left_as_it_is(tmp_path: Path) -> None:
    """As a map, which is recorded once, together with what was recorded just before it."""
    bag_data = BagData()
    bag_data.cloud(scan_ns(0), points(0))
    bag_data.cloud(scan_ns(0), np.zeros((4_500_000, 4), np.float32), topic="/map", log_ns=scan_ns(0) + 1)
    bag_data.cloud(scan_ns(1), points(1))
    bag = bag_data.write(tmp_path / "drive", compression=CompressionMode.STORAGE)
    frames = BagFrames([bag], BagConfig(topic="/points"))
    np.testing.assert_array_equal(frames[0].points, points(0))
    np.testing.assert_array_equal(frames[1].points, points(1))
    content = (bag / "drive.mcap").read_bytes()
    report = recover(bag)
    assert (report.messages, report.mended) == (3, ())
    assert (bag / "drive.mcap").read_bytes() == content


@pytest.mark.parametrize("chunked", [True, False])
def test_what_is_too_large_to_be_read_is_no_damage(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, chunked: bool
) -> None:
    """Nothing is changed then, neither in that file nor in those before it."""
    bag = tmp_path / "drive"
    bag.mkdir()
    write_foreign(bag / "drive_0.mcap", chunked=True, compression=CompressionType.ZSTD)
    cut(bag / "drive_0.mcap", 30_000)
    write_foreign(bag / "drive_1.mcap", chunked=chunked, compression=CompressionType.NONE)
    before = {path.name: path.read_bytes() for path in bag.iterdir()}
    monkeypatch.setattr("twodpass_core.mcap_files.salvage.MAX_RECORD_BYTES", 20_000)
    told = r"drive_\d\.mcap: at byte \d+: a (chunk|record) of \d+ bytes, more than the .*: `mcap filter` rewrites"
    with pytest.raises(BagError, match=told):
        recover(bag)
    assert {path.name: path.read_bytes() for path in bag.iterdir()} == before


def test_chunks_of_one_time_are_no_damage(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "drive.mcap"
    write_foreign(path, chunked=True, compression=CompressionType.ZSTD)
    monkeypatch.setattr("twodpass_core.mcap_files.check.MAX_OPEN_BYTES", 100)
    with pytest.raises(BagError, match="chunks of the same time"):
        check_mcap(path)
    assert recover(path).mended == ()


def test_a_damaged_length_is_damage(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Of a chunk's content, which cannot unpack to so many bytes, and of a record, after which there is none."""
    monkeypatch.setattr("twodpass_core.mcap_files.salvage.MAX_RECORD_BYTES", 50_000)
    path = tmp_path / "drive.mcap"
    for field, length in ((9 + 16, 2**40), (1, 70_000)):
        write_foreign(path, chunked=True, compression=CompressionType.ZSTD)
        expected = data.read_mcap(path)
        content = bytearray(path.read_bytes())
        struct.pack_into("<Q", content, chunks_of(path)[1][0] + field, length)
        path.write_bytes(content)
        report = recover(path)
        assert report.lost_bytes > 0
        assert 0 < report.messages < len(expected)
        assert data.read_mcap(path)[:2] == expected[:2]
        report.files[0].path.with_name("drive.mcap.damaged").unlink()


def test_messages_outside_of_chunks_are_packed(tmp_path: Path) -> None:
    """As with the storage preset fastwrite: by the time of reception, so topics may be out of order."""
    path = tmp_path / "drive_0.mcap"
    first = [(data.POINTS.name, data.stamp(index) + 5000, data.scan(data.stamp(index))) for index in range(4)]
    second = [("/rear", data.stamp(index), data.scan(data.stamp(index))) for index in range(4)]
    with path.open("wb") as file:
        writer = Writer(file, use_chunking=False)
        writer.start(profile="ros2", library="another")
        schema = writer.register_schema(data.POINTS.type, "ros2msg", data.POINTS.definition.encode())
        channels = {name: writer.register_channel(name, "cdr", schema) for name in (data.POINTS.name, "/rear")}
        for name, log_time, raw in chain.from_iterable(zip(first, second, strict=True)):
            writer.add_message(channels[name], log_time, raw, log_time)
        writer.finish()
    with pytest.raises(BagError, match=r"messages lie outside of chunks .*: `twodpass recover` packs them into chunks"):
        BagFrames([path])
    output = CliRunner().invoke(app, ["recover", str(path)]).output
    assert "drive_0.mcap: 8 messages kept, 0 bytes lost, packed into chunks\n" in output
    assert data.read_mcap(path) == sorted([*first, *second], key=lambda message: message[1])
    assert len(BagFrames([path], BagConfig(topic="/rear"))) == 4
    assert recover(path).mended == ()
