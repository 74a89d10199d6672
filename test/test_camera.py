"""Camera models: eq. 1 and 3, distortion, and what counts as visible."""

from __future__ import annotations

import json
import math
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from twodpass_core.cameras.model import CameraModel, DistortionModel, split_projection
from twodpass_core.data.scan_files import read_scan
from twodpass_core.errors import ConfigError
from twodpass_core.geometry.rigid_transform import RigidTransform
from twodpass_core.geometry.trajectory import camera_from_lidar_across_times

K = np.array([[700.0, 0, 620], [0, 710, 180], [0, 0, 1]])
WIDTH, HEIGHT = 1240, 376


def camera(distortion_model: DistortionModel = "pinhole", *coefficients: float) -> CameraModel:
    return CameraModel(K, WIDTH, HEIGHT, distortion_model, coefficients)


def test_nuscenes_pairing_equals_the_authors(golden: Path) -> None:
    """Eq. 2 and 1 on 20,000 points, with the LiDAR's and the camera's own times."""
    values = np.load(golden / "nus_projection.npz")

    def pose(rotation: str, translation: str) -> RigidTransform:
        return RigidTransform.from_quaternion(values[f"calib/{rotation}"], values[f"calib/{translation}"])

    camera_from_lidar = camera_from_lidar_across_times(
        pose("cam2ego_rotation", "cam2ego_translation").inverse(),
        pose("ego2global_rotation_cam", "ego2global_translation_cam"),
        pose("ego2global_rotation_lidar", "ego2global_translation_lidar"),
        pose("lidar2ego_rotation", "lidar2ego_translation"),
    )
    points_camera = camera_from_lidar.apply(values["points"][:, :3].astype(np.float64))
    uv, visible = CameraModel(values["calib/cam_intrinsic"], 1600, 900).project(points_camera)
    np.testing.assert_array_equal(visible, values["mask"])
    assert np.abs(points_camera - values["points_camera"]).max() < 1e-5
    np.testing.assert_allclose(uv[visible], values["uv"][visible], atol=1e-3)


def test_projection_by_hand() -> None:
    uv, visible = camera().project(np.array([[0, 0, 10], [1, -1, 10], [-1, 0.5, 2]]))
    np.testing.assert_allclose(uv, [[620.0, 180.0], [690.0, 109.0], [270.0, 357.5]])
    assert visible.all()


@pytest.mark.parametrize(
    "point",
    [(0, 0, -10), (0, 0, 0), (10, 0, 10), (-10, 0, 10), (0, 5, 10), (0, -5, 10), (math.nan, 0, 5), (0, 0, math.nan),
     (0, 0, math.inf), (math.inf, 0, 5), (1, 1, 5e-324)],
)  # fmt: skip
def test_not_visible(point: tuple[float, float, float]) -> None:
    """Behind, on the camera's plane, beyond each edge, not a number."""
    assert not camera().project(np.array([point]))[1].any()


def test_edges_of_the_image_are_outside() -> None:
    corners = np.array([[-620 / 700, 0, 1], [0, -180 / 710, 1], [620 / 700, 0, 1]])  # u = 0, v = 0, u = width
    assert not camera().project(corners)[1].any()
    assert camera().project(corners * [0.9999, 0.9999, 1])[1].all()


def test_no_points() -> None:
    uv, visible = camera().project(np.empty((0, 3), np.float32))
    assert uv.shape == (0, 2)
    assert visible.shape == (0,)


def written_out(x: float, y: float, k: tuple[float, ...]) -> tuple[float, float]:
    """Rational and tangential distortion, term by term as OpenCV's documentation has it."""
    k1, k2, p1, p2, k3, k4, k5, k6 = (*k, *[0.0] * (8 - len(k)))
    r = math.hypot(x, y)
    radial = (1 + k1 * r**2 + k2 * r**4 + k3 * r**6) / (1 + k4 * r**2 + k5 * r**4 + k6 * r**6)
    x_distorted = x * radial + 2 * p1 * x * y + p2 * (r**2 + 2 * x**2)
    y_distorted = y * radial + p1 * (r**2 + 2 * y**2) + 2 * p2 * x * y
    return 700 * x_distorted + 620, 710 * y_distorted + 180


