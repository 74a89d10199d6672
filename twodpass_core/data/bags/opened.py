"""One bag, opened: which scans it has, and the images that go with each."""

from __future__ import annotations

import logging
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

import numpy as np
import numpy.typing as npt

from twodpass_core.data.bags.cache import open_index
from twodpass_core.data.bags.cameras import OTHER_CALIBRATION, BagCamera, check_stereo, find_cameras, nearest_offset_s
from twodpass_core.data.bags.clocks import ages_s, warn_of_clocks
from twodpass_core.data.bags.clouds import choose_cloud_topic
from twodpass_core.data.bags.config import BagConfig, FileCamera
from twodpass_core.data.bags.index import BagIndex, Integers, RecordedTransforms, TopicIndex
from twodpass_core.data.bags.reader import BagReader
from twodpass_core.data.bags.transforms import build_tree, find_fixed_frame, read_transforms
from twodpass_core.data.frame import CameraView
from twodpass_core.errors import BagError, ConfigError, TransformError, TransformTimeError
from twodpass_core.geometry.rigid_transform import RigidTransform
from twodpass_core.geometry.transform_tree import TransformTree, frame_name
from twodpass_core.labels.store import LabelStore, labels_of_no_bag, labels_of_single_files
from twodpass_core.message_types import POINT_CLOUD, is_tf
from twodpass_core.wording import counted, shorten

logger = logging.getLogger(__name__)

SPLITS: Final = ("train", "val", "trainval")
"""train and val divide a bag where `held_out` says so; trainval has all."""
CLOCK_SET_BACK_S: Final = 1.0
LOOKED_AT: Final = 5
"""Of a camera's images, before anything begins: one of them may be damaged."""


@dataclass(frozen=True, eq=False)
class OpenedBag:
    """The scans of one topic, by time, and what belongs to them."""

    name: str
    reader: BagReader
    clouds: TopicIndex
    positions: Integers  # (N,) of the scans among the clouds, by time
    stamps_ns: Integers  # (N,)
    cameras: tuple[BagCamera, ...]
    pairs: tuple[Integers, ...]  # for each camera (N,) which image goes with the scan, -1 for none
    tree: TransformTree
    lidar: str
    fixed: str | None
    store: LabelStore
    has_transforms: bool
    topics: tuple[str, ...]  # all there are, as `BagIndex.everything` has them

    def __len__(self) -> int:
        return len(self.stamps_ns)

    def cloud(self, position: int) -> Any:
        """The PointCloud2 of a scan. Raises BagError."""
        return self.reader.read(self.clouds, int(self.positions[position]))

    @property
    def labels_inside(self) -> npt.NDArray[np.bool_]:
        """(N,) of which scans the labels are in the cloud itself."""
        return self.clouds.labelled[self.positions]

    def labelled(self) -> npt.NDArray[np.bool_]:
        """(N,) which scans have labels."""
        return self.labels_inside | np.isin(self.stamps_ns, np.array(sorted(self.store.stamps()), np.int64))

    def pose(self, stamp_ns: int) -> RigidTransform | None:
        """world_from_lidar, where it is known."""
        try:
            return None if self.fixed is None else self.tree.lookup(self.fixed, self.lidar, stamp_ns)
        except TransformTimeError:
            return None

    def views(self, position: int, sensor_from_training: RigidTransform) -> list[CameraView]:
        """Of the cameras that have an image for the scan, and a known motion between the two where there is any.

        An image that turns out to be of no use when it is loaded raises ImageError then.
        """
        views = []
        for camera, pairs in zip(self.cameras, self.pairs, strict=True):
            image = int(pairs[position])
            if image < 0:
                continue
            image_ns = int(camera.images.stamps_ns[image])
            try:
                from_lidar = camera.from_lidar(
                    self.tree, self.lidar, int(self.stamps_ns[position]), image_ns, self.fixed
                )
            except TransformTimeError as error:
                camera.unusable.add(TransformTimeError(f"{self.reader.path}: motion between scan and image: {error}"))
                continue
            try:
                model, image_from_camera = camera.model(self.reader, image_ns)
            except ConfigError as error:
                camera.unusable.add(error)
                continue
            from_training = image_from_camera @ from_lidar @ sensor_from_training
            loader = camera.image(self.reader, image, model)
            views.append(CameraView(camera.name, model, from_training, loader, image_ns))
        return views


