"""Reads a bag once, from beginning to end, to learn what is in it."""

from __future__ import annotations

import logging
from array import array
from collections import Counter
from dataclasses import dataclass, field, replace
from pathlib import Path
from sys import intern
from typing import Any, Final

import numpy as np
import numpy.typing as npt
from rosbags.typesys import Stores, get_typestore

from twodpass_core.cloud import view_cloud
from twodpass_core.data.bags.index import BagIndex, Malformed, RecordedCalibration, RecordedTransforms, TopicIndex
from twodpass_core.data.bags.labels import has_labels
from twodpass_core.data.bags.packed import packed_files
from twodpass_core.data.bags.rosbags_reader import open_bag, storages, unpack
from twodpass_core.data.image_messages import image_encoding, is_picture
from twodpass_core.errors import BagError, TransformError
from twodpass_core.geometry.transform_tree import frame_name
from twodpass_core.message_types import (
    CAMERA_INFO,
    COMPRESSED_IMAGE,
    IMAGE,
    ODOMETRY,
    POINT_CLOUD,
    TF_MESSAGE,
    header_stamp_ns,
    is_static_tf,
)
from twodpass_core.wording import counted

logger = logging.getLogger(__name__)

FOUND_AGAIN: Final = (POINT_CLOUD, IMAGE, COMPRESSED_IMAGE)
READ: Final = (*FOUND_AGAIN, CAMERA_INFO, TF_MESSAGE, ODOMETRY)
MAX_UNCHUNKED_BYTES: Final = 2**28
SAME_POSE: Final = 1e-6  # metres, and of a quaternion's numbers
HEADER_BYTES: Final = 17  # of a serialised message up to the end of its header, without its frame


def build_index(path: Path) -> BagIndex:
    """The index of a bag: a folder, or a single .mcap or .db3 file.

    Raises:
        BagError: the bag is damaged, or stored in a way in which single messages cannot be found again.
    """
    if packed_files(path):
        raise BagError(
            f"{path}: its files are compressed as a whole, so no single message can be read: unpack them by "
            "`ros2 bag convert`, or choose compression of the storage (MCAP) or of messages when recording"
        )
    with open_bag(path) as reader:
        logger.info("indexing %s", path)
        indexer = _Indexer(path)
        counts: Counter[tuple[str, str]] = Counter()
        for number, storage in enumerate(storages(reader)):
            _refuse_unchunked(storage, Path(storage.path))
            for connection in storage.connections:
                counts[connection.topic, connection.msgtype] += connection.msgcount
            wanted = [connection for connection in storage.connections if connection.msgtype in READ]
            for connection, log_ns, raw in storage.messages(wanted) if wanted else ():
                indexer.add(connection.topic, connection.msgtype, number, log_ns, raw)
        indexer.leave_out_other_frames()
        return BagIndex(
            path=path,
            files=tuple(Path(storage.path).name for storage in storages(reader)),
            topics={topic: messages.finish() for topic, messages in indexer.topics.items()},
            calibrations={topic: messages.finish() for topic, messages in indexer.calibrations.items()},
            transforms=tuple(poses.finish() for poses in indexer.transforms.values()),
            malformed=indexer.malformed,
            everything=tuple(
                f"{topic} ({kind}, {counted(count, 'message')})" for (topic, kind), count in sorted(counts.items())
            ),
        )


def _refuse_unchunked(storage: Any, path: Path) -> None:
    """A reader would go through all of such a file for each message."""
    if path.suffix == ".mcap" and not storage.chunks and path.stat().st_size > MAX_UNCHUNKED_BYTES:
        raise BagError(
            f"{path}: has no chunks to find messages by: `twodpass recover` packs them into chunks, as every storage "
            "preset but fastwrite does when recording"
        )


