"""What is in a bag: where each cloud and image lies, the calibration of the cameras, and the transforms."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
import numpy.typing as npt

Integers = npt.NDArray[np.int64]


@dataclass(frozen=True)
class Malformed:
    """The messages of one topic that are left out, as nobody can read them."""

    count: int
    reason: str  # of the first


@dataclass(frozen=True, eq=False)
class TopicIndex:
    """The messages of one topic with clouds or images, in the order of recording, without malformed ones."""

    topic: str
    type: str
    frame_id: str  # of all of them, without a slash in front
    encoding: str  # of the first image, see image_messages; of clouds empty
    is_picture: bool  # that is a picture's, and not depths or the like
    stamps_ns: Integers  # (M,) of the headers
    log_ns: Integers  # (M,) when they were recorded
    file: Integers  # (M,) which of the bag's files they are in
    num_points: Integers  # (M,) of the clouds; of images 0
    nth: Integers  # (M,) of the topic's messages in that file with the same time of recording
    labelled: npt.NDArray[np.bool_]  # (M,) which clouds have labels inside; images have none

    def __len__(self) -> int:
        return len(self.stamps_ns)


@dataclass(frozen=True, eq=False)
class RecordedCalibration:
    """The CameraInfo messages of one topic that differ from the one before, serialised."""

    frame_id: str
    stamps_ns: Integers  # (M,)
    messages: tuple[bytes, ...]  # (M,)

    def at(self, stamp_ns: int) -> bytes:
        """The one that holds at a time: the last before it, else the first."""
        return self.messages[max(int(np.searchsorted(self.stamps_ns, stamp_ns, side="right")) - 1, 0)]


@dataclass(frozen=True, eq=False)
class RecordedTransforms:
    """How one frame stood in another: of /tf_static once, of /tf or of an odometry topic over time."""

    topic: str
    parent: str
    child: str
    is_static: bool
    is_odometry: bool  # and not of /tf or /tf_static
    age_s: float  # from the time stamp to the recording, of most messages; of a static one 0
    stamps_ns: Integers  # (M,)
    poses: npt.NDArray[np.float64]  # (M, 7) parent_from_child: quaternion w, x, y, z, translation


@dataclass(frozen=True, eq=False)
class BagIndex:
    """Found by reading a bag once."""

    path: Path
    files: tuple[str, ...]  # names of the files with the messages
    topics: Mapping[str, TopicIndex]
    calibrations: Mapping[str, RecordedCalibration]
    transforms: tuple[RecordedTransforms, ...]
    malformed: Mapping[str, Malformed] = field(default_factory=dict)  # by topic
    everything: tuple[str, ...] = field(default=())  # all topics with type and number of messages, for error messages

    def file_paths(self) -> tuple[Path, ...]:
        folder = self.path if self.path.is_dir() else self.path.parent
        return tuple(folder / name for name in self.files)

    def of_type(self, *types: str) -> list[TopicIndex]:
        """The topics of these types that have messages, by name."""
        return [entry for _, entry in sorted(self.topics.items()) if entry.type in types and len(entry)]
