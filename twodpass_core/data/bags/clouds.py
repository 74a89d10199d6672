"""The point clouds of a bag, one after the other."""

from __future__ import annotations

from collections.abc import Collection, Iterator, Sequence
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING, Any

from twodpass_core.data.bags.rosbags_reader import open_bag, storages, topics_of, unpack
from twodpass_core.errors import BagError, CloudError, NoCloudsError
from twodpass_core.message_types import POINT_CLOUD, header_stamp_ns
from twodpass_core.wording import counted, shorten

if TYPE_CHECKING:
    from rosbags.rosbag2 import Reader
    from rosbags.typesys.store import Typestore


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

    def __iter__(self) -> Iterator[bytes]:
        """The topic's messages as they are stored, in the order of recording, one at a time; `read_cloud` reads them.

        Raises `BagError` for a damaged bag.
        """
        count = 0
        with open_bag(self.path) as reader:
            for raw in _stored_clouds(reader, self.topic):
                yield raw
                count += 1
        if count != self.count:
            raise BagError(f"{self.path}: {self.topic} should have {self.count} clouds, but {count} could be read")


def read_cloud(raw: bytes) -> StampedCloud:
    """A cloud of a `CloudTopic`. Raises `CloudError` for a message that is damaged; the next one may be sound."""
    try:
        message: Any = _typestore().deserialize_cdr(unpack(raw), POINT_CLOUD)
    except Exception as error:  # the bytes are foreign: rosbags meets damage in many ways
        raise CloudError(f"cannot be read, it is damaged: {error or type(error).__name__}") from error
    return StampedCloud(header_stamp_ns(message.header), message)


@cache
def _typestore() -> Typestore:
    from rosbags.typesys import Stores, get_typestore

    return get_typestore(Stores.LATEST)  # PointCloud2 has been the same in every release of ROS 2


def open_clouds(path: Path, topic: str | None = None) -> CloudTopic:
    """The PointCloud2 topic of a bag: the one named, else the only one there is.

    `path` is the bag's folder, or one .mcap or .db3 file. Raises `BagError`, which lists the topics there are.
    """
    topics = topics_of(path)
    # Empty topics count as absent: a recorder lists every topic that it waited for. So do impossible counts.
    counts: dict[str, int] = {}
    for name, kind, count in topics:
        if kind == POINT_CLOUD and 0 < count < 2**32:
            counts[name] = counts.get(name, 0) + count
    everything = sorted({f"{name} ({kind}, {counted(count, 'message')})" for name, kind, count in topics})
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
    if topic is not None and topic not in clouds:
        raise BagError(f"{path}: has no PointCloud2 on {topic!r}; its PointCloud2 topics are {names}")
    return next(iter(clouds)) if topic is None else topic


def _stored_clouds(reader: Reader, topic: str) -> Iterator[bytes]:
    for storage in storages(reader):
        connections = [c for c in storage.connections if c.topic == topic and c.msgtype == POINT_CLOUD]
        for _, _, raw in storage.messages(connections) if connections else ():
            yield raw