class _Indexer:
    """What has been found of a bag so far."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self.typestore = get_typestore(Stores.LATEST)  # the types read here are the same in every release of ROS 2
        self.topics: dict[str, _Messages] = {}
        self.calibrations: dict[str, _Calibrations] = {}
        self.transforms: dict[tuple[str, str, str], _Poses] = {}
        self.malformed: dict[str, Malformed] = {}

    def add(self, topic: str, kind: str, file: int, log_ns: int, raw: bytes) -> None:
        message: Any = None
        try:
            raw = unpack(raw)
            message = self._read(raw, kind)
        except Exception as error:  # the bytes are foreign: rosbags meets damage in many ways
            self._leave_out(topic, error)
        if kind in FOUND_AGAIN:
            known = self.topics.setdefault(topic, _Messages(topic, kind))
            if known.type != kind:
                raise BagError(f"{self.path}: {topic} is of two types, {known.type} and {kind}")
            known.add(message, log_ns, file)
        elif message is not None and kind == CAMERA_INFO:
            header = message.header
            self.calibrations.setdefault(topic, _Calibrations(_frame(header))).add(header, log_ns, raw)
        elif message is not None:
            self._add_transforms(topic, kind, log_ns, message)

    def leave_out_other_frames(self) -> None:
        """A topic's messages are taken to be of one sensor; those that are not in the frame of most are of another."""
        for topic, messages in self.topics.items():
            for frame in messages.keep_frame(usual := messages.usual_frame()):
                self._leave_out(topic, BagError(f"in frame '{frame}', while most are in '{usual}'"))

    def _read(self, raw: bytes, kind: str) -> Any:
        """A message, checked as far as that takes no time: of points and pixels only how many there are."""
        message = self.typestore.deserialize_cdr(raw, kind)
        if kind == POINT_CLOUD:
            view_cloud(message)
        return message

    def _leave_out(self, topic: str, error: Exception) -> None:
        known = self.malformed.get(topic, Malformed(0, str(error) or type(error).__name__))
        self.malformed[topic] = replace(known, count=known.count + 1)

    def _add_transforms(self, topic: str, kind: str, log_ns: int, message: Any) -> None:
        if kind == ODOMETRY:
            pose = message.pose.pose
            entries = [(message.header, message.child_frame_id, pose.orientation, pose.position)]
        else:
            entries = [
                (entry.header, entry.child_frame_id, entry.transform.rotation, entry.transform.translation)
                for entry in message.transforms
            ]
        for header, child, q, t in entries:
            key = topic, header.frame_id, child
            frames = {frame_name(name) for name in key[1:]} - {""}
            if len(frames) < 2:
                error = TransformError(f"a transform needs two frames, not '{header.frame_id}' and '{child}'")
                self._leave_out(topic, error)
                continue
            if key not in self.transforms:
                self.transforms[key] = _Poses(*key, is_static_tf(topic, kind), kind == ODOMETRY)
            self.transforms[key].add(header_stamp_ns(header), log_ns, (q.w, q.x, q.y, q.z, t.x, t.y, t.z))


@dataclass
class _Messages:
    """Messages of one topic. Malformed ones keep their place, because messages are found again by position."""

    topic: str
    type: str
    first: Any | None = None  # that is not malformed; without its data
    stamps_ns: array[int] = field(default_factory=lambda: array("q"))
    log_ns: array[int] = field(default_factory=lambda: array("q"))
    file: array[int] = field(default_factory=lambda: array("q"))
    num_points: array[int] = field(default_factory=lambda: array("q"))
    nth: array[int] = field(default_factory=lambda: array("q"))
    labelled: array[int] = field(default_factory=lambda: array("b"))
    frames: list[str] = field(default_factory=list)
    sound: array[int] = field(default_factory=lambda: array("b"))

    def add(self, message: Any | None, log_ns: int, file: int) -> None:
        if self.first is None and message is not None:
            self.first = replace(message, data=np.empty(0, np.uint8))
        repeated = bool(self.log_ns) and self.log_ns[-1] == log_ns and self.file[-1] == file
        self.nth.append(self.nth[-1] + 1 if repeated else 0)
        self.stamps_ns.append(0 if message is None else header_stamp_ns(message.header))
        self.log_ns.append(log_ns)
        self.file.append(file)
        cloud = message if self._has_clouds else None
        self.num_points.append(0 if cloud is None else cloud.width * cloud.height)
        self.labelled.append(cloud is not None and has_labels(cloud))
        self.frames.append("" if message is None else _frame(message.header))
        self.sound.append(message is not None)

    def usual_frame(self) -> str:
        """That of most messages that are not malformed."""
        counts = Counter(frame for frame, sound in zip(self.frames, self.sound, strict=True) if sound)
        return max(counts, key=counts.__getitem__, default="")

    def keep_frame(self, wanted: str) -> list[str]:
        """Take all of other frames for malformed; returns their frames."""
        others = [at for at, frame in enumerate(self.frames) if self.sound[at] and frame != wanted]
        for at in others:
            self.sound[at] = False
        return [self.frames[at] for at in others]

    def finish(self) -> TopicIndex:
        sound = np.array(self.sound, np.bool_)
        kept = (self.stamps_ns, self.log_ns, self.file, self.num_points, self.nth)
        arrays: list[npt.NDArray[Any]] = [np.array(values, np.int64)[sound] for values in kept]
        arrays.append(np.array(self.labelled, np.bool_)[sound])
        is_image = self.first is not None and not self._has_clouds
        encoding = image_encoding(self.first) if is_image else ""
        picture = is_image and is_picture(self.first)
        return TopicIndex(self.topic, self.type, self.usual_frame(), encoding, picture, *arrays)

    @property
    def _has_clouds(self) -> bool:
        return self.type == POINT_CLOUD


