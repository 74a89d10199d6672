"""Bags as they lie on a disk: files that belong to them and files that do not."""

from __future__ import annotations

import re
import sqlite3
from contextlib import closing
from pathlib import Path

import numpy as np
import pytest
from cloud_bag import CLOUD_TYPE, TYPES, cloud_message, cloud_points
from drive_bag import drive
from mcap.writer import Writer as McapWriter
from rosbags.rosbag2 import StoragePlugin

from twodpass_core.data.bags.checks import check_file
from twodpass_core.data.bags.frames import BagFrames
from twodpass_core.data.bags.indexing import build_index
from twodpass_core.data.scans import open_scans
from twodpass_core.errors import BagError
from twodpass_core.recording.recovery import recover
from twodpass_core.recording.topics import definition_of


def test_files_that_metadata_does_not_name_are_refused(tmp_path: Path) -> None:
    bag = drive(2).write(tmp_path / "drive")
    other = drive(3).write(tmp_path / "other")
    (bag / "drive_9.mcap").write_bytes(next(other.glob("*.mcap")).read_bytes())
    with pytest.raises(BagError, match=r"metadata.yaml does not name drive_9\.mcap: `twodpass recover`"):
        BagFrames([bag])
    recover(bag)
    assert len(BagFrames([bag])) == 3  # of which two were there already


@pytest.mark.parametrize("log", ["wal", "journal"])
def test_a_database_with_a_write_ahead_log_is_refused(tmp_path: Path, log: str) -> None:
    bag = drive(2).write(tmp_path / "drive", StoragePlugin.SQLITE3)
    (file,) = bag.glob("*.db3")
    file.with_name(f"{file.name}-{log}").write_bytes(b"")
    assert len(BagFrames([bag])) == 2
    file.with_name(f"{file.name}-{log}").write_bytes(b"messages")
    with pytest.raises(BagError, match=rf"was not closed, and .*-{log} beside it holds .*wal_checkpoint"):
        build_index(bag)


def test_a_databases_count_of_pages_that_is_out_of_date_does_not_count(tmp_path: Path) -> None:
    """As SQLite before 3.7.0 leaves it: two numbers in the header differ then."""
    bag = drive(2).write(tmp_path / "drive", StoragePlugin.SQLITE3)
    (file,) = bag.glob("*.db3")
    content = bytearray(file.read_bytes())
    content[28:32] = (10**6).to_bytes(4, "big")
    file.write_bytes(content)
    with pytest.raises(BagError, match="the file is cut off"):
        build_index(bag)
    content[92:96] = (10**6).to_bytes(4, "big")
    file.write_bytes(content)
    assert len(build_index(bag).topics["/points"]) == 2


def test_a_database_of_the_largest_pages_that_is_cut_off_is_refused(tmp_path: Path) -> None:
    """Whose size, 65536, does not fit into the header, which has 1 in its place."""
    file = tmp_path / "drive.db3"
    with closing(sqlite3.connect(file)) as database:
        database.executescript("PRAGMA page_size = 65536; CREATE TABLE messages (data BLOB);")
    check_file(file)
    file.write_bytes(file.read_bytes()[:-1])
    with pytest.raises(BagError, match=r"ends at byte \d+ of \d+: the file is cut off"):
        check_file(file)


def test_a_topic_that_two_nodes_publish_on_is_one(tmp_path: Path) -> None:
    file = tmp_path / "drive.mcap"
    with file.open("wb") as opened:
        writer = McapWriter(opened)
        writer.start(profile="ros2")
        schema = writer.register_schema(CLOUD_TYPE, "ros2msg", definition_of(CLOUD_TYPE).encode())
        channels = [writer.register_channel("/points", "cdr", schema, {"node": node}) for node in ("a", "b")]
        for index in range(5):
            raw = bytes(TYPES.serialize_cdr(cloud_message(index), CLOUD_TYPE))
            writer.add_message(channels[index % 2], index, raw, index)
        writer.finish()
    scans, frames = open_scans([file]), BagFrames([file])
    assert len(scans) == len(frames) == 5
    for index, scan in enumerate(scans):
        np.testing.assert_array_equal(scan.points, cloud_points(index))
        np.testing.assert_array_equal(frames[index].points, cloud_points(index))


@pytest.mark.parametrize("name", ["rec #3", "run%20x", "what?"])
def test_what_sqlite_cannot_have_in_a_path_is_told(tmp_path: Path, name: str) -> None:
    data = drive(2)
    written = data.write(tmp_path / "drive", StoragePlugin.SQLITE3)
    (tmp_path / name).mkdir()
    bag = written.rename(tmp_path / name / "drive")  # which could not be written there
    what = re.escape(next(part for part in ("#", "%20", "?") if part in name))
    with pytest.raises(
        BagError, match=rf"drive\.db3: an sqlite3 bag cannot be read where '{what}' is in its path: move"
    ):
        BagFrames([bag])
    (tmp_path / "link").symlink_to(bag)
    assert len(BagFrames([tmp_path / "link"])) == 2
    assert len(BagFrames([data.write(tmp_path / name / "same")])) == 2  # MCAP


def test_a_percent_sign_alone_is_itself(tmp_path: Path) -> None:
    assert len(BagFrames([drive(2).write(tmp_path / "50% done" / "drive", StoragePlugin.SQLITE3)])) == 2


def test_a_recorder_that_was_killed_at_once_does_not_stand_in_the_way_of_other_bags(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    drive(2).write(tmp_path / "drives/monday")
    (killed := tmp_path / "drives/tuesday/tuesday_0.mcap").parent.mkdir()
    killed.touch()
    for opened in (BagFrames([tmp_path / "drives"]), open_scans([tmp_path / "drives"])):
        assert len(opened) == 2
    assert caplog.text.count("tuesday: is empty, nothing was recorded") == 2
    with pytest.raises(BagError, match="tuesday: is empty, nothing was recorded"):
        BagFrames([killed.parent])


def test_a_bag_of_which_one_file_is_empty_is_not_left_out(tmp_path: Path) -> None:
    bag = drive(2).write(tmp_path / "drives/monday")
    (bag / "monday_1.mcap").touch()
    drive(2).write(tmp_path / "drives/tuesday")
    with pytest.raises(BagError, match=r"monday_1\.mcap: is empty"):
        BagFrames([tmp_path / "drives"])


def test_a_stray_file_does_not_hide_the_bags_beside_it(tmp_path: Path) -> None:
    bag = drive(2).write(tmp_path / "drives/2024.05.01")
    drive(3).write(tmp_path / "drives/2024.05.02")
    (tmp_path / "drives/extra.mcap").write_bytes(next(bag.glob("*.mcap")).read_bytes())
    source = BagFrames([tmp_path / "drives"])
    assert {name.partition("/")[0] for name in source.ids} == {"2024.05.01", "2024.05.02", "extra"}
    assert len(source) == 7
