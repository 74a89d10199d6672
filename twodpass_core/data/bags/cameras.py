"""The cameras of a bag: which image topics, with which calibration, and where they stand."""

from __future__ import annotations

import logging
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field

import numpy as np

from twodpass_core.cameras.info import camera_from_info, rectified_camera_from_info
from twodpass_core.cameras.model import CameraModel
from twodpass_core.cameras.topics import info_topics, is_compressed, is_rectified
from twodpass_core.data.bags.config import BagConfig, FileCamera
from twodpass_core.data.bags.index import BagIndex, Integers, RecordedCalibration, TopicIndex
from twodpass_core.data.bags.reader import BagReader
from twodpass_core.data.image_messages import PICTURE_ENCODINGS, Picture, decode_image, image_size, is_depth
from twodpass_core.data.pairing import nearest_within
from twodpass_core.errors import BagError, ConfigError, ImageError, TwodpassError
from twodpass_core.geometry.rigid_transform import RigidTransform
from twodpass_core.geometry.transform_tree import TransformTree
from twodpass_core.message_types import CAMERA_INFO, COMPRESSED_IMAGE, IMAGE

logger = logging.getLogger(__name__)

OTHER_CALIBRATION = (
    "give a calibration file (--calibration, in settings bag.calibration), or use the scans alone (--no-cameras, in "
    "settings cameras: [])"
)


@dataclass
class UnusableImages:
    """Counts how often an image of a camera was of no use; warns of the first, the tenth, the hundredth."""

    count: int = 0

    def add(self, error: TwodpassError) -> None:
        self.count += 1
        if str(self.count).strip("0") == "1":
            logger.warning("%s. The scan is used without it (%d such images so far)", error, self.count)


@dataclass(frozen=True, eq=False)
class BagImage:
    """An image in a bag, decoded when called."""

    reader: BagReader
    topic: TopicIndex
    position: int
    size: tuple[int, int]  # width and height of the camera
    unusable: UnusableImages

    def __call__(self) -> Picture:
        """(H, W, 3) RGB. Raises BagError, MissingDependencyError; ImageError, told and counted, for one of no use."""
        try:
            return self.decoded()
        except ImageError as error:
            self.unusable.add(error)
            raise

    def decoded(self) -> Picture:
        """The same, not counted."""
        message = self.reader.read(self.topic, self.position)
        try:
            if (size := image_size(message)) != self.size:
                found, calibrated = (f"{width} x {height}" for width, height in (size, self.size))
                raise ImageError(f"has {found} pixels, but the camera is calibrated for {calibrated}")
            return decode_image(message)
        except ImageError as error:
            raise ImageError(f"{self}: {error}") from error

    def __str__(self) -> str:
        return f"{self.reader.path}: image {self.position} of {self.topic.topic}"


