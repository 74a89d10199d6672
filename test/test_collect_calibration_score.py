"""The calibration score on a made scene, on the simulation and on real recordings; the edges that it compares."""

from __future__ import annotations

import json
import math
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from twodpass_core.calibration.edges import depth_edges, image_edges
from twodpass_core.calibration.score import MIN_EDGES, calibration_score, nearby_transforms
from twodpass_core.cameras.model import CameraModel
from twodpass_core.data.kitti_raw import KittiRaw
from twodpass_core.data.scan_files import read_scan
from twodpass_core.data.simulated import SimulatedStreets, SimulationConfig
from twodpass_core.errors import ScanError
from twodpass_core.geometry.rigid_transform import RigidTransform

# x right, y down, z forward, of a camera that looks along the LiDAR's x.
CAMERA_FROM_LIDAR = RigidTransform(np.array([[0, -1, 0], [0, 0, -1], [1, 0, 0]], float), np.array([0.02, -0.05, -0.1]))
CAMERA = CameraModel(np.array([[400.0, 0, 320], [0, 400.0, 120], [0, 0, 1]]), 640, 240)


@dataclass(frozen=True)
class View:
    """What is scored."""

    points: np.ndarray
    image: np.ndarray
    camera: CameraModel
    camera_from_lidar: RigidTransform

    def score(self, camera_from_camera: RigidTransform | None = None) -> float:
        moved = (camera_from_camera or RigidTransform.identity()) @ self.camera_from_lidar
        return calibration_score(self.points, self.image, self.camera, moved).score


def scan_of(boxes: Sequence[tuple[float, float, float, float]], wall: float = 25.0) -> np.ndarray:
    """What a LiDAR with a grid of rays sees of upright boards (y from, y to, z to, distance x) and a wall behind."""
    azimuth, elevation = np.meshgrid(np.radians(np.arange(-40, 40, 0.2)), np.radians(np.arange(-15, 15, 0.4)))
    direction = np.stack([np.ones_like(azimuth), np.tan(azimuth), np.tan(elevation) / np.cos(azimuth)], axis=-1)
    distance = np.full(azimuth.shape, wall)
    for low, high, top, x in boxes:
        hit = (direction[..., 1] * x > low) & (direction[..., 1] * x < high) & (direction[..., 2] * x < top)
        distance[hit & (x < distance)] = x
    return (direction * distance[..., None]).reshape(-1, 3)


def picture_of(boxes: Sequence[tuple[float, float, float, float]]) -> np.ndarray:
    """The same from the camera: a dim wall, and boards of different grey, the nearest in front."""
    image = np.full((CAMERA.height, CAMERA.width, 3), 90, np.uint8)
    for shade, (low, high, top, x) in enumerate(sorted(boxes, key=lambda box: -box[3])):
        corners = CAMERA_FROM_LIDAR.apply(np.array([[x, high, top], [x, low, -20.0]]))
        (left, upper), (right, _) = (corners[:, :2] / corners[:, 2:] * 400 + (320, 120)).round().astype(int)
        image[max(upper, 0) :, max(left, 0) : max(right, 0)] = 140 + 37 * shade % 110
    return image


BOARDS = [
    (-9.0, -6.0, 0.6, 14.0),
    (-4.0, -3.6, 2.0, 9.0),
    (-1.0, 0.8, -0.3, 7.0),
    (2.2, 2.6, 1.5, 11.0),
    (5.0, 8.0, 1.0, 15.0),
]


def wrong(views: Sequence[View], six: Sequence[float]) -> float:
    """Mean score with x, y, z (metres), roll, pitch, yaw (degrees) of error in the camera's frame."""
    moved = RigidTransform.from_xyz_rpy([*six[:3], *np.radians(six[3:])])
    return float(np.mean([view.score(moved) for view in views]))


def mean_score(views: Sequence[View]) -> float:
    return float(np.mean([view.score() for view in views]))


