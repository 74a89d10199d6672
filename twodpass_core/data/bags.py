"""Point clouds in ROS 2 bags (sqlite3 and mcap), read by rosbags; no ROS installation is needed.

rosbags is imported where bags are read: single scans can be labelled and timed on a machine without it.
"""

from __future__ import annotations

import logging
import struct
import sys
from collections.abc import Callable, Collection, Iterable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final, TypeVar

from twodpass_core.data.mcap_check import check_mcap
from twodpass_core.data.packed_bags import check_room, packed_files
from twodpass_core.errors import BagError, NoCloudsError
from twodpass_core.wording import counted

if TYPE_CHECKING:
    from rosbags.rosbag2 import Reader

if sys.version_info >= (3, 14):
    from compression import zstd
else:
    from backports import zstd  # a dependency of rosbags

logger = logging.getLogger(__name__)

Opened = TypeVar("Opened")

POINT_CLOUD: Final = "sensor_msgs/msg/PointCloud2"
BAG_SUFFIXES: Final = (".mcap", ".db3")
MAX_METADATA_BYTES: Final = 4 * 2**20
MAX_MESSAGE_BYTES: Final = 64 * 2**20


@dataclass(frozen=True)
class StampedCloud:
    """A PointCloud2 message with its header's time in nanoseconds."""

    stamp_ns: int
    message: Any


@dataclass(frozen=True)
class CloudTopic:
    """One PointCloud2 topic of a bag."""

    path: Path
    topic: str
    count: int

    def __len__(self) -> int:
        return self.count

    def __iter__(self) -> Iterator[StampedCloud]:
        """The topic's messages in the order of recording, read one at a time. Raises `BagError` for a damaged bag."""
        from rosbags.typesys import Stores, get_typestore

        typestore = get_typestore(Stores.LATEST)  # PointCloud2 has been the same in every release of ROS 2
        index = 0
        with open_bag(self.path) as reader:
            for raw in _serialised(reader, self.topic):
                message: Any = typestore.deserialize_cdr(raw, POINT_CLOUD)
                stamp = message.header.stamp
                yield StampedCloud(stamp.sec * 10**9 + stamp.nanosec, message)
                index += 1
        if index != self.count:
            raise BagError(f"{self.path}: {self.topic} should have {self.count} clouds, but {index} could be read")


def is_bag(path: Path) -> bool:
    """Whether a path looks like a ROS 2 bag: a folder that a recorder wrote, or one of its files."""
    if not path.is_dir():
        return path.suffix in BAG_SUFFIXES
    entries = list(path.iterdir())
    if any(entry.name == "metadata.yaml" for entry in entries):
        return True
    has_files = any(entry.suffix in BAG_SUFFIXES for entry in entries)
    return has_files and not any(entry.is_dir() and _is_readable_bag(entry) for entry in entries)  # a folder of bags


def bags_in(path: Path) -> list[Path]:
    """The bag that a path is, or the bags in the folder that it is; none for anything else."""
    if is_bag(path) or not path.is_dir():
        return [path] if is_bag(path) else []
    return sorted(entry for entry in path.iterdir() if _is_readable_bag(entry))


def _is_readable_bag(path: Path) -> bool:
    """As `is_bag`, of what nobody has named: a folder that may not be looked into, as lost+found, is left out."""
    try:
        return is_bag(path)
    except PermissionError:
        logger.warning("%s: may not be looked into, and is left out", path)
        return False


def open_each(
    paths: Iterable[tuple[Path, str]], given: Collection[Path], open_one: Callable[[Path, str], Opened]
) -> list[Opened]:
    """What `open_one` makes of each path and its name.

    A bag without clouds, as of a recording that ended before the first, is left out with a warning, unless it was
    `given` itself or all are so.
    """
    opened: list[Opened] = []
    left_out: NoCloudsError | None = None
    for path, name in paths:
        try:
            opened.append(open_one(path, name))
        except NoCloudsError as error:
            if path in given:
                raise
            logger.warning("left out: %s", error)
            left_out = error
    if left_out is not None and not opened:
        raise left_out
    return opened


def open_clouds(path: Path, topic: str | None = None) -> CloudTopic:
    """The PointCloud2 topic of a bag: the one named, else the only one there is.

    `path` is the bag's folder, or one .mcap or .db3 file. Raises `BagError`, which lists the topics there are.
    """
    with open_bag(path) as reader:
        # Empty topics count as absent: a recorder lists every topic that it waited for. So do impossible counts.
        counts: dict[str, int] = {}
        for connection in reader.connections:
            if connection.msgtype == POINT_CLOUD and 0 < connection.msgcount < 2**32:
                counts[connection.topic] = counts.get(connection.topic, 0) + connection.msgcount
        everything = sorted({f"{c.topic} ({c.msgtype}, {counted(c.msgcount, 'message')})" for c in reader.connections})
    chosen = choose_cloud_topic(path, topic, counts, everything, "with --topic")
    return CloudTopic(path, chosen, counts[chosen])


def choose_cloud_topic(
    path: Path, topic: str | None, clouds: Collection[str], everything: Sequence[str], how_to_name: str
) -> str:
    """The one named of a bag's PointCloud2 topics, else the only one.

    Raises `BagError`, which lists what there is; `NoCloudsError`, which is one, where a bag has none.
    """
    if not clouds:
        raise NoCloudsError(f"{path}: holds no PointCloud2; it has {shorten(list(everything)) or 'no topics'}")
    names = ", ".join(sorted(clouds))
    if topic is None and len(clouds) > 1:
        raise BagError(f"{path}: has several PointCloud2 topics, name one of them {how_to_name}: {names}")
    chosen = topic or next(iter(clouds))
    if chosen not in clouds:
        raise BagError(f"{path}: has no PointCloud2 on {chosen!r}; its PointCloud2 topics are {names}")
    return chosen


