"""Label files outside a store: of sequences that `twodpass prepare` wrote, or named after time stamps."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Sequence
from pathlib import Path
from typing import Final

from twodpass_core.errors import LabelError
from twodpass_core.files import replacing
from twodpass_core.labels.store import SUFFIX, LabelStore, read_topic

STAMPS: Final = "stamps.txt"
"""In the folder of a sequence: the time stamp of each scan in nanoseconds, one a line, that of 000000.bin first."""


def write_stamps(sequence: Path, stamps_ns: Iterable[int]) -> None:
    """Raises OSError."""
    with replacing(sequence / STAMPS) as path:
        path.write_text("".join(f"{int(stamp_ns)}\n" for stamp_ns in stamps_ns), encoding="utf-8")


def read_stamps(sequence: Path) -> list[int]:
    """The time stamps of a prepared sequence's scans. Raises LabelError."""
    path = sequence / STAMPS
    try:
        return [int(line) for line in path.read_text(encoding="utf-8").split()]
    except (OSError, ValueError) as error:
        raise LabelError(f"{path}: cannot be read as whole nanoseconds, one a line: {error}") from error


def label_places(folder: Path, stamps_ns: Iterable[int]) -> dict[int, Path]:
    """Where the labels of scans belong: in the folder's sequences, for those scans they hold, else by their stamps.

    Raises:
        LabelError: two of the sequences hold one scan.
    """
    if sequences := _sequences(folder):
        places, wanted = _in_sequences(sequences), set(stamps_ns)
        return {stamp_ns: path for stamp_ns, path in places.items() if stamp_ns in wanted}
    return {stamp_ns: LabelStore(folder).path(stamp_ns) for stamp_ns in stamps_ns}


def find_label_files(folder: Path) -> dict[int, Path]:
    """The label files in a folder by time stamp, in order.

    Raises:
        LabelError: there is none, one of no scan, or two of one scan.
    """
    if not folder.is_dir():
        raise LabelError(f"{folder}: {'is not a folder' if folder.exists() else 'does not exist'}")
    sequences = _sequences(folder)
    if sequences:
        places = _in_sequences(sequences)
        known = set(places.values())
        for path in (path for sequence in sequences for path in (sequence / "labels").glob(f"[!.]*{SUFFIX}")):
            if path not in known:
                raise LabelError(f"{path}: {path.parent.parent / STAMPS} has no line for such a scan")
    else:
        places = label_places(folder, LabelStore(folder).stamps())
        if others := sorted(set(folder.glob(f"[!.]*{SUFFIX}")) - set(places.values())):
            raise LabelError(
                f"{others[0]}: is not named by the time stamp of a scan. What `twodpass segment` writes are labels of "
                "a network: for those use `twodpass labels propose`, which keeps them apart as proposals"
            )
    files = {stamp_ns: path for stamp_ns, path in sorted(places.items()) if path.exists()}
    if not files and sequences:
        raise LabelError(f"{sequences[0] / 'labels'}: is empty: label scans of {sequences[0] / 'velodyne'} there first")
    if not files:
        raise LabelError(
            f"{folder}: has neither labels of a sequence with {STAMPS}, as `twodpass prepare` writes it, nor files "
            f"STAMP_NS{SUFFIX}"
        )
    return files


def refuse_other_topics(folder: Path, topics: Collection[str]) -> None:
    """Raise LabelError where labels, or a prepared sequence, are of clouds of another topic: stamps may be the same."""
    for place in _sequences(folder) or [folder]:
        named = read_topic(place)
        if named is not None and named not in topics:
            raise LabelError(
                f"{place}: is of the clouds of {named}, not of {', '.join(sorted(topics))}: choose them by --topic"
            )


def _sequences(folder: Path) -> list[Path]:
    """The prepared sequences that a folder is or has."""
    return [path.parent for pattern in (STAMPS, f"sequences/*/{STAMPS}") for path in sorted(folder.glob(pattern))]


def _in_sequences(sequences: Sequence[Path]) -> dict[int, Path]:
    """The place of each scan's labels. Raises LabelError where a scan has two: its bag has been prepared twice."""
    places: dict[int, Path] = {}
    for sequence in sequences:
        for number, stamp_ns in enumerate(read_stamps(sequence)):
            path = sequence / "labels" / f"{number:06d}{SUFFIX}"
            if (first := places.setdefault(stamp_ns, path)) is not path:
                raise LabelError(f"{first} and {path} are of the same scan: give the folder of one of the sequences")
    return places