@dataclass(frozen=True, eq=False)
class BagCamera:
    """One image topic, with CameraInfo or an entry of a calibration file, or both: then the file wins."""

    images: TopicIndex
    frame: str
    info: str | None  # topic of the CameraInfo
    is_rectified: bool
    recorded: RecordedCalibration | None
    given: FileCamera | None
    unusable: UnusableImages = field(default_factory=UnusableImages)

    @property
    def name(self) -> str:
        return self.images.topic

    def pair(self, stamps_ns: Integers, max_offset: float) -> Integers:
        """(N,) which image is nearest to each time, -1 where none is within `max_offset` seconds."""
        return nearest_within(stamps_ns, self.images.stamps_ns, round(max_offset * 1e9))

    def model(self, reader: BagReader, stamp_ns: int) -> tuple[CameraModel, RigidTransform]:
        """The camera at a time, and image_from_camera: how its image's frame is turned. Raises ConfigError."""
        if self.given is not None and (camera := self.given.camera()) is not None:
            return camera, RigidTransform.identity()
        assert self.recorded is not None
        info = reader.deserialise(self.recorded.at(stamp_ns), CAMERA_INFO)
        try:
            if self.is_rectified:
                return rectified_camera_from_info(info)
            return camera_from_info(info), RigidTransform.identity()
        except ConfigError as error:
            raise ConfigError(f"{reader.path}: {self.name}: {error}") from None

    def from_lidar(
        self, tree: TransformTree, lidar: str, lidar_ns: int, camera_ns: int, fixed: str | None
    ) -> RigidTransform:
        """camera_from_lidar; with a fixed frame, across the two times (eq. 2). Raises TransformError."""
        if self.given is not None:
            still = self.given.transform()
            return still if fixed is None else still @ tree.lookup_across(lidar, camera_ns, lidar, lidar_ns, fixed)
        if fixed is None:
            return tree.lookup(self.frame, lidar, lidar_ns)
        return tree.lookup_across(self.frame, camera_ns, lidar, lidar_ns, fixed)

    def stands_apart(self, reader: BagReader) -> bool:
        """Whether this is the second camera of a rectified pair: P tells how far it is from the first."""
        return (
            self.is_rectified
            and self.given is None
            and self.recorded is not None
            and bool(np.any(reader.deserialise(self.recorded.messages[0], CAMERA_INFO).p[3::4]))
        )

    def image(self, reader: BagReader, position: int, model: CameraModel) -> BagImage:
        """An image of the camera, not read yet."""
        return BagImage(reader, self.images, position, (model.width, model.height), self.unusable)

    def check(self, reader: BagReader, positions: Iterable[int]) -> None:
        """Compare images with the calibration, up to one that fits. Raises BagError; ConfigError where none does."""
        problems = []
        for position in map(int, positions):
            try:
                model, _ = self.model(reader, int(self.images.stamps_ns[position]))
                self.image(reader, position, model).decoded()
            except (ConfigError, ImageError) as error:
                problems.append(str(error))
            else:
                return
        raise ConfigError(
            f"{problems[0]}. Name the right CameraInfo in settings bag.camera_info, give a calibration, or leave the "
            "camera out"
        )


def find_cameras(
    index: BagIndex, config: BagConfig, given: Mapping[str, FileCamera], names: Sequence[str] | None
) -> list[BagCamera]:
    """The image topics named, or all that have a calibration.

    Topics in one frame with one CameraInfo are of one camera (raw, rectified, compressed), but for those that the
    settings name. The first in this order is taken: beside the CameraInfo, not rectified, with `raw` in its name, not
    compressed. The others may be pictures made of its images, as a detector draws them.

    Raises:
        BagError: a topic that is not there or not calibrated; images, none of which are calibrated.
    """
    topics = {entry.topic: entry for entry in index.of_type(IMAGE, COMPRESSED_IMAGE)}
    if names is not None:
        if missing := sorted(set(names) - set(topics)):
            known = ", ".join(topics) or "none"
            raise BagError(f"{index.path}: has no images on {', '.join(missing)}; its image topics are {known}")
        cameras = [_camera(index, topics[name], config, given) for name in names]
        if bare := [camera.name for camera in cameras if not _is_calibrated(camera)]:
            raise BagError(_uncalibrated(index, bare, given))
        return cameras
    cameras = [_camera(index, topic, config, given) for topic in topics.values() if topic.is_picture]
    if unknown := [entry for entry in topics.values() if not entry.is_picture and not is_depth(entry.encoding)]:
        told = ", ".join(f"{entry.topic} ({entry.encoding})" for entry in unknown)
        known = ", ".join(PICTURE_ENCODINGS)
        logger.warning("%s: images that are not decoded here are left out: %s; known are %s", index.path, told, known)
    calibrated = [camera for camera in cameras if _is_calibrated(camera)]
    if cameras and not calibrated:
        raise BagError(_uncalibrated(index, [camera.name for camera in cameras], given))
    if bare := [camera.name for camera in cameras if not _is_calibrated(camera)]:
        logger.warning("%s: images without calibration are left out: %s", index.path, ", ".join(bare))
    chosen: dict[tuple[str | None, str], BagCamera] = {}
    for camera in sorted(calibrated, key=_preference):
        is_named = camera.given is not None or camera.name in config.camera_info
        same = chosen.setdefault((camera.name if is_named else camera.info, camera.frame), camera)
        if same is not camera:
            logger.info("%s: %s is taken for the camera of %s, and left out", index.path, camera.name, same.name)
    return sorted(chosen.values(), key=lambda camera: camera.name)


