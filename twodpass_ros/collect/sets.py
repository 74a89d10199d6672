"""What happens to a set of scan and images: its calibration is looked at, it is recorded, and it is drawn."""

from __future__ import annotations

import math
import threading
import time
from collections import deque
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from statistics import fmean

import numpy as np
import numpy.typing as npt
from sensor_msgs.msg import PointCloud2

from twodpass_core.calibration.overlay import draw_overlay
from twodpass_core.calibration.score import calibration_score
from twodpass_core.cameras.model import CameraModel
from twodpass_core.cloud import NO_INTENSITY, read_points
from twodpass_core.data.image_messages import decode_image
from twodpass_core.data.pairing import PairedSet
from twodpass_core.geometry.rigid_transform import RigidTransform
from twodpass_core.recording import RecordedMessage, RecordedSet
from twodpass_ros.collect.camera import Camera
from twodpass_ros.collect.input import Message

SCORES_KEPT = 20
"""Single scores mislead; a mean over so many different sets tells."""

Picture = npt.NDArray[np.uint8]
Draw = Callable[[str, Message, Picture], None]
"""Shows the picture that was drawn of an image of a camera."""


@dataclass(frozen=True)
class CalibratedCamera:
    """A camera and how it stood to the LiDAR when it took its image of a set."""

    camera: Camera
    model: CameraModel
    camera_from_lidar: RigidTransform


@dataclass(frozen=True)
class FormedSet:
    """A set, where the vehicle was, and its cameras as far as their calibration is known."""

    paired: PairedSet[Message]
    world_from_vehicle: RigidTransform | None
    cameras: Mapping[str, CalibratedCamera]

    @property
    def messages(self) -> tuple[Message, ...]:
        """The scan and its images."""
        return self.paired.scan, *(image.item for image in self.paired.images.values())

    @property
    def has_time(self) -> bool:
        """Whether there was a time, on a clock that may be simulated, when its messages were received."""
        return all(message.received_ns for message in self.messages)

    def recorded(self, scores: Mapping[str, float]) -> RecordedSet:
        """As it goes into the bag; its score is that of the worst camera."""
        images = self.paired.images
        known = [score for score in scores.values() if not math.isnan(score)]
        return RecordedSet(
            self.paired.stamp_ns,
            tuple(RecordedMessage(message.topic, message.received_ns, message.data) for message in self.messages),
            {camera: image.offset_ns for camera, image in images.items()},
            min(known, default=None),
        )


@dataclass
class CalibrationWatch:
    """Scores sets, at most one in an interval. `look` is for one thread; what was found, for any."""

    draw: Draw
    is_drawn: Callable[[str], bool]
    """Whether anybody wants to see a camera's picture."""
    trouble: str = ""
    """Why the last set could not be scored or drawn; empty if it could."""
    _scores: dict[str, deque[float]] = field(default_factory=dict)
    _looked_at: float = -math.inf
    _lock: threading.Lock = field(default_factory=threading.Lock)

    def is_due(self, interval: float) -> bool:
        return time.monotonic() >= self._looked_at + interval

    def look(self, formed: FormedSet) -> dict[str, float]:
        """Camera -> score of this set, NaN where there is too little to tell. Draws where somebody looks."""
        self._looked_at = time.monotonic()
        scores: dict[str, float] = {}
        try:
            points = read_points(formed.paired.scan.content(PointCloud2), NO_INTENSITY)
            images = {
                name: decode_image(calibrated.camera.content(formed.paired.images[name].item))
                for name, calibrated in formed.cameras.items()
            }
            for name, by in formed.cameras.items():
                scores[name] = calibration_score(points, images[name], by.model, by.camera_from_lidar).score
            for name, by in formed.cameras.items():
                if self.is_drawn(name):
                    picture = draw_overlay(images[name], points, by.model, by.camera_from_lidar)
                    self.draw(name, formed.paired.images[name].item, picture)
            self.trouble = ""
        except Exception as error:  # whatever it is, the set can be recorded all the same
            self.trouble = f"the calibration cannot be looked at: {error}"
        with self._lock:
            for name, score in scores.items():
                if not math.isnan(score):
                    self._scores.setdefault(name, deque(maxlen=SCORES_KEPT)).append(score)
        return scores

    def mean(self, camera: str) -> float:
        """Over the last sets that could be scored; NaN before there is one."""
        with self._lock:
            scores = self._scores.get(camera)
            return fmean(scores) if scores else math.nan

    def is_telling(self, camera: str) -> bool:
        """Whether there are enough scores for their mean to be relied upon."""
        with self._lock:
            return len(self._scores.get(camera, ())) == SCORES_KEPT
