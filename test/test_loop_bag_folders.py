"""Bags as they lie on a disk: files that belong to them and files that do not."""

from __future__ import annotations

from pathlib import Path

import pytest
from drive_bag import drive
from rosbags.rosbag2 import StoragePlugin

from twodpass_core.data.bags.frames import BagFrames
from twodpass_core.data.bags.indexing import build_index
from twodpass_core.errors import BagError
from twodpass_core.recording.recovery import recover


def test_files_that_metadata_does_not_name_are_refused(tmp_path: Path) -> None:
    bag = drive(2).write(tmp_path / "drive")
    other = drive(3).write(tmp_path / "other")
    (bag / "drive_9.mcap").write_bytes(next(other.glob("*.mcap")).read_bytes())
    with pytest.raises(BagError, match=r"metadata.yaml does not name drive_9\.mcap: `twodpass recover`"):
        BagFrames([bag])
    recover(bag)
    assert len(BagFrames([bag])) == 3  # of which two were there already


def test_a_database_with_a_write_ahead_log_is_refused(tmp_path: Path) -> None:
    bag = drive(2).write(tmp_path / "drive", StoragePlugin.SQLITE3)
    (file,) = bag.glob("*.db3")
    file.with_name(f"{file.name}-wal").write_bytes(b"")
    assert len(BagFrames([bag])) == 2
    file.with_name(f"{file.name}-wal").write_bytes(b"messages")
    with pytest.raises(BagError, match=r"was not closed, and .*-wal beside it holds .*wal_checkpoint"):
        build_index(bag)


def test_a_stray_file_does_not_hide_the_bags_beside_it(tmp_path: Path) -> None:
    bag = drive(2).write(tmp_path / "drives/2024.05.01")
    drive(3).write(tmp_path / "drives/2024.05.02")
    (tmp_path / "drives/extra.mcap").write_bytes(next(bag.glob("*.mcap")).read_bytes())
    source = BagFrames([tmp_path / "drives"])
    assert {name.partition("/")[0] for name in source.ids} == {"2024.05.01", "2024.05.02", "extra"}
    assert len(source) == 7
