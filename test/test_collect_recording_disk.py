"""Recording to a disk that is slow, fails or is full: what was written is readable, what was not is counted."""

from __future__ import annotations

import errno
import itertools
import os
import shutil
import subprocess
import threading
import time
from collections.abc import Iterator
from contextlib import suppress
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import recording_data as data
from recording_data import files_of, settings, wait_for

from twodpass_core.data.bags import open_clouds, read_cloud
from twodpass_core.errors import DiskFullError, RecordingError
from twodpass_core.mcap_files.check import check_mcap
from twodpass_core.recording import BagWriter, Manifest, WriterSettings


class SlowDisk:
    """Holds every write until it is let go."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.free = threading.Event()
        fsync = os.fsync

        def waiting(handle: int) -> None:
            assert self.free.wait(30)
            fsync(handle)

        monkeypatch.setattr("twodpass_core.mcap_files.file.os.fsync", waiting)


def test_a_disk_that_is_too_slow_costs_whole_sets_that_are_counted(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    bag, size = tmp_path / "drive", data.set_bytes()
    writer = BagWriter(bag, settings(chunk_bytes=1, queue_bytes=4 * size + 10))
    disk = SlowDisk(monkeypatch)
    accepted = [index for index in range(30) if writer.write_set(data.make_set(index))]
    assert 4 <= len(accepted) <= 5  # four in the queue, and one that is being written
    assert writer.write(data.STATIC, data.START_NS, data.static_transform("late"))  # is needed, and small
    assert not writer.write(data.MOVING, data.START_NS, b"x" * 100)
    disk.free.set()
    writer.close()
    manifest = Manifest.read(bag)
    assert [s.stamp_ns for s in manifest.sets] == [data.stamp(index) for index in accepted]
    lost = 30 - len(accepted)
    assert manifest.dropped_sets == lost
    assert manifest.dropped == {"/points": lost, "/front/image": lost, "/tf": 1} == writer.dropped
    assert len(data.read_mcap(bag / "drive_0.mcap")) == 2 * len(accepted) + 1


def test_what_has_waited_long_is_written_though_more_comes_all_the_time(tmp_path: Path) -> None:
    with BagWriter(tmp_path / "drive", settings(chunk_bytes=2**30, chunk_seconds=1)) as writer:
        numbers = itertools.count()
        wait_for(lambda: writer.write_set(data.make_set(next(numbers))) and writer.sets > 0)


def failing_fsync(monkeypatch: pytest.MonkeyPatch, number: int, after: int, *, once: bool) -> None:
    """Let fsync of the bag's files fail after some calls."""
    fsync, calls = os.fsync, iter(range(10**6))

    def failing(handle: int) -> None:
        call = next(calls)
        if call == after or (call > after and not once):
            raise OSError(number, os.strerror(number))
        fsync(handle)

    monkeypatch.setattr("twodpass_core.mcap_files.file.os.fsync", failing)


@pytest.mark.parametrize(
    ("number", "error"), [(errno.ENOSPC, DiskFullError), (errno.EDQUOT, DiskFullError), (errno.EIO, RecordingError)]
)
def test_an_error_of_the_disk_ends_the_recording_readable(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, number: int, error: type[RecordingError]
) -> None:
    bag = tmp_path / "drive"
    writer = BagWriter(bag, settings(chunk_bytes=1))
    failing_fsync(monkeypatch, number, after=5, once=True)
    with pytest.raises(error, match="drive: ") as caught:  # noqa: PT012 it is raised by one of the calls
        for index in range(1000):
            writer.write_set(data.make_set(index))
            time.sleep(0.002)
    assert type(caught.value) is error
    assert writer.failure is caught.value
    writer.close()  # says it once only
    manifest = Manifest.read(bag)
    assert manifest.complete
    assert manifest.error == str(caught.value)
    assert [s.stamp_ns for s in manifest.sets] == [data.stamp(index) for index in range(5)]
    assert manifest.dropped_sets >= 1
    assert len(list(open_clouds(bag))) == 5
    assert sorted(path.name for path in bag.iterdir()) == ["drive_0.mcap", "manifest.json", "metadata.yaml"]


