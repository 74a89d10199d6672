"""Rigid transforms and the sensor mounting."""

from __future__ import annotations

import math

import numpy as np
import pytest

from twodpass_core.errors import ConfigError
from twodpass_core.geometry.rigid_transform import RigidTransform
from twodpass_core.sensor import SensorMounting, bound_intensity, doubt_of_unit


def test_yaw_turns_x_to_y() -> None:
    target_from_source = RigidTransform.from_xyz_rpy([1, 2, 3, 0, 0, math.pi / 2])
    moved = target_from_source.apply(np.array([[1, 0, 0], [0, 1, 0]], dtype=np.float32))
    np.testing.assert_allclose(moved, [[1, 3, 3], [0, 2, 3]], atol=1e-6)


def test_roll_pitch_yaw_are_about_fixed_axes() -> None:
    target_from_source = RigidTransform.from_xyz_rpy([0, 0, 0, math.pi / 2, 0, math.pi / 2])
    # z goes to -y by the roll, then to x by the yaw.
    moved = target_from_source.apply(np.array([[0, 0, 1]], dtype=np.float32))
    np.testing.assert_allclose(moved, [[1, 0, 0]], atol=1e-6)


def test_pitch_down_lowers_what_is_ahead() -> None:
    """REP-103: positive pitch about y (left) turns x towards -z."""
    moved = RigidTransform.from_xyz_rpy([0, 0, 0, 0, 0.1, 0]).apply(np.array([[10, 0, 0]], dtype=np.float32))
    assert moved[0, 2] == pytest.approx(-10 * math.sin(0.1), abs=1e-5)


@pytest.mark.parametrize("values", [[1, 2, 3], [1, 2, 3, 4, 5, float("nan")], []])
def test_transforms_need_six_finite_numbers(values: list[float]) -> None:
    with pytest.raises(ConfigError, match="six finite numbers"):
        RigidTransform.from_xyz_rpy(values)


def test_mounting_moves_real_points_only() -> None:
    mounting = SensorMounting.of([0, 0, 1.0, 0, 0, 0], intensity_scale=1 / 255)
    points = np.array(
        [[1, 2, 3, 255], [0, 0, 2, 0], [0, 0, 0, 9], [np.nan, 0, 0, 0], [1, 1, np.inf, 0], [1, 1, 1, np.nan]],
        dtype=np.float32,
    )
    before = points.copy()
    moved = mounting.to_training(points)
    np.testing.assert_allclose(moved[:2], [[1, 2, 4, 1], [0, 0, 3, 0]])
    assert np.isnan(moved[2:]).all()
    np.testing.assert_array_equal(points, before)


def test_identity_mounting_keeps_bits() -> None:
    points = np.random.default_rng(0).normal(size=(100, 4)).astype(np.float32)
    assert np.array_equal(SensorMounting().to_training(points), points)


@pytest.mark.parametrize("scale", [0.0, -1.0, float("nan"), float("inf")])
def test_intensity_scale_must_be_positive(scale: float) -> None:
    with pytest.raises(ConfigError, match="intensity_scale"):
        SensorMounting(intensity_scale=scale)


@pytest.mark.parametrize(
    ("unit", "intensity_max", "doubted"),
    [(1.0, 1.0, False), (255.0, 255.0, False), (255.0, 1.0, True), (1.0, 255.0, True), (1 / 255, 1.0, True)],
)
def test_intensities_of_another_unit_than_the_weights_are_noticed(
    unit: float, intensity_max: float, doubted: bool
) -> None:
    intensity = (unit * np.random.default_rng(0).beta(1, 4, 1000)).astype(np.float32)  # most is dark
    intensity[::3] = np.nan
    doubt = doubt_of_unit(intensity, intensity_max)
    assert bool(doubt) == doubted
    assert not doubted or f"to {intensity_max:g}:" in doubt
    assert ("(by 0.00392157 from 0..255)" in doubt) == (unit > intensity_max)


@pytest.mark.parametrize("intensity", [[], [np.nan], [0.0, 0.0], [*[0.3] * 30, 9.0]])
def test_nothing_zeros_and_single_reflectors_raise_no_doubt_about_the_unit(intensity: list[float]) -> None:
    assert doubt_of_unit(np.array(intensity, np.float32), 1.0) == ""


@pytest.mark.parametrize(
    ("share", "value", "rest", "doubted"),
    [
        (0.04, 9.0, 0.3, False),  # reflectors
        (0.06, 9.0, 0.3, True),
        (1.0, 4.0, 0.3, True),  # cut off at what networks are given at most
        (0.02, 0.3, 0.001, False),  # a dark place
        (0.005, 0.3, 0.001, True),
    ],
)
def test_from_what_share_of_points_on_the_unit_is_doubted(
    share: float, value: float, rest: float, doubted: bool
) -> None:
    intensity = np.full(1000, rest, np.float32)
    intensity[: round(share * 1000)] = value
    assert bool(doubt_of_unit(intensity, 1.0)) == doubted


