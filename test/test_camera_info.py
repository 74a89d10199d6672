"""Camera models from CameraInfo, and what is said of one that is of no use."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from rosbags.typesys import Stores, get_typestore

from twodpass_core.cameras.info import camera_from_info, rectified_camera_from_info
from twodpass_core.errors import ConfigError

TYPES = get_typestore(Stores.ROS2_HUMBLE)
K = (700.0, 0, 320, 0, 710, 240, 0, 0, 1)
P = (650.0, 0, 310, -65.0, 0, 650, 250, 0, 0, 0, 1, 0)


def camera_info(
    model: str = "plumb_bob",
    d: tuple[float, ...] = (),
    k: tuple[float, ...] = K,
    p: tuple[float, ...] = P,
    size: tuple[int, int] = (640, 480),
    binning: tuple[int, int] = (0, 0),
    roi: tuple[int, int, int, int] = (0, 0, 0, 0),
) -> Any:
    """`roi`: x, y, width, height."""
    t = TYPES.types
    header = t["std_msgs/msg/Header"](t["builtin_interfaces/msg/Time"](1, 2), "camera_optical")
    region = t["sensor_msgs/msg/RegionOfInterest"](roi[0], roi[1], roi[3], roi[2], False)
    turn = np.array([[0, -1, 0], [1, 0, 0], [0, 0, 1]], np.float64)
    return t["sensor_msgs/msg/CameraInfo"](
        header, size[1], size[0], model, np.array(d), np.array(k), turn.ravel(), np.array(p), *binning, region
    )


def test_plain_camera() -> None:
    camera = camera_from_info(camera_info(d=(0.1, 0.2, 0.3, 0.4, 0.5)))
    assert (camera.width, camera.height, camera.distortion_model) == (640, 480, "plumb_bob")
    assert camera.coefficients == (0.1, 0.2, 0.3, 0.4, 0.5)
    np.testing.assert_array_equal(camera.matrix, np.reshape(K, (3, 3)))


@pytest.mark.parametrize(
    ("model", "d", "expected", "coefficients"),
    [
        ("", (), "pinhole", ()),
        ("", (0.0,) * 5, "pinhole", ()),
        ("fisheye", (1.0, 2, 3, 4), "equidistant", (1, 2, 3, 4)),
        ("equidistant", (1.0, 2, 3, 4, 0), "equidistant", (1, 2, 3, 4)),
        ("plumb_bob", (1.0, 2, 3, 4), "plumb_bob", (1, 2, 3, 4)),
        ("plumb_bob", (0.0,) * 8, "pinhole", ()),
        ("Inverse Brown", (0.0,) * 5, "pinhole", ()),
        ("plumb_bob", (0.1, *(0.0,) * 7), "plumb_bob", (0.1, 0, 0, 0, 0)),
        ("rational_polynomial", (*range(1, 9), 0, 0, 0, 0), "rational_polynomial", tuple(range(1, 9))),
    ],
)  # fmt: skip
def test_what_drivers_write(model: str, d: tuple[float, ...], expected: str, coefficients: tuple[float, ...]) -> None:
    camera = camera_from_info(camera_info(model, d))
    assert (camera.distortion_model, camera.coefficients) == (expected, coefficients)


def test_binning_and_region_of_interest() -> None:
    """The pixel of a point in the cut and binned image is where it was in the full one, cut and binned."""
    full = camera_from_info(camera_info())
    part = camera_from_info(camera_info(binning=(2, 3), roi=(100, 60, 401, 300)))
    assert (part.width, part.height) == (200, 100)
    points = np.array([[0.0, 0, 10], [0.5, -0.4, 5], [-1, 0.3, 8]])
    np.testing.assert_allclose(part.project(points)[0], (full.project(points)[0] - (100, 60)) / (2, 3))


def test_rectified_camera() -> None:
    camera, rectified_from_camera = rectified_camera_from_info(camera_info(d=(0.1, 0.2, 0.3, 0.4)))
    assert (camera.distortion_model, camera.coefficients) == ("pinhole", ())
    np.testing.assert_array_equal(camera.matrix, np.reshape(P, (3, 4))[:, :3])
    np.testing.assert_allclose(rectified_from_camera.apply(np.array([[1.0, 2, 3]])), [[-2, 1, 3]])


@pytest.mark.parametrize(
    ("changes", "reason"),
    [
        ({"k": (0.0,) * 9}, "Is the camera calibrated?"),
        ({"k": (1.0,) * 8}, "k has 8 numbers, not 9"),
        ({"size": (0, 0)}, "0 x 0 pixels"),
        ({"model": "thin_prism", "d": (0.1,)}, "unknown distortion model 'thin_prism': known are pinhole, plumb_bob"),
        ({"model": "", "d": (0.1, 0, 0, 0)}, "unknown distortion model ''"),
        ({"model": "equidistant"}, "equidistant has 4 coefficients, not 0"),
        ({"d": (0.1, 0, 0)}, "plumb_bob has 0 or 4 or 5 coefficients, not 3"),
        ({"d": (0.1,) * 8}, "plumb_bob has 0 or 4 or 5 coefficients, not 8"),
        ({"d": (np.nan,) * 4}, "must be finite"),
        ({"roi": (600, 0, 100, 100)}, "not inside the image of 640 x 480"),
        ({"roi": (0, 400, 100, 100)}, "not inside the image of 640 x 480"),
    ],
)
def test_a_camera_info_of_no_use(changes: dict[str, Any], reason: str) -> None:
    with pytest.raises(ConfigError, match=r"CameraInfo of 'camera_optical': ") as error:
        camera_from_info(camera_info(**changes))
    assert reason in str(error.value)


def test_no_rectification() -> None:
    with pytest.raises(ConfigError, match="CameraInfo of 'camera_optical': no 3x4 projection matrix"):
        rectified_camera_from_info(camera_info(p=(0.0,) * 12))