DEGREE_ABOUT_X_AND_Y: Sequence[Sequence[float]] = (
    [0, 0, 0, 1, 0, 0],
    [0, 0, 0, -1, 0, 0],
    [0, 0, 0, 0, 1, 0],
    [0, 0, 0, 0, -1, 0],
)


# --- Edges --------------------------------------------------------------------------------------------------------


def test_edges_are_the_outline_of_what_is_near() -> None:
    edges = depth_edges(scan_of([(-1.0, 1.0, 0.5, 10.0)]))
    upright = edges.xyz[edges.upright]
    # Half a column of the LiDAR, 0.1 degrees, is 2 cm at 10 m; half a row 4 cm. Distances are measured to the origin.
    assert np.abs(np.abs(upright[:, 1]) - 1.0).max() < 0.06
    assert {int(side) for side in np.sign(upright[:, 1])} == {-1, 1}
    across = edges.xyz[~edges.upright]
    assert np.abs(across[:, 2] - 0.5).max() < 0.1
    assert np.ptp(across[:, 1]) > 1.8
    assert np.abs(edges.xyz[:, 0] - 10).max() < 0.1


def test_a_smooth_surface_and_the_vehicle_itself_have_no_edges() -> None:
    assert len(depth_edges(scan_of([]))) == 0
    assert len(depth_edges(scan_of([(-0.3, 0.3, 0.5, 1.2)]))) == 0
    assert len(depth_edges(np.empty((0, 3)))) == 0


def test_points_that_are_not_finite_and_their_order_change_nothing() -> None:
    points = scan_of(BOARDS)
    damaged = np.concatenate([points, np.full((5, 3), np.nan, np.float32), np.full((5, 3), np.inf, np.float32)])
    mixed = damaged[np.random.default_rng(0).permutation(len(damaged))]
    image = picture_of(BOARDS)
    expected = calibration_score(points, image, CAMERA, CAMERA_FROM_LIDAR)
    assert calibration_score(mixed, image, CAMERA, CAMERA_FROM_LIDAR) == expected


def test_image_edges_by_their_direction() -> None:
    image = np.zeros((240, 640, 3), np.uint8)
    image[:, 320:] = 200
    edges = image_edges(image)
    across = edges.at(np.array([[319.5, 120.5]] * 2), np.array([True, False]))
    assert across[0] > 100
    assert across[1] == 0
    assert edges.at(np.array([[100.5, 120.5]]), np.array([True]))[0] == 0


# --- The score ----------------------------------------------------------------------------------------------------


def test_made_scene_right_and_wrong() -> None:
    view = View(scan_of(BOARDS), picture_of(BOARDS), CAMERA, CAMERA_FROM_LIDAR)
    assert view.score() == 1
    # The boards are mostly upright edges: they tell of turns to the side, not up and down.
    for degrees in (-1.0, -0.5, 0.5, 1.0):
        assert wrong([view], [0, 0, 0, 0, degrees, 0]) < 0.8


def test_transforms_nearby_are_balanced() -> None:
    moved = np.mean([near.matrix() for near in nearby_transforms()], axis=0)
    assert len(nearby_transforms()) == 64
    np.testing.assert_allclose(moved, np.eye(4), atol=1e-4)


@pytest.mark.parametrize("what", ["no points", "few edges", "no image edges", "noise in the dark", "behind the camera"])
def test_nothing_to_compare_is_nan(what: str) -> None:
    points, image = scan_of(BOARDS), picture_of(BOARDS)
    if what == "no points":
        points = points[:0]
    elif what == "few edges":
        points = scan_of([(-0.2, 0.2, -2.0, 30.0)], wall=50)
    elif what == "no image edges":
        image = np.full_like(image, 128)
    elif what == "noise in the dark":
        image = np.random.default_rng(0).normal(8, 3, image.shape).clip(0, 255).astype(np.uint8)
    else:
        points = points * np.array([-1, 1, 1])
    result = calibration_score(points, image, CAMERA, CAMERA_FROM_LIDAR)
    assert math.isnan(result.score)
    assert result.edges < MIN_EDGES or what in ("no image edges", "noise in the dark")