def test_no_factor_is_proposed_for_more_than_bytes() -> None:
    assert "unless it is converted, " in doubt_of_unit(np.full(10, 60_000, np.float32), 1.0)


def test_intensities_are_cut_off_on_both_sides() -> None:
    points = np.array([[1, 2, 3, value] for value in (-1e30, -9, -1, 0.5, 3, 9)], np.float32)
    bound_intensity(points, 2.0)
    assert points[:, 3].tolist() == [-8, -8, -1, 0.5, 3, 8]
    assert (points[:, :3] == [1, 2, 3]).all()


def random_transform(seed: int) -> RigidTransform:
    rng = np.random.default_rng(seed)
    return RigidTransform.from_quaternion(rng.normal(size=4), rng.normal(size=3) * 100)


@pytest.mark.parametrize("seed", range(5))
def test_chain_and_inverse(seed: int) -> None:
    a_from_b, b_from_c = random_transform(seed), random_transform(seed + 100)
    points = np.random.default_rng(seed).normal(size=(10, 3)) * 10
    np.testing.assert_allclose((a_from_b @ b_from_c).apply(points), a_from_b.apply(b_from_c.apply(points)), atol=1e-9)
    np.testing.assert_allclose(a_from_b.inverse().apply(a_from_b.apply(points)), points, atol=1e-9)
    np.testing.assert_allclose((a_from_b @ b_from_c).matrix(), a_from_b.matrix() @ b_from_c.matrix(), atol=1e-9)


def test_quaternions_are_w_x_y_z() -> None:
    about_z = RigidTransform.from_quaternion([math.cos(0.15), 0, 0, math.sin(0.15)], [1, 2, 3])
    yawed = RigidTransform.from_xyz_rpy([1, 2, 3, 0, 0, 0.3])
    np.testing.assert_allclose(about_z.matrix(), yawed.matrix(), atol=1e-12)


@pytest.mark.parametrize(
    "quaternion",
    [[1, 0, 0, 0], [0, 1, 0, 0], [0, 0, 1, 0], [0, 0, 0, 1], [1, -2, 3, -4], [1e-9, 1, 1, 0], [3, 0, 0, 0.1]],
)
def test_quaternion_round_trip(quaternion: list[float]) -> None:
    """Half turns too, where w is zero."""
    np.testing.assert_allclose(
        RigidTransform.from_quaternion(quaternion, [0, 0, 0]).quaternion(),
        np.array(quaternion) / np.linalg.norm(quaternion),
        atol=1e-12,
    )


@pytest.mark.parametrize("length", [5e-324, 1e-200, 1.0, 3.7, 1e200, 8e307])
def test_quaternions_may_have_any_length(length: float) -> None:
    half_turn = RigidTransform.from_quaternion([0, 0, length, 0], [0, 0, 0])
    np.testing.assert_allclose(half_turn.rotation, np.diag([-1, 1, -1]))
    third = RigidTransform.from_quaternion([length] * 4, [0, 0, 0])
    np.testing.assert_allclose(third.rotation, [[0, 0, 1], [1, 0, 0], [0, 1, 0]], atol=1e-15)


@pytest.mark.parametrize("quaternion", [[0, 0, 0, 0], [1, 0, 0], [1, 0, 0, float("nan")]])
def test_quaternions_are_checked(quaternion: list[float]) -> None:
    with pytest.raises(ConfigError, match="quaternion w, x, y, z"):
        RigidTransform.from_quaternion(quaternion, [0, 0, 0])


@pytest.mark.parametrize("matrix", [2 * np.eye(4), np.diag([1.0, 1, -1, 1]), np.eye(3), np.full((3, 4), np.nan)])
def test_matrices_are_checked(matrix: np.ndarray) -> None:
    with pytest.raises(ConfigError, match=r"rotation|rigid transform"):
        RigidTransform.from_matrix(matrix)


def test_a_transposed_matrix_is_refused() -> None:
    matrix = RigidTransform.from_xyz_rpy((1, 2, 3, 0, 0, 0.5)).matrix()
    assert np.array_equal(RigidTransform.from_matrix(matrix).translation, [1, 2, 3])
    with pytest.raises(ConfigError, match=r"last row of a rigid transform is 0 0 0 1, not \[1\.0, 2\.0.*transposed"):
        RigidTransform.from_matrix(matrix.T)


def test_points_keep_their_precision() -> None:
    transform = RigidTransform.from_matrix(random_transform(1).matrix()[:3])
    assert transform.apply(np.zeros((2, 3), np.float32)).dtype == np.float32
    far = np.array([[1e6 + 1e-6, 0, 0]])
    assert np.abs(transform.inverse().apply(transform.apply(far)) - far).max() < 1e-8
