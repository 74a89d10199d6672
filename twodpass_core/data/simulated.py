"""Simulated streets as a FrameSource: made when asked for, or kept in a folder once made."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from dataclasses import replace
from importlib import resources
from pathlib import Path
from typing import Annotated, Final, Literal
from zipfile import BadZipFile

import numpy as np
import numpy.typing as npt
from PIL import Image
from pydantic import Field

from twodpass_core.checked import Checked
from twodpass_core.classes import ClassMap
from twodpass_core.data.frame import CameraView, Frame
from twodpass_core.errors import ConfigError, ScanError
from twodpass_core.files import UserPath, replacing
from twodpass_core.geometry.rigid_transform import RigidTransform
from twodpass_core.simulation import HDL_64E, Drive, kitti_camera
from twodpass_core.sparse.grid import KITTI_GRID

FIRST_SEED: Final = {"train": 1_000, "val": 1_000_000, "test": 2_000_000}
"""Of the streets of each split: no street is in two of them. Those below 1000 are for looking at."""
CAMERA: Final = "image_2"
Positive = Annotated[int, Field(gt=0)]


class SimulationConfig(Checked):
    """Which streets, and how they are seen."""

    streets: int = Field(200, gt=0, le=100_000, description="number of different streets")
    frames: Positive = Field(4, description="frames of each street")
    seconds: float = Field(3.0, ge=0.001, description="time between the frames of a street, at 8 m/s")
    beams: Literal[16, 32, 64] = Field(64, description="of the LiDAR: all 64 of KITTI's, every other, every fourth")
    columns: int = Field(1024, ge=8, description="measurements of each beam per turn")
    image_width: int = Field(621, ge=32, description="pixels; the view is that of KITTI's 1242 x 375")
    cache: UserPath | None = Field(None, description="folder to keep frames in once made; null: made anew each time")


class SimulatedStreets:
    """Frames of streets that belong to a split, as a FrameSource with SemanticKITTI's classes, volume and intensity."""

    grid = KITTI_GRID
    kind = "simulated streets"
    intensity_max = 1.0

    def __init__(
        self, split: str = "train", settings: SimulationConfig | None = None, *, cameras: Sequence[str] = (CAMERA,)
    ) -> None:
        """Make nothing yet.

        Args:
            split: train, val or test.
            cameras: [] for LiDAR only, which is faster.

        Raises:
            ConfigError: unknown split or camera.
        """
        if split not in FIRST_SEED:
            raise ConfigError(f"the simulation has no split '{split}': choose {', '.join(FIRST_SEED)}")
        if unknown := sorted(set(cameras) - {CAMERA}):
            raise ConfigError(f"the simulation has no camera {', '.join(unknown)}: choose {CAMERA}")
        self.class_map = ClassMap.load("semantickitti")
        self._settings = settings = settings or SimulationConfig()
        self._camera = kitti_camera(settings.image_width) if cameras else None
        elevations_deg = HDL_64E.elevations_deg[:: len(HDL_64E.elevations_deg) // settings.beams]
        self._lidar = replace(HDL_64E, elevations_deg=elevations_deg, columns=settings.columns)
        self._moments = [
            (FIRST_SEED[split] + street, round(frame * settings.seconds * 1e9))
            for street in range(settings.streets)
            for frame in range(settings.frames)
        ]
        self._folder = None if settings.cache is None else settings.cache / _fingerprint(repr(self._lidar))

    @property
    def ids(self) -> Sequence[str]:
        """SEED/NNNNNN: street and milliseconds since the start of the drive."""
        return [_frame_id(seed, stamp_ns) for seed, stamp_ns in self._moments]

    def __len__(self) -> int:
        return len(self._moments)

    def __getitem__(self, index: int) -> Frame:
        seed, stamp_ns = self._moments[index]
        drive = Drive(seed, self._lidar)
        points, labels, instances = self._scan(drive, stamp_ns)
        return Frame(
            id=_frame_id(seed, stamp_ns),
            points=points,
            labels=labels,
            instances=instances,
            views=self._views(drive, stamp_ns),
            world_from_lidar=RigidTransform.from_matrix(drive.pose(stamp_ns)),
            stamp_ns=stamp_ns,
        )

    def _scan(
        self, drive: Drive, stamp_ns: int
    ) -> tuple[npt.NDArray[np.float32], npt.NDArray[np.uint8], npt.NDArray[np.uint16]]:
        path = self._kept(drive.seed, stamp_ns, ".npz")
        if path is not None and path.exists():
            try:
                with np.load(path) as kept:
                    return kept["points"], kept["labels"], kept["instances"]
            except (OSError, ValueError, KeyError, BadZipFile) as error:
                raise ScanError(f"{path}: cannot be read, delete it: {error}") from error
        scan = drive.scan(stamp_ns)
        labels = self.class_map.training_ids(scan.raw_labels)
        if path is not None:
            path.parent.mkdir(parents=True, exist_ok=True)
            with replacing(path) as partial, partial.open("wb") as file:
                np.savez(file, points=scan.points, labels=labels, instances=scan.instances)
        return scan.points, labels, scan.instances

    def _views(self, drive: Drive, stamp_ns: int) -> tuple[CameraView, ...]:
        if self._camera is None:
            return ()
        path = self._kept(drive.seed, stamp_ns, f"_{self._camera.model.width}.png")
        image = path if path is not None and path.exists() else drive.picture(stamp_ns, self._camera).image
        if path is not None and isinstance(image, np.ndarray):
            with replacing(path) as partial:
                Image.fromarray(image).save(partial, format="png")
        return (CameraView(CAMERA, self._camera.model, self._camera.camera_from_lidar, image, stamp_ns),)

    def _kept(self, seed: int, stamp_ns: int, suffix: str) -> Path | None:
        """Where a part of a frame is kept."""
        return None if self._folder is None else self._folder / f"{seed:07d}_{stamp_ns}{suffix}"


def _frame_id(seed: int, stamp_ns: int) -> str:
    return f"{seed:07d}/{stamp_ns // 1_000_000:06d}"


def _fingerprint(settings: str) -> str:
    """Of the simulation's code and the settings: what is kept is not mistaken for what another version would make."""
    digest = hashlib.sha256(settings.encode())
    sources = (entry for entry in resources.files("twodpass_core.simulation").iterdir() if entry.name.endswith(".py"))
    for source in sorted(sources, key=lambda entry: entry.name):
        digest.update(source.read_bytes())
    return digest.hexdigest()[:16]
