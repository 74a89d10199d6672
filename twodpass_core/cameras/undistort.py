"""Images as a camera without lens distortion would have taken them."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

from twodpass_core.cameras.model import CameraModel
from twodpass_core.errors import MissingDependencyError


class Undistortion:
    """Takes the distortion out of the images of one camera: called with one, gives it as K alone would make it.

    The image is (H, W, 3) uint8 and keeps its size; black is where the camera saw nothing.
    """

    def __init__(self, camera: CameraModel) -> None:
        """Raises MissingDependencyError where there is distortion, and OpenCV is not there."""
        self.camera = camera
        self._is_needed = any(camera.coefficients) or camera.distortion_model == "equidistant"
        if not self._is_needed:
            return
        try:
            import cv2
        except ImportError as error:
            raise MissingDependencyError(
                "OpenCV", "taking distortion out of images", 'pip install "twodpass[bags]"'
            ) from error
        self._remap, self._linear, self._edge = cv2.remap, cv2.INTER_LINEAR, cv2.BORDER_REPLICATE
        # Where the middle of each pixel of the result is seen. A pixel covers up to row + 1, column + 1 here, in OpenCV
        # a half to both sides.
        column, row = np.meshgrid(np.arange(camera.width) + 0.5, np.arange(camera.height) + 0.5)
        rays = np.stack([column.ravel(), row.ravel(), np.ones(column.size)], axis=1) @ np.linalg.inv(camera.matrix).T
        uv, visible = camera.project(rays)
        seen_at = np.where(visible[:, None], uv - 0.5, 0).astype(np.float32)
        self._u, self._v = (seen_at[:, axis].reshape(column.shape) for axis in (0, 1))
        self._unseen = ~visible.reshape(column.shape)

    def __call__(self, image: npt.NDArray[np.uint8]) -> npt.NDArray[np.uint8]:
        if not self._is_needed:
            return image
        out = np.asarray(self._remap(image, self._u, self._v, self._linear, borderMode=self._edge), np.uint8)
        out[self._unseen] = 0
        return out

    def fits(self, camera: CameraModel) -> bool:
        """Whether another camera has the same K, distortion and size."""
        own = self.camera
        return bool(np.array_equal(own.matrix, camera.matrix)) and (
            (own.width, own.height, own.distortion_model, own.coefficients)
            == (camera.width, camera.height, camera.distortion_model, camera.coefficients)
        )
