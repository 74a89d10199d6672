"""How the LiDAR and the cameras of a bag move: /tf, odometry, and clocks that differ."""

from __future__ import annotations

from pathlib import Path

import pytest
from bag_data import BagData
from drive_bag import (
    BASE_FROM_CAMERA,
    BASE_FROM_LIDAR,
    SECOND_NS,
    START_NS,
    assert_same,
    drive,
    expected_transform,
    odom_from_base,
    scan_ns,
    without,
)

from twodpass_core.data.bags.config import BagConfig
from twodpass_core.data.bags.frames import BagFrames
from twodpass_core.errors import TransformError
from twodpass_core.geometry.rigid_transform import RigidTransform


@pytest.mark.parametrize("motion", ["odometry", "none"])
def test_motion_by_odometry_or_none(tmp_path: Path, motion: str) -> None:
    source = BagFrames([drive(motion=motion).write(tmp_path / "drive")])
    assert_same(source[2].views[0].camera_from_lidar, expected_transform(2, motion == "odometry"))
    if motion == "odometry":
        assert_same(source[2].world_from_lidar, odom_from_base(scan_ns(2)) @ BASE_FROM_LIDAR)
    else:
        assert source[2].world_from_lidar is None


def test_odometry_of_another_sensor_on_the_vehicle(tmp_path: Path) -> None:
    data, base_from_imu = drive(motion="none"), RigidTransform.from_xyz_rpy([0.3, 0.1, 0.5, 0, 0, 1.5])
    data.transform("base", "imu", base_from_imu, START_NS, static=True)
    for tick in range(-2, 14):
        stamp = START_NS + tick * SECOND_NS // 20
        data.odometry("world", "imu", odom_from_base(stamp) @ base_from_imu, stamp)
    source = BagFrames([data.write(tmp_path / "drive")])
    assert_same(source[2].views[0].camera_from_lidar, expected_transform(2), 2e-5)  # between two poses, of the imu here


@pytest.mark.parametrize(
    ("wanted", "still", "moving"), [(None, "vo", "odom"), ("odom", "vo", "odom"), (None, "odom", "vo")]
)
def test_of_several_odometries_one_that_moves_is_taken(
    wanted: str | None, still: str, moving: str, tmp_path: Path
) -> None:
    data = drive(motion="none")
    for tick in range(-2, 14):
        stamp = START_NS + tick * SECOND_NS // 20
        data.odometry(still, "base", RigidTransform.identity(), stamp, topic="/a/odometry")  # has not found its place
        data.odometry(moving, "base", odom_from_base(stamp), stamp, topic="/b/odometry")
    source = BagFrames([data.write(tmp_path / "drive")], BagConfig(fixed_frame=wanted))
    assert_same(source[2].views[0].camera_from_lidar, expected_transform(2), 1e-6)


def test_of_several_odometries_that_move_that_in_odom_is_taken(tmp_path: Path) -> None:
    data = drive(motion="none")
    for tick in range(-4, 28):
        stamp = START_NS + tick * SECOND_NS // 40
        data.odometry("map", "base", odom_from_base(2 * stamp - START_NS), stamp, topic="/slam/odometry")
        if tick % 2 == 0:
            data.odometry("odom", "base", odom_from_base(stamp), stamp)
    source = BagFrames([data.write(tmp_path / "drive")])
    assert_same(source[2].world_from_lidar, odom_from_base(scan_ns(2)) @ BASE_FROM_LIDAR, 1e-6)


