"""What a recording holds, in a file beside the bag: sets, drops, calibration, software."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Sequence
from pathlib import Path
from typing import Any, Final, Literal

from pydantic import BaseModel, ConfigDict, Field, ValidationError, field_validator

from twodpass_core import __version__
from twodpass_core.checked import describe_problems
from twodpass_core.errors import BagError
from twodpass_core.files import write_durably
from twodpass_core.recording.bag_metadata import StoredFile

MANIFEST: Final = "manifest.json"
SOFTWARE: Final = f"twodpass {__version__}"
"""What writes recordings."""


class _Entry(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid")


class SetEntry(_Entry):
    """One recorded set."""

    stamp_ns: int  # of the scan
    offset_ns: dict[str, int] = {}  # camera -> image time less scan time
    calibration_score: float | None = None

    @field_validator("calibration_score")
    @classmethod
    def _none_for_nan(cls, score: float | None) -> float | None:
        return None if score is None or math.isnan(score) else score


class TopicEntry(_Entry):
    """One recorded topic."""

    name: str
    type: str
    messages: int = Field(ge=0)  # in the files, with those repeated at the start of a file


class RecordedCamera(_Entry):
    """A camera as it was calibrated during the recording. The numbers are sensor_msgs/CameraInfo's."""

    image_topic: str
    info_topic: str
    frame_id: str
    width: int
    height: int
    distortion_model: str
    d: tuple[float, ...]
    k: tuple[float, ...]  # 9, row by row
    r: tuple[float, ...]  # 9
    p: tuple[float, ...]  # 12
    camera_from_lidar: tuple[float, ...] | None  # 16, row by row; None: was not known


class Calibration(_Entry):
    """Of all cameras to the LiDAR."""

    lidar_topic: str
    lidar_frame: str
    cameras: dict[str, RecordedCamera]


class Manifest(_Entry):
    """A recording: what came into its files, and what did not."""

    version: Literal[1] = 1
    software: str
    start_ns: int | None = None  # of receiving the first message, None if there is none
    stop_ns: int | None = None  # of receiving the last message
    topics: tuple[TopicEntry, ...] = ()
    sets: tuple[SetEntry, ...] = ()  # of a recording that goes on or was cut off they are in its journal
    dropped: dict[str, int] = {}  # topic -> messages received and not recorded
    dropped_sets: int = 0  # received and not recorded
    lost_sets: int = 0  # recorded, and lost to a crash
    calibration: Calibration | None = None
    complete: bool = False  # the recording was ended; what is said here is final
    error: str | None = None  # why it ended by itself

    @classmethod
    def read(cls, bag: Path) -> Manifest:
        """The manifest of a bag's folder. Raises BagError where it is missing or damaged."""
        path = bag / MANIFEST
        try:
            return cls.model_validate_json(path.read_bytes())
        except OSError as error:
            raise BagError(f"{path}: cannot be read: {error.strerror}; only recordings of `collect` have one") from None
        except ValidationError as error:
            raise BagError(f"{path}: is not the manifest of a recording: {describe_problems(error)}") from None

    def write(self, bag: Path, more_sets: Sequence[bytes] = ()) -> None:
        """Write it to the bag's folder, whole or not at all, with more sets, each as JSON. Raises OSError."""
        sets = b",".join([*(entry.model_dump_json().encode() for entry in self.sets), *more_sets])
        rest = self.model_dump_json(exclude={"sets"}).encode().removesuffix(b"}")
        write_durably(bag / MANIFEST, rest + b',"sets":[' + sets + b"]}\n")


def describe_recording(files: Sequence[StoredFile]) -> dict[str, Any]:
    """The manifest's start_ns, stop_ns and topics, of these files."""
    counts: Counter[str] = Counter()
    types: dict[str, str] = {}
    for topic in (topic for file in files for topic in file.topics):
        counts[topic.name] += topic.count
        types[topic.name] = topic.type
    return {
        "start_ns": min((file.first_ns for file in files if file.first_ns is not None), default=None),
        "stop_ns": max((file.last_ns for file in files if file.last_ns is not None), default=None),
        "topics": tuple(TopicEntry(name=name, type=types[name], messages=counts[name]) for name in counts),
    }