def open_recorded(
    path: Path,
    *,
    name: str,
    config: BagConfig,
    calibration: Mapping[str, FileCamera],
    split: str,
    image_topics: Sequence[str] | None,
) -> OpenedBag:
    """Index a bag where that has not been done, and check what it has.

    Args:
        name: of the bag, in its frames.
        calibration: cameras of a calibration file, by image topic.
        split: one of SPLITS.
        image_topics: those to use; None: all that are calibrated; []: LiDAR only.

    Raises:
        BagError, ConfigError, TransformError: as `BagFrames`.
    """
    index = open_index(path)
    for topic, entry in index.malformed.items():
        logger.warning("%s: malformed messages are left out, %d of %s: %s", path, entry.count, topic, entry.reason)
    clouds = _choose_clouds(index, config.topic)
    stamps_ns, positions = _scans_by_time(path, clouds, split, config.held_out)
    is_lidar_only = image_topics is not None and not image_topics
    cameras = () if is_lidar_only else tuple(find_cameras(index, config, calibration, image_topics))
    lidar = frame_name(config.frames.get(clouds.topic, clouds.frame_id))
    tree, fixed = _transforms(index, clouds.topic, lidar, cameras, config.fixed_frame)
    bag = OpenedBag(
        name=name,
        reader=BagReader(index),
        clouds=clouds,
        positions=positions,
        stamps_ns=stamps_ns,
        cameras=cameras,
        pairs=tuple(camera.pair(stamps_ns, config.max_offset) for camera in cameras),
        tree=tree,
        lidar=lidar,
        fixed=fixed,
        store=LabelStore.beside(path, proposals=config.proposals, topic=clouds.topic),
        has_transforms=any(not entry.is_odometry and is_tf(entry.topic) for entry in index.transforms),
        topics=index.everything,
    )
    for unread in labels_of_single_files(path):
        logger.warning("%s: its labels are of a single file and not read: move them to %s", unread, bag.store.folder)
    if not bag.store.folder.exists():
        own = frozenset(clouds.stamps_ns.tolist())
        for stray in labels_of_no_bag(path):
            if LabelStore(stray).stamps() & own:
                logger.warning(
                    "%s: has labels of scans of %s and is not read, as it is not named after it: rename it to %s",
                    stray, path, bag.store.folder.name,
                )  # fmt: skip
    check_stereo(bag.cameras, index, bag.reader)
    if len(bag):
        _check_cameras(bag, config.max_offset)
        warn_of_clocks(path, clouds.topic, _recorded_later(bag, index.transforms))
    return bag


def _choose_clouds(index: BagIndex, topic: str | None) -> TopicIndex:
    found = {entry.topic: entry for entry in index.topics.values() if entry.type == POINT_CLOUD}
    how_to_name = "by --topic, in settings bag.topic"
    chosen = found[choose_cloud_topic(index.path, topic, found, index.everything, how_to_name)]
    if not len(chosen):
        reason = index.malformed[chosen.topic].reason
        raise BagError(f"{index.path}: none of the clouds of {chosen.topic} can be read: {reason}")
    return chosen


def _scans_by_time(path: Path, clouds: TopicIndex, split: str, held_out: float) -> tuple[Integers, Integers]:
    """(N,) time stamps of the scans of a split, increasing, and (N,) where they are among the clouds."""
    if (back_s := -np.diff(clouds.stamps_ns).min(initial=0) * 1e-9) > CLOCK_SET_BACK_S:
        logger.warning(
            "%s: the time stamps of %s go back by %.1f s on the way, as of a clock that was set: scans may get images, "
            "poses and labels of another moment. Split the bag there",
            path, clouds.topic, back_s,
        )  # fmt: skip
    stamps_ns, positions = np.unique(clouds.stamps_ns, return_index=True)
    if len(stamps_ns) == 1 < len(clouds):
        raise BagError(f"{path}: all {len(clouds)} clouds of {clouds.topic} have one time stamp, {stamps_ns[0]} ns")
    if repeated := len(clouds) - len(stamps_ns):
        told = counted(repeated, "cloud")
        logger.warning("%s: left out, of a time stamp that is there already: %s of %s", path, told, clouds.topic)
    kept = _of_split(len(stamps_ns), split, held_out)
    return stamps_ns[kept], positions[kept]


def _of_split(scans: int, split: str, held_out: float) -> slice:
    if not held_out or split == "trainval":
        return slice(None)
    border = scans - round(scans * held_out)
    return slice(border) if split == "train" else slice(border, None)


