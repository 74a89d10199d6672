"""A frame: one LiDAR scan with what belongs to it, and the sources that frames come from."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol, TypeAlias, runtime_checkable

import numpy as np
import numpy.typing as npt
from PIL import Image

from twodpass_core.cameras.model import CameraModel
from twodpass_core.classes import ClassMap
from twodpass_core.data.image_messages import to_rgb
from twodpass_core.errors import ScanError
from twodpass_core.geometry.rigid_transform import RigidTransform
from twodpass_core.sparse.grid import VoxelGrid

ImageLoader: TypeAlias = Callable[[], npt.NDArray[np.uint8]]


@dataclass(frozen=True, eq=False)
class CameraView:
    """An image, and the camera that took it: how it stood to the LiDAR, any motion between their two times included."""

    name: str
    camera: CameraModel
    camera_from_lidar: RigidTransform
    image: Path | npt.NDArray[np.uint8] | ImageLoader  # a file, (H, W, 3) RGB, or what gives that
    stamp_ns: int | None = None  # of the image, where known, on the clock of the frame's

    def load_image(self) -> npt.NDArray[np.uint8]:
        """(H, W, 3) RGB.

        Raises:
            ScanError: a file that cannot be read, or an image not of the camera's size.
            BagError: a bag that has changed or is damaged.
            ImageError: an image in a bag that is damaged or not of the camera's size: the frame is used without.
        """
        if isinstance(self.image, Path):
            try:
                with Image.open(self.image) as file:
                    image = to_rgb(file)
            except (OSError, Image.DecompressionBombError) as error:
                raise ScanError(f"{self.image}: cannot be read as an image: {error}") from error
        else:
            image = self.image if isinstance(self.image, np.ndarray) else self.image()
        if image.shape != (self.camera.height, self.camera.width, 3):
            raise ScanError(
                f"{self._described()}: is of shape {image.shape}, but its camera is calibrated for "
                f"{self.camera.width} x {self.camera.height} pixels"
            )
        return image

    def _described(self) -> str:
        return f"image of {self.name}" if isinstance(self.image, np.ndarray) else str(self.image)


@dataclass(frozen=True, eq=False)
class Frame:
    """A LiDAR scan in the frame and the unit of its data set, with labels, camera views and pose where there are any.

    Raises:
        ScanError: arrays that are not of the form below, or not of one length.
    """

    id: str
    points: npt.NDArray[np.float32]  # (N, 4) x, y, z, intensity
    labels: npt.NDArray[np.uint8] | None = None  # (N,) training ids, 0 ignored
    instances: npt.NDArray[np.uint16] | None = None  # (N,) 0: of no instance
    views: tuple[CameraView, ...] = ()
    world_from_lidar: RigidTransform | None = None
    stamp_ns: int | None = None

    def __post_init__(self) -> None:
        if self.points.ndim != 2 or self.points.shape[1] != 4 or self.points.dtype != np.float32:
            raise ScanError(f"{self.id}: points must be (N, 4) float32, not {self.points.shape} {self.points.dtype}")
        for name, values, dtype in (("labels", self.labels, np.uint8), ("instances", self.instances, np.uint16)):
            if values is not None and (values.shape != self.points.shape[:1] or values.dtype != dtype):
                raise ScanError(
                    f"{self.id}: {name} must be ({len(self.points)},) {np.dtype(dtype)}, one for each point, "
                    f"not {values.shape} {values.dtype}"
                )


class FrameSource(Protocol):
    """A sequence of frames of one data set, read one at a time.

    `__getitem__` raises ScanError (bags also BagError, LabelError) naming what is missing, short or damaged. An image
    that is not there is no error: the frame then lacks that view and is used LiDAR-only, as the paper does where views
    do not overlap.
    """

    @property
    def kind(self) -> str:
        """What its frames are of, as a card says it: "simulated streets" in "1,200 frames of simulated streets"."""
        ...

    @property
    def class_map(self) -> ClassMap: ...

    @property
    def grid(self) -> VoxelGrid:
        """The volume that networks for this data segment, in its LiDAR frame."""
        ...

    @property
    def intensity_max(self) -> float:
        """Full scale of the intensity."""
        ...

    @property
    def ids(self) -> Sequence[str]:
        """Of all frames, in order, each different; known without reading them."""
        ...

    def __len__(self) -> int: ...

    def __getitem__(self, index: int) -> Frame: ...


@runtime_checkable
class PartlyLabelled(Protocol):
    """A source of which some frames may be without labels says which."""

    @property
    def labelled(self) -> npt.NDArray[np.bool_]:
        """(frames,) which have labels; known without reading them."""
        ...


@runtime_checkable
class PartOfData(Protocol):
    """A source that may leave some of its data to another one says so."""

    @property
    def part(self) -> str:
        """Which part it is, in words; empty if all."""
        ...


def image_size(path: Path) -> tuple[int, int]:
    """Width and height from an image's header. Raises ScanError."""
    try:
        with Image.open(path) as file:
            return file.size
    except (OSError, Image.DecompressionBombError) as error:
        raise ScanError(f"{path}: cannot be read as an image: {error}") from error
