"""Camera models from sensor_msgs/CameraInfo, in the form of any library that has its attributes."""

from __future__ import annotations

from typing import Any, Final, cast

import numpy as np

from twodpass_core.cameras.model import COEFFICIENTS, CameraModel, DistortionModel, Floats, split_projection
from twodpass_core.errors import ConfigError
from twodpass_core.geometry.rigid_transform import RigidTransform

ALIASES: Final = {"fisheye": "equidistant", "radtan": "plumb_bob"}  # what some drivers call the models


def camera_from_info(message: Any) -> CameraModel:
    """The camera that takes the raw images: K with distortion, binning and region of interest applied.

    Raises:
        ConfigError: K or the size is zero (not calibrated), an unknown distortion model, a wrong number of
            coefficients, a region of interest outside the image.
    """
    try:
        model, coefficients = _distortion(message)
        return _camera(message, _matrix(message, "k", (3, 3)), model, coefficients)
    except ConfigError as error:
        raise ConfigError(f"CameraInfo of '{message.header.frame_id}': {error}") from None


def rectified_camera_from_info(message: Any) -> tuple[CameraModel, RigidTransform]:
    """The camera of the rectified images (image_rect): P without distortion, and rectified_from_camera, the turn by R.

    The camera is taken to stand where its own frame is: what P's last column says of a stereo pair is left to TF.

    Raises:
        ConfigError: as `camera_from_info`, of P and R.
    """
    try:
        matrix, _ = split_projection(_matrix(message, "p", (3, 4)))
        turn = RigidTransform.from_matrix(np.hstack([_matrix(message, "r", (3, 3)), np.zeros((3, 1))]))
        return _camera(message, matrix, "pinhole", ()), turn
    except ConfigError as error:
        raise ConfigError(f"CameraInfo of '{message.header.frame_id}': {error}") from None


def _matrix(message: Any, name: str, shape: tuple[int, int]) -> Floats:
    values = np.asarray(getattr(message, name), np.float64).ravel()
    if values.size != shape[0] * shape[1]:
        raise ConfigError(f"{name} has {values.size} numbers, not {shape[0] * shape[1]}")
    return values.reshape(shape)


def _distortion(message: Any) -> tuple[DistortionModel, tuple[float, ...]]:
    coefficients = [float(value) for value in message.d]
    name = ALIASES.get(message.distortion_model, message.distortion_model)
    if not any(coefficients) and name != "equidistant":  # whatever it is called, it does not distort
        return "pinhole", ()
    # Some drivers fill up with zeros.
    while coefficients and coefficients[-1] == 0 and len(coefficients) > max(COEFFICIENTS.get(name, (0,))):
        coefficients.pop()
    return cast(DistortionModel, name), tuple(coefficients)


def _camera(message: Any, matrix: Floats, model: DistortionModel, coefficients: tuple[float, ...]) -> CameraModel:
    """K and size as CameraInfo has them are of the full image; that which is sent is cut out, then binned."""
    roi = message.roi
    x, y, width, height = roi.x_offset, roi.y_offset, roi.width or message.width, roi.height or message.height
    if x + width > message.width or y + height > message.height:
        raise ConfigError(
            f"the region of interest, {width} x {height} pixels from {x}, {y} on, is not inside the image of "
            f"{message.width} x {message.height}"
        )
    binning = np.array([max(message.binning_x, 1), max(message.binning_y, 1), 1])
    shifted = matrix - np.array([[0, 0, x], [0, 0, y], [0, 0, 0]])
    return CameraModel(
        shifted / binning[:, None], int(width // binning[0]), int(height // binning[1]), model, coefficients
    )
