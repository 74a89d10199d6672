"""TransformTree: chains, times, history, and what is said when something is missing."""

from __future__ import annotations

import math
from types import SimpleNamespace

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from twodpass_core.errors import TransformError, TransformTimeError
from twodpass_core.geometry.rigid_transform import RigidTransform
from twodpass_core.geometry.trajectory import camera_from_lidar_across_times
from twodpass_core.geometry.transform_tree import TransformTree, add_transforms

SECOND_NS = 10**9
START_NS = 1_532_402_927 * SECOND_NS
BASE_FROM_LIDAR = RigidTransform.from_xyz_rpy([1, 0, 1.7, 0, 0.01, 0.1])
BASE_FROM_CAMERA = RigidTransform.from_xyz_rpy([1.5, 0.2, 1.4, -math.pi / 2, 0, -math.pi / 2])


def odom_from_base(seconds: float) -> RigidTransform:
    """8 m/s along x, turning left by 0.2 rad/s; far from the origin, as maps in UTM are."""
    return RigidTransform.from_xyz_rpy([1e5 + 8 * seconds, 4e6, 0, 0, 0, 0.2 * seconds])


def vehicle(history_ns: int | None = None, tolerance_ns: int = 0) -> TransformTree:
    tree = TransformTree(history_ns, tolerance_ns)
    tree.add("base", "lidar", BASE_FROM_LIDAR, None)
    tree.add("base", "mast", RigidTransform.from_xyz_rpy([0, 0, 1, 0, 0, 0]), None)
    tree.add("mast", "camera", RigidTransform.from_xyz_rpy([0, 0, -1, 0, 0, 0]) @ BASE_FROM_CAMERA, None)
    for tick in range(21):
        tree.add("odom", "base", odom_from_base(tick / 10), START_NS + tick * SECOND_NS // 10)
    return tree


def assert_same(one: RigidTransform, other: RigidTransform) -> None:
    np.testing.assert_allclose(one.matrix(), other.matrix(), atol=1e-7)


def test_chains_up_and_down() -> None:
    tree = vehicle()
    camera_from_lidar = BASE_FROM_CAMERA.inverse() @ BASE_FROM_LIDAR
    assert_same(tree.lookup("camera", "lidar"), camera_from_lidar)
    assert_same(tree.lookup("lidar", "camera"), camera_from_lidar.inverse())
    assert_same(tree.lookup("lidar", "lidar"), RigidTransform.identity())
    assert_same(tree.lookup("base", "/lidar", START_NS + 10**15), BASE_FROM_LIDAR)  # static: at any time
    assert tree.frames == ["base", "camera", "lidar", "mast", "odom"]
    assert tree.ancestry("/camera") == ["camera", "mast", "base", "odom"]
    assert tree.moves("lidar", "/odom")
    assert not tree.moves("lidar", "base")


@given(st.integers(0, 2 * SECOND_NS))
def test_moving_transforms_are_interpolated(elapsed_ns: int) -> None:
    expected = odom_from_base(elapsed_ns / SECOND_NS) @ BASE_FROM_LIDAR
    assert_same(vehicle().lookup("odom", "lidar", START_NS + elapsed_ns), expected)


@given(st.integers(0, 2 * SECOND_NS), st.integers(0, 2 * SECOND_NS))
def test_across_times_is_equation_2(camera_ns: int, lidar_ns: int) -> None:
    expected = camera_from_lidar_across_times(
        BASE_FROM_CAMERA.inverse(),
        odom_from_base(camera_ns / SECOND_NS),
        odom_from_base(lidar_ns / SECOND_NS),
        BASE_FROM_LIDAR,
    )
    got = vehicle().lookup_across("camera", START_NS + camera_ns, "lidar", START_NS + lidar_ns, "odom")
    assert_same(got, expected)


@given(st.permutations(range(21)))
def test_the_order_of_arrival_does_not_matter(order: list[int]) -> None:
    tree = TransformTree()
    for tick in [*order, order[0]]:
        tree.add("odom", "base", odom_from_base(tick / 10), START_NS + tick * SECOND_NS // 10)
    assert_same(tree.lookup("odom", "base", START_NS + SECOND_NS // 3), odom_from_base(1 / 3))


def test_without_a_time_the_newest_common_one_counts() -> None:
    tree = TransformTree()
    for tick in range(3):
        tree.add("odom", "base", odom_from_base(tick), START_NS + tick * SECOND_NS)
    for tick in range(5):
        tree.add("base", "turret", RigidTransform.from_xyz_rpy([0, 0, 0, 0, 0, tick]), START_NS + tick * SECOND_NS)
    expected = odom_from_base(2) @ RigidTransform.from_xyz_rpy([0, 0, 0, 0, 0, 2])
    assert_same(tree.lookup("odom", "turret"), expected)


def test_outside_the_known_times() -> None:
    with pytest.raises(TransformTimeError, match=r"'base' in 'odom': known from \d+ to \d+ ns, not at \d+ ns, 0.100 s"):
        vehicle().lookup("odom", "lidar", START_NS - SECOND_NS // 10)
    tolerant = vehicle(tolerance_ns=SECOND_NS // 10)
    assert_same(tolerant.lookup("odom", "base", START_NS - SECOND_NS // 10), odom_from_base(-0.1))
    assert_same(tolerant.lookup("odom", "base", START_NS + SECOND_NS * 21 // 10), odom_from_base(2.1))
    with pytest.raises(TransformError):
        tolerant.lookup("odom", "base", START_NS + SECOND_NS * 21 // 10 + 1)


def test_beyond_the_known_times_it_goes_on_as_it_moved_within_the_tolerance() -> None:
    tenth = SECOND_NS // 10
    tree = TransformTree(tolerance_ns=2 * tenth)
    shaken = {0: 0.0, 1: 0.3, 2: 0.2, 8: 0.8, 9: 0.7, 10: 1.0}  # m; a step on its own says little of the velocity
    for tick, x in shaken.items():
        tree.add("odom", "base", RigidTransform.from_xyz_rpy([x, 0, 0, 0, 0, 0]), START_NS + tick * tenth)
    for tick, x in ((12, 1.2), (-2, -0.2)):
        expected = RigidTransform.from_xyz_rpy([x, 0, 0, 0, 0, 0])
        assert_same(tree.lookup("odom", "base", START_NS + tick * tenth), expected)


def test_a_gap_tells_no_velocity() -> None:
    tree, tenth = TransformTree(tolerance_ns=SECOND_NS // 10), SECOND_NS // 10
    for second in (0, 3):
        tree.add("odom", "base", odom_from_base(second), START_NS + second * SECOND_NS)
    assert_same(tree.lookup("odom", "base", START_NS - tenth), odom_from_base(0))
    assert_same(tree.lookup("odom", "base", START_NS + 3 * SECOND_NS + tenth), odom_from_base(3))


def test_nothing_is_known_in_a_gap_unless_both_ends_are_equal() -> None:
    tree, tenth = TransformTree(tolerance_ns=SECOND_NS // 10), SECOND_NS // 10
    for second in (0, 2, 7, 30):
        tree.add("odom", "base", odom_from_base(min(second, 7)), START_NS + second * SECOND_NS)
    assert_same(tree.lookup("odom", "base", START_NS + SECOND_NS), odom_from_base(1))
    assert_same(tree.lookup("odom", "base", START_NS + 2 * SECOND_NS + tenth), odom_from_base(2.1))
    assert_same(tree.lookup("odom", "base", START_NS + 7 * SECOND_NS - tenth), odom_from_base(7))  # known alone
    with pytest.raises(TransformTimeError, match=r"known from \d+ to \d+ ns, not at \d+ ns, 2\.000 s from the nearest"):
        tree.lookup("odom", "base", START_NS + 4 * SECOND_NS)
    assert_same(tree.lookup("odom", "base", START_NS + 20 * SECOND_NS), odom_from_base(7))  # it stands


def test_recorded_transforms_are_as_those_added_one_by_one() -> None:
    tree = TransformTree()
    poses = [odom_from_base(tick / 10) for tick in range(21)]
    stamps = START_NS + np.arange(21) * SECOND_NS // 10
    numbers = np.array([[*pose.quaternion(), *pose.translation] for pose in poses])
    tree.add_recorded("odom", "/base", stamps, numbers)
    moment = START_NS + SECOND_NS // 7
    assert_same(tree.lookup("odom", "base", moment), vehicle().lookup("odom", "base", moment))


def test_history_is_bounded_and_starts_anew_after_a_jump_back() -> None:
    tree = vehicle(history_ns=SECOND_NS)
    assert_same(tree.lookup("odom", "base", START_NS + SECOND_NS), odom_from_base(1))
    with pytest.raises(TransformError):
        tree.lookup("odom", "base", START_NS + SECOND_NS - 1)
    tree.add("odom", "base", odom_from_base(0), START_NS)  # played again
    assert_same(tree.lookup("odom", "base"), odom_from_base(0))
    with pytest.raises(TransformError):
        tree.lookup("odom", "base", START_NS + SECOND_NS)


def test_what_comes_late_within_the_history_is_no_jump_back() -> None:
    tree = TransformTree(history_ns=2 * SECOND_NS)
    for tick in (0, 5, 15, 10, 20):
        tree.add("odom", "base", odom_from_base(tick / 10), START_NS + tick * SECOND_NS // 10)
    assert_same(tree.lookup("odom", "base", START_NS), odom_from_base(0))


def test_the_newest_parent_counts() -> None:
    tree = vehicle()
    tree.add("map", "base", RigidTransform.identity(), START_NS)
    assert_same(tree.lookup("map", "lidar", START_NS), BASE_FROM_LIDAR)
    with pytest.raises(TransformError):
        tree.lookup("odom", "lidar", START_NS)
    tree.add("odom", "base", RigidTransform.identity(), None)
    assert_same(tree.lookup("odom", "lidar"), BASE_FROM_LIDAR)


def test_what_was_known_in_another_parent_is_forgotten() -> None:
    tree = vehicle()
    tree.add("map", "base", RigidTransform.identity(), START_NS)
    with pytest.raises(TransformTimeError, match="'base' in 'map': known from"):
        tree.lookup("map", "lidar", START_NS + SECOND_NS)


def test_what_moved_may_become_static_and_the_other_way_round() -> None:
    parked = odom_from_base(5)
    tree = vehicle()
    tree.add("base", "turret", RigidTransform.identity(), START_NS + 9 * SECOND_NS)
    tree.add("odom", "base", parked, None)
    assert_same(tree.lookup("odom", "base", START_NS), parked)
    assert not tree.moves("base", "odom")
    assert_same(tree.lookup("odom", "turret"), parked)  # at the turret's time: the vehicle has none any more
    tree.add("odom", "base", odom_from_base(0), START_NS)
    assert tree.moves("base", "odom")
    assert_same(tree.lookup("odom", "base", START_NS), odom_from_base(0))
    tree.add("odom", "base", parked, None)
    tree.add_recorded("odom", "base", np.array([START_NS]), np.array([[1.0, 0, 0, 0, 1, 2, 3]]))
    assert_same(tree.lookup("odom", "base", START_NS), RigidTransform.from_xyz_rpy([1, 2, 3, 0, 0, 0]))


def test_what_is_missing_is_named() -> None:
    tree = vehicle()
    with pytest.raises(TransformError, match="no frame 'lidra'; there are base, camera, lidar, mast, odom"):
        tree.lookup("camera", "lidra")
    tree.add("arm", "gripper", RigidTransform.identity(), None)
    with pytest.raises(
        TransformError, match="the root of 'gripper' is 'arm', that of 'camera' 'odom', and nothing connects"
    ):
        tree.lookup("camera", "gripper")
    with pytest.raises(TransformError, match="there are none"):
        TransformTree().lookup("a", "b")
    tree.add("gripper", "arm", RigidTransform.identity(), None)
    with pytest.raises(TransformError, match="a cycle: gripper in arm in gripper"):
        tree.lookup("camera", "gripper")


@pytest.mark.parametrize(("parent", "child"), [("", "a"), ("a", ""), ("a", "a"), ("/a", "a")])
def test_frames_that_cannot_be(parent: str, child: str) -> None:
    with pytest.raises(TransformError, match="needs two frames"):
        TransformTree().add(parent, child, RigidTransform.identity(), None)


def tf_message(w: float) -> SimpleNamespace:
    entry = SimpleNamespace(
        header=SimpleNamespace(frame_id="odom", stamp=SimpleNamespace(sec=1, nanosec=5)),
        child_frame_id="base",
        transform=SimpleNamespace(
            rotation=SimpleNamespace(x=0.0, y=0.0, z=1.0, w=w), translation=SimpleNamespace(x=1.0, y=2.0, z=3.0)
        ),
    )
    return SimpleNamespace(transforms=[entry])


def test_messages_of_tf_fill_the_tree_and_invalid_transforms_are_named() -> None:
    expected = RigidTransform.from_xyz_rpy([1, 2, 3, 0, 0, math.pi / 2])
    for static in (True, False):
        tree = TransformTree()
        add_transforms(tree, tf_message(1.0), static=static)
        assert_same(tree.lookup("odom", "base", SECOND_NS + 5), expected)
        assert tree.moves("base", "odom") is not static
    with pytest.raises(TransformError, match="'base' in 'odom': a pose is a quaternion"):
        add_transforms(TransformTree(), tf_message(math.nan), static=True)


def test_invalid_transforms_of_a_message_do_not_hide_the_sound_ones() -> None:
    tree, message = TransformTree(), tf_message(1.0)
    nameless, broken = tf_message(1.0).transforms[0], tf_message(math.nan).transforms[0]
    nameless.child_frame_id, broken.child_frame_id = "", "camera"
    message.transforms[:0] = [nameless, broken]
    with pytest.raises(TransformError, match=r"^'' in 'odom': a transform needs two frames.*, 'camera' in 'odom': "):
        add_transforms(tree, message, static=True)
    assert tree.frames == ["base", "odom"]