MODELS: list[tuple[DistortionModel, tuple[float, ...]]] = [
    ("plumb_bob", (-0.35, 0.19, 0.0013, 0.0006)),
    ("plumb_bob", (-0.10, -0.04, 0.0006, -0.0042, 0.43)),
    ("rational_polynomial", (0.6, 0.07, 1e-4, -2e-4, 0.001, 0.95, 0.2, 0.01)),
]


@pytest.mark.parametrize(("model", "coefficients"), MODELS)
@given(x=st.floats(-0.4, 0.4), y=st.floats(-0.2, 0.2))
def test_distortion_as_documented(model: DistortionModel, coefficients: tuple[float, ...], x: float, y: float) -> None:
    uv, visible = camera(model, *coefficients).project(np.array([[3 * x, 3 * y, 3]]))
    assert visible.all()
    np.testing.assert_allclose(uv[0], written_out(x, y, coefficients), atol=1e-9)


@given(angle=st.floats(0.001, 0.7), turn=st.floats(0, 6.28))
def test_fisheye_is_of_the_angle(angle: float, turn: float) -> None:
    """Kannala-Brandt: the distance from the centre is theta (1 + k1 theta^2 + ...), whatever the depth."""
    k1, k2, k3, k4 = -0.01, 0.003, -0.002, 0.0004
    fisheye = CameraModel(
        np.array([[400.0, 0, 600], [0, 400, 600], [0, 0, 1]]), 1200, 1200, "equidistant", (k1, k2, k3, k4)
    )
    direction = np.array([math.sin(angle) * math.cos(turn), math.sin(angle) * math.sin(turn), math.cos(angle)])
    uv, visible = fisheye.project(direction[None] * [[7.0]])
    assert visible.all()
    radius = angle * (1 + k1 * angle**2 + k2 * angle**4 + k3 * angle**6 + k4 * angle**8)
    np.testing.assert_allclose(uv[0], [600 + 400 * radius * math.cos(turn), 600 + 400 * radius * math.sin(turn)])


def test_a_fisheye_without_coefficients_is_no_pinhole() -> None:
    uv, _ = camera("equidistant", 0, 0, 0, 0).project(np.array([[1.0, 0, 1]]))
    assert uv[0, 0] == pytest.approx(620 + 700 * math.pi / 4)


def test_the_optical_axis_is_at_the_centre() -> None:
    for model, coefficients in [*MODELS, ("equidistant", (0.1, 0, 0, 0))]:
        np.testing.assert_allclose(camera(model, *coefficients).project(np.array([[0, 0, 4.0]]))[0], [[620, 180]])


def test_what_the_polynomial_folds_back_is_not_visible() -> None:
    """r (1 - 0.35 r^2) rises up to r = 0.976 and returns to 0 at 1.69: from there points would appear in mid-image."""
    barrel = camera("plumb_bob", -0.35, 0, 0, 0, 0)
    assert barrel.max_tangent == pytest.approx(math.sqrt(1 / 1.05))
    seen = barrel.project(np.array([[0.85, 0, 1], [1.6, 0, 1], [-1.7, 0, 1]]))[1]
    assert seen.tolist() == [True, False, False]
    assert barrel.project(np.array([[0.6, 0, 1]]))[1].all()


def test_range_of_rational_and_fisheye() -> None:
    pole = camera("rational_polynomial", 0, 0, 0, 0, 0, -0.5, 0, 0)  # r / (1 - r^2 / 2): a pole at sqrt 2
    assert pole.max_tangent == pytest.approx(math.sqrt(2))
    bent = camera("equidistant", -0.5, 0, 0, 0)  # theta - theta^3 / 2 rises up to sqrt(2 / 3)
    assert bent.max_tangent == pytest.approx(math.tan(math.sqrt(2 / 3)))
    assert camera("equidistant", 0.1, 0, 0, 0).max_tangent == math.inf
    assert camera().max_tangent == math.inf


