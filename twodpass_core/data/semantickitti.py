"""SemanticKITTI: `sequences/NN/{velodyne,labels,image_2,image_3}`, beside them calib.txt, poses.txt and times.txt."""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Final

import numpy as np
import numpy.typing as npt

from twodpass_core.cameras.model import CameraModel, split_projection
from twodpass_core.classes import ClassMap
from twodpass_core.data.frame import CameraView, Frame, image_size
from twodpass_core.data.kitti_files import Floats, calibration_entry, read_calibration, read_labels, read_numbers
from twodpass_core.data.labelled import LABEL_OR_LEAVE_OUT
from twodpass_core.data.scan_files import KITTI_COLUMNS, read_scan
from twodpass_core.errors import ConfigError, ScanError
from twodpass_core.geometry.rigid_transform import RigidTransform
from twodpass_core.sparse.grid import KITTI_GRID
from twodpass_core.wording import counted

TRAIN: Final = ("00", "01", "02", "03", "04", "05", "06", "07", "09", "10")
SPLITS: Final[Mapping[str, tuple[str, ...]]] = {
    "train": TRAIN,
    "val": ("08",),
    "trainval": (*TRAIN, "08"),
    "test": tuple(f"{number:02d}" for number in range(11, 22)),
}
# The colour cameras, left and right; data in SemanticKITTI's form may have more.
PROJECTIONS: Final = {f"image_{number}": f"P{number}" for number in range(2, 10)}
CLASS_MAP: Final = "class_map.yaml"  # in a sequence whose labels mean something else than SemanticKITTI's
CALIBRATIONS: Final = "calib"  # folder of calibration files of single scans, where that of the sequence does not hold


class SemanticKitti:
    """A split, or chosen sequences, of SemanticKITTI or of data in its form, as a FrameSource."""

    grid = KITTI_GRID
    kind = "SemanticKITTI"
    intensity_max = 1.0

    def __init__(
        self,
        root: Path,
        split: str = "train",
        *,
        sequences: Sequence[str] | None = None,
        cameras: Sequence[str] = ("image_2",),
        partly_labelled: bool = False,
    ) -> None:
        """Find the files, reading no points.

        Args:
            root: the folder with `sequences`, or a single sequence's folder, then the whole of it whatever the split.
            split: train, val, trainval or test; labels may be missing in test.
            sequences: these instead of the split's.
            cameras: image folders to use where they are there: image_2, image_3, and up to image_9.
            partly_labelled: labels may be missing for some scans.

        Raises:
            ConfigError: unknown split or camera, or sequences chosen where root is one, or of different classes.
            ClassMapError: a sequence's own class map is damaged.
            ScanError: a sequence is missing or has no scans; labels are missing for some; calibration is missing
                although there are images, or damaged; fewer poses than scans.
        """
        if split not in SPLITS:
            raise ConfigError(f"SemanticKITTI has no split '{split}': choose {', '.join(SPLITS)}")
        if unknown := sorted(set(cameras) - set(PROJECTIONS)):
            raise ConfigError(f"SemanticKITTI has no camera {', '.join(unknown)}: choose {', '.join(PROJECTIONS)}")
        folders = _sequence_folders(root, split, sequences)
        self.class_map = _common_class_map(folders)
        partly_labelled = partly_labelled or split == "test"
        opened = [_open_sequence(folder, partly_labelled, cameras) for folder in folders]
        self._scans = [(sequence, stem) for sequence in opened for stem in sequence.stems]

    @property
    def ids(self) -> Sequence[str]:
        """NN/NNNNNN: sequence and scan."""
        return [f"{sequence.name}/{stem}" for sequence, stem in self._scans]

    @property
    def labelled(self) -> npt.NDArray[np.bool_]:
        """(frames,) which have labels."""
        return np.array([stem in sequence.labelled for sequence, stem in self._scans])

    def __len__(self) -> int:
        return len(self._scans)

    def __getitem__(self, index: int) -> Frame:
        sequence, stem = self._scans[index]
        points = read_scan(sequence.folder / "velodyne" / f"{stem}.bin", KITTI_COLUMNS)
        labels, instances = None, None
        if stem in sequence.labelled:
            path = sequence.folder / "labels" / f"{stem}.label"
            labels, instances = read_labels(path, len(points), self.class_map)
        return Frame(
            id=f"{sequence.name}/{stem}",
            points=points,
            labels=labels,
            instances=instances,
            views=sequence.views(stem),
            world_from_lidar=sequence.pose(stem),
            stamp_ns=sequence.stamp_ns(stem),
        )


