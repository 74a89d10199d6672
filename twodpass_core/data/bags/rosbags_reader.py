"""ROS 2 bags (sqlite3 and mcap) opened by rosbags; no ROS installation is needed.

rosbags is imported where bags are read: single scans can be labelled and timed on a machine without it.
"""

from __future__ import annotations

import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

from twodpass_core.data.bags.checks import check_file, checked, refuse_unlisted
from twodpass_core.data.bags.packed import packed_topics
from twodpass_core.errors import BagError
from twodpass_core.mcap_files.unpacked_size import ZSTD_MAGIC

if TYPE_CHECKING:
    from rosbags.rosbag2 import Reader

if sys.version_info >= (3, 14):
    from compression import zstd
else:
    from backports import zstd  # a dependency of rosbags

MAX_MESSAGE_BYTES: Final = 64 * 2**20
METADATA_DAMAGE: Final = ("A metadata key is missing", "Invalid bag metadata", "Could not load YAML")  # as rosbags says


@contextmanager
def open_bag(path: Path) -> Iterator[Reader]:
    """rosbags' reader of a bag, checked before. Whatever goes wrong inside becomes a `BagError` that names the file."""
    from rosbags.rosbag2 import Reader

    try:
        source = checked(path)
        with Reader(source) as reader:
            if reader.compression_mode == "file":  # only now there is something to check
                for storage in storages(reader):
                    check_file(Path(storage.path))
            else:
                refuse_unlisted(path, {Path(storage.path).name for storage in storages(reader)})
            yield reader
    except BagError:
        raise
    except Exception as error:  # the bytes are foreign: rosbags meets damage in many ways
        if str(error).startswith(METADATA_DAMAGE):
            raise BagError(
                f"{path}: its metadata.yaml is damaged: `twodpass recover` (of MCAP) or `ros2 bag reindex` writes it "
                f"anew: {str(error).splitlines()[0]}"
            ) from error
        raise BagError(
            f"{path}: cannot be read, it is damaged or not a ROS 2 bag: {error or type(error).__name__}"
        ) from error


def topics_of(path: Path) -> list[tuple[str, str, int]]:
    """Name, type and number of messages of a bag's topics. Raises BagError."""
    if packed := packed_topics(path):  # which need not be unpacked for that
        checked(path)
        return packed
    with open_bag(path) as reader:
        return [(topic.topic, topic.msgtype, topic.msgcount) for topic in reader.connections]


def storages(reader: Reader) -> list[Any]:
    """rosbags' readers of the single files."""
    from rosbags.rosbag2.reader import DirectoryReader

    return reader.storage.storages if isinstance(reader.storage, DirectoryReader) else [reader.storage]


def unpack(raw: bytes) -> bytes:
    """A serialised message, decompressed in a bag that compresses them one by one; rosbags does it without a bound.

    Such a bag is known by its messages, as no serialised one begins so: of a single file nothing else tells.

    Raises:
        ValueError: it cannot be decompressed.
    """
    if not raw.startswith(ZSTD_MAGIC):
        return raw
    decompressor = zstd.ZstdDecompressor()
    message = decompressor.decompress(raw, MAX_MESSAGE_BYTES)
    if not decompressor.eof:
        raise ValueError(f"a compressed message is cut off or unpacks to more than {MAX_MESSAGE_BYTES} bytes")
    return message