def _transforms(
    index: BagIndex, clouds: str, lidar: str, cameras: Sequence[BagCamera], wanted: str | None
) -> tuple[TransformTree, str | None]:
    """All transforms, and the frame in which the LiDAR's motion is known; None where it is not."""
    if unread := sorted({e.topic for e in index.transforms if not e.is_odometry and not is_tf(e.topic)}):
        told = shorten(unread)
        logger.warning("%s: transforms count on /tf and /tf_static, of any namespace, and not on %s", index.path, told)
    try:
        recorded = read_transforms(index.transforms, clouds)
        tree = build_tree(recorded, [lidar, *(camera.frame for camera in cameras)], clouds, wanted)
        is_unknown = wanted is None and lidar not in tree.frames
        fixed = None if is_unknown else find_fixed_frame(tree, lidar, wanted)
    except TransformError as error:
        if cameras or wanted is not None:
            raise TransformError(f"{index.path}: {error}") from None
        logger.warning("%s: its transforms are of no use, so no motion is known: %s", index.path, error)
        return TransformTree(), None
    if fixed is None and (odometry := [entry for entry in index.transforms if entry.is_odometry]):
        logger.warning(
            "%s: no motion is known: no transform connects '%s' with what odometry tells of, %s. Name the frame of the "
            "clouds that is connected, in settings by bag.frames",
            index.path, lidar, shorten(sorted(f"'{entry.child}' ({entry.topic})" for entry in odometry)),
        )  # fmt: skip
    return tree, fixed


def _check_cameras(bag: OpenedBag, max_offset: float) -> None:
    """Say at once what would go wrong with every frame: transforms, sizes, times."""
    path = bag.reader.path
    for camera, pairs in zip(bag.cameras, bag.pairs, strict=True):
        if not (pairs >= 0).any():
            raise BagError(
                f"{path}: no scan of {bag.clouds.topic} has an image of {camera.name} within max_offset {max_offset} "
                f"s; the two nearest are {nearest_offset_s(bag.stamps_ns, camera.images.stamps_ns):.3f} s apart"
            )
        _check_motion(bag, camera, pairs)
        paired = pairs[pairs >= 0]
        camera.check(bag.reader, paired[np.linspace(0, len(paired) - 1, min(LOOKED_AT, len(paired))).astype(int)])
        logger.info("%s: %d of %d scans have an image of %s", path, (pairs >= 0).sum(), len(pairs), camera.name)


def _recorded_later(bag: OpenedBag, transforms: Sequence[RecordedTransforms]) -> Iterator[tuple[str, float]]:
    """What goes with the clouds, and how many seconds later after its time stamps it was recorded."""
    ages = ages_s(bag.clouds, bag.positions)
    for camera, pairs in zip(bag.cameras, bag.pairs, strict=True):
        paired = pairs >= 0
        yield camera.name, float(np.median(ages_s(camera.images, pairs[paired]) - ages[paired]))
    if bag.fixed is None:
        return
    chain = bag.tree.ancestry(bag.lidar)
    moving = chain[: chain.index(frame_name(bag.fixed)) + 1] if frame_name(bag.fixed) in chain else chain
    for entry in transforms:
        tells = entry.is_odometry or (is_tf(entry.topic) and frame_name(entry.child) in moving)
        if tells and not entry.is_static and frame_name(entry.parent) in moving:
            yield f"{entry.topic} ('{entry.child}')", entry.age_s - float(np.median(ages))


def _check_motion(bag: OpenedBag, camera: BagCamera, pairs: Integers) -> None:
    """Raise TransformError unless some scan's motion to its image is known."""
    path = bag.reader.path
    unknown: TransformTimeError | None = None
    for scan_ns, image in zip(bag.stamps_ns, pairs, strict=True):
        if image < 0:
            continue
        try:
            camera.from_lidar(bag.tree, bag.lidar, int(scan_ns), int(camera.images.stamps_ns[image]), bag.fixed)
        except TransformTimeError as error:
            unknown = error
        except TransformError as error:
            if not bag.has_transforms:
                told = f"{path}: {camera.name}: the bag has no transforms (/tf, /tf_static)"
                raise TransformError(f"{told}: {OTHER_CALIBRATION}") from None
            raise TransformError(
                f"{path}: {camera.name}: {error}. Name the right frames (in settings bag.frames), {OTHER_CALIBRATION}"
            ) from None
        else:
            return
    raise TransformError(
        f"{path}: {camera.name}: the motion between scan and image is known for no scan: {unknown}. Are the stamps of "
        f"/tf and odometry of the same clock? Name another fixed frame (in settings bag.fixed_frame), or use the scans "
        f"alone (--no-cameras, in settings cameras: [])"
    )
