"""Bags made readable after a kill, a loss of power or damage, by what is whole in their files."""

from __future__ import annotations

import json
import shutil
from collections import Counter
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

import yaml
from mcap.records import Attachment, Metadata

from twodpass_core.bag_files import JOURNAL
from twodpass_core.bag_in_progress import not_recording
from twodpass_core.errors import BagError
from twodpass_core.files import replacing, sync_folder
from twodpass_core.mcap_files.check import is_indexed
from twodpass_core.mcap_files.chunk import PackedChunk
from twodpass_core.mcap_files.file import McapFile
from twodpass_core.mcap_files.salvage import Damage, Salvage
from twodpass_core.recording.bag_metadata import METADATA, NOTE, StoredFile, describe, end_file, write_metadata
from twodpass_core.recording.bag_writer import SETS_NOTE
from twodpass_core.recording.journal import read_journal
from twodpass_core.recording.manifest import SOFTWARE, Manifest, SetEntry, describe_recording
from twodpass_core.recording.reserve import RESERVE

DAMAGED: Final = ".damaged"  # added to the name of a file that was replaced
CUT_OFF: Final = "the recording was cut off, by a kill or a loss of power, and recovered"
_KEPT: Final = ("compression_format", "compression_mode", "custom_data", "ros_distro")  # of metadata.yaml


@dataclass(frozen=True)
class FileReport:
    """What became of one file."""

    path: Path
    messages: int  # readable now
    damage: tuple[Damage, ...]
    original: Path | None  # the file as it was, where it was mended

    @property
    def lost_bytes(self) -> int:
        return sum(damage.size for damage in self.damage)


@dataclass(frozen=True)
class RecoveryReport:
    """What became of a bag."""

    files: tuple[FileReport, ...]
    sets: int | None  # readable now; None where nobody counted them
    lost_sets: int | None  # received, but not in the files; None where nobody counted them

    @property
    def mended(self) -> tuple[FileReport, ...]:
        return tuple(file for file in self.files if file.original is not None)

    @property
    def messages(self) -> int:
        return sum(file.messages for file in self.files)

    @property
    def lost_bytes(self) -> int:
        return sum(file.lost_bytes for file in self.files)


def recover(bag: Path) -> RecoveryReport:
    """Make a bag readable: a folder, or one .mcap file, of any recorder.

    Every file is checked to its last byte. One that is not sound is replaced by a copy of what is whole in it and kept
    as NAME.mcap.damaged; so is one with messages outside of chunks, where readers do not find each. metadata.yaml and
    the manifest are made to tell what is there.

    Raises:
        BagError: no MCAP file there, it is being recorded just now, or holds more in one piece than can be read here;
            nothing is changed then.
        OSError: a file cannot be read or written; nothing is lost by that.
    """
    if not bag.exists():
        raise BagError(f"{bag}: does not exist")
    with not_recording(bag):
        if bag.is_file():
            return RecoveryReport((_mend(_examine(bag)).report,), None, None)
        for left in (bag / RESERVE, *bag.glob(".*.partial")):  # by whoever was cut off
            left.unlink(missing_ok=True)
        files = [_mend(examined) for examined in [_examine(path) for path in _files(bag)]]
        _update_metadata(bag, files)
        manifest = _update_manifest(bag, files)
        reports = tuple(file.report for file in files)
        if manifest is None:
            return RecoveryReport(reports, None, None)
        return RecoveryReport(reports, len(manifest.sets), manifest.lost_sets)


@dataclass(frozen=True)
class _Mended:
    report: FileReport
    stored: StoredFile
    sets: tuple[SetEntry, ...]


def _files(bag: Path) -> list[Path]:
    """The MCAP files of a bag, in the order of recording."""
    for kept in bag.glob(f"*.mcap{DAMAGED}"):
        if not kept.with_suffix("").exists():  # an earlier recovery ended between its two renamings
            kept.rename(kept.with_suffix(""))
    files = sorted(bag.glob("*.mcap"), key=lambda path: (len(path.name), path.name))
    if not files:
        raise BagError(f"{bag}: holds no .mcap file, which is what can be recovered")
    return files


@dataclass(frozen=True, eq=False)
class _Examined:
    """A file, what is whole in it, and where it is kept as it was; None where it stays as it is."""

    salvage: Salvage
    inventory: _Inventory
    damage: tuple[Damage, ...]
    original: Path | None


def _examine(path: Path) -> _Examined:
    """Changes nothing. Raises BagError for a file that cannot be mended."""
    if path.suffix != ".mcap":
        raise BagError(f"{path}: is no .mcap file, which is what can be recovered")
    salvage = Salvage(path)
    size = path.stat().st_size
    inventory = _take_inventory(salvage)
    damage = tuple(salvage.damage)
    if salvage.is_sound and is_indexed(path):
        return _Examined(salvage, inventory, damage, None)
    if path.stat().st_size != size:  # on a file system that does not tell who writes
        raise BagError(f"{path}: grows: wait until its recording has ended")
    original = path.with_name(path.name + DAMAGED)
    if original.exists():
        raise BagError(f"{original} exists, from an earlier recovery: move it away, then recover again")
    return _Examined(salvage, inventory, damage, original)