@pytest.mark.parametrize(
    ("matrix", "size", "model", "coefficients", "message"),
    [
        (np.zeros((3, 3)), (10, 10), "pinhole", (), "Is the camera calibrated"),
        (np.eye(4), (10, 10), "pinhole", (), "camera matrix"),
        (np.diag([1, 1, 2.0]), (10, 10), "pinhole", (), "camera matrix"),
        (np.diag([1.0, -1, 1]), (10, 10), "pinhole", (), "camera matrix"),
        (np.array([[1, 0, math.nan], [0, 1, 0], [0, 0, 1]]), (10, 10), "pinhole", (), "camera matrix"),
        (K, (0, 10), "pinhole", (), "0 x 10"),
        (K, (10, 0), "pinhole", (), "10 x 0"),
        (K, (10, 10), "thin_prism", (), "known are pinhole"),
        (K, (10, 10), "plumb_bob", (0.1,), "4 or 5 coefficients, not 1"),
        (K, (10, 10), "equidistant", (), "4 coefficients, not 0"),
        (K, (10, 10), "plumb_bob", (math.nan, 0, 0, 0), "finite"),
    ],
)
def test_cameras_are_checked(
    matrix: np.ndarray, size: tuple[int, int], model: DistortionModel, coefficients: tuple[float, ...], message: str
) -> None:
    with pytest.raises(ConfigError, match=message):
        CameraModel(matrix, *size, model, coefficients)


def test_projection_matrix_splits_into_camera_and_shift() -> None:
    p2 = np.array([[718.856, 0, 607.1928, 45.38225], [0, 718.856, 185.2157, -0.1130887], [0, 0, 1, 0.003779761]])
    matrix, camera_from_rectified = split_projection(p2)
    points = np.random.default_rng(0).uniform([-5, -1, 5], [5, 1, 50], (100, 3))
    homogeneous = np.c_[points, np.ones(100)] @ p2.T
    uv, _ = CameraModel(matrix, 1241, 376).project(camera_from_rectified.apply(points))
    np.testing.assert_allclose(uv, homogeneous[:, :2] / homogeneous[:, 2:], atol=1e-9)


def test_a_projection_matrix_is_the_same_at_any_scale() -> None:
    projection = np.c_[K, [100.0, 2.0, 0.5]]
    for scale in (1, 2, 0.25):
        matrix, camera_from_rectified = split_projection(scale * projection)
        np.testing.assert_allclose(matrix, K)
        np.testing.assert_allclose(camera_from_rectified.translation, split_projection(projection)[1].translation)


def test_real_distorted_camera(shared_data: Path) -> None:
    """Distortion moves points by many pixels at the edge of this image; 10,331 points fall in it with K alone."""
    folder = shared_data / "opencalib_lidar2camera"
    intrinsic = json.loads((folder / "center_camera-intrinsic.json").read_text())["center_camera-intrinsic"]["param"]
    (extrinsic,) = json.loads((folder / "top_center_lidar-to-center_camera-extrinsic.json").read_text()).values()
    camera_from_lidar = RigidTransform.from_matrix(extrinsic["param"]["sensor_calib"]["data"])
    matrix = np.array(intrinsic["cam_K"]["data"])
    points_camera = camera_from_lidar.apply(read_scan(folder / "calib.pcd")[:, :3].astype(np.float64))
    straight, in_straight = CameraModel(matrix, 1920, 1200).project(points_camera)
    assert in_straight.sum() == 10331
    distorted = CameraModel(matrix, 1920, 1200, "plumb_bob", tuple(intrinsic["cam_dist"]["data"][0]))
    bent, in_bent = distorted.project(points_camera)
    both = in_straight & in_bent
    assert both.sum() > 10000
    moved = np.linalg.norm(straight - bent, axis=1)[both]
    assert 5 < moved.max() < 60