@dataclass(frozen=True, eq=False)
class _Sequence:
    folder: Path
    stems: tuple[str, ...]
    labelled: frozenset[str]  # stems
    cameras: Mapping[str, tuple[Floats, RigidTransform]]  # image folder -> K, camera_from_lidar
    camera0_from_lidar: RigidTransform | None
    poses: Floats | None  # (scans, 12), camera 0 of each scan in that of the first
    times: Floats | None  # (scans, 1), seconds

    @property
    def name(self) -> str:
        return Path(os.path.abspath(self.folder)).name  # of a link, its own: the number

    def views(self, stem: str) -> tuple[CameraView, ...]:
        views = []
        own = self.folder / CALIBRATIONS / f"{stem}.txt"
        cameras = _read_cameras(own, list(self.cameras))[0] if self.cameras and own.exists() else self.cameras
        for name, (matrix, camera_from_lidar) in cameras.items():
            path = self.folder / name / f"{stem}.png"
            if path.is_file():
                model = CameraModel(matrix, *image_size(path))
                views.append(CameraView(name, model, camera_from_lidar, path, self.stamp_ns(stem)))
        return tuple(views)

    def pose(self, stem: str) -> RigidTransform | None:
        """world_from_lidar, where the world is the LiDAR's frame at the first scan."""
        if self.poses is None or self.camera0_from_lidar is None:
            return None
        try:
            world_from_camera0 = RigidTransform.from_matrix(self.poses[int(stem)].reshape(3, 4))
        except ConfigError as error:
            raise ScanError(f"{self.folder / 'poses.txt'}: line {int(stem) + 1}: {error}") from error
        return self.camera0_from_lidar.inverse() @ world_from_camera0 @ self.camera0_from_lidar

    def stamp_ns(self, stem: str) -> int | None:
        """Of the scan and its images alike: the cameras are triggered when the LiDAR looks ahead."""
        return None if self.times is None else round(float(self.times[int(stem), 0]) * 1e9)


def _sequence_folders(root: Path, split: str, sequences: Sequence[str] | None) -> list[Path]:
    """Those wanted. Where some are not there, the error lists those that are."""
    if not root.exists():
        raise ScanError(f"{root}: does not exist: name the data set's folder")
    if (root / "velodyne").is_dir():
        if sequences:
            raise ConfigError(f"{root} is a single sequence: leave out sequences, or give the folder above")
        return [root]
    there = sorted(folder.name for folder in (root / "sequences").glob("[!.]*") if folder.is_dir())
    if not there:
        raise ScanError(f"{root}: has neither sequences/NN/velodyne nor, as a single sequence, velodyne")
    wanted = sequences or SPLITS[split]
    if len(set(wanted)) != len(wanted):
        raise ConfigError(f"sequences {', '.join(wanted)}: name each once")
    if missing := [name for name in wanted if name not in there]:
        of_split = "" if sequences else f" of split {split}"
        # Not test, whose labels are not published.
        whole = [name for name, needed in SPLITS.items() if name != "test" and set(needed) <= set(there)]
        another = f"choose split {' or '.join(whole)}, or " if whole and not sequences else ""
        raise ScanError(
            f"{root / 'sequences'}: holds {', '.join(there)}, not {', '.join(missing)}{of_split}: {another}name those "
            f"to take, as sequences: [{', '.join(there)}] in settings; `twodpass evaluate` also takes --split and "
            f"--sequences {','.join(there)}"
        )
    return [root / "sequences" / name for name in wanted]


