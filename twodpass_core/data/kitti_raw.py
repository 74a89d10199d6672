"""KITTI raw: a drive's `velodyne_points/data` and `image_02/data`, the day's calibration in it or above. No labels."""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from datetime import datetime, timezone
from pathlib import Path
from typing import Final

import numpy as np
import numpy.typing as npt

from twodpass_core.cameras.model import CameraModel, split_projection
from twodpass_core.classes import ClassMap
from twodpass_core.data.frame import CameraView, Frame, image_size
from twodpass_core.data.kitti_files import Floats, calibration_entry, read_calibration, read_text
from twodpass_core.data.scan_files import KITTI_COLUMNS, read_scan
from twodpass_core.errors import ConfigError, ScanError
from twodpass_core.geometry.rigid_transform import RigidTransform
from twodpass_core.sparse.grid import KITTI_GRID

PROJECTIONS: Final = {"image_02": "P_rect_02", "image_03": "P_rect_03"}  # of the colour cameras, left and right
CAMERA_FILE, LIDAR_FILE = "calib_cam_to_cam.txt", "calib_velo_to_cam.txt"


class KittiRaw:
    """A synchronised and rectified drive of KITTI raw as a FrameSource. Its frames have no labels."""

    grid = KITTI_GRID
    kind = "KITTI raw"
    intensity_max = 1.0

    def __init__(self, root: Path, cameras: Sequence[str] = ("image_02",)) -> None:
        """Find the files, reading no points.

        Args:
            root: the drive's folder, which holds `velodyne_points`.
            cameras: image folders to use where they are there: image_02, image_03.

        Raises:
            ConfigError: unknown camera.
            ScanError: no scans; calibration missing or damaged; not as many time stamps as scans.
        """
        if unknown := sorted(set(cameras) - set(PROJECTIONS)):
            raise ConfigError(f"KITTI raw has no colour camera {', '.join(unknown)}: choose {', '.join(PROJECTIONS)}")
        self.class_map = ClassMap.load("semantickitti")
        self._root, self._drive = root, Path(os.path.abspath(root)).name  # of a link, its own
        self._stems = sorted(path.stem for path in (root / "velodyne_points/data").glob("[!.]*.bin"))
        if not self._stems:
            raise ScanError(f"{root / 'velodyne_points/data'}: no scans (.bin) there; root must be a drive's folder")
        self._cameras = _read_cameras(root, cameras)
        self._stamps = _read_stamps(root / "velodyne_points/timestamps.txt", self._stems)
        self._image_stamps = {name: _read_stamps(root / name / "timestamps.txt", self._stems) for name in self._cameras}

    @property
    def ids(self) -> Sequence[str]:
        """DRIVE/NNNNNNNNNN: the drive's folder and the scan."""
        return [f"{self._drive}/{stem}" for stem in self._stems]

    @property
    def labelled(self) -> npt.NDArray[np.bool_]:
        """(frames,) which have labels: none."""
        return np.zeros(len(self), bool)

    def __len__(self) -> int:
        return len(self._stems)

    def __getitem__(self, index: int) -> Frame:
        stem = self._stems[index]
        views = []
        for name, (matrix, camera_from_lidar) in self._cameras.items():
            path = self._root / name / "data" / f"{stem}.png"
            if path.is_file():
                model, stamps = CameraModel(matrix, *image_size(path)), self._image_stamps[name]
                stamp_ns = None if stamps is None else stamps[int(stem)]
                views.append(CameraView(name, model, camera_from_lidar, path, stamp_ns))
        return Frame(
            id=f"{self._drive}/{stem}",
            points=read_scan(self._root / "velodyne_points/data" / f"{stem}.bin", KITTI_COLUMNS),
            views=tuple(views),
            stamp_ns=None if self._stamps is None else self._stamps[int(stem)],
        )


def _read_cameras(root: Path, names: Sequence[str]) -> Mapping[str, tuple[Floats, RigidTransform]]:
    """K and camera_from_lidar: u ~ P_rect R_rect_00 [R T] x."""
    folder = next((folder for folder in (root, root.resolve().parent) if (folder / CAMERA_FILE).exists()), root)
    camera_path, lidar_path = folder / CAMERA_FILE, folder / LIDAR_FILE
    camera, lidar = read_calibration(camera_path), read_calibration(lidar_path)
    rotation = calibration_entry(lidar, "R", (3, 3), lidar_path)
    translation = calibration_entry(lidar, "T", (3, 1), lidar_path)
    rectification = calibration_entry(camera, "R_rect_00", (3, 3), camera_path)
    try:
        camera0_from_lidar = RigidTransform.from_matrix(np.hstack([rotation, translation]))
        rectified_from_camera0 = RigidTransform.from_matrix(np.hstack([rectification, np.zeros((3, 1))]))
        cameras = {}
        for name in names:
            projection = calibration_entry(camera, PROJECTIONS[name], (3, 4), camera_path)
            matrix, camera_from_rectified = split_projection(projection)
            cameras[name] = matrix, camera_from_rectified @ rectified_from_camera0 @ camera0_from_lidar
    except ConfigError as error:
        raise ScanError(f"{folder}: calibration: {error}") from error
    return cameras


def _read_stamps(path: Path, stems: Sequence[str]) -> list[int] | None:
    """Nanoseconds since 1970 of each scan or its image, from lines like 2011-09-26 13:02:25.964389445.

    None without the file.
    """
    if not path.exists():
        return None
    stamps = []
    for line in read_text(path).split("\n"):
        if line.strip():
            seconds, _, fraction = line.strip().partition(".")
            try:
                time = datetime.fromisoformat(seconds).replace(tzinfo=timezone.utc)
                stamps.append(int(time.timestamp()) * 10**9 + int(fraction.ljust(9, "0")[:9]))
            except ValueError as error:
                raise ScanError(f"{path}: '{line.strip()}' is not a time stamp") from error
    for stem in stems:
        if not stem.isdecimal() or int(stem) >= len(stamps):
            raise ScanError(f"{path}: has {len(stamps)} time stamps, none for scan {stem}")
    return stamps
