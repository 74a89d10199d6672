"""Recovery: bags that were cut off or damaged become readable, nothing whole is lost, and what is lost is told."""

from __future__ import annotations

import os
import random
import shutil
import signal
import struct
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import recording_data as data
import yaml
from hypothesis import given, settings
from hypothesis import strategies as st
from mcap.reader import make_reader
from mcap.writer import CompressionType, Writer
from rosbags.rosbag2 import CompressionFormat, CompressionMode, Reader, StoragePlugin
from rosbags.rosbag2 import Writer as BagsWriter
from typer.testing import CliRunner

from twodpass_core.cli import app
from twodpass_core.data.bags import open_clouds
from twodpass_core.data.mcap_check import check_mcap
from twodpass_core.errors import BagError
from twodpass_core.recording import BagWriter, Calibration, Manifest, WriterSettings, recovery
from twodpass_core.recording.recovery import recover
from twodpass_core.recording.salvage import Salvage

Messages = list[tuple[str, int, bytes]]


def record(bag: Path, sets: int = 10, **changes: Any) -> Path:
    """A recording with one set a chunk."""
    with BagWriter(bag, WriterSettings(**{"chunk_bytes": 1, **data.NO_LIMIT, **changes})) as writer:
        writer.write(data.STATIC, data.START_NS, data.static_transform("lidar"))
        for index in range(sets):
            writer.write_set(data.make_set(index))
    return bag


def set_messages(index: int) -> Messages:
    return [(m.topic.name, m.log_time_ns, m.data) for m in data.make_set(index).messages]


def chunks_of(path: Path) -> list[tuple[int, int]]:
    """Offset and length of the chunks."""
    with path.open("rb") as file:
        summary = make_reader(file).get_summary()
    assert summary is not None
    return [(index.chunk_start_offset, index.chunk_length) for index in summary.chunk_indexes]


def cut(path: Path, size: int) -> bytes:
    """Cut a file off; returns what is left of it."""
    os.truncate(path, size)
    return path.read_bytes()


def assert_readable(bag: Path) -> None:
    """By our reader, by rosbags and by mcap, all of it."""
    for path in bag.glob("*.mcap"):
        check_mcap(path)
        data.read_mcap(path)
    with Reader(bag) as reader:
        assert sum(1 for _ in reader.messages()) == reader.message_count


def test_a_sound_bag_is_left_alone(tmp_path: Path) -> None:
    bag = record(tmp_path / "drive")
    before = {path: (path.read_bytes(), path.stat().st_mtime_ns) for path in bag.iterdir()}
    report = recover(bag)
    assert (report.mended, report.messages, report.lost_bytes, report.sets, report.lost_sets) == ((), 21, 0, 10, 0)
    assert {path: (path.read_bytes(), path.stat().st_mtime_ns) for path in bag.iterdir()} == before


@pytest.fixture(scope="module")
def recorded(tmp_path_factory: pytest.TempPathFactory) -> bytes:
    return (record(tmp_path_factory.mktemp("recorded") / "drive", sets=4) / "drive_0.mcap").read_bytes()


@settings(max_examples=15, deadline=None)
@given(share=st.floats(0, 1))
def test_of_a_file_that_is_cut_off_anywhere_all_whole_chunks_are_kept(
    tmp_path_factory: pytest.TempPathFactory, recorded: bytes, share: float
) -> None:
    bag = tmp_path_factory.mktemp("cut") / "drive"
    bag.mkdir()
    path = bag / "drive_0.mcap"
    path.write_bytes(recorded)
    expected, ends = data.read_mcap(path), [start + length for start, length in chunks_of(path)]
    size = int(share * len(recorded))
    remains = cut(path, size)
    report = recover(bag)
    if size == len(recorded):
        assert not report.mended
        return
    whole = sum(end <= size for end in ends)
    kept = 0 if whole == 0 else 1 + 2 * (whole - 1)  # the first chunk has the static transform
    assert data.read_mcap(path) == expected[:kept]
    assert report.messages == kept
    assert report.lost_bytes <= size
    (mended,) = report.mended
    assert mended.original is not None
    assert mended.original.read_bytes() == remains  # as it was
    assert_readable(bag)
    again = recover(bag)
    assert (again.mended, again.messages) == ((), kept)


