from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from twodpass_core.classes import ClassMap
from twodpass_core.simulation import HDL_64E, Drive, SimulatedScan, simulate_scans
from twodpass_core.simulation.bodies import Body, Material
from twodpass_core.simulation.labels import BUILDING, MOVING, MOVING_CAR, POLE, ROAD, STILL, THINGS, VEGETATION
from twodpass_core.simulation.lidar import SpinningLidar
from twodpass_core.simulation.shapes import Box, Cylinder, Ellipsoid, Shape
from twodpass_core.simulation.street import Street

SMALL = replace(HDL_64E, columns=512)
EXACT = SpinningLidar(elevations_deg=(0.0, 5.0), columns=360, range_noise=0.0, dropout=0.0)
PLAIN = Material(0.5)


@pytest.fixture(scope="module")
def scans() -> list[SimulatedScan]:
    return list(simulate_scans(3, 11, lidar=SMALL))


def cast(
    shape: Shape, *, lidar: SpinningLidar = EXACT, material: Material = PLAIN, pose: np.ndarray | None = None
) -> np.ndarray:
    points, _ = lidar.cast(np.eye(4) if pose is None else pose, [Body(shape, ROAD, material)], np.random.default_rng(0))
    return points[:, :3].astype(np.float64)


def in_world(scan: SimulatedScan, raw_id: int) -> np.ndarray:
    return in_world_of(scan, scan.raw_labels == raw_id)


def in_world_of(scan: SimulatedScan, chosen: np.ndarray) -> np.ndarray:
    points = scan.points[chosen, :3].astype(np.float64)
    return np.asarray(points @ scan.pose[:3, :3].T + scan.pose[:3, 3])


def test_box_is_hit_on_its_near_faces() -> None:
    points = cast(Box((10.0, 0.0, 0.0), (2.0, 4.0, 6.0)))
    assert len(points)
    assert points[:, 0] == pytest.approx(9.0)
    assert np.abs(points[:, 1]).max() <= 2.0


def test_turned_box_shows_its_corner() -> None:
    points = cast(Box((10.0, 0.0, 0.0), (2.0, 2.0, 6.0), yaw=np.pi / 4))
    ahead = points[np.abs(points[:, 1]) < 1e-9]
    assert ahead[:, 0] == pytest.approx(10.0 - np.sqrt(2.0))
    assert points[:, 0] == pytest.approx(10.0 - np.sqrt(2.0) + np.abs(points[:, 1]))


def test_cylinder_and_ellipsoid_are_hit_on_their_surfaces() -> None:
    on_cylinder = cast(Cylinder((-8.0, 3.0, -1.0), 1.5, 4.0))
    assert np.hypot(on_cylinder[:, 0] + 8.0, on_cylinder[:, 1] - 3.0) == pytest.approx(1.5)
    on_ellipsoid = cast(Ellipsoid((0.0, -9.0, 0.5), (2.0, 1.0, 3.0)))
    assert (((on_ellipsoid - [0.0, -9.0, 0.5]) / [2.0, 1.0, 3.0]) ** 2).sum(axis=1) == pytest.approx(1.0)
    assert len(on_cylinder) > 10
    assert len(on_ellipsoid) > 10


def test_nearer_body_hides_the_farther_one() -> None:
    bodies = [Body(Box((x, 0.0, 0.0), (1.0, 200.0, 9.0)), raw_id, PLAIN) for x, raw_id in ((20.0, ROAD), (10.0, POLE))]
    for order in (bodies, bodies[::-1]):
        _, owner = EXACT.cast(np.eye(4), order, np.random.default_rng(0))
        assert {order[index].raw_id for index in owner} == {POLE}


def test_columns_searched_for_a_body_leave_none_of_its_hits_out() -> None:
    """All around a sensor that is turned and not at the origin, also behind it, where azimuths wrap."""
    pose = np.eye(4)
    pose[:2, :2] = [[0.0, -1.0], [1.0, 0.0]]
    pose[:2, 3] = 5.0, -3.0
    for bearing in np.linspace(0, 2 * np.pi, 17):
        centre = (5.0 + 12 * np.cos(bearing), -3.0 + 12 * np.sin(bearing), 0.0)
        shape = Box(centre, (3.0, 1.0, 4.0), yaw=0.3)
        rays = EXACT.directions() @ pose[:3, :3].T
        entry, leave = shape.intersect(pose[:3, 3], rays)
        expected = ((entry < leave) & (entry > 0)).sum()
        assert len(cast(shape, pose=pose)) == expected > 0


def test_leaves_return_from_within_the_crown_and_let_some_pulses_pass() -> None:
    crown = Ellipsoid((10.0, 0.0, 0.0), (2.0, 2.0, 2.0))
    lidar = replace(EXACT, columns=3600)
    closed, open_ = cast(crown, lidar=lidar), cast(crown, lidar=lidar, material=Material(0.3, free_path=1.0))
    radius = np.linalg.norm(open_ - [10.0, 0.0, 0.0], axis=1)
    assert 0 < len(open_) < len(closed)
    assert radius.max() <= 2.0 + 1e-6
    assert radius.min() < 1.0


