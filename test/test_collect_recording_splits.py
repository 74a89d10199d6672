"""Recordings of several files: how long each is, and what is repeated in which order."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

import pytest
import recording_data as data
from recording_data import files_of, settings

from twodpass_core.mcap_files.file import McapFile
from twodpass_core.recording import BagWriter


def test_a_file_covers_the_seconds_that_it_shall(tmp_path: Path) -> None:
    bag = tmp_path / "drive"
    with BagWriter(bag, settings(chunk_bytes=1, split_seconds=0.35)) as writer:
        for index in range(20):
            writer.write_set(data.make_set(index))
    *spans, _ = ([time for _, time, _ in data.read_mcap(path)] for path in files_of(bag))
    assert len(spans) > 2
    for times in spans:
        assert 350_000_000 <= max(times) - min(times) < 550_000_000


def test_a_new_file_has_its_name_on_the_disk_before_anything_is_in_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Else a loss of power would take it away, whatever has been written for good."""
    folder, fsync, held = tmp_path.stat().st_ino, os.fsync, list[list[str]]()

    def watched(handle: int) -> None:
        fsync(handle)
        if os.fstat(handle).st_ino == folder:
            held.append([path.name for path in tmp_path.iterdir()])

    monkeypatch.setattr(os, "fsync", watched)
    McapFile(tmp_path / "drive_0.mcap", "test").finish()
    assert held == [["drive_0.mcap"]]


def test_of_static_transforms_that_contradict_each_other_the_newest_is_repeated_last(tmp_path: Path) -> None:
    """Whoever reads a later file alone has the same mounting as who has read all."""
    kind = data.STATIC.type
    transforms: list[Any] = []
    for name in ("lidar", "camera"):
        message: Any = data.TYPES.deserialize_cdr(data.static_transform(name), kind)
        transforms += message.transforms
    both = bytes(data.TYPES.serialize_cdr(data.TYPES.types[kind](transforms), kind))
    old, new = (data.static_transform("lidar", data.stamp(index)) for index in range(2))
    bag = tmp_path / "drive"
    with BagWriter(bag, settings(chunk_bytes=1, split_bytes=1)) as writer:
        for index, raw in enumerate((old, both, new)):
            writer.write(data.STATIC, data.stamp(index), raw)
        writer.write_set(data.make_set(3))
    assert [raw for topic, _, raw in data.read_mcap(files_of(bag)[-1]) if topic == "/tf_static"] == [both, new]
