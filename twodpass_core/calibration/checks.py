"""What a scan and an image must be like to be laid over each other."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

from twodpass_core.cameras.model import CameraModel
from twodpass_core.errors import ScanError


def checked_points(
    points: npt.NDArray[np.floating], image: npt.NDArray[np.uint8], camera: CameraModel
) -> npt.NDArray[np.float64]:
    """Those points that are finite, (M, 3).

    Raises:
        ScanError: points are not (N, >=3), or the image is not (H, W, 3) uint8 of the camera's size.
    """
    if points.ndim != 2 or points.shape[1] < 3:
        raise ScanError(f"points must be (N, >=3), not {points.shape}")
    if image.shape != (camera.height, camera.width, 3) or image.dtype != np.uint8:
        raise ScanError(
            f"the image is {image.shape} {image.dtype}, but its camera is calibrated for "
            f"{camera.width} x {camera.height} pixels, (H, W, 3) uint8"
        )
    xyz = np.asarray(points[:, :3], np.float64)
    return xyz[np.isfinite(xyz).all(axis=1)]