def test_ranges_stay_within_the_sensors_limits() -> None:
    lidar = replace(SMALL, min_range=6.0, max_range=30.0, range_noise=0.2)
    (scan,) = simulate_scans(1, 0, lidar=lidar)
    ranges = np.linalg.norm(scan.points[:, :3].astype(np.float64), axis=1)
    assert ranges.min() >= 6.0 - 1e-5
    assert ranges.max() <= 30.0 + 1e-5


def test_range_noise_and_dropout_are_as_asked() -> None:
    wall = Box((20.0, 0.0, 0.0), (2.0, 400.0, 100.0))
    clean = cast(wall, lidar=replace(EXACT, columns=7200))
    noisy = cast(wall, lidar=replace(EXACT, columns=7200, range_noise=0.05))
    assert len(noisy) == pytest.approx(len(clean), rel=0.01)
    straight = np.abs(noisy[:, 1]) < 2.0
    assert (noisy[straight, 0] - 19.0).std() == pytest.approx(0.05, rel=0.2)
    thinned = cast(wall, lidar=replace(EXACT, columns=7200, dropout=0.25))
    assert len(thinned) / len(clean) == pytest.approx(0.75, abs=0.03)


def test_scan_is_what_a_kitti_file_would_hold(scans: list[SimulatedScan]) -> None:
    for scan in scans:
        assert scan.points.dtype == np.float32
        assert scan.points.shape == (len(scan.raw_labels), 4)
        assert np.isfinite(scan.points).all()
        assert scan.raw_labels.dtype == np.uint32
        intensity = scan.points[:, 3].astype(np.float64)
        assert intensity.min() >= 0.0
        assert intensity.max() < 1.0
        assert intensity * 100 == pytest.approx(np.round(intensity * 100), abs=1e-4)
    assert [scan.stamp_ns for scan in scans] == [0, 100_000_000, 200_000_000]


def test_street_has_the_classes_of_a_street(scans: list[SimulatedScan]) -> None:
    class_map = ClassMap.load("semantickitti")
    seen = {class_map.names[i] for scan in scans for i in np.unique(class_map.training_ids(scan.raw_labels))}
    assert seen >= {
        "car", "road", "parking", "sidewalk", "building", "vegetation", "trunk", "terrain", "pole", "traffic-sign",
    }  # fmt: skip
    assert "unlabeled" not in seen


def test_every_class_occurs_in_some_street() -> None:
    class_map = ClassMap.load("semantickitti")
    near = replace(HDL_64E, columns=256, max_range=50.0)
    raw = np.unique(np.concatenate([Drive(seed, near).scan(0).raw_labels for seed in range(25)]))
    assert set(class_map.training_ids(raw).tolist()) == set(range(1, 20))
    assert set(raw.tolist()) >= THINGS


def test_instances_are_things_in_one_piece() -> None:
    scan = Drive(38).scan(0)
    counted = np.isin(scan.raw_labels, list(THINGS))
    assert ((scan.instances > 0) == counted).all()
    assert len(np.unique(scan.instances)) > 20
    for instance in np.unique(scan.instances[counted]):
        points = scan.points[scan.instances == instance]
        assert len(np.unique(scan.raw_labels[scan.instances == instance])) == 1
        assert np.ptp(points[:, :2], axis=0).max() < 13.0


def test_instance_keeps_its_number_while_time_passes() -> None:
    drive = Drive(38, HDL_64E)
    scans = [drive.scan(0), drive.scan(400_000_000)]
    seen = [
        {i: (s.raw_labels[s.instances == i][0], in_world_of(s, s.instances == i)) for i in np.unique(s.instances) if i}
        for s in scans
    ]
    both = [i for i in seen[0] if i in seen[1] and min(len(seen[0][i][1]), len(seen[1][i][1])) > 40]
    assert len(both) > 5
    for i in both:
        (label, before), (later_label, after) = seen[0][i], seen[1][i]
        assert label == later_label
        way = np.linalg.norm(after.mean(axis=0) - before.mean(axis=0))
        assert way < 1.0 if label in STILL else 0.2 < way < 6.0
        assert label in STILL | MOVING


def test_moments_of_a_drive_can_be_had_in_any_order() -> None:
    late, early = Drive(4, SMALL).scan(3_000_000_000), Drive(4, SMALL).scan(100_000_000)
    _, expected = simulate_scans(2, 4, lidar=SMALL)
    assert early.points.tobytes() == expected.points.tobytes()
    assert late.points.tobytes() != early.points.tobytes()
    assert late.pose[0, 3] - early.pose[0, 3] == pytest.approx(8.0 * 2.9)