@contextmanager
def open_bag(path: Path) -> Iterator[Reader]:
    """rosbags' reader of a bag, checked before. Whatever goes wrong inside becomes a `BagError` that names the file."""
    from rosbags.rosbag2 import Reader

    try:
        source = _checked(path)
        with Reader(source) as reader:
            if reader.compression_mode == "file":  # only now there is something to check
                for storage in storages(reader):
                    _check_file(Path(storage.path))
            else:
                _refuse_unlisted(path, {Path(storage.path).name for storage in storages(reader)})
            yield reader
    except BagError:
        raise
    except Exception as error:  # the bytes are foreign: rosbags meets damage in many ways
        raise BagError(
            f"{path}: cannot be read, it is damaged or no ROS 2 bag: {error or type(error).__name__}"
        ) from error


def storages(reader: Reader) -> list[Any]:
    """rosbags' readers of the single files."""
    from rosbags.rosbag2.reader import DirectoryReader

    return reader.storage.storages if isinstance(reader.storage, DirectoryReader) else [reader.storage]


def _serialised(reader: Reader, topic: str) -> Iterator[bytes]:
    """The serialised clouds of a topic."""
    for storage in storages(reader):
        connections = [c for c in storage.connections if c.topic == topic and c.msgtype == POINT_CLOUD]
        for _, _, raw in storage.messages(connections) if connections else ():
            yield unpack(raw) if reader.compression_mode == "message" else raw


def unpack(raw: bytes) -> bytes:
    """A message of a bag that compresses them one by one. Raises ValueError; rosbags does it without a bound."""
    decompressor = zstd.ZstdDecompressor()
    message = decompressor.decompress(raw, MAX_MESSAGE_BYTES)
    if not decompressor.eof:
        raise ValueError(f"a compressed message is cut off or unpacks to more than {MAX_MESSAGE_BYTES} bytes")
    return message


def _checked(path: Path) -> Path:
    """The folder or file that rosbags shall open, after the checks that rosbags does not make itself."""
    from twodpass_core.recording.in_progress import not_recording

    if not path.exists():
        raise BagError(f"{path}: does not exist")
    if path.is_file() and path.suffix not in BAG_SUFFIXES:
        raise BagError(f"{path}: is no ROS 2 bag; a bag is a folder with metadata.yaml, a .mcap or a .db3 file")
    with not_recording(path):
        files, source = [path] if path.is_file() else storage_files(path), path
    if path.is_dir():
        metadata = path / "metadata.yaml"
        if not metadata.exists():
            if len(files) != 1:
                raise BagError(
                    f"{path}: has no metadata.yaml; `ros2 bag reindex {path}` writes it, or name its files one by one"
                )
            source = files[0]
        elif metadata.stat().st_size > MAX_METADATA_BYTES:
            raise BagError(f"{metadata}: is larger than {MAX_METADATA_BYTES} bytes, which no recorder writes")
        else:
            check_room(packed_files(path))
    for file in files:
        _check_file(file)
    return source


def _refuse_unlisted(path: Path, listed: Collection[str]) -> None:
    """A recorder that was killed names its last file nowhere."""
    unlisted = [file.name for file in storage_files(path) if file.name not in listed] if path.is_dir() else []
    if unlisted:
        raise BagError(
            f"{path}: metadata.yaml does not name {', '.join(unlisted)}: `twodpass recover` or `ros2 bag reindex` puts "
            "that right, or move away what does not belong there"
        )


def _check_file(file: Path) -> None:
    if file.stat().st_size == 0:
        raise BagError(f"{file}: is empty, nothing was recorded")
    if file.suffix == ".mcap":
        check_mcap(file)
    if file.suffix == ".db3":
        _check_sqlite(file)


def _check_sqlite(path: Path) -> None:
    """Refuse a file shorter than its header says (sqlite.org/fileformat2): SQLite would read the rest as zeros."""
    with path.open("rb") as file:
        header = file.read(100)
    if len(header) < 100 or not header.startswith(b"SQLite format 3\0"):
        raise BagError(f"{path}: is no SQLite database")
    (page_bytes,) = struct.unpack_from(">H", header, 16)
    changes, pages = struct.unpack_from(">II", header, 24)
    (valid_for,) = struct.unpack_from(">I", header, 92)
    expected = (65536 if page_bytes == 1 else page_bytes) * pages
    for log in (path.with_name(f"{path.name}-wal"), path.with_name(f"{path.name}-journal")):
        if log.exists() and log.stat().st_size:
            raise BagError(
                f"{path}: was not closed, and {log.name} beside it holds what is still to be put in: "
                f"`sqlite3 {path} 'PRAGMA wal_checkpoint(TRUNCATE)'` does it"
            )
    if changes == valid_for and path.stat().st_size < expected:
        raise BagError(f"{path}: ends at byte {path.stat().st_size} of {expected}: the file is cut off")


def storage_files(folder: Path) -> list[Path]:
    """The .mcap and .db3 files in a folder."""
    return sorted(file for file in folder.iterdir() if file.suffix in BAG_SUFFIXES)


def shorten(items: list[str]) -> str:
    """At most 20 of them, for an error message."""
    return ", ".join(items[:20]) + (f" and {len(items) - 20} more" if len(items) > 20 else "")
