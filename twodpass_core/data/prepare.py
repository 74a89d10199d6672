"""Bags written as sequences of SemanticKITTI, which labelling tools open."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from contextlib import suppress
from dataclasses import dataclass
from itertools import groupby
from pathlib import Path
from typing import Final

import numpy as np
import numpy.typing as npt
from PIL import Image

from twodpass_core.cameras.undistort import Undistortion
from twodpass_core.classes import ClassMap
from twodpass_core.data.bags.frames import BagFrames
from twodpass_core.data.frame import CameraView, Frame
from twodpass_core.data.kitti_files import matrix_line, write_labels, write_lines, write_scan
from twodpass_core.data.pairing import nearest_within
from twodpass_core.data.semantickitti import CALIBRATIONS, CLASS_MAP
from twodpass_core.errors import ConfigError, ImageError
from twodpass_core.files import new_folder
from twodpass_core.geometry.rigid_transform import RigidTransform
from twodpass_core.labels.label_files import write_stamps
from twodpass_core.labels.store import write_topic
from twodpass_core.wording import counted

FIRST_CAMERA: Final = 2  # of the image folders; calibration files have the projections P0 and P1 of grey cameras, too
MAX_CAMERAS: Final = 8
MAX_SEQUENCES: Final = 100  # their numbers have two digits
SAME: Final = 1e-6  # calibration that differs by less is the same
ANY_TIME_NS: Final = 2**62


@dataclass(frozen=True)
class PreparedSequence:
    """A sequence that has been written."""

    bag: Path
    folder: Path
    scans: int
    labelled: int
    proposed: int  # by a network, where labels are missing and proposals are asked for
    images: dict[str, tuple[str, int]]  # of each camera: its folder, and how many
    unknown_poses: int  # scans whose pose is another's


def prepare(
    frames: BagFrames,
    out: Path,
    *,
    first_sequence: int = 0,
    progress: Callable[[Sequence[int]], Iterable[int]] = iter,
) -> list[PreparedSequence]:
    """Write each bag as out/sequences/NN, counted from `first_sequence`; a sequence appears when it is whole.

    velodyne/ has every point of a scan in its order, (0, 0, 0) where there was no return; labels/ those labels there
    are; image_2/, image_3/ ... the cameras in the order of their names, without distortion; calib.txt the calibration,
    calib/NNNNNN.txt that of single scans where motion makes it differ; poses.txt the poses of the first camera, each
    unknown one that which is known nearest in time, all of them the identity where none is; times.txt seconds since
    the first scan; stamps.txt their time stamps in the bag; topic.txt the topic of the clouds; class_map.yaml what the
    labels mean, where that is not what they do in SemanticKITTI.

    Args:
        progress: what the indices of all frames pass through.

    Raises:
        ConfigError: `out` lies in a bag, a sequence exists, or there are more cameras or bags than SemanticKITTI's form
            has numbers for.
        ScanError, BagError, LabelError: a frame cannot be read.
        OSError: the folder cannot be written to.
        MissingDependencyError: distorted images, and OpenCV is not there.
    """
    if len(frames.cameras) > MAX_CAMERAS:
        raise ConfigError(
            f"{len(frames.cameras)} cameras are more than the {MAX_CAMERAS} there are folders for: name some"
        )
    if first_sequence + len(frames.bags) > MAX_SEQUENCES:
        raise ConfigError(
            f"{counted(len(frames.bags), 'bag')} from sequence {first_sequence} on are more than the numbers up to "
            f"{MAX_SEQUENCES - 1}: begin lower"
        )
    if inside_of := next((bag for bag in frames.bags if out.resolve().is_relative_to(bag.resolve())), None):
        raise ConfigError(f"{out} lies in the bag {inside_of}, which is never written to: choose another folder")
    folders = {bag: out / "sequences" / f"{first_sequence + n:02d}" for n, bag in enumerate(frames.bags)}
    if existing := [str(folder) for folder in folders.values() if folder.exists()]:
        raise ConfigError(
            f"{', '.join(existing)} exists: choose another folder, or another number to begin with (--sequence)"
        )
    done: list[PreparedSequence] = []
    inside = frames.labels_inside
    for bag, indices in groupby(progress(range(len(frames))), lambda index: frames.origin(index)[0]):
        with new_folder(folders[bag]) as partial:
            writer = _SequenceWriter(bag, partial, frames)
            for index in indices:
                writer.write(*frames.with_raw_labels(index), is_inside=bool(inside[index]))
            done.append(writer.finish(folders[bag]))
    return done


class _SequenceWriter:
    def __init__(self, bag: Path, folder: Path, frames: BagFrames) -> None:
        self._bag, self._folder = bag, folder
        store = frames.label_store(bag)
        assert store.topic is not None
        self._topic = store.topic
        self._proposals = store.proposed.stamps() - store.stamps() if frames.config.proposals else frozenset()
        self._image_folders = {name: f"image_{FIRST_CAMERA + n}" for n, name in enumerate(frames.cameras)}
        for name in ("velodyne", "labels", *self._image_folders.values()):
            (folder / name).mkdir()
        if frames.class_map != ClassMap.load("semantickitti"):
            frames.class_map.save(folder / CLASS_MAP)
        self._stamps_ns: list[int] = []
        self._poses: list[RigidTransform | None] = []
        self._calibrations: list[dict[str, CameraView]] = []
        self._labelled = self._proposed = 0
        self._undistortions: dict[str, Undistortion] = {}

    def write(self, frame: Frame, labels: npt.NDArray[np.uint32] | None, *, is_inside: bool) -> None:
        """A frame with its raw labels, and whether they are in the cloud itself."""
        assert frame.stamp_ns is not None
        stem = f"{len(self._stamps_ns):06d}"
        points = np.where(np.isfinite(frame.points).all(axis=1, keepdims=True), frame.points, 0)
        write_scan(self._folder, stem, points)
        if labels is not None:
            write_labels(self._folder, stem, labels)
            is_proposed = not is_inside and frame.stamp_ns in self._proposals
            self._labelled += not is_proposed
            self._proposed += is_proposed
        written: dict[str, CameraView] = {}
        for view in frame.views:
            with suppress(ImageError):  # of no use, as its source has told
                image = Image.fromarray(self._undistortion(view)(view.load_image()))
                image.save(self._folder / self._image_folders[view.name] / f"{stem}.png", compress_level=1)
                written[view.name] = view
        self._stamps_ns.append(frame.stamp_ns)
        self._poses.append(frame.world_from_lidar)
        self._calibrations.append(written)

    def finish(self, folder: Path) -> PreparedSequence:
        """Write what is of all scans. `folder` is where the sequence will be."""
        typical: dict[str, CameraView] = {}
        for views in self._calibrations:
            typical = {**views, **typical}
        lines = self._calibration_lines(typical)
        write_lines(self._folder / "calib.txt", lines)
        for number, views in enumerate(self._calibrations):
            if not _same(views, typical):
                (self._folder / CALIBRATIONS).mkdir(exist_ok=True)
                own = self._calibration_lines({**typical, **views})
                write_lines(self._folder / CALIBRATIONS / f"{number:06d}.txt", own)
        self._write_poses(_first_from_lidar(typical, self._image_folders))
        times = [f"{(stamp_ns - self._stamps_ns[0]) * 1e-9:.9f}" for stamp_ns in self._stamps_ns]
        write_lines(self._folder / "times.txt", times)
        write_stamps(self._folder, self._stamps_ns)
        write_topic(self._folder, self._topic)
        counts = {name: sum(name in views for views in self._calibrations) for name in self._image_folders}
        for name, count in counts.items():
            if not count:  # a camera of another bag
                (self._folder / self._image_folders[name]).rmdir()
        images = {name: (self._image_folders[name], count) for name, count in counts.items() if count}
        return PreparedSequence(
            bag=self._bag,
            folder=folder,
            scans=len(self._stamps_ns),
            labelled=self._labelled,
            proposed=self._proposed,
            images=images,
            unknown_poses=self._poses.count(None),
        )

    def _undistortion(self, view: CameraView) -> Undistortion:
        """Of a camera: the one in use, unless its calibration has changed."""
        used = self._undistortions.get(view.name)
        if used is None or not used.fits(view.camera):
            used = self._undistortions[view.name] = Undistortion(view.camera)
        return used

    def _calibration_lines(self, views: dict[str, CameraView]) -> list[str]:
        """P0 and P1 are those of the first camera; Tr is camera 0, the first camera's frame, from the LiDAR's."""
        first_from_lidar = _first_from_lidar(views, self._image_folders)
        projections = {
            int(folder.removeprefix("image_")): _projection(views[name], first_from_lidar)
            for name, folder in self._image_folders.items()
            if name in views
        }
        fallback = projections.get(FIRST_CAMERA, np.eye(3, 4))
        projections = dict.fromkeys(range(4), fallback) | projections
        lines = [f"P{number}: {matrix_line(projection)}" for number, projection in sorted(projections.items())]
        return [*lines, f"Tr: {matrix_line(first_from_lidar.matrix()[:3])}"]

    def _write_poses(self, camera_from_lidar: RigidTransform) -> None:
        world_from_camera = [pose @ camera_from_lidar.inverse() for pose in self._known_or_nearest_poses()]
        relative = [world_from_camera[0].inverse() @ pose for pose in world_from_camera]
        write_lines(self._folder / "poses.txt", [matrix_line(pose.matrix()[:3]) for pose in relative])

    def _known_or_nearest_poses(self) -> list[RigidTransform]:
        known = [(stamp_ns, pose) for stamp_ns, pose in zip(self._stamps_ns, self._poses, strict=True) if pose]
        if not known:
            return [RigidTransform.identity()] * len(self._poses)
        stamps_ns, poses = zip(*known, strict=True)
        nearest = nearest_within(np.array(self._stamps_ns), np.array(stamps_ns), ANY_TIME_NS)
        return [poses[position] for position in nearest]


def _first_from_lidar(views: dict[str, CameraView], folders: Iterable[str]) -> RigidTransform:
    """Of the first camera that there is; the identity without cameras."""
    first = next((views[name] for name in folders if name in views), None)
    return RigidTransform.identity() if first is None else first.camera_from_lidar


def _projection(view: CameraView, first_from_lidar: RigidTransform) -> npt.NDArray[np.float64]:
    """(3, 4) K [R | t] from the first camera's frame."""
    camera_from_first = view.camera_from_lidar @ first_from_lidar.inverse()
    return np.asarray(view.camera.matrix @ camera_from_first.matrix()[:3])


def _same(views: dict[str, CameraView], typical: dict[str, CameraView]) -> bool:
    return all(
        np.abs(view.camera_from_lidar.matrix() - typical[name].camera_from_lidar.matrix()).max() < SAME
        and np.array_equal(view.camera.matrix, typical[name].camera.matrix)
        for name, view in views.items()
    )