@pytest.mark.parametrize("elevations_deg", [(-1.0,), tuple(np.linspace(-15, 15, 16).tolist()), (5.0, -20.0, 0.0)])
def test_lidar_may_have_any_beams(elevations_deg: tuple[float, ...]) -> None:
    lidar = SpinningLidar(elevations_deg, columns=100, range_noise=0.0)
    points = Drive(1, lidar).scan(0).points[:, :3].astype(np.float64)
    measured = np.degrees(np.arcsin(points[:, 2] / np.linalg.norm(points, axis=1)))
    nearest = np.abs(measured[:, None] - np.array(elevations_deg)).argmin(axis=1)
    assert measured == pytest.approx(np.array(elevations_deg)[nearest], abs=1e-3)
    assert (np.diff(nearest) >= 0).all()  # row by row
    assert len(points) <= 100 * len(elevations_deg)


def test_streets_differ_and_some_have_next_to_no_kerb() -> None:
    plans = [Street(seed).plan for seed in range(40)]
    for name in ("lane", "kerb", "pavement", "edge", "front", "kerb_height", "bay_height"):
        assert len({getattr(plan, name) for plan in plans}) == len(plans)
    assert min(plan.kerb_height for plan in plans) < 0.03
    assert max(plan.kerb_height for plan in plans) > 0.1
    assert all(plan.lane < plan.kerb <= plan.pavement < plan.edge < plan.front for plan in plans)


def test_labels_match_geometry(scans: list[SimulatedScan]) -> None:
    for scan in scans:
        road = scan.points[scan.raw_labels == ROAD]
        assert np.abs(road[:, 2] + 1.73).max() < 0.1
        assert (in_world(scan, 48)[:, 2] < 0.3).all()
        assert (np.abs(in_world(scan, BUILDING)[:, 1]) > Street(11).plan.edge).all()
        assert in_world(scan, VEGETATION)[:, 2].max() > 2.0
        assert in_world(scan, 252)[:, 2].min() > -0.2
        assert (np.abs(in_world(scan, 252)[:, 1]) < 3.5).all()


def test_static_things_stay_in_place_while_the_car_drives() -> None:
    first, *_, last = simulate_scans(6, 11, lidar=SMALL)
    moved = last.pose[:3, 3] - first.pose[:3, 3]
    assert moved[0] == pytest.approx(4.0)
    for raw_id in (BUILDING, POLE):
        before, after = in_world(first, raw_id), in_world(last, raw_id)
        nearest = np.array([np.linalg.norm(after - point, axis=1).min() for point in before[::7]])
        assert np.median(nearest) < 0.5
        shifted = np.array([np.linalg.norm(after - point, axis=1).min() for point in before[::7] + moved])
        assert np.median(nearest) < np.median(shifted)


def test_traffic_moves_along_its_lane() -> None:
    def hulls(time: float) -> list[np.ndarray]:
        bodies = Street(3).bodies(time, 0.0, 300.0)
        return [np.array(b.shape.centre) for b in bodies if b.raw_id == MOVING_CAR and isinstance(b.shape, Ellipsoid)]

    later = np.stack(hulls(0.5))
    followed = [hull for hull in hulls(0.0) if abs(hull[0]) < 250.0]
    assert len(followed) > 1
    for hull in followed:
        moved = hull + np.array([0.5 * (8.0 if hull[1] < 0 else -9.0), 0.0, 0.0])
        assert np.linalg.norm(later - moved, axis=1).min() < 1e-9


def test_place_looks_the_same_from_wherever_it_is_seen() -> None:
    def buildings(x: float) -> set[Body]:
        return {b for b in Street(3).bodies(0.0, x, 80.0) if b.raw_id == BUILDING and 0.0 < b.shape.footprint[0] < 60.0}

    assert buildings(0.0) == buildings(50.0) != set()


def test_seed_decides_everything(scans: list[SimulatedScan]) -> None:
    again = list(simulate_scans(3, 11, lidar=SMALL))
    for one, other in zip(scans, again, strict=True):
        assert one.points.tobytes() == other.points.tobytes()
        assert one.raw_labels.tobytes() == other.raw_labels.tobytes()
    (different,) = simulate_scans(1, 12, lidar=SMALL)
    assert different.points.tobytes() != scans[0].points.tobytes()


def test_frame_does_not_depend_on_how_many_are_asked_for(scans: list[SimulatedScan]) -> None:
    (alone,) = simulate_scans(1, 11, lidar=SMALL)
    assert alone.points.tobytes() == scans[0].points.tobytes()


def test_no_frames_is_no_error() -> None:
    assert list(simulate_scans(0, 1)) == []


def test_default_scan_is_as_large_as_a_real_one() -> None:
    (scan,) = simulate_scans(1, 0)
    assert 100_000 < len(scan.points) < 131_072
