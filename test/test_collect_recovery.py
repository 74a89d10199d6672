"""Recovery: bags that were cut off or damaged become readable, nothing whole is lost, and what is lost is told."""

from __future__ import annotations

import random
import shutil
import struct
from pathlib import Path
from typing import Any

import pytest
import recording_data as data
from hypothesis import example, given, settings
from hypothesis import strategies as st
from recorded_bags import assert_readable, chunks_of, cut, record, set_messages
from typer.testing import CliRunner

from twodpass_core.cli import app
from twodpass_core.data.bags import open_clouds
from twodpass_core.errors import BagError
from twodpass_core.mcap_files.check import check_mcap
from twodpass_core.recording import Manifest
from twodpass_core.recording.recovery import recover


def test_a_sound_bag_is_left_alone(tmp_path: Path) -> None:
    bag = record(tmp_path / "drive")
    before = {path: (path.read_bytes(), path.stat().st_mtime_ns) for path in bag.iterdir()}
    report = recover(bag)
    assert (report.mended, report.messages, report.lost_bytes, report.sets, report.lost_sets) == ((), 21, 0, 10, 0)
    assert {path: (path.read_bytes(), path.stat().st_mtime_ns) for path in bag.iterdir()} == before


@pytest.fixture(scope="module")
def recorded(tmp_path_factory: pytest.TempPathFactory) -> bytes:
    return (record(tmp_path_factory.mktemp("recorded") / "drive", sets=4) / "drive_0.mcap").read_bytes()


@settings(max_examples=15)
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


@pytest.mark.parametrize(
    "what",
    [
        "flipped bit",
        "zeros",
        "zeros, its head among them",
        "noise, its head in it",
        "wrong length",
        "wrong unpacked size",
    ],
)
def test_damage_in_the_middle_costs_its_chunk_only(tmp_path: Path, what: str) -> None:
    bag = record(tmp_path / "drive")
    path = bag / "drive_0.mcap"
    start, length = chunks_of(path)[4]  # of set 3: chunk 0 is the static transform
    content = bytearray(path.read_bytes())
    if what == "flipped bit":
        content[start + length // 2] ^= 16
    elif what == "zeros":
        content[start + 60 : start + length] = bytes(length - 60)
    elif what == "zeros, its head among them":
        content[start : start + length] = bytes(length)
    elif what == "noise, its head in it":
        content[start : start + length] = random.Random(0).randbytes(length)
    elif what == "wrong length":
        struct.pack_into("<Q", content, start + 1, 2**60)
    else:
        struct.pack_into("<Q", content, start + 9 + 16, 2**50)
    path.write_bytes(content)
    report = recover(bag)
    assert report.lost_bytes == length
    assert (report.sets, report.lost_sets) == (9, 1)
    assert data.read_mcap(path)[1:] == [m for index in range(10) if index != 3 for m in set_messages(index)]
    assert [s.stamp_ns for s in Manifest.read(bag).sets] == [data.stamp(index) for index in range(10) if index != 3]
    assert path.with_name("drive_0.mcap.damaged").read_bytes() == content
    assert_readable(bag)


@settings(max_examples=15)
@given(flips=st.lists(st.tuples(st.floats(0, 1, exclude_max=True), st.integers(1, 255)), min_size=1, max_size=4))
@example(flips=[(0.0, 14)])  # the first record looks as if the data ended there
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


def test_sets_whose_note_does_not_tell_its_chunks_count_as_lost(tmp_path: Path) -> None:
    bag = record(tmp_path / "drive", sets=2)
    path = bag / "drive_0.mcap"
    path.write_bytes(path.read_bytes().replace(b"chunks", b"chunky", 1))
    report = recover(bag)
    assert [entry.stamp_ns for entry in Manifest.read(bag).sets] == [data.stamp(1)]
    assert (report.sets, report.lost_sets, report.messages) == (1, 1, 5)


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
    with pytest.raises(BagError, match=r"a\.mcap: this is not an MCAP file"):
        recover(tmp_path)
    (tmp_path / "b.db3").write_bytes(b"x")
    with pytest.raises(BagError, match=r"b\.db3: is no \.mcap file"):
        recover(tmp_path / "b.db3")
    bag = record(tmp_path / "drive", sets=1)
    shutil.copy(bag / "drive_0.mcap", bag / "drive_0.mcap.damaged")
    cut(bag / "drive_0.mcap", 100)
    with pytest.raises(BagError, match=r"drive_0\.mcap\.damaged exists, from an earlier recovery: move it away"):
        recover(bag)


def run(*arguments: object) -> Any:
    return CliRunner().invoke(app, ["recover", *map(str, arguments)])


def test_the_command_says_what_was_lost(tmp_path: Path) -> None:
    bag = record(tmp_path / "drive")
    result = run(bag)
    assert result.exit_code == 0
    assert "21 messages readable in 1 file, nothing had to be mended" in result.output
    path = bag / "drive_0.mcap"
    start, length = chunks_of(path)[-1]
    cut(path, start + length - 1)
    result = run(bag)
    assert result.exit_code == 0
    assert f"drive_0.mcap: 19 messages kept, {length - 1:,} bytes lost" in result.output
    assert f"at byte {start}: the file is cut off here" in result.output
    assert "drive_0.mcap.damaged" in result.output
    assert "9 sets readable, 1 lost" in result.output
    assert run(tmp_path / "nowhere").exit_code == 1


def test_readers_point_to_the_command(tmp_path: Path) -> None:
    bag = record(tmp_path / "drive", sets=2)
    cut(bag / "drive_0.mcap", 5000)
    with pytest.raises(BagError, match="`twodpass recover` saves what is whole"):
        open_clouds(bag)
