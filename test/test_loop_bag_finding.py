"""Bags as they are given: folders of them, links to them, one that is given twice."""

from __future__ import annotations

import errno
from collections.abc import Iterator
from pathlib import Path

import pytest
from cloud_bag import cloud_message, storage_file, write_bag
from rosbags.rosbag2 import StoragePlugin

from twodpass_core.data.bags.frames import BagFrames, find_bags
from twodpass_core.data.scans import open_scans
from twodpass_core.errors import BagError


def test_a_folder_of_bags(tmp_path: Path) -> None:
    (tmp_path / "week").mkdir()
    for name in ("monday", "tuesday"):
        write_bag(tmp_path / "week" / name, StoragePlugin.MCAP, {"/points": [cloud_message(k) for k in range(2)]})
    scans = open_scans([tmp_path / "week"])
    assert [scan.name for scan in scans] == ["monday_000000", "monday_000001", "tuesday_000000", "tuesday_000001"]


def test_a_link_beside_its_bag_is_no_other_bag(tmp_path: Path) -> None:
    drives, away = tmp_path / "drives", tmp_path / "away"
    for path in (drives / "monday", away / "tuesday"):
        path.parent.mkdir()
        write_bag(path, StoragePlugin.MCAP, {"/points": [cloud_message(0)]})
    (drives / "latest").symlink_to("monday")
    (drives / "older").symlink_to(away / "tuesday")
    assert [path.name for path in find_bags([drives])] == ["monday", "older"]
    assert [scan.name for scan in open_scans([drives])] == ["monday_000000", "older_000000"]
    assert find_bags([drives / "latest"]) == [drives / "latest"]


@pytest.mark.parametrize("second", ["link", "linked folder", "file"])
@pytest.mark.parametrize("as_folder", [False, True])
def test_a_bag_that_is_given_twice_is_refused(tmp_path: Path, as_folder: bool, second: str) -> None:
    bag = write_bag(tmp_path / "drives/monday", StoragePlugin.MCAP, {"/points": [cloud_message(0)]})
    (tmp_path / "today").symlink_to(bag)
    (tmp_path / "all").symlink_to(tmp_path / "drives")
    other = {"link": tmp_path / "today", "linked folder": tmp_path / "all", "file": storage_file(bag)}[second]
    given = [tmp_path / "drives" if as_folder else bag, other]
    for paths in (given, given[::-1]):
        with pytest.raises(BagError, match=r"(are one bag|is a file of .*monday): give one of them"):
            open_scans(paths)
        with pytest.raises(BagError, match=r"(are one bag|is a file of .*monday): give one of them"):
            BagFrames(paths)


def test_a_bag_without_clouds_does_not_stand_in_the_way_of_the_others(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    empty = write_bag(tmp_path / "monday", StoragePlugin.MCAP, {"/points": [], "/rosout": ["a"]})
    with pytest.raises(BagError, match="monday: holds no PointCloud2"):
        open_scans([tmp_path])
    write_bag(tmp_path / "tuesday", StoragePlugin.MCAP, {"/points": [cloud_message(0)]})
    assert [scan.name for scan in open_scans([tmp_path])] == ["tuesday_000000"]
    assert "left out: " in caplog.text
    assert "monday: holds no PointCloud2" in caplog.text
    with pytest.raises(BagError, match="monday: holds no PointCloud2"):
        open_scans([empty, tmp_path / "tuesday"])


def test_a_folder_beside_bags_that_may_not_be_looked_into(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    write_bag(tmp_path / "drive", StoragePlugin.MCAP, {"/points": [cloud_message(0)]})
    (locked := tmp_path / "lost+found").mkdir()
    iterdir = Path.iterdir

    def guarded(path: Path) -> Iterator[Path]:  # whoever runs the tests may be allowed everything
        if path == locked:
            raise PermissionError(errno.EACCES, "Permission denied", str(path))
        return iterdir(path)

    monkeypatch.setattr(Path, "iterdir", guarded)
    assert [scan.name for scan in open_scans([tmp_path])] == ["drive_000000"]
    assert "lost+found: may not be looked into, and is left out" in caplog.text
    with pytest.raises(PermissionError) as refused:
        open_scans([locked])
    assert refused.value.filename == str(locked)