def test_a_vehicle_that_stands_still_by_tf_does_so(tmp_path: Path) -> None:
    """What never changes is a mounting on the vehicle, but not where it is the vehicle itself."""
    data = drive(motion="odometry")
    for tick in range(-2, 14):
        data.transform("map", "base", RigidTransform.identity(), START_NS + tick * SECOND_NS // 20)
    source = BagFrames([data.write(tmp_path / "drive")])
    assert_same(source[2].views[0].camera_from_lidar, expected_transform(2, moving=False), 1e-6)


def test_transforms_that_are_not_on_tf_do_not_count(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    data = drive()
    for tick in range(-4, 28):
        stamp = START_NS + tick * SECOND_NS // 40
        data.transform("odom", "base", RigidTransform.identity(), stamp, topic="/tf_unused")
    source = BagFrames([data.write(tmp_path / "drive")])
    assert_same(source[2].views[0].camera_from_lidar, expected_transform(2), 1e-6)
    assert "transforms count on /tf and /tf_static, of any namespace, and not on /tf_unused" in caplog.text


@pytest.mark.parametrize("namespace", ["/v1", ""])
def test_of_two_vehicles_with_the_same_frames_that_of_the_clouds_counts(tmp_path: Path, namespace: str) -> None:
    data, elsewhere = drive(), RigidTransform.from_xyz_rpy([1, 2, 3, 0, 0, 1])
    data.messages = [(f"{namespace}{entry[0]}", *entry[1:]) for entry in data.messages]
    data.transform("base", "lidar", elsewhere, START_NS, topic="/v2/tf_static", static=True)
    for tick in range(-4, 28):
        stamp = START_NS + tick * SECOND_NS // 40
        data.transform("odom", "base", elsewhere, stamp, topic="/v2/tf")
    source = BagFrames([data.write(tmp_path / "drive")])
    assert_same(source[2].views[0].camera_from_lidar, expected_transform(2), 1e-6)


@pytest.mark.parametrize(
    ("early", "told"),
    [
        (
            "/points",
            ["/camera/image_raw are of a clock that is 37.0 s behind that of /points", "/tf ('base') are of a clock"],
        ),
        ("/camera/image_raw", ["/camera/image_raw are of a clock that is 37.0 s ahead of that of /points"]),
        ("/tf", ["/tf ('base') are of a clock that is 37.0 s ahead of that of /points"]),
        ("/odometry", ["/odometry ('base') are of a clock that is 37.0 s ahead of that of /points"]),
        ("/", []),  # recorded while a bag was played
    ],
)
def test_clocks_that_differ_are_told(
    early: str, told: list[str], tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    data = drive(motion="odometry" if early == "/odometry" else "tf")
    data.messages = [
        (topic, kind, log_ns - 37 * SECOND_NS * topic.startswith(early), message)
        for topic, kind, log_ns, message in data.messages
    ]
    BagFrames([data.write(tmp_path / "drive")])
    for words in told:
        assert words in caplog.text
    assert caplog.text.count("of a clock that is") == len(told)


def test_one_of_two_publishers_on_tf_by_another_clock_is_told(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    data = without(drive(), "tf_static")
    data.transform("lidar", "camera", BASE_FROM_LIDAR.inverse() @ BASE_FROM_CAMERA, START_NS, static=True)
    for tick in range(-2, 14):  # a platform that holds the LiDAR, after what moves the vehicle
        data.transform("base", "lidar", BASE_FROM_LIDAR, START_NS + tick * SECOND_NS // 20)
    data.messages = [
        (
            topic,
            kind,
            log_ns - 37 * SECOND_NS * (topic == "/tf" and message.transforms[0].child_frame_id == "base"),
            message,
        )
        for topic, kind, log_ns, message in data.messages
    ]
    BagFrames([data.write(tmp_path / "drive")])
    assert "/tf ('base') are of a clock that is 37.0 s ahead" in caplog.text
    assert "/tf ('lidar') are of a clock" not in caplog.text


@pytest.mark.parametrize("topic", ["/tf", "/camera/image_raw", "/points"])
def test_a_message_that_is_recorded_late_once_tells_nothing_of_clocks(
    topic: str, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    data = drive(motion="tf")
    at = next(position for position, entry in enumerate(data.messages) if entry[0] == topic)
    _, kind, log_ns, message = data.messages[at]
    data.messages[at] = topic, kind, log_ns + 37 * SECOND_NS, message
    BagFrames([data.write(tmp_path / "drive")])
    assert "of a clock that is" not in caplog.text


def test_where_the_motion_is_not_known_images_are_not_used(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    data = drive(10)
    data.messages = [e for e in data.messages if e[0] != "/tf" or scan_ns(3) <= e[2] <= scan_ns(6)]
    source = BagFrames([data.write(tmp_path / "drive")])
    # 100 ms beyond both ends are taken to be like the ends.
    assert [len(source[index].views) for index in range(10)] == [0, 0, 1, 1, 1, 1, 1, 0, 0, 0]
    assert source[0].world_from_lidar is None
    assert "motion between scan and image: 'base' in 'odom': known from" in caplog.text
    assert "The scan is used without it (1 such images so far)" in caplog.text


def test_a_motion_of_another_clock_is_told(tmp_path: Path) -> None:
    data = drive(10)
    data.messages = [e for e in data.messages if e[0] != "/tf"]
    for tick in range(10):
        data.transform("odom", "base", odom_from_base(tick), tick * SECOND_NS // 10)
    path = data.write(tmp_path / "drive")
    with pytest.raises(TransformError, match=r"known for no scan: 'base' in 'odom': .* of the same clock"):
        BagFrames([path])
    assert BagFrames([path], cameras=[])[0].world_from_lidar is None


@pytest.mark.parametrize("mounted", [("lidar",), ("camera",), ("lidar", "camera")])
def test_a_mounting_that_is_on_tf_does_not_hide_the_odometry(tmp_path: Path, mounted: tuple[str, ...]) -> None:
    data = without(drive(6, "odometry"), "tf_static")
    poses = {"lidar": BASE_FROM_LIDAR, "camera": BASE_FROM_CAMERA}
    for frame, pose in poses.items():
        for tick in range(-2, 16) if frame in mounted else (-2,):
            data.transform("base", frame, pose, START_NS + tick * SECOND_NS // 20, static=frame not in mounted)
    source = BagFrames([data.write(tmp_path / "drive")])
    for index in range(6):
        assert_same(source[index].views[0].camera_from_lidar, expected_transform(index))
        assert_same(source[index].world_from_lidar, odom_from_base(scan_ns(index)) @ BASE_FROM_LIDAR)


def test_a_vehicle_that_sways_on_tf_does_not_hide_the_odometry(tmp_path: Path) -> None:
    data = drive(6, "none")
    for tick in range(-2, 16):
        stamp, sway = START_NS + tick * SECOND_NS // 20, RigidTransform.from_xyz_rpy([0, 0, 0, 0, 0.001 * tick, 0])
        data.transform("footprint", "base", sway, stamp)
        data.odometry("odom", "footprint", odom_from_base(stamp) @ sway.inverse(), stamp)
    source = BagFrames([data.write(tmp_path / "drive")])
    for index in range(6):
        assert_same(source[index].views[0].camera_from_lidar, expected_transform(index), 1e-5)
        assert_same(source[index].world_from_lidar, odom_from_base(scan_ns(index)) @ BASE_FROM_LIDAR, 1e-5)


def test_odometry_of_a_frame_that_nothing_connects_is_named(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    data = drive(3, "none")
    data.odometry("odom", "body", odom_from_base(START_NS), START_NS)
    assert BagFrames([data.write(tmp_path / "drive")])[0].world_from_lidar is None
    assert "no motion is known: no transform connects 'lidar' with what odometry tells of, 'body' (/odometry)" in (
        caplog.text
    )


def test_the_motion_goes_on_for_a_tenth_of_a_second(tmp_path: Path) -> None:
    data = drive(5)
    data.messages = [entry for entry in data.messages if entry[0] != "/tf" or entry[2] <= scan_ns(4) - SECOND_NS // 20]
    frame = BagFrames([data.write(tmp_path / "drive")])[4]
    assert_same(frame.views[0].camera_from_lidar, expected_transform(4), 1e-4)


@pytest.mark.parametrize("name", ["odom", "robot/odom"])
def test_a_map_that_is_told_seldom_does_not_matter(tmp_path: Path, name: str) -> None:
    data = drive(5, "none")
    for tick in range(-2, 14):
        stamp = START_NS + tick * SECOND_NS // 20
        data.transform(name, "base", odom_from_base(stamp), stamp)
    for seconds in (-5, 5):
        data.transform(
            "map", name, RigidTransform.from_xyz_rpy([seconds, 0, 0, 0, 0, 0]), START_NS + seconds * SECOND_NS
        )
    source = BagFrames([data.write(tmp_path / "drive")])
    assert_same(source[2].views[0].camera_from_lidar, expected_transform(2))


@pytest.mark.parametrize("topic", ["/tf", "/tf_static"])
@pytest.mark.parametrize("first", [True, False])
def test_of_several_parents_of_a_frame_that_counts_which_is_told_most_often(
    topic: str, first: bool, tmp_path: Path
) -> None:
    data, other = drive(5), BagData()
    for stamp in (START_NS - 1, START_NS + SECOND_NS):
        other.transform("garage", "base", RigidTransform.identity(), stamp, topic=topic)
    data.messages = [*other.messages, *data.messages] if first else [*data.messages, *other.messages]
    data.messages = [(name, kind, START_NS + at, message) for at, (name, kind, _, message) in enumerate(data.messages)]
    source = BagFrames([data.write(tmp_path / "drive")])
    assert_same(source[2].views[0].camera_from_lidar, expected_transform(2), 1e-6)
    assert_same(source[2].world_from_lidar, odom_from_base(scan_ns(2)) @ BASE_FROM_LIDAR, 1e-6)


def test_unknown_fixed_frame(tmp_path: Path) -> None:
    bag = drive(2).write(tmp_path / "drive")
    with pytest.raises(TransformError, match="drive: there is no frame 'map'; there are base, camera, lidar, odom"):
        BagFrames([bag], BagConfig(fixed_frame="map"))