@dataclass
class _Calibrations:
    frame_id: str
    stamps_ns: list[int] = field(default_factory=list)
    messages: list[bytes] = field(default_factory=list)
    last: bytes = b""  # without its header

    def add(self, header: Any, log_ns: int, raw: bytes) -> None:
        content = raw[HEADER_BYTES + len(header.frame_id.encode()) :]
        if content != self.last:
            self.last = content
            self.stamps_ns.append(header_stamp_ns(header) or log_ns)  # some drivers leave the stamp out
            self.messages.append(bytes(raw))

    def finish(self) -> RecordedCalibration:
        order = np.argsort(np.array(self.stamps_ns, np.int64), kind="stable")
        stamps_ns = np.array(self.stamps_ns, np.int64)[order]
        return RecordedCalibration(self.frame_id, stamps_ns, tuple(self.messages[at] for at in order))


@dataclass
class _Poses:
    topic: str
    parent: str
    child: str
    is_static: bool
    is_odometry: bool
    stamps_ns: array[int] = field(default_factory=lambda: array("q"))
    ages_ns: array[int] = field(default_factory=lambda: array("q"))
    numbers: array[float] = field(default_factory=lambda: array("d"))
    changes: int = 0  # of a static one

    def add(self, stamp_ns: int, log_ns: int, pose: tuple[float, ...]) -> None:
        if self.is_static:  # latched: repeated for each file of a bag
            if self.numbers and not np.allclose(self.numbers, pose, rtol=0, atol=SAME_POSE):
                self.changes += 1
            del self.stamps_ns[:], self.numbers[:]
        else:
            self.ages_ns.append(log_ns - stamp_ns)
        self.stamps_ns.append(stamp_ns)
        self.numbers.extend(pose)

    def finish(self) -> RecordedTransforms:
        """By time, each once; what is no pose is left out."""
        if self.changes:
            logger.warning(
                "%s: where '%s' is in '%s' changes, %s; the last counts for the whole bag",
                self.topic, self.child, self.parent, counted(self.changes, "time"),
            )  # fmt: skip
        stamps_ns, poses = np.array(self.stamps_ns, np.int64), np.array(self.numbers).reshape(-1, 7)
        sound = np.isfinite(poses).all(axis=1) & poses[:, :4].any(axis=1)
        if not sound.all():
            logger.warning(
                "%s: %d of %d transforms from '%s' to '%s' are not poses and are left out",
                self.topic, (~sound).sum(), len(sound), self.child, self.parent,
            )  # fmt: skip
        stamps_ns, first = np.unique(stamps_ns[sound], return_index=True)
        age_s = 1e-9 * float(np.median(self.ages_ns)) if self.ages_ns else 0.0
        which = self.topic, self.parent, self.child, self.is_static, self.is_odometry
        return RecordedTransforms(*which, age_s, stamps_ns, poses[sound][first])


def _frame(header: Any) -> str:
    return intern(frame_name(header.frame_id))