def test_wrong_arrays_are_refused() -> None:
    points, image = scan_of(BOARDS), picture_of(BOARDS)
    with pytest.raises(ScanError, match="640 x 240"):
        calibration_score(points, image[:100], CAMERA, CAMERA_FROM_LIDAR)
    with pytest.raises(ScanError, match="uint8"):
        calibration_score(points, image.astype(np.float32), CAMERA, CAMERA_FROM_LIDAR)
    with pytest.raises(ScanError, match="points"):
        calibration_score(points[:, :2], image, CAMERA, CAMERA_FROM_LIDAR)


# --- The simulation and real recordings ---------------------------------------------------------------------------


def test_simulated_streets_right_and_wrong() -> None:
    streets = SimulatedStreets("val", SimulationConfig(streets=3, frames=1, columns=1024))
    frames = [streets[index] for index in range(3)]
    views = [View(f.points, v.load_image(), v.camera, v.camera_from_lidar) for f in frames for v in f.views]
    assert mean_score(views) > 0.95
    for six in DEGREE_ABOUT_X_AND_Y:
        assert wrong(views, six) < 0.9
    assert wrong(views, [0.04, 0, 0, 0.6, 0.6, 0]) < 0.8


@pytest.fixture(scope="module")
def kitti(shared_data: Path) -> list[View]:
    """Four frames of a drive."""
    drive = KittiRaw(shared_data / "kitti_raw_2011_09_26")
    frames = [drive[index] for index in range(0, 8, 2)]
    return [View(f.points, v.load_image(), v.camera, v.camera_from_lidar) for f in frames for v in f.views]


def test_kitti_right_and_wrong(kitti: list[View]) -> None:
    right = mean_score(kitti)
    assert right > 0.9
    for six in DEGREE_ABOUT_X_AND_Y:
        assert wrong(kitti, six) < right - 0.1
    assert wrong(kitti, [0.05, 0, 0, 0, 1, 0]) < right - 0.1
    assert wrong(kitti, [0, 0.05, 0, -1, 0, 0]) < right - 0.1
    assert wrong(kitti, [-0.03, 0.03, 0.03, 0.6, 0.6, 0.6]) < right - 0.1
    assert wrong(kitti, [0.3, 0.2, 0, 0, 0, 0]) < right - 0.2


def test_nuscenes_cameras_right_and_wrong(shared_data: Path) -> None:
    folder = shared_data / "nuscenes_mini"
    calibration = json.loads((folder / "calibration.json").read_text())
    points = read_scan(folder / calibration["lidar"]["path"], 5)
    views = []
    for record in calibration["cameras"].values():
        image = np.asarray(Image.open(folder / record["path"]))
        camera = CameraModel(np.array(record["cam2img"]), image.shape[1], image.shape[0])
        views.append(View(points, image, camera, RigidTransform.from_matrix(record["lidar2cam"])))
    right = mean_score(views)
    assert right > 0.75
    assert np.mean([wrong(views, six) for six in DEGREE_ABOUT_X_AND_Y]) < right - 0.15


def test_lens_with_distortion(shared_data: Path) -> None:
    folder = shared_data / "opencalib_lidar2camera"
    lens = json.loads((folder / "center_camera-intrinsic.json").read_text())["center_camera-intrinsic"]["param"]
    mounted = json.loads((folder / "top_center_lidar-to-center_camera-extrinsic.json").read_text())
    matrix = mounted["top_center_lidar-to-center_camera-extrinsic"]["param"]["sensor_calib"]["data"]
    image = np.asarray(Image.open(folder / "calib.png").convert("RGB"))
    coefficients = tuple(np.ravel(lens["cam_dist"]["data"]).tolist())
    camera = CameraModel(np.array(lens["cam_K"]["data"]), 1920, 1200, "plumb_bob", coefficients)
    view = View(read_scan(folder / "calib.pcd"), image, camera, RigidTransform.from_matrix(matrix))
    assert view.score() > 0.95
    assert wrong([view], [0, 0, 0, 0.5, 0.5, 0.5]) < 0.85
