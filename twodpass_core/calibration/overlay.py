"""The scan in the picture: a wrong calibration is seen at a glance."""

from __future__ import annotations

import math

import numpy as np
import numpy.typing as npt

from twodpass_core.calibration.checks import checked_points
from twodpass_core.cameras.model import CameraModel
from twodpass_core.geometry.rigid_transform import RigidTransform

NEAR, FAR = 2.0, 80.0  # metres: red, blue
PIXELS_PER_DOT = 500  # of the image's width, for one of the dot's


def draw_overlay(
    image: npt.NDArray[np.uint8],
    points: npt.NDArray[np.floating],
    camera: CameraModel,
    camera_from_lidar: RigidTransform,
) -> npt.NDArray[np.uint8]:
    """The image (H, W, 3) RGB with points (N, >=3), metres, drawn in as dots from red, near, to blue, far; a copy.

    Near dots cover far ones.

    Raises:
        ScanError: arrays of other shapes, or an image not of the camera's size.
    """
    in_camera = camera_from_lidar.apply(checked_points(points, image, camera))
    uv, visible = camera.project(in_camera)
    depth = in_camera[visible, 2]
    farthest_first = np.argsort(-depth)
    pixel = uv[visible][farthest_first].astype(np.int64)
    colours = _colours(depth[farthest_first])

    size = max(1, round(camera.width / PIXELS_PER_DOT))
    dot = np.stack(np.meshgrid(*[np.arange(size) - size // 2] * 2), axis=-1).reshape(-1, 2)
    # All pixels of a dot together: of several dots on one pixel, the last stays.
    covered = np.clip(pixel[:, None] + dot, 0, (camera.width - 1, camera.height - 1))
    drawn = image.copy()
    drawn[covered[..., 1], covered[..., 0]] = colours[:, None]
    return drawn


def _colours(depth: npt.NDArray[np.float64]) -> npt.NDArray[np.uint8]:
    """(M,) metres -> (M, 3) RGB, by the logarithm: near things are told apart best."""
    from matplotlib import colormaps  # slow to load, and wanted only where somebody looks

    # Turbo's ends are nearly black: they are left out.
    share = np.log(np.clip(depth, NEAR, FAR) / NEAR) / math.log(FAR / NEAR)
    return np.asarray(colormaps["turbo_r"](0.05 + 0.9 * share, bytes=True)[:, :3])