def _mend(examined: _Examined) -> _Mended:
    """Replace a file by what is whole in it, unless it stays as it is."""
    salvage, inventory, path = examined.salvage, examined.inventory, examined.salvage.path
    stored, original = inventory.stored, examined.original
    report = FileReport(path, stored.count, examined.damage, original)
    if original is None:
        return _Mended(report, stored, inventory.sets)
    with replacing(path) as partial:
        file = McapFile(partial, SOFTWARE, salvage.profile)
        for position, piece in enumerate(salvage):
            if isinstance(piece, PackedChunk):
                file.append([piece])
            elif isinstance(piece, Attachment):
                file.attach(piece)
            elif piece.name != NOTE and position not in inventory.untrue_notes:
                file.note(piece.name, piece.metadata)
        file.schemas.update(salvage.schemas)
        file.channels.update(salvage.channels)
        end_file(file, path.name)
        path.rename(original)
    sync_folder(path.parent)
    return _Mended(report, stored, inventory.sets)


@dataclass(frozen=True)
class _Inventory:
    """What is whole in a file."""

    stored: StoredFile
    sets: tuple[SetEntry, ...]
    untrue_notes: frozenset[int]  # which pieces of the file tell of sets that are not whole


def _take_inventory(salvage: Salvage) -> _Inventory:
    counts: Counter[int] = Counter()
    times: list[int] = []
    notes: list[_SetsNote] = []
    compresses_messages = False
    for position, piece in enumerate(salvage):
        if isinstance(piece, Metadata) and piece.name == SETS_NOTE:
            notes.append(_SetsNote(position, piece, len(salvage.damage)))
        elif isinstance(piece, PackedChunk) and piece.messages:
            counts.update({index.channel_id: len(index.records) for index in piece.indexes})
            compresses_messages |= piece.compresses_messages
            times += [piece.record.message_start_time, piece.record.message_end_time]
            if notes:
                notes[-1].meet_chunk(len(salvage.damage))
    first, last = min(times, default=None), max(times, default=None)
    return _Inventory(
        StoredFile.of(
            salvage.path.name,
            first,
            last,
            salvage.schemas,
            salvage.channels,
            counts,
            compresses_messages=compresses_messages,
        ),
        tuple(entry for note in notes if note.is_true for entry in _entries(note.record)),
        frozenset(note.position for note in notes if not note.is_true),
    )


@dataclass
class _SetsNote:
    """A note of the sets in the chunks after it, true if these have followed without damage between."""

    position: int
    record: Metadata
    damage: int  # that was met before it
    met: int = 0

    def meet_chunk(self, damage: int) -> None:
        self.met += damage == self.damage

    @property
    def is_true(self) -> bool:
        chunks = self.record.metadata.get("chunks", "")
        return chunks.isdecimal() and self.met >= int(chunks)


def _entries(note: Metadata) -> list[SetEntry]:
    with suppress(ValueError, KeyError, TypeError):  # pydantic's and json's errors are ValueErrors
        return [SetEntry.model_validate(entry) for entry in json.loads(note.metadata["sets"])]
    return []


def _update_metadata(bag: Path, files: list[_Mended]) -> None:
    """Write metadata.yaml, unless the one that is there says the same of the files."""
    path, stored = bag / METADATA, [file.stored for file in files]
    known: dict[str, Any] = {}
    if path.exists():
        with suppress(yaml.YAMLError, UnicodeDecodeError, KeyError, TypeError):
            known = dict(yaml.safe_load(path.read_text("utf-8"))["rosbag2_bagfile_information"])
        told = describe(stored)
        if all(known.get(key) == told[key] for key in ("relative_file_paths", "message_count", "files")):
            return
        shutil.copyfile(path, path.with_name(METADATA + DAMAGED))
    write_metadata(bag, stored, {key: known[key] for key in _KEPT if key in known})


def _update_manifest(bag: Path, files: list[_Mended]) -> Manifest | None:
    """Make the manifest tell what is in the files. None: the bag has none, nor a journal to make it from."""
    journal = read_journal(bag)
    try:
        manifest = Manifest.read(bag)
    except BagError:
        if journal is None:
            return None
        manifest = Manifest(software=SOFTWARE)
    accepted = manifest.sets if journal is None else journal
    kept = tuple(entry for file in files for entry in file.sets)
    missing = Counter(entry.stamp_ns for entry in accepted) - Counter(entry.stamp_ns for entry in kept)
    stored = [file.stored for file in files]
    recovered = manifest.model_copy(
        update={
            **describe_recording(stored),
            "sets": kept,
            "lost_sets": manifest.lost_sets + missing.total(),
            "complete": True,
            "error": manifest.error or (None if journal is None else CUT_OFF),
        }
    )
    if recovered != manifest:
        recovered.write(bag)
    (bag / JOURNAL).unlink(missing_ok=True)
    return recovered
