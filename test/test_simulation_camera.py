"""The simulated camera: where it sees things, what light and shadow do, and that it agrees with the LiDAR."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from twodpass_core.cameras.model import CameraModel
from twodpass_core.classes import ClassMap
from twodpass_core.errors import ConfigError
from twodpass_core.geometry.rigid_transform import RigidTransform
from twodpass_core.geometry.trajectory import camera_from_lidar_across_times
from twodpass_core.simulation import HDL_64E, Drive, Picture, StreetCamera, kitti_camera
from twodpass_core.simulation.bodies import Bodies, Body, Material, slab
from twodpass_core.simulation.labels import BUILDING, MOVING, POLE, ROAD, TERRAIN, VEGETATION
from twodpass_core.simulation.plan import Light
from twodpass_core.simulation.shapes import Box, Cylinder, Ellipsoid, Shape
from twodpass_core.simulation.textures import Plain

CAMERA = kitti_camera(207)
NOON = Light((0.0, 0.0, 1.0), sun=0.6, sky=0.4)
WHITE = Material(0.5, texture=Plain((0.6, 0.6, 0.6)))
OPTICAL = np.array([[0.0, 0.0, 1.0], [-1.0, 0.0, 0.0], [0.0, -1.0, 0.0]])


def looking(x: float = 0.0, y: float = 0.0, z: float = 1.65, yaw: float = 0.0, pitch: float = 0.0) -> np.ndarray:
    """(4, 4) world_from_camera of a camera that looks along x, turned left by yaw and down by pitch."""
    pose = RigidTransform.from_xyz_rpy((x, y, z, 0.0, pitch, yaw)).matrix()
    pose[:3, :3] = pose[:3, :3] @ OPTICAL
    return pose


def render(bodies: Bodies, pose: np.ndarray | None = None, light: Light = NOON) -> Picture:
    return CAMERA.render(looking() if pose is None else pose, bodies, light, np.random.default_rng(0))


def away_from_edges(labels: np.ndarray) -> np.ndarray:
    """(H, W) where the eight neighbours have the same label."""
    padded = np.pad(labels, 1, mode="edge")
    height, width = labels.shape
    around = [padded[row : row + height, column : column + width] for row in range(3) for column in range(3)]
    return np.asarray(np.all([part == labels for part in around], axis=0))


def test_rays_go_through_the_middle_of_their_pixels() -> None:
    rays = CAMERA.directions()
    uv, visible = CAMERA.model.project(7.0 * rays.reshape(-1, 3))
    rows, columns = np.mgrid[: CAMERA.model.height, : CAMERA.model.width]
    assert visible.all()
    assert uv == pytest.approx(np.stack([columns.ravel() + 0.5, rows.ravel() + 0.5], axis=1))


def test_kittis_view_is_kept_when_the_image_is_scaled() -> None:
    full, half = kitti_camera(), kitti_camera(621)
    assert (full.model.width, full.model.height) == (1242, 375)
    assert (half.model.width, half.model.height) == (621, 188)
    points = np.random.default_rng(0).uniform((-9, -2, 4), (9, 2, 50), (100, 3))
    assert half.model.project(points)[0] == pytest.approx(full.model.project(points)[0] / 2)


def test_box_is_seen_where_its_corners_project_to() -> None:
    box = Box((12.0, 1.0, 1.5), (2.0, 3.0, 2.0))
    picture = render((Body(box, BUILDING, WHITE),))
    front = box.corners[box.corners[:, 0] < 12.0]
    uv, _ = CAMERA.model.project((front - looking()[:3, 3]) @ looking()[:3, :3])
    rows, columns = np.nonzero(picture.raw_labels == BUILDING)
    assert [columns.min(), rows.min()] == np.round(uv.min(axis=0)).astype(int).tolist()
    assert [columns.max() + 1, rows.max() + 1] == np.round(uv.max(axis=0)).astype(int).tolist()
    forward = picture.distance[rows, columns] * CAMERA.directions()[rows, columns, 2]
    assert forward == pytest.approx(11.0)


def test_nothing_is_sky() -> None:
    picture = render((Body(Box((-10.0, 0.0, 0.0), (2.0, 2.0, 2.0)), BUILDING, WHITE),))
    assert not picture.raw_labels.any()
    assert np.isinf(picture.distance).all()
    top, bottom = picture.image[0].mean(axis=0), picture.image[CAMERA.model.height // 2 - 8].mean(axis=0)
    assert top[2] > top[0]
    assert bottom.mean() > top.mean() - 40


def brute_force(bodies: Bodies, pose: np.ndarray) -> np.ndarray:
    """(H, W) distance, every ray cast at every body."""
    rays = CAMERA.directions() @ pose[:3, :3].T
    distance = np.full(rays.shape[:2], np.inf)
    for body in bodies:
        entry, leave = body.shape.intersect(pose[:3, 3], rays)
        hit = (entry > 0.1) & (entry < leave)
        distance = np.where(hit, np.minimum(distance, entry), distance)
    return distance


SHAPES: tuple[Callable[[tuple[float, float, float], float], Shape], ...] = (
    lambda place, yaw: Box(place, (4.0, 1.0, 2.0), yaw),
    lambda place, yaw: Cylinder(place, 0.7, 2.5),
    lambda place, yaw: Ellipsoid(place, (2.0, 0.6, 1.1), yaw),
)


@settings(max_examples=30)
@given(
    kind=st.sampled_from(SHAPES),
    place=st.tuples(st.floats(-6, 15), st.floats(-8, 8), st.floats(-2, 4)),
    yaws=st.tuples(st.floats(-3.2, 3.2), st.floats(-0.5, 0.5)),
    pitch=st.floats(-0.4, 0.4),
)
def test_part_of_the_image_searched_for_a_body_leaves_none_of_it_out(
    kind: Callable[[tuple[float, float, float], float], Shape],
    place: tuple[float, float, float],
    yaws: tuple[float, float],
    pitch: float,
) -> None:
    """Also where the body reaches behind the camera, or around it."""
    bodies = (Body(kind(place, yaws[0]), BUILDING, WHITE),)
    pose = looking(yaw=yaws[1], pitch=pitch)
    np.testing.assert_array_equal(render(bodies, pose).distance, brute_force(bodies, pose))


def test_shadow_falls_where_the_sun_is_hidden() -> None:
    """A plate 3 m above the ground, sun from the left at 45 degrees: its shadow lies 3 m to the right."""
    ground = slab((-50, 50), (-50, 50), 0.0, ROAD, WHITE)
    plate = Body(Box((14.0, 0.0, 3.0), (4.0, 4.0, 0.01)), BUILDING, WHITE)
    light = Light((0.0, np.sqrt(0.5), np.sqrt(0.5)), sun=0.6, sky=0.4)
    pose = looking(z=6.0, pitch=0.4)
    picture, bare = render((ground, plate), pose, light), render((ground,), pose, light)
    rays = CAMERA.directions() @ pose[:3, :3].T
    places = pose[:3, 3] + rays * np.where(np.isfinite(picture.distance), picture.distance, 0.0)[..., None]
    darker = picture.image.mean(axis=-1) < bare.image.mean(axis=-1) - 25
    on_ground = picture.raw_labels == ROAD
    inside = (np.abs(places[..., 0] - 14.0) < 1.9) & (np.abs(places[..., 1] + 3.0) < 1.9) & on_ground
    outside = ((np.abs(places[..., 0] - 14.0) > 2.1) | (np.abs(places[..., 1] + 3.0) > 2.1)) & on_ground
    assert inside.sum() > 50
    assert darker[inside].all()
    assert not darker[outside].any()


def test_faces_turned_to_the_sun_are_lit_evenly() -> None:
    """A box turned by 0.5: its left face, (-sin, cos) of the turn, looks to the sun, its front (-cos, -sin) away."""
    box = Box((10.0, 0.0, 1.0), (3.0, 3.0, 3.0), yaw=0.5)
    light = Light((float(-np.sin(0.5)) * 0.8, float(np.cos(0.5)) * 0.8, 0.6), sun=0.6, sky=0.4)
    bodies, pose = (Body(box, BUILDING, WHITE),), looking(y=3.0, z=1.0, yaw=-0.2)
    picture = render(bodies, pose, light)
    places = pose[:3, 3] + CAMERA.directions() @ pose[:3, :3].T * picture.distance[..., None]
    on_box = (picture.raw_labels == BUILDING) & away_from_edges(picture.raw_labels)
    faces = box.normals(places[on_box])
    brightness = picture.image[on_box].mean(axis=1)
    left, front = brightness[faces[:, 1] > 0.5], brightness[faces[:, 0] < -0.5]
    assert min(len(left), len(front)) > 50
    assert left.mean() > front.mean() + 60
    assert left.std() < 6


def test_foliage_dims_the_sun_and_a_wall_hides_it() -> None:
    def brightness(material: Material | None) -> float:
        crown = () if material is None else (Body(Ellipsoid((14.0, 0.0, 4.0), (2.0, 2.0, 0.3)), VEGETATION, material),)
        picture = render((slab((-50, 50), (-50, 50), 0.0, ROAD, WHITE), *crown), looking(z=1.65))
        rays = CAMERA.directions() @ looking()[:3, :3].T
        places = looking()[:3, 3] + rays * np.where(np.isfinite(picture.distance), picture.distance, 0.0)[..., None]
        below = (picture.raw_labels == ROAD) & (np.abs(places[..., 0] - 14) < 1) & (np.abs(places[..., 1]) < 1)
        return float(picture.image[below].mean())

    assert brightness(None) > brightness(replace(WHITE, free_path=0.7)) + 10 > brightness(WHITE) + 20


def test_leaves_let_the_camera_through_about_as_often_as_the_laser() -> None:
    """A crown of 1 m, on average, with leaves every 0.7 m: exp(-1 / 0.7) = 24 % pass."""
    leaves = Material(0.3, free_path=0.7, clump=(0.02, 0.02, 0.02))
    wall = Body(Box((20.0, 0.0, 1.65), (1.0, 90.0, 90.0)), BUILDING, WHITE)
    hedge = Body(Box((8.0, 0.0, 1.65), (1.0, 60.0, 60.0)), VEGETATION, leaves)
    picture = render((wall, hedge))
    middle = picture.raw_labels[CAMERA.model.height // 4 : -CAMERA.model.height // 4, 50:-50]
    assert (middle == BUILDING).mean() == pytest.approx(np.exp(-1 / 0.7), abs=0.03)


def test_motion_between_scan_and_picture_is_made_up_for() -> None:
    """Eq. 2, with a picture a quarter of a second, 2 m, later: what stands still is where the equation says."""
    drive, camera = Drive(38, replace(HDL_64E, columns=1024)), kitti_camera(621)
    scan, picture = drive.scan(0), drive.picture(250_000_000, camera)
    then, later = RigidTransform.from_matrix(drive.pose(0)), RigidTransform.from_matrix(drive.pose(250_000_000))
    across = camera_from_lidar_across_times(camera.camera_from_lidar, later, then, RigidTransform.identity())
    still = ~np.isin(scan.raw_labels, list(MOVING))

    def agreement(camera_from_lidar: RigidTransform) -> float:
        points = scan.points[still, :3].astype(np.float64)
        uv, visible = camera.model.project(camera_from_lidar.apply(points))
        row, column = np.floor(uv[visible, ::-1]).astype(int).T
        clear = away_from_edges(picture.raw_labels)[row, column]
        return float((scan.raw_labels[still][visible] == picture.raw_labels[row, column])[clear].mean())

    assert agreement(across) > 0.96
    assert agreement(camera.camera_from_lidar) < 0.93


@pytest.mark.parametrize("seed", [2, 38, 1_000_007])
def test_points_agree_with_the_pixels_they_project_to(seed: int) -> None:
    class_map = ClassMap.load("semantickitti")
    drive, camera = Drive(seed, replace(HDL_64E, columns=1024)), kitti_camera(621)
    scan, picture = drive.scan(2_000_000_000), drive.picture(2_000_000_000, camera)
    uv, visible = camera.model.project(camera.camera_from_lidar.apply(scan.points[:, :3].astype(np.float64)))
    row, column = np.floor(uv[visible, ::-1]).astype(int).T
    labels = class_map.training_ids(picture.raw_labels.ravel()).reshape(picture.raw_labels.shape)
    clear = away_from_edges(labels)[row, column]
    agreeing = class_map.training_ids(scan.raw_labels)[visible] == labels[row, column]
    assert clear.sum() > 2000
    assert agreeing.mean() > 0.93
    assert agreeing[clear].mean() >= 0.98
    closed = clear & agreeing & (labels[row, column] != class_map.names.index("vegetation"))
    away = np.linalg.norm(camera.camera_from_lidar.apply(scan.points[visible, :3].astype(np.float64)), axis=1)
    error = np.abs(away - picture.distance[row, column])[closed]
    assert np.median(error) < 0.1


def test_street_is_seen_whole_and_the_same_again() -> None:
    drive = Drive(5)
    one, other = drive.picture(0, CAMERA), drive.picture(0, CAMERA)
    assert one.image.dtype == np.uint8
    assert one.image.shape == (CAMERA.model.height, CAMERA.model.width, 3)
    assert one.image.tobytes() == other.image.tobytes()
    assert drive.picture(1_000_000_000, CAMERA).image.tobytes() != one.image.tobytes()
    assert {0, ROAD, BUILDING, VEGETATION, POLE, TERRAIN} <= set(np.unique(one.raw_labels).tolist())
    assert 60 < one.image.mean() < 190


def test_normals_point_outward() -> None:
    pose = looking(z=1.0)
    for make in SHAPES:
        shape = make((8.0, 0.5, 0.2), 0.6)
        rays = (CAMERA.directions() @ pose[:3, :3].T).reshape(-1, 3)
        entry, leave = shape.intersect(pose[:3, 3], rays)
        hit = entry < leave
        places = pose[:3, 3] + rays[hit] * entry[hit, None]
        normals = shape.normals(places)
        turn = RigidTransform.from_xyz_rpy((0, 0, 0, 0, 0, shape.yaw)).rotation
        assert np.linalg.norm(normals, axis=1) == pytest.approx(1.0)
        assert ((normals @ turn.T) * rays[hit]).sum(axis=1).max() < 1e-9


def test_camera_may_have_any_size_and_place() -> None:
    matrix = np.array([[40.0, 0.0, 30.0], [0.0, 40.0, 20.0], [0.0, 0.0, 1.0]])
    backward = StreetCamera(CameraModel(matrix, 60, 40), RigidTransform(OPTICAL.T * (-1, -1, 1), np.zeros(3)))
    picture = Drive(0).picture(0, backward)
    assert picture.image.shape == (40, 60, 3)
    assert ROAD in picture.raw_labels


def test_lens_distortion_is_refused() -> None:
    distorted = CameraModel(CAMERA.model.matrix, 60, 40, "plumb_bob", (0.1, 0.0, 0.0, 0.0))
    with pytest.raises(ConfigError, match="plumb_bob"):
        StreetCamera(distorted, CAMERA.camera_from_lidar)