def _common_class_map(folders: Sequence[Path]) -> ClassMap:
    """What the labels of sequences mean: the same in all of them."""
    files = [folder / CLASS_MAP for folder in folders]
    maps = [ClassMap.load(path if path.exists() else "semantickitti") for path in files]
    for path, class_map in zip(files, maps, strict=True):
        if class_map != maps[0]:
            raise ConfigError(
                f"{path.parent}: its labels are those of class map {class_map.name}, those of {files[0].parent} of "
                f"{maps[0].name}: choose sequences of one class map"
            )
    return maps[0]


def _open_sequence(folder: Path, partly_labelled: bool, cameras: Sequence[str]) -> _Sequence:
    stems = _stems(folder / "velodyne", ".bin")
    if not stems:
        raise ScanError(f"{folder / 'velodyne'}: no scans (.bin) there")
    labelled = frozenset(_stems(folder / "labels", ".label"))
    unlabelled = sorted(set(stems) - labelled)
    if unlabelled and not partly_labelled:
        raise ScanError(
            f"{folder / 'labels'}: {len(unlabelled)} of {counted(len(stems), 'scan')} have no labels, "
            f"{unlabelled[0]} among them: {LABEL_OR_LEAVE_OUT}"
        )
    found = [name for name in cameras if (folder / name).is_dir()]
    calibrated, camera0_from_lidar = _read_cameras(folder / "calib.txt", found)
    poses, times = (
        _read_lines(folder / name, columns, stems) for name, columns in (("poses.txt", 12), ("times.txt", 1))
    )
    return _Sequence(folder, stems, labelled, calibrated, camera0_from_lidar, poses, times)


def _read_cameras(
    path: Path, names: Sequence[str]
) -> tuple[dict[str, tuple[Floats, RigidTransform]], RigidTransform | None]:
    """K and camera_from_lidar of the cameras, and camera0_from_lidar. Without images, calibration may be missing."""
    if not names and not path.exists():
        return {}, None
    entries = read_calibration(path)
    try:
        camera0_from_lidar = RigidTransform.from_matrix(calibration_entry(entries, "Tr", (3, 4), path))
        cameras = {}
        for name in names:
            matrix, camera_from_camera0 = split_projection(calibration_entry(entries, PROJECTIONS[name], (3, 4), path))
            cameras[name] = matrix, camera_from_camera0 @ camera0_from_lidar
    except ConfigError as error:
        raise ScanError(f"{path}: {error}") from error
    return cameras, camera0_from_lidar


def _read_lines(path: Path, columns: int, stems: Sequence[str]) -> Floats | None:
    """A file with a line for each scan, numbered from 0; None where it is missing."""
    if not path.exists():
        return None
    lines = read_numbers(path, columns)
    if unnumbered := [stem for stem in stems if not (stem.isascii() and stem.isdecimal())]:
        raise ScanError(f"{path}: has a line for each number of a scan, and {unnumbered[0]} is none: rename that scan")
    if int(last := max(stems, key=int)) >= len(lines):
        raise ScanError(f"{path}: has {counted(len(lines), 'line')}, none for scan {last}")
    if len(unknown := np.flatnonzero(~np.isfinite(lines).all(axis=1))):
        raise ScanError(f"{path}: line {unknown[0] + 1} is not of finite numbers")
    return lines


def _stems(folder: Path, suffix: str) -> tuple[str, ...]:
    if folder.is_dir() and not os.access(folder, os.R_OK | os.X_OK):  # which looks empty
        raise ScanError(f"{folder}: may not be read")
    return tuple(sorted(path.stem for path in folder.glob(f"[!.]*{suffix}")))
