"""A training sample: the points of one scan inside the volume, and which pixels of one image they are seen in."""

from __future__ import annotations

from contextlib import suppress
from dataclasses import dataclass, replace

import numpy as np
import numpy.typing as npt
import torch

from twodpass_core.data.frame import CameraView, Frame
from twodpass_core.errors import ImageError, ScanError
from twodpass_core.sparse.grid import VoxelGrid


@dataclass(frozen=True, eq=False)
class TrainingSample:
    """Points with labels and, where there is an image, the mapping M^img from points to its pixels (eq. 3).

    Augmentations take one and return another; arrays are never changed.
    """

    frame_id: str
    points: npt.NDArray[np.float32]  # (N, 4) x, y, z, intensity
    labels: npt.NDArray[np.uint8]  # (N,) training ids, 0 ignored
    image: npt.NDArray[np.uint8] | None  # (H, W, 3) RGB
    image_points: npt.NDArray[np.int64]  # (P,) which points are seen in the image, increasing
    pixels: npt.NDArray[np.int64]  # (P, 2) row, column of each of these

    def with_xyz(self, xyz: npt.NDArray[np.float32]) -> TrainingSample:
        """The points moved to (N, 3)."""
        return replace(self, points=np.concatenate([xyz, self.points[:, 3:]], axis=1))

    def take(self, chosen: npt.NDArray[np.int64]) -> TrainingSample:
        """The points `chosen` (M,), in that order, as often as they occur there; each is seen where it was seen."""
        row_of_point = np.full(len(self.points), -1, np.int64)
        row_of_point[self.image_points] = np.arange(len(self.image_points))
        row = row_of_point[chosen]
        seen = np.flatnonzero(row >= 0)
        return replace(
            self,
            points=self.points[chosen],
            labels=self.labels[chosen],
            image_points=seen,
            pixels=self.pixels[row[seen]],
        )

    def with_image(
        self, image: npt.NDArray[np.uint8], pixels: npt.NDArray[np.int64], seen: npt.NDArray[np.bool_] | None = None
    ) -> TrainingSample:
        """Another image, and where in it the image points are; only those `seen` (P,) stay image points."""
        if seen is None:
            return replace(self, image=image, pixels=pixels)
        return replace(self, image=image, pixels=pixels[seen], image_points=self.image_points[seen])


def make_sample(frame: Frame, grid: VoxelGrid, view: CameraView | None) -> TrainingSample:
    """The points of a frame that are given to the network, paired with the pixels of a view.

    A view whose image is of no use (ImageError, from a bag) is none.

    Raises:
        ScanError: the frame has no labels, or the view's image file cannot be read.
    """
    if frame.labels is None:
        raise ScanError(f"{frame.id}: has no labels to train on")
    inside = np.flatnonzero(given_points(frame.points, grid))
    points = frame.points[inside]
    image, image_points, pixels = None, np.empty(0, np.int64), np.empty((0, 2), np.int64)
    if view is not None:
        with suppress(ImageError):  # of no use, as its source has told: the points teach without it
            image = view.load_image()
            image_points, pixels = pair(points, view)
    return TrainingSample(frame.id, points, frame.labels[inside], image, image_points, pixels)


def given_points(points: npt.NDArray[np.float32], grid: VoxelGrid) -> npt.NDArray[np.bool_]:
    """(N,) which of points (N, 4) the network sees; see `VoxelGrid.admits`."""
    return np.asarray(grid.admits(torch.from_numpy(points)).numpy())


def pair(points: npt.NDArray[np.float32], view: CameraView) -> tuple[npt.NDArray[np.int64], npt.NDArray[np.int64]]:
    """Which points (N, 4) are in the view, (P,), and their pixels (P, 2) row, column: eq. 1 and 3.

    Nothing is known of what hides what: a point behind another one is paired too, as in the paper.
    """
    uv, visible = view.camera.project(view.camera_from_lidar.apply(points[:, :3].astype(np.float64)))
    image_points = np.flatnonzero(visible)
    return image_points, np.floor(uv[image_points, ::-1]).astype(np.int64)