def _preference(camera: BagCamera) -> tuple[bool, bool, bool, bool, str]:
    """Of several topics of a camera the least is taken."""
    apart = camera.info is not None and not camera.name.startswith(camera.info.rpartition("/")[0] + "/")
    return apart, camera.is_rectified, "raw" not in camera.name, is_compressed(camera.name), camera.name


def _camera(index: BagIndex, images: TopicIndex, config: BagConfig, given: Mapping[str, FileCamera]) -> BagCamera:
    topic = images.topic
    info = config.camera_info.get(topic)
    if info is not None and info not in index.calibrations:
        known = ", ".join(sorted(index.calibrations)) or "none"
        raise BagError(f"{index.path}: has no CameraInfo on {info}; its CameraInfo topics are {known}")
    if info is None:
        info = _find_info(index, images)
    return BagCamera(
        images=images,
        frame=config.frames.get(topic, images.frame_id),
        info=info,
        is_rectified=topic in config.rectified if config.rectified is not None else is_rectified(topic),
        recorded=None if info is None else index.calibrations[info],
        given=given.get(topic),
    )


def _find_info(index: BagIndex, images: TopicIndex) -> str | None:
    """The CameraInfo that has its name from the images; where that is of another frame, the only one of theirs."""
    frame = images.frame_id
    of_frame = [name for name, entry in index.calibrations.items() if frame and entry.frame_id == frame]
    named = [name for name in info_topics(images.topic) if name in index.calibrations]
    if named and (not frame or named[0] in of_frame):
        return named[0]
    if len(of_frame) == 1:
        return of_frame[0]
    if not named:
        return None
    logger.warning(
        "%s: the images on %s are in frame '%s', their CameraInfo on %s in '%s': is it theirs? Name the right one in "
        "settings bag.camera_info",
        index.path, images.topic, frame, named[0], index.calibrations[named[0]].frame_id,
    )  # fmt: skip
    return named[0]


def _is_calibrated(camera: BagCamera) -> bool:
    return camera.recorded is not None or (camera.given is not None and camera.given.matrix is not None)


def _uncalibrated(index: BagIndex, names: Sequence[str], given: Mapping[str, FileCamera]) -> str:
    known = ", ".join(sorted(index.calibrations)) or "none"
    elsewhere = ", ".join(sorted(set(given) - set(index.topics)))
    unused = f" The calibration file is for {elsewhere}, which the bag does not have." if elsewhere else ""
    return (
        f"{index.path}: no CameraInfo belongs to {', '.join(names)}; its CameraInfo topics are {known}.{unused} Name "
        f"them in settings bag.camera_info, {OTHER_CALIBRATION}"
    )


def nearest_offset_s(stamps_ns: Integers, others_ns: Integers) -> float:
    """Seconds between the two nearest of two series of times."""
    nearest = nearest_within(stamps_ns, others_ns, 2**62)
    return float(np.abs(others_ns[nearest] - stamps_ns).min() * 1e-9)


def check_stereo(cameras: Sequence[BagCamera], index: BagIndex, reader: BagReader) -> None:
    """Refuse the second camera of a stereo pair in the frame of the first: TF then does not tell where it is.

    Raises:
        ConfigError: a rectified camera stands apart from its frame, by its CameraInfo, and another one is in that.
    """
    for camera in cameras:
        sharing = [
            name for name, entry in index.calibrations.items() if entry.frame_id == camera.frame and name != camera.info
        ]
        if sharing and camera.stands_apart(reader):
            raise ConfigError(
                f"{reader.path}: {camera.name} is in frame '{camera.frame}', as is the camera of {sharing[0]}, but by "
                "its CameraInfo it stands apart: give a calibration file, or use the first camera of the pair alone"
            )
