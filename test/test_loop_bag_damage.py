"""Bags that are missing, damaged, or of a form that cannot be read: refused in words."""

from __future__ import annotations

import contextlib
import pickle
import struct
from pathlib import Path

import numpy as np
import pytest
from bag_data import TYPES
from drive_bag import drive, kept_index
from rosbags.rosbag2 import CompressionMode, StoragePlugin, Writer

from twodpass_core.data.bags.cache import open_index
from twodpass_core.data.bags.frames import BagFrames
from twodpass_core.data.bags.indexing import build_index
from twodpass_core.errors import BagError, TwodpassError
from twodpass_core.recording.recovery import recover


@pytest.fixture
def bag(tmp_path: Path) -> Path:
    return drive().write(tmp_path / "drive")


def test_bags_compressed_as_files_are_refused(tmp_path: Path) -> None:
    bag = drive().write(tmp_path / "drive", StoragePlugin.SQLITE3, CompressionMode.FILE)
    with pytest.raises(BagError, match=r"drive: its files are compressed as a whole, .* `ros2 bag convert`"):
        open_index(bag)


def test_large_files_without_chunks_are_refused(bag: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    file = bag / "drive.mcap"
    build_index(bag)
    with monkeypatch.context() as patched:
        patched.setattr("twodpass_core.data.bags.indexing.MAX_UNCHUNKED_BYTES", 100)
        build_index(bag)
        patched.setattr("rosbags.rosbag2.storage_mcap.McapReader.read_index", _without_chunks)
        with pytest.raises(BagError, match=r"drive\.mcap: has no chunks to find messages by"):
            build_index(bag)
    assert file.exists()


def _without_chunks(reader: object) -> None:
    reader.meta_scan()  # type: ignore[attr-defined]


def test_a_missing_bag(tmp_path: Path) -> None:
    with pytest.raises(BagError, match="does not exist"):
        open_index(tmp_path / "none")


@pytest.mark.parametrize("storage", [StoragePlugin.MCAP, StoragePlugin.SQLITE3])
def test_a_cut_off_bag_is_refused_with_its_file(tmp_path: Path, storage: StoragePlugin) -> None:
    bag = drive().write(tmp_path / "drive", storage)
    (file,) = (entry for entry in bag.iterdir() if entry.suffix in (".mcap", ".db3"))
    whole = file.read_bytes()
    for share in (0.1, 0.5, 0.9):
        file.write_bytes(whole[: int(len(whole) * share)])
        with pytest.raises(BagError, match=rf"{file.name}.* byte \d+"):
            open_index(bag)
    assert not kept_index(bag).exists()


@pytest.mark.parametrize("left", ["", "\0" * 40, "rosbag2_bagfile_information:\n  version: 5\n", "a: [b\n"])
def test_damaged_metadata_is_told_with_what_mends_it(bag: Path, left: str) -> None:
    (bag / "metadata.yaml").write_text(left)  # as a loss of power leaves it
    with pytest.raises(BagError, match=r"drive: its metadata\.yaml is damaged: `twodpass recover`"):
        open_index(bag)
    recover(bag)
    assert len(BagFrames([bag])) == 5


def test_a_bag_that_changes_while_it_is_used(bag: Path) -> None:
    source = pickle.loads(pickle.dumps(BagFrames([bag])))  # as a loading process has it: it opens the file anew
    (bag / "drive.mcap").write_bytes(b"\x89MCAP0\r\n" + bytes(100))
    with pytest.raises(BagError, match=r"drive\.mcap: message 0 of /points cannot be read"):
        source[0]


def damaged(raw: bytes, rng: np.random.Generator) -> bytes:
    """A serialised message with a word changed, its end cut off, or something after it."""
    at = int(rng.integers(0, min(len(raw) - 4, 300)))
    word = struct.pack("<I", int(rng.choice([0, 1, 2**31, 2**32 - 1, 0x7FC00000])))
    return [raw[:at] + word + raw[at + 4 :], raw[:at], raw + word][int(rng.integers(3))]


@pytest.mark.parametrize("seed", range(20))
def test_damaged_messages_give_typed_errors(tmp_path: Path, seed: int) -> None:
    """In a storage that is sound itself."""
    rng = np.random.default_rng(seed)
    messages = drive(2).messages
    victims = rng.choice(len(messages), rng.integers(1, 4), replace=False)
    bag = tmp_path / "drive"
    with Writer(bag, version=9, storage_plugin=StoragePlugin.SQLITE3) as writer:
        connections = {}
        for number, (topic, kind, log_ns, message) in enumerate(messages):
            if topic not in connections:
                connections[topic] = writer.add_connection(topic, kind, typestore=TYPES)
            raw = bytes(TYPES.serialize_cdr(message, kind))
            raw = damaged(raw, rng) if number in victims else raw
            writer.write(connections[topic], log_ns, raw)
    with contextlib.suppress(TwodpassError):
        source = BagFrames([bag])
        for index in range(len(source)):
            for view in source[index].views:
                view.load_image()
