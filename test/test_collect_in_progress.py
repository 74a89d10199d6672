"""A bag that is being recorded is neither read half nor mended, whoever records it."""

from __future__ import annotations

import sqlite3
import subprocess
import sys
from contextlib import closing
from pathlib import Path
from typing import Any

import pytest
import recording_data as data
from drive_bag import drive
from mcap.writer import CompressionType
from recorded_bags import cut, write_foreign
from rosbags.rosbag2 import StoragePlugin

from twodpass_core.data.bags import open_clouds, read_cloud
from twodpass_core.errors import BagError
from twodpass_core.mcap_files.salvage import Salvage
from twodpass_core.recording import BagWriter, recovery
from twodpass_core.recording.recovery import recover


@pytest.mark.parametrize("what", ["bag", "file"])
def test_a_bag_that_is_being_recorded_is_not_touched(tmp_path: Path, what: str) -> None:
    with BagWriter(tmp_path / "drive", data.settings(chunk_bytes=1)) as writer:
        writer.write_set(data.make_set(0))
        data.wait_for(lambda: writer.sets == 1)
        with pytest.raises(BagError, match="drive: is being recorded just now: wait until that has ended"):
            recover(writer.folder if what == "bag" else writer.folder / "drive_0.mcap")
        writer.write_set(data.make_set(1))
    assert [read_cloud(raw).stamp_ns for raw in open_clouds(tmp_path / "drive")] == [data.stamp(0), data.stamp(1)]
    assert not list(tmp_path.rglob("*.damaged"))


@pytest.mark.parametrize("what", ["bag", "file"])
def test_a_bag_that_is_being_recorded_is_not_read_half_and_no_damage_is_told(tmp_path: Path, what: str) -> None:
    bag = tmp_path / "drive"
    with BagWriter(bag, data.settings(chunk_bytes=1)) as writer:
        writer.write_set(data.make_set(0))
        with pytest.raises(BagError, match="drive: is being recorded just now: wait until that has ended"):
            open_clouds(bag if what == "bag" else bag / "drive_0.mcap")
    assert len(list(open_clouds(bag))) == 1


def test_that_a_bag_is_not_being_recorded_is_seen_without_the_recorder(tmp_path: Path) -> None:
    bag = drive(1).write(tmp_path / "drive")
    code = (
        "import sys; from pathlib import Path; sys.modules['twodpass_core.recording'] = None;"
        "from twodpass_core.data.bags.checks import checked; checked(Path(sys.argv[1]))"
    )
    subprocess.run([sys.executable, "-c", code, str(bag)], check=True, timeout=60)


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


def test_a_database_that_a_recorder_still_writes_is_not_read_half(tmp_path: Path) -> None:
    """By default its journal is in memory, so no file beside it tells."""
    bag = drive(2).write(tmp_path / "drive", StoragePlugin.SQLITE3)
    path = bag / "drive.db3"
    with closing(sqlite3.connect(path)) as recorder:
        recorder.execute("PRAGMA journal_mode = MEMORY")
        recorder.execute("INSERT INTO messages (topic_id, timestamp, data) VALUES (1, 1, x'00')")
        for read in (recover, open_clouds):
            with pytest.raises(BagError, match=r"drive\.db3: is being recorded just now: wait until that has ended"):
                read(bag)
    assert len(open_clouds(bag)) == 2


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
