"""A tiny data set in memory: blobs of points whose classes their heights tell, seen by one camera."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np

from twodpass_core.cameras.model import CameraModel
from twodpass_core.classes import ClassMap, SemanticClass
from twodpass_core.data.frame import CameraView, Frame
from twodpass_core.geometry.rigid_transform import RigidTransform
from twodpass_core.sparse.grid import VoxelGrid
from twodpass_core.training.config import TrainingConfig

CLASS_MAP = ClassMap(
    name="blobs",
    classes=tuple(
        SemanticClass(id=index, name=name, colour=(80 * index, 100, 50), raw_ids=(index,), raw_id=index)
        for index, name in enumerate(("ignored", "low", "high"))
    ),
)
GRID = VoxelGrid(minimum=(-8, -8, -2), maximum=(8, 8, 2), cells=(64, 64, 16))
CAMERA = CameraModel(np.array([[30.0, 0, 24], [0, 30.0, 16], [0, 0, 1]]), 48, 32)
# x right, y down, z forward, of a camera that looks along the LiDAR's x.
CAMERA_FROM_LIDAR = RigidTransform(np.array([[0, -1, 0], [0, 0, -1], [1, 0, 0]], float), np.zeros(3))


class Blobs:
    """A FrameSource of random frames; the same seed gives the same ones."""

    kind = "blobs"
    class_map = CLASS_MAP
    grid = GRID
    intensity_max = 1.0

    def __init__(
        self,
        frames: int,
        seed: int = 0,
        points: int = 300,
        images: bool = True,
        class_map: ClassMap = CLASS_MAP,
        intensity_max: float = 1.0,
    ) -> None:
        self.frames, self.seed, self.points, self.images = frames, seed, points, images
        self.class_map, self.intensity_max = class_map, intensity_max

    @property
    def ids(self) -> Sequence[str]:
        return [f"00/{index:06d}" for index in range(self.frames)]

    def __len__(self) -> int:
        return self.frames

    def __getitem__(self, index: int) -> Frame:
        rng = np.random.default_rng([self.seed, index])
        # Some points lie outside the volume: they are not trained on, and count as missed.
        points = rng.uniform((-9, -9, -2, 0), (9, 9, 2, 1), (self.points, 4)).astype(np.float32)
        labels = np.where(points[:, 2] > 0, 2, 1).astype(np.uint8)
        labels[rng.random(self.points) < 0.1] = 0
        image = rng.integers(0, 255, (32, 48, 3), np.uint8)
        views = (CameraView("front", CAMERA, CAMERA_FROM_LIDAR, image),) if self.images else ()
        return Frame(self.ids[index], points, labels, views=views)


def tiny_config(run: Path, **changes: object) -> TrainingConfig:
    """A training of seconds on one CPU process, of the student alone, with changes like optimiser={"accumulate": 2}."""
    settings: dict[str, object] = {
        "run": run,
        "epochs": 2,
        "data": {"batch_size": 2, "workers": 0},
        "student": {"scales": (2, 4), "width": 8, "hidden": 16},
        "distillation": {"kind": "none", "width": 8},
        "augmentation": {"crop": None},
        "machine": {"accelerator": "cpu", "devices": 1},
    }
    for name, value in changes.items():
        before = settings.get(name)
        settings[name] = {**before, **value} if isinstance(before, dict) and isinstance(value, dict) else value
    return TrainingConfig.model_validate(settings)