def test_a_file_without_a_byte_has_lost_none(tmp_path: Path) -> None:
    (tmp_path / "drive.mcap").touch()
    report = recover(tmp_path / "drive.mcap")
    assert (report.messages, report.lost_bytes, len(report.mended)) == (0, 0, 1)
    check_mcap(tmp_path / "drive.mcap")


def test_a_cut_off_recording_tells_what_is_missing(tmp_path: Path) -> None:
    bag = record(tmp_path / "drive", split_bytes=50_000)
    files = sorted(bag.glob("*.mcap"))
    start, length = chunks_of(files[-1])[-1]
    cut(files[-1], start + length // 2)
    report = recover(bag)
    assert [file.path for file in report.mended] == [files[-1]]
    assert (report.sets, report.lost_sets) == (9, 1)
    assert 0 < report.lost_bytes <= length
    assert_readable(bag)
    manifest = Manifest.read(bag)
    assert [s.stamp_ns for s in manifest.sets] == [data.stamp(index) for index in range(9)]
    assert manifest.lost_sets == 1
    assert recover(bag).lost_sets == 1


@pytest.mark.parametrize("what", ["flipped bit", "zeros", "wrong length"])
def test_damage_in_the_middle_costs_its_chunk_only(tmp_path: Path, what: str) -> None:
    bag = record(tmp_path / "drive")
    path = bag / "drive_0.mcap"
    start, length = chunks_of(path)[4]  # of set 3: chunk 0 is the static transform
    content = bytearray(path.read_bytes())
    if what == "flipped bit":
        content[start + length // 2] ^= 16
    elif what == "zeros":
        content[start + 60 : start + length] = bytes(length - 60)
    else:
        struct.pack_into("<Q", content, start + 9 + 16, 2**50)  # the size that it unpacks to
    path.write_bytes(content)
    report = recover(bag)
    assert report.lost_bytes == length
    assert (report.sets, report.lost_sets) == (9, 1)
    assert data.read_mcap(path)[1:] == [m for index in range(10) if index != 3 for m in set_messages(index)]
    assert [s.stamp_ns for s in Manifest.read(bag).sets] == [data.stamp(index) for index in range(10) if index != 3]
    assert path.with_name("drive_0.mcap.damaged").read_bytes() == content
    assert_readable(bag)


@settings(max_examples=15, deadline=None)
@given(flips=st.lists(st.tuples(st.floats(0, 1, exclude_max=True), st.integers(1, 255)), min_size=1, max_size=4))
def test_whatever_bytes_are_wrong_the_rest_becomes_readable(
    tmp_path_factory: pytest.TempPathFactory, recorded: bytes, flips: list[tuple[float, int]]
) -> None:
    path = tmp_path_factory.mktemp("flipped") / "drive.mcap"
    path.write_bytes(recorded)
    expected = data.read_mcap(path)
    content = bytearray(recorded)
    for share, mask in flips:
        content[int(8 + share * (len(content) - 8))] ^= mask  # behind what tells that it is an MCAP file
    path.write_bytes(content)
    report = recover(path)
    check_mcap(path)
    messages = data.read_mcap(path)
    assert len(messages) == report.messages
    assert [message for message in expected if message in messages] == messages  # none is wrong
    assert not recover(path).mended


@pytest.mark.parametrize("part", range(4))
@pytest.mark.parametrize("how", ["cut off", "flipped bit"])
def test_a_set_of_several_chunks_is_whole_or_counts_as_lost(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, part: int, how: str
) -> None:
    """Its other messages are kept all the same."""
    monkeypatch.setattr("twodpass_core.recording.split_recorder.MAX_CHUNK_BYTES", 10)  # each message is a chunk
    bag = record(tmp_path / "drive", sets=2)
    path = bag / "drive_0.mcap"
    start, length = chunks_of(path)[1:][part]  # of two sets: a scan and an image each
    if how == "cut off":
        cut(path, start + length // 2)
    else:
        content = bytearray(path.read_bytes())
        content[start + length // 2] ^= 16
        path.write_bytes(content)
    report = recover(bag)
    expected = [set_messages(index)[kind] for index in range(2) for kind in range(2)]
    kept = expected[:part] if how == "cut off" else expected[:part] + expected[part + 1 :]
    assert data.read_mcap(path)[1:] == kept
    whole = [1] if part < 2 else [0]
    sets = [index for index in whole if how == "flipped bit" or index == 0]
    assert [entry.stamp_ns for entry in Manifest.read(bag).sets] == [data.stamp(index) for index in sets]
    assert (report.sets, report.lost_sets) == (len(sets), 2 - len(sets))
    assert_readable(bag)
    again = recover(bag)
    assert (again.mended, again.sets) == ((), len(sets))
    (path.with_name("drive_0.mcap.damaged")).unlink()
    (bag / "manifest.json").write_text(Manifest(software="x").model_dump_json())
    assert recover(bag).sets == len(sets)  # as its notes have it


def test_descriptions_lost_with_the_first_chunk_are_taken_from_the_index(tmp_path: Path) -> None:
    bag = record(tmp_path / "drive")
    path = bag / "drive_0.mcap"
    content = bytearray(path.read_bytes())
    start, length = chunks_of(path)[1]  # the first with clouds and images
    content[start + length // 2] ^= 16
    path.write_bytes(content)
    assert recover(bag).lost_bytes == length
    assert [cloud.stamp_ns for cloud in open_clouds(bag)] == [data.stamp(index) for index in range(1, 10)]


def test_a_chunk_that_unpacks_to_more_than_it_says_is_not_unpacked(tmp_path: Path) -> None:
    import zstandard

    bag = record(tmp_path / "drive", sets=2)
    path = bag / "drive_0.mcap"
    bomb = zstandard.ZstdCompressor().compress(bytes(2**27))
    chunk = struct.pack("<QQQII4sQ", 0, 0, 100, 0, 4, b"zstd", len(bomb)) + bomb
    start, _ = chunks_of(path)[-1]
    path.write_bytes(path.read_bytes()[:start] + struct.pack("<BQ", 6, len(chunk)) + chunk)
    report = recover(bag)
    assert "does not unpack to the size that it says" in report.files[0].damage[0].reason
    assert report.messages == 3


def write_foreign(path: Path, *, chunked: bool, compression: CompressionType, sets: int = 6) -> None:
    """A file as another recorder writes it, with an attachment and metadata."""
    with path.open("wb") as file:
        writer = Writer(file, chunk_size=30_000, compression=compression, use_chunking=chunked)
        writer.start(profile="ros2", library="another")
        channels = {}
        for topic in (data.POINTS, data.IMAGE):
            schema = writer.register_schema(topic.type, "ros2msg", topic.definition.encode())
            channels[topic.name] = writer.register_channel(topic.name, "cdr", schema, {"kept": "as it was"})
        writer.add_metadata("drive", {"weather": "rain"})
        writer.add_attachment(1, 2, "note.txt", "text/plain", b"left lens dirty")
        for index in range(sets):
            for name, log_time, raw in set_messages(index):
                writer.add_message(channels[name], log_time, raw, log_time - 7, index)
        writer.finish()


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


def test_a_bag_without_metadata_gets_it(tmp_path: Path) -> None:
    bag = record(tmp_path / "drive", split_bytes=50_000)
    (bag / "metadata.yaml").unlink()
    assert not recover(bag).mended
    assert_readable(bag)


def test_what_a_kill_leaves_half_written_is_removed(tmp_path: Path) -> None:
    bag = record(tmp_path / "drive", sets=2)
    before = sorted(bag.iterdir())
    for name in (".metadata.yaml.123.partial", ".drive_0.mcap.99.partial", ".reserve"):
        (bag / name).touch()
    recover(bag)
    assert sorted(bag.iterdir()) == before


def test_an_earlier_recovery_that_was_cut_off_goes_on(tmp_path: Path) -> None:
    bag = record(tmp_path / "drive", sets=2)
    path = bag / "drive_0.mcap"
    path.rename(bag / "drive_0.mcap.damaged")
    assert recover(bag).messages == 5
    assert path.exists()


def test_what_cannot_be_recovered(tmp_path: Path) -> None:
    with pytest.raises(BagError, match="nowhere: does not exist"):
        recover(tmp_path / "nowhere")
    with pytest.raises(BagError, match=r"holds no \.mcap file"):
        recover(tmp_path)
    (tmp_path / "a.mcap").write_bytes(b"something else altogether")
    with pytest.raises(BagError, match=r"a\.mcap: this is no MCAP file"):
        recover(tmp_path)
    (tmp_path / "b.db3").write_bytes(b"x")
    with pytest.raises(BagError, match=r"b\.db3: is no \.mcap file"):
        recover(tmp_path / "b.db3")
    bag = record(tmp_path / "drive", sets=1)
    shutil.copy(bag / "drive_0.mcap", bag / "drive_0.mcap.damaged")
    cut(bag / "drive_0.mcap", 100)
    with pytest.raises(BagError, match=r"drive_0\.mcap\.damaged exists, from an earlier recovery: move it away"):
        recover(bag)


@pytest.mark.parametrize("what", ["bag", "file"])
def test_a_bag_that_is_being_recorded_is_not_touched(tmp_path: Path, what: str) -> None:
    with BagWriter(tmp_path / "drive", data.settings(chunk_bytes=1)) as writer:
        writer.write_set(data.make_set(0))
        data.wait_for(lambda: writer.sets == 1)
        with pytest.raises(BagError, match="drive: is being recorded just now: wait until that has ended"):
            recover(writer.folder if what == "bag" else writer.folder / "drive_0.mcap")
        writer.write_set(data.make_set(1))
    assert [cloud.stamp_ns for cloud in open_clouds(tmp_path / "drive")] == [data.stamp(0), data.stamp(1)]
    assert not list(tmp_path.rglob("*.damaged"))


@pytest.mark.parametrize("what", ["bag", "file"])
def test_a_bag_that_is_being_recorded_is_not_read_half_and_no_damage_is_told(tmp_path: Path, what: str) -> None:
    bag = tmp_path / "drive"
    with BagWriter(bag, data.settings(chunk_bytes=1)) as writer:
        writer.write_set(data.make_set(0))
        with pytest.raises(BagError, match="drive: is being recorded just now: wait until that has ended"):
            open_clouds(bag if what == "bag" else bag / "drive_0.mcap")
    assert len(list(open_clouds(bag))) == 1


@pytest.mark.parametrize("what", ["bag", "file"])
def test_what_another_recorder_still_writes_is_not_touched(tmp_path: Path, what: str) -> None:
    path = tmp_path / "drive" / "drive_0.mcap"
    path.parent.mkdir()
    write_foreign(path, chunked=True, compression=CompressionType.ZSTD)
    whole = path.read_bytes()
    cut(path, len(whole) // 2)
    bag = path.parent if what == "bag" else path
    with path.open("ab") as recorder:  # which locks nothing
        for read in (recover, open_clouds):
            with pytest.raises(BagError, match=r"drive_0\.mcap: is being recorded just now: wait until that has ended"):
                read(bag)
        recorder.write(whole[len(whole) // 2 :])
    assert recover(bag).mended == ()
    assert path.read_bytes() == whole


def test_a_file_that_grows_is_not_touched_where_nobody_tells_who_writes(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = tmp_path / "drive.mcap"
    write_foreign(path, chunked=True, compression=CompressionType.ZSTD)
    cut(path, path.stat().st_size // 2)

    def look(salvage: Salvage) -> Any:
        with path.open("ab") as file:
            file.write(b"more")
        return inventory(salvage)

    inventory = recovery._take_inventory
    monkeypatch.setattr(recovery, "_take_inventory", look)
    with pytest.raises(BagError, match=r"drive\.mcap: grows: wait until its recording has ended"):
        recover(path)
    assert [entry.name for entry in tmp_path.iterdir()] == ["drive.mcap"]


# --- kill -9 ---


def kill_while_recording(bag: Path, moment: Callable[[int, int], bool]) -> tuple[int, int]:
    """Record in another process and kill it. Returns the sets that were accepted, and those written, for certain."""
    with subprocess.Popen(
        [sys.executable, str(Path(data.__file__)), str(bag)], stdout=subprocess.PIPE, text=True
    ) as process:
        assert process.stdout is not None
        lines = []
        for line in process.stdout:
            lines.append(line)
            accepted, written = map(int, line.split())
            if moment(accepted, written):
                break
        process.send_signal(signal.SIGKILL)
        lines += process.stdout.readlines()
    whole = [line for line in lines if line.endswith("\n")]
    accepted, written = map(int, whole[-1].split())
    return accepted, written


def assert_recovered_after_kill(bag: Path, accepted: int, written: int) -> None:
    assert not Manifest.read(bag).complete
    report = recover(bag)
    assert_readable(bag)
    manifest = Manifest.read(bag)
    kept = len(manifest.sets)
    assert report.sets is not None
    assert report.lost_sets is not None
    assert report.sets == kept >= written  # what was said to be on the disk is there
    assert accepted <= kept + report.lost_sets <= accepted + 1  # one may be accepted and not yet said to be
    assert [s.stamp_ns for s in manifest.sets] == [data.stamp(index) for index in range(kept)]  # without a gap
    assert report.lost_bytes <= 2 * 60_000  # never more than the chunk that was being written
    stored = [m for path in data.files_of(bag) for m in data.read_mcap(path)]
    by_topic = {name: [raw for topic, _, raw in stored if topic == name] for name in ("/points", "/front/image")}
    for index in range(kept):  # whole, to the byte
        assert [by_topic["/points"][index], by_topic["/front/image"][index]] == [m[2] for m in set_messages(index)]
    assert manifest.complete
    assert manifest.error is not None
    assert "was cut off" in manifest.error
    assert sorted(p.name for p in bag.iterdir() if p.suffix not in (".mcap", ".damaged")) == [
        "manifest.json",
        "metadata.yaml",
    ]


def test_kill_while_recording(tmp_path: Path) -> None:
    bag = tmp_path / "drive"
    accepted, written = kill_while_recording(bag, lambda _, written: written >= 40)
    assert_recovered_after_kill(bag, accepted, written)


@pytest.mark.slow
@pytest.mark.parametrize("seed", range(20))
def test_kill_at_a_random_moment(tmp_path: Path, seed: int) -> None:
    until = time.monotonic() + 2 + random.Random(seed).uniform(0, 2)
    bag = tmp_path / "drive"
    accepted, written = kill_while_recording(bag, lambda accepted, _: accepted > 0 and time.monotonic() > until)
    assert_recovered_after_kill(bag, accepted, written)


def test_the_calibration_survives_a_kill(tmp_path: Path) -> None:
    bag = tmp_path / "drive"
    writer = BagWriter(bag, WriterSettings(chunk_bytes=1, **data.NO_LIMIT))
    calibration = Calibration(lidar_topic="/points", lidar_frame="lidar", cameras={})
    writer.record_calibration(calibration)
    writer.write_set(data.make_set(0))
    while writer.sets == 0:
        time.sleep(0.01)
    copy = shutil.copytree(bag, tmp_path / "copy")  # what a kill would leave
    writer.close()
    report = recover(copy)
    assert (report.sets, report.lost_sets) == (1, 0)
    assert Manifest.read(copy).calibration == calibration


# --- the command ---


def run(*arguments: object) -> Any:
    return CliRunner().invoke(app, ["recover", *map(str, arguments)])


def test_the_command_says_what_was_lost(tmp_path: Path) -> None:
    bag = record(tmp_path / "drive")
    result = run(bag)
    assert result.exit_code == 0
    assert "21 messages readable in 1 files, nothing had to be mended" in result.output
    path = bag / "drive_0.mcap"
    start, length = chunks_of(path)[-1]
    cut(path, start + length - 1)
    result = run(bag)
    assert result.exit_code == 0
    assert f"drive_0.mcap: 19 messages kept, {length - 1} bytes lost" in result.output
    assert f"at byte {start}: the file is cut off here" in result.output
    assert "drive_0.mcap.damaged" in result.output
    assert "9 sets readable, 1 lost" in result.output
    assert run(tmp_path / "nowhere").exit_code == 1


def test_readers_point_to_the_command(tmp_path: Path) -> None:
    bag = record(tmp_path / "drive", sets=2)
    cut(bag / "drive_0.mcap", 5000)
    with pytest.raises(BagError, match="`twodpass recover` saves what is whole"):
        open_clouds(bag)
