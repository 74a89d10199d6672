"""Recovery with and without the index at a file's end, and with a damaged one."""

from __future__ import annotations

import struct
from io import BytesIO
from pathlib import Path

import pytest
import recording_data as data
import zstandard
from mcap.data_stream import RecordBuilder
from mcap.records import Channel, Message
from mcap.writer import CompressionType, Writer
from recorded_bags import chunks_of, cut, record, write_foreign

from twodpass_core.data.bags import open_clouds, read_cloud
from twodpass_core.errors import BagError
from twodpass_core.mcap_files.check import check_mcap
from twodpass_core.mcap_files.chunk import index_chunk, pack
from twodpass_core.mcap_files.walk import find_records
from twodpass_core.recording.recovery import recover


def test_descriptions_lost_with_the_first_chunk_are_taken_from_the_index(tmp_path: Path) -> None:
    bag = record(tmp_path / "drive")
    path = bag / "drive_0.mcap"
    content = bytearray(path.read_bytes())
    start, length = chunks_of(path)[1]  # the first with clouds and images
    content[start + length // 2] ^= 16
    path.write_bytes(content)
    assert recover(bag).lost_bytes == length
    assert [read_cloud(raw).stamp_ns for raw in open_clouds(bag)] == [data.stamp(index) for index in range(1, 10)]


def test_what_only_the_index_still_describes_is_described_in_the_mended_file(tmp_path: Path) -> None:
    """Other recorders describe a topic in the first chunk that has it, and in no other one."""
    path = tmp_path / "drive.mcap"
    write_foreign(path, chunked=True, compression=CompressionType.NONE)
    expected, chunks = data.read_mcap(path), chunks_of(path)
    start, length = chunks[0]
    content = bytearray(path.read_bytes())
    content[start + length // 2] ^= 16
    path.write_bytes(content)
    assert recover(path).lost_bytes == length
    left = data.read_mcap(path)
    assert 0 < len(left) < len(expected)
    assert left == expected[-len(left) :]


@pytest.mark.parametrize("chunk", [0, 1, 2])
def test_without_an_index_a_damaged_chunk_costs_itself_alone(tmp_path: Path, chunk: int) -> None:
    bag = record(tmp_path / "drive")
    path = bag / "drive_0.mcap"
    chunks = chunks_of(path)
    start, length = chunks[chunk]
    cut(path, chunks[-1][0] + chunks[-1][1])
    content = bytearray(path.read_bytes())
    content[start + length // 2] ^= 16
    path.write_bytes(content)
    report = recover(bag)
    assert report.sets == (10 if chunk == 0 else 9)  # chunk 0 is the static transform


@pytest.mark.parametrize("what", [b"/points", b"sensor_msgs/msg/PointCloud2"])
def test_what_a_damaged_index_says_of_topics_does_not_count(tmp_path: Path, what: bytes) -> None:
    bag = record(tmp_path / "drive")
    path = bag / "drive_0.mcap"
    messages = data.read_mcap(path)
    content = bytearray(path.read_bytes())
    content[content.rindex(what) + 1] ^= 2
    path.write_bytes(content)
    recover(bag)
    assert data.read_mcap(path) == messages
    assert len(list(open_clouds(bag))) == 10


def test_an_index_that_points_elsewhere_is_made_anew(tmp_path: Path) -> None:
    """Nothing but where its chunks are tells that it is wrong: checksums may be left out."""
    path = tmp_path / "drive.mcap"
    with path.open("wb") as file:
        writer = Writer(file, compression=CompressionType.NONE, enable_crcs=False)
        writer.start(profile="ros2")
        schema = writer.register_schema(data.POINTS.type, "ros2msg", data.POINTS.definition.encode())
        channel = writer.register_channel("/points", "cdr", schema)
        for index in range(3):
            writer.add_message(channel, data.stamp(index), data.scan(data.stamp(index)), data.stamp(index))
        writer.finish()
    (start, _), content = chunks_of(path)[0], bytearray(path.read_bytes())
    at = content.rindex(struct.pack("<QQQ", data.stamp(0), data.stamp(2), start)) + 16
    struct.pack_into("<Q", content, at, start + 1)
    path.write_bytes(content)
    with pytest.raises(BagError, match=r"the index tells of a chunk at byte .* that is not there"):
        check_mcap(path)
    report = recover(path)
    assert (len(report.mended), report.messages, report.lost_bytes) == (1, 3, 0)
    check_mcap(path)
    assert [read_cloud(raw).stamp_ns for raw in open_clouds(path)] == [data.stamp(index) for index in range(3)]


def test_times_that_a_chunk_does_not_have_are_put_right(tmp_path: Path) -> None:
    """By which players find messages. No checksum covers them."""
    path = tmp_path / "drive.mcap"
    write_foreign(path, chunked=True, compression=CompressionType.ZSTD)
    expected, content = data.read_mcap(path), bytearray(path.read_bytes())
    start, _ = chunks_of(path)[0]
    first, last = struct.unpack_from("<QQ", content, start + 9)
    struct.pack_into("<QQ", content, start + 9, last, last)
    path.write_bytes(content)
    assert len(recover(path).mended) == 1
    assert struct.unpack_from("<QQ", path.read_bytes(), chunks_of(path)[0][0] + 9) == (first, last)
    assert data.read_mcap(path) == expected


def test_a_chunk_whose_last_message_is_cut_off_is_damaged() -> None:
    """Of which a checksum would tell, but it may be left out."""
    channel = Channel(1, "/points", "cdr", {}, 0)
    packed = pack([channel, Message(1, 5, bytes(100), 5, 0), Message(1, 6, bytes(100), 6, 1)])
    unpacked = zstandard.ZstdDecompressor().decompress(packed.record.data)
    assert index_chunk(packed.record, unpacked).messages == 2
    with pytest.raises(ValueError, match="a record in it ends beyond it"):
        index_chunk(packed.record, unpacked[:-5])


@pytest.mark.parametrize("before", [2**20 - 50, 2**20, 2**20 + 3, 2**21 + 40])
def test_a_chunk_is_found_wherever_it_begins(before: int) -> None:
    """Behind damage that is read in parts."""
    builder = RecordBuilder()
    pack([Message(1, 5, bytes(100), 5, 0)]).record.write(builder)
    content = bytes(before) + builder.end()
    assert find_records(BytesIO(content), 0, len(content)) == before
