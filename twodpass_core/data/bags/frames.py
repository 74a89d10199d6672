"""ROS 2 bags as a FrameSource: scans with the nearest image of each camera; calibration and motion are the bag's."""

from __future__ import annotations

import logging
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from twodpass_core.classes import ClassMap
from twodpass_core.cloud import read_points
from twodpass_core.data.bags.config import BagConfig, FileCamera, read_calibration_file
from twodpass_core.data.bags.finding import bags_in, open_each, refuse_ros1
from twodpass_core.data.bags.labels import ids_and_instances, raw_labels_of
from twodpass_core.data.bags.opened import SPLITS, OpenedBag, open_recorded
from twodpass_core.data.frame import Frame
from twodpass_core.data.scans import unique_names
from twodpass_core.errors import BagError, ClassMapError, CloudError, ConfigError, ScanError
from twodpass_core.labels.raw import RawLabels
from twodpass_core.labels.store import LabelStore

logger = logging.getLogger(__name__)


class BagFrames:
    """The scans of one PointCloud2 topic of one or several bags, by time. Only what a frame needs is read for it.

    Frames are named BAG/STAMP, the stamp that of the cloud's header in nanoseconds.
    """

    kind = "bags"

    def __init__(
        self,
        paths: Sequence[Path],
        config: BagConfig | None = None,
        split: str = "trainval",
        *,
        cameras: Sequence[str] | None = None,
    ) -> None:
        """Index the bags that are not indexed yet.

        Args:
            paths: bags, or folders of bags. One of a folder that has no clouds is left out with a warning.
            split: train or val, which divide each bag where `held_out` says so; trainval has all.
            cameras: image topics to use; None: all that are calibrated; []: LiDAR only.

        Raises:
            BagError: no bag, a damaged one, or one that lacks a topic; no images at the times of the scans.
            ConfigError: an unknown split; calibration that is missing, damaged or of images of another size.
            ClassMapError: a class map that is missing or damaged.
            TransformError: the LiDAR is not connected to a camera.
        """
        if split not in SPLITS:
            raise ConfigError(f"bags have no split '{split}': choose {', '.join(SPLITS)}")
        self.config = config or BagConfig()
        self.class_map = ClassMap.load(self.config.class_map)
        self.grid, self.intensity_max = self.config.grid, self.config.intensity_max
        self._split = split
        self._mounting = self.config.mounting
        calibration = {} if self.config.calibration is None else read_calibration_file(self.config.calibration).cameras
        found = find_bags(paths)
        named = zip(found, unique_names(found), strict=True)

        def open_one(path: Path, name: str) -> OpenedBag:
            return open_recorded(
                path, name=name, config=self.config, calibration=calibration, split=split, image_topics=cameras
            )

        self._bags = open_each(named, paths, open_one)
        self._warn_of_unknown_topics(calibration)
        self._starts = np.cumsum([0, *(len(bag) for bag in self._bags)])

    def _warn_of_unknown_topics(self, given: Mapping[str, FileCamera]) -> None:
        """A calibration that no topic has is one that is not used."""
        config = self.config
        named = {*given, *config.camera_info, *config.camera_info.values(), *(config.rectified or ()), *config.frames}
        known = {topic.partition(" (")[0] for topic in self.topics}
        if unknown := sorted(named - known):
            what = "calibration, camera_info, rectified or frames"
            logger.warning("no bag has the topics %s that %s tell of; there are %s", unknown, what, sorted(known))

    @property
    def bags(self) -> Sequence[Path]:
        return [bag.reader.path for bag in self._bags]

    @property
    def ids(self) -> Sequence[str]:
        return [f"{bag.name}/{stamp_ns}" for bag in self._bags for stamp_ns in bag.stamps_ns]

    @property
    def cameras(self) -> Sequence[str]:
        """The image topics in use, of all bags."""
        return sorted({camera.name for bag in self._bags for camera in bag.cameras})

    @property
    def topics(self) -> Sequence[str]:
        """Of all bags, whatever they hold, with type and number of messages; for error messages."""
        return sorted({topic for bag in self._bags for topic in bag.topics})

    @property
    def cloud_topics(self) -> frozenset[str]:
        """Those that the scans are of, one of each bag."""
        return frozenset(bag.clouds.topic for bag in self._bags)

    @property
    def part(self) -> str:
        """Which scans of the bags these are, in words; empty where all."""
        if not self.config.held_out or self._split not in ("train", "val"):
            return ""
        last = f"the last {100 * self.config.held_out:g} % of each bag, which `held_out` keeps for validation"
        return last if self._split == "val" else f"all but {last}"

    @property
    def labelled(self) -> npt.NDArray[np.bool_]:
        """(frames,) which have labels."""
        return np.concatenate([bag.labelled() for bag in self._bags])

    def label_store(self, path: Path) -> LabelStore:
        """What is kept beside one of `bags`, for its clouds; without proposals."""
        (topic,) = {bag.clouds.topic for bag in self._bags if bag.reader.path == path}
        return LabelStore.beside(path, topic=topic)

    @property
    def labels_inside(self) -> npt.NDArray[np.bool_]:
        """(frames,) of which the labels are in the cloud itself."""
        return np.concatenate([bag.labels_inside for bag in self._bags])

    def __len__(self) -> int:
        return int(self._starts[-1])

    def origin(self, index: int) -> tuple[Path, int]:
        """The bag that a frame is in, and its time stamp there."""
        bag, position = self._locate(index)
        return bag.reader.path, int(bag.stamps_ns[position])

    def num_points(self, index: int) -> int:
        """Of a frame, without reading it."""
        bag, position = self._locate(index)
        return int(bag.clouds.num_points[bag.positions[position]])

    def raw_labels(self, index: int) -> RawLabels | None:
        """(N,) of a frame, with instances, as they are kept; None without. Raises ScanError, BagError, LabelError."""
        bag, position = self._locate(index)
        message = bag.cloud(position)
        with _naming_the_cloud(bag, position):
            return self._raw_labels(bag, position, message)

    def __getitem__(self, index: int) -> Frame:
        """Raises ScanError, BagError, LabelError."""
        frame, _ = self.with_raw_labels(index)
        return frame

    def with_raw_labels(self, index: int) -> tuple[Frame, RawLabels | None]:
        """A frame and its `raw_labels`, each read once. Raises ScanError, BagError, LabelError."""
        bag, position = self._locate(index)
        message, stamp_ns = bag.cloud(position), int(bag.stamps_ns[position])
        with _naming_the_cloud(bag, position):
            points = read_points(message, self.config.intensity_field)
            raw = self._raw_labels(bag, position, message)
            labels, instances = (None, None) if raw is None else ids_and_instances(raw, message, self.class_map)
        sensor_from_training = self._mounting.training_from_sensor.inverse()
        world_from_lidar = bag.pose(stamp_ns)
        frame = Frame(
            id=f"{bag.name}/{stamp_ns}",
            points=self._mounting.to_training(points),
            labels=labels,
            instances=instances,
            views=tuple(bag.views(position, sensor_from_training)),
            world_from_lidar=None if world_from_lidar is None else world_from_lidar @ sensor_from_training,
            stamp_ns=stamp_ns,
        )
        return frame, raw

    def _raw_labels(self, bag: OpenedBag, position: int, message: Any) -> RawLabels | None:
        return raw_labels_of(message, bag.store, int(bag.stamps_ns[position]), self.class_map)

    def _locate(self, index: int) -> tuple[OpenedBag, int]:
        if not -len(self) <= index < len(self):
            raise IndexError(f"frame {index} of {len(self)}")
        index %= len(self)
        bag = int(np.searchsorted(self._starts, index, side="right")) - 1
        return self._bags[bag], index - int(self._starts[bag])


@contextmanager
def _naming_the_cloud(bag: OpenedBag, position: int) -> Iterator[None]:
    try:
        yield
    except (ClassMapError, CloudError) as error:
        cloud = f"cloud of {bag.clouds.topic} at {bag.stamps_ns[position]} ns"
        raise ScanError(f"{bag.reader.path}: {cloud}: {error}") from error


def find_bags(paths: Sequence[Path]) -> list[Path]:
    """The bags among the paths and in those that are folders of bags. Raises BagError where there is none."""
    found: list[Path] = []
    for path in paths:
        if not path.exists():
            raise BagError(f"{path}: does not exist")
        inner = bags_in(path)
        if not inner:
            refuse_ros1(path)
            raise BagError(f"{path}: is neither a ROS 2 bag nor a folder of bags")
        found += inner
    if not found:
        raise BagError("no bag was given")
    return found