def test_close_tells_an_error_that_no_call_has_told(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    writer = BagWriter(tmp_path / "drive", settings(chunk_bytes=1))
    failing_fsync(monkeypatch, errno.ENOSPC, after=0, once=True)
    writer.write_set(data.make_set(0))
    with pytest.raises(DiskFullError, match="the disk is full"):
        writer.close()
    writer.close()
    assert Manifest.read(writer.folder).dropped_sets == 1


def test_the_disk_is_not_filled_beyond_the_limit(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(DiskFullError, match="MB are to stay free: make room, or lower min_free_bytes"):
        BagWriter(tmp_path / "none", WriterSettings(min_free_bytes=2**60))
    assert not (tmp_path / "none").exists()
    usage = shutil.disk_usage(tmp_path)
    left = iter([10**7, 10**6, 10**5, 2000, *[10] * 50])
    writer = BagWriter(tmp_path / "drive", WriterSettings(min_free_bytes=1000, chunk_bytes=1))

    def shrinking(path: Path) -> Any:
        return usage._replace(free=next(left))

    monkeypatch.setattr("twodpass_core.recording.split_recorder.shutil.disk_usage", shrinking)
    for index in range(3):
        writer.write_set(data.make_set(index))
    wait_for(lambda: writer.sets == 3)
    writer.write_set(data.make_set(3))
    with pytest.raises(DiskFullError, match="the disk has 0 MB left"):
        writer.close()
    assert len(list(open_clouds(tmp_path / "drive"))) == 3


@pytest.fixture
def tiny_disk(tmp_path: Path) -> Iterator[Path]:
    """A file system of 12 MB; skips where none may be mounted."""
    folder = tmp_path / "disk"
    folder.mkdir()
    done = subprocess.run(
        ["mount", "-t", "tmpfs", "-o", "size=12m", "tmpfs", str(folder)], capture_output=True, check=False
    )
    if done.returncode:
        pytest.skip("may not mount a file system here")
    yield folder
    subprocess.run(["umount", str(folder)], check=True)


@pytest.mark.parametrize(("free", "reason"), [(0, "the disk is full"), (2_000_000, "the disk has . MB left")])
def test_a_disk_that_is_really_full(tiny_disk: Path, free: int, reason: str) -> None:
    bag = tiny_disk / "drive"
    writer = BagWriter(bag, settings(split_bytes=3_000_000, chunk_bytes=300_000, min_free_bytes=free))
    with pytest.raises(DiskFullError, match=f"drive: {reason}"):  # noqa: PT012 raised by one of the calls
        for index in range(10_000):
            writer.write_set(data.make_set(index, count=5000))
            time.sleep(0.001)
    writer.close()
    manifest = Manifest.read(bag)
    assert manifest.complete
    assert len(manifest.sets) > 20
    clouds = [read_cloud(raw).stamp_ns for raw in open_clouds(bag)]
    assert clouds == [s.stamp_ns for s in manifest.sets] == [data.stamp(index) for index in range(len(clouds))]
    for path in files_of(bag):
        check_mcap(path)
        data.read_mcap(path)


def test_a_disk_that_is_full_of_small_sets(tiny_disk: Path) -> None:
    """The manifest is larger than all room that is kept at the beginning."""
    subprocess.run(["mount", "-o", "remount,size=30m", str(tiny_disk)], check=True)
    bag, cameras = tiny_disk / "drive", [f"camera_{number:0200}" for number in range(400)]
    writer = BagWriter(bag, settings(min_free_bytes=0, chunk_bytes=1))
    with pytest.raises(DiskFullError, match="the disk is full"):  # noqa: PT012 raised by one of the calls
        for index in range(10_000):
            writer.write_set(replace(data.make_set(index, count=1), offsets_ns=dict.fromkeys(cameras, 1)))
            wait_for(lambda: writer.sets == index + 1 or writer.failure is not None)  # noqa: B023
    writer.close()
    manifest = Manifest.read(bag)
    assert manifest.complete
    assert manifest.error is not None
    assert (bag / "manifest.json").stat().st_size > 6_000_000
    assert [entry.stamp_ns for entry in manifest.sets] == [data.stamp(index) for index in range(len(manifest.sets))]
    assert len(list(open_clouds(bag))) == len(manifest.sets)


def test_a_disk_that_others_fill_to_the_last_byte(tiny_disk: Path) -> None:
    """What makes the file readable has been given room before."""
    bag = tiny_disk / "drive"
    writer = BagWriter(bag, settings(chunk_bytes=1))
    writer.write_set(data.make_set(0))
    wait_for(lambda: writer.sets == 1)
    with suppress(OSError), (tiny_disk / "other").open("wb", buffering=0) as other:
        while True:
            other.write(bytes(1000))
    assert shutil.disk_usage(tiny_disk).free == 0
    writer.write_set(data.make_set(1))
    with pytest.raises(DiskFullError, match="drive: the disk is full"):
        writer.close()
    writer.close()
    assert Manifest.read(bag).complete
    assert len(list(open_clouds(bag))) == 1


@pytest.mark.parametrize("more", [True, False])
def test_a_file_that_is_deleted_while_it_is_written_ends_the_recording(tmp_path: Path, more: bool) -> None:
    writer = BagWriter(tmp_path / "drive", settings(chunk_bytes=1))
    writer.write_set(data.make_set(0))
    wait_for(lambda: writer.sets == 1)
    (tmp_path / "drive/drive_0.mcap").unlink()
    if more:  # which is told at once
        writer.write_set(data.make_set(1))
        wait_for(lambda: writer.failure is not None)
    with pytest.raises(RecordingError, match="drive: cannot be written: was deleted while it was written"):
        writer.close()


def test_a_journal_that_is_deleted_on_the_way_does_not_matter(tmp_path: Path) -> None:
    writer = BagWriter(tmp_path / "drive", settings())
    writer.write_set(data.make_set(0))
    (tmp_path / "drive/sets.journal").unlink()
    writer.close()
    assert Manifest.read(writer.folder).complete
