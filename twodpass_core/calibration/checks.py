"""What a scan and an image must be like to be laid over each other."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

from twodpass_core.camera import CameraModel
from twodpass_core.errors import ScanError


def check_fit(points: npt.NDArray[np.floating], image: npt.NDArray[np.uint8], camera: CameraModel) -> None:
    """Raise ScanError unless points are (N, >=3) and the image is (H, W, 3) uint8 of the camera's size."""
    if points.ndim != 2 or points.shape[1] < 3:
        raise ScanError(f"points must be (N, >=3), not {points.shape}")
    if image.shape != (camera.height, camera.width, 3) or image.dtype != np.uint8:
        raise ScanError(
            f"the image is {image.shape} {image.dtype}, but its camera is calibrated for "
            f"{camera.width} x {camera.height} pixels, (H, W, 3) uint8"
        )
