"""Bags as a source of frames: pairing, calibration, motion, labels, and what is said of a bag that lacks something."""

from __future__ import annotations

import logging
import math
import pickle
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import yaml
from bag_data import TYPES, BagData, rows
from rosbags.rosbag2 import CompressionMode, StoragePlugin
from tiny_weights import write_tiny_weights
from typer.testing import CliRunner

from twodpass_core.camera import CameraModel
from twodpass_core.cli import app
from twodpass_core.cli.evaluating import evaluation_sources
from twodpass_core.data.bag_config import BagConfig
from twodpass_core.data.bag_frames import BagFrames, find_bags
from twodpass_core.data.frame import FrameSource
from twodpass_core.data.mixture import open_training
from twodpass_core.data.source import SourceConfig, open_source
from twodpass_core.errors import BagError, ConfigError, LabelError, ScanError, TransformError
from twodpass_core.geometry import RigidTransform
from twodpass_core.labels.store import LabelStore
from twodpass_core.recording.bag_writer import BagWriter
from twodpass_core.recording.split_recorder import WriterSettings
from twodpass_core.recording.topics import RecordedTopic
from twodpass_core.training.config import TrainingConfig
from twodpass_core.training.run import train

SECOND_NS = 10**9
START_NS = 1_714_506_077_250_967_979
CAMERA = CameraModel(np.array([[40.0, 0, 32], [0, 40, 24], [0, 0, 1]]), 64, 48)
OPTICAL = RigidTransform(np.array([[0.0, 0, 1], [-1, 0, 0], [0, -1, 0]]), np.zeros(3))  # in a frame with x forward
BASE_FROM_LIDAR = RigidTransform.from_xyz_rpy([1, 0, 1.7, 0, 0, 0.1])
BASE_FROM_CAMERA = RigidTransform.from_xyz_rpy([1.5, 0.2, 1.4, 0, 0, 0]) @ OPTICAL


def odom_from_base(stamp_ns: int) -> RigidTransform:
    """10 m/s ahead while turning by 0.3 rad/s."""
    seconds = (stamp_ns - START_NS) * 1e-9
    return RigidTransform.from_xyz_rpy([10 * seconds, 0, 0, 0, 0, 0.3 * seconds])


def scan_ns(index: int) -> int:
    return START_NS + index * SECOND_NS // 10


def image_ns(index: int) -> int:
    return scan_ns(index) + 20_000_000


def points(index: int, count: int = 60) -> np.ndarray:
    values = np.random.default_rng(index).uniform(-20, 20, (count, 4)).astype(np.float32)
    values[:, 3] = np.abs(values[:, 3]) / 20
    return values


def picture(index: int) -> np.ndarray:
    return np.full((48, 64, 3), (10 * index, 200, 30), np.uint8)


def drive(scans: int = 5, motion: str = "tf", form: str = "") -> BagData:
    """Scans at 10 Hz, each with an image 20 ms later; `motion` on tf, odometry, or nowhere."""
    data = BagData()
    data.transform("base", "lidar", BASE_FROM_LIDAR, START_NS - 1, static=True)
    data.transform("base", "camera", BASE_FROM_CAMERA, START_NS - 1, static=True)
    topic = "/camera/image_raw/compressed" if form else "/camera/image_raw"
    for index in range(scans):
        data.cloud(scan_ns(index), points(index))
        data.image(image_ns(index), picture(index), topic=topic, form=form)
        data.info(image_ns(index), CAMERA)
    for tick in range(-2, 2 * scans + 4):
        stamp = START_NS + tick * SECOND_NS // 20
        if motion == "tf":
            data.transform("odom", "base", odom_from_base(stamp), stamp)
        if motion == "odometry":
            data.odometry("odom", "base", odom_from_base(stamp), stamp)
    return data


def expected_transform(index: int, moving: bool = True) -> RigidTransform:
    """camera_from_lidar by eq. 2."""
    motion = odom_from_base(image_ns(index)).inverse() @ odom_from_base(scan_ns(index))
    return BASE_FROM_CAMERA.inverse() @ (motion if moving else RigidTransform.identity()) @ BASE_FROM_LIDAR


def assert_same(one: RigidTransform | None, other: RigidTransform, tolerance: float = 1e-9) -> None:
    assert one is not None
    np.testing.assert_allclose(one.matrix(), other.matrix(), atol=tolerance)


@pytest.mark.parametrize("storage", [StoragePlugin.SQLITE3, StoragePlugin.MCAP])
@pytest.mark.parametrize("compression", [CompressionMode.NONE, CompressionMode.MESSAGE, CompressionMode.STORAGE])
def test_frames_are_what_was_recorded(tmp_path: Path, storage: StoragePlugin, compression: CompressionMode) -> None:
    if storage == StoragePlugin.SQLITE3 and compression == CompressionMode.STORAGE:
        pytest.skip("sqlite3 has no compression of its own")
    source: FrameSource = BagFrames([drive().write(tmp_path / "drive", storage, compression)])
    assert list(source.ids) == [f"drive/{scan_ns(index)}" for index in range(5)]
    for index in (3, 0, 4, 3):
        frame = source[index]
        assert (frame.id, frame.stamp_ns, frame.labels) == (source.ids[index], scan_ns(index), None)
        np.testing.assert_array_equal(frame.points, points(index))
        assert_same(frame.world_from_lidar, odom_from_base(scan_ns(index)) @ BASE_FROM_LIDAR)
        (view,) = frame.views
        assert view.name == "/camera/image_raw"
        assert_same(view.camera_from_lidar, expected_transform(index))
        np.testing.assert_array_equal(view.load_image(), picture(index))
        np.testing.assert_array_equal(view.camera.matrix, CAMERA.matrix)


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
    assert_same(source[2].views[0].camera_from_lidar, expected_transform(2), 1e-6)


def test_compressed_images(tmp_path: Path) -> None:
    source = BagFrames([drive(form="png").write(tmp_path / "drive")])
    np.testing.assert_array_equal(source[4].views[0].load_image(), picture(4))


def test_frames_go_to_other_processes(tmp_path: Path) -> None:
    source = BagFrames([drive().write(tmp_path / "drive")])
    source[0]
    copy = pickle.loads(pickle.dumps(source))
    view = pickle.loads(pickle.dumps(copy[3])).views[0]
    np.testing.assert_array_equal(view.load_image(), picture(3))


def test_scans_without_an_image_near_enough_are_used_without(tmp_path: Path) -> None:
    data = drive()
    data.messages = [entry for entry in data.messages if entry[2] != image_ns(2) or entry[0] == "/tf"]
    source = BagFrames([data.write(tmp_path / "drive")], BagConfig(max_offset=0.03))
    assert [len(source[index].views) for index in range(5)] == [1, 1, 0, 1, 1]
    with pytest.raises(
        BagError, match=r"no scan of /points has an image .* within max_offset 0.01 s; .* 0.020 s apart"
    ):
        BagFrames([tmp_path / "drive"], BagConfig(max_offset=0.01))


def test_where_the_motion_is_not_known_images_are_not_used(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    data = drive(10)
    data.messages = [e for e in data.messages if e[0] != "/tf" or scan_ns(3) <= e[2] <= scan_ns(6)]
    source = BagFrames([data.write(tmp_path / "drive")])
    # 100 ms beyond both ends are taken to be like the ends.
    assert [len(source[index].views) for index in range(10)] == [0, 0, 1, 1, 1, 1, 1, 0, 0, 0]
    assert source[0].world_from_lidar is None
    assert "frames before and after the known motion are used without images" in caplog.text


def test_lidar_only_opens_no_image_and_needs_no_transform(tmp_path: Path) -> None:
    data = drive()
    data.messages = [entry for entry in data.messages if "tf" not in entry[0] and "camera_info" not in entry[0]]
    source = BagFrames([data.write(tmp_path / "drive")], cameras=[])
    assert source[0].views == ()


def test_the_sensors_mounting_moves_points_and_cameras_together(tmp_path: Path) -> None:
    config = BagConfig(training_from_sensor=(0, 0, 1.5, 0.02, 0, math.pi / 2), intensity_scale=2, intensity_max=2)
    bag = drive().write(tmp_path / "drive")
    plain, moved = BagFrames([bag])[1], BagFrames([bag], config)[1]
    training_from_sensor = RigidTransform.from_xyz_rpy(config.training_from_sensor)
    np.testing.assert_allclose(moved.points[:, :3], training_from_sensor.apply(plain.points[:, :3]), atol=1e-5)
    np.testing.assert_allclose(moved.points[:, 3], 2 * plain.points[:, 3])
    for frame, other in ((plain, moved),):
        in_camera = frame.views[0].camera_from_lidar.apply(frame.points[:, :3].astype(np.float64))
        same = other.views[0].camera_from_lidar.apply(other.points[:, :3].astype(np.float64))
        np.testing.assert_allclose(in_camera, same, atol=1e-4)
        assert frame.world_from_lidar is not None
        assert other.world_from_lidar is not None
        in_world = frame.world_from_lidar.apply(frame.points[:, :3].astype(np.float64))
        np.testing.assert_allclose(
            other.world_from_lidar.apply(other.points[:, :3].astype(np.float64)), in_world, atol=1e-4
        )


# --- Several bags, splits, cameras ----------------------------------------------------------------------------------


def test_a_folder_of_bags(tmp_path: Path) -> None:
    (tmp_path / "bags").mkdir()
    for name in ("monday", "tuesday"):
        drive(3).write(tmp_path / "bags" / name)
    source = BagFrames([tmp_path / "bags"])
    assert [name.split("/")[0] for name in source.ids] == ["monday"] * 3 + ["tuesday"] * 3
    assert source.origin(4) == (tmp_path / "bags/tuesday", scan_ns(1))
    np.testing.assert_array_equal(source[4].points, points(1))
    np.testing.assert_array_equal(source[-1].points, points(2))
    with pytest.raises(IndexError):
        source[6]
    assert len(open_source(SourceConfig(kind="bag", root=tmp_path / "bags", cameras=()))) == 6
    with pytest.raises(BagError, match="neither a ROS 2 bag nor a folder of bags"):
        find_bags([tmp_path])


def test_held_out_frames(tmp_path: Path) -> None:
    bag, config = drive(5).write(tmp_path / "drive"), BagConfig(held_out=0.4)
    train, val, whole = (BagFrames([bag], config, split, cameras=[]) for split in ("train", "val", "all"))
    assert [*train.ids, *val.ids] == list(whole.ids)
    assert (len(train), len(val)) == (3, 2)
    assert len(BagFrames([bag], BagConfig(), "val", cameras=[])) == 5


def test_choice_of_cameras(tmp_path: Path) -> None:
    """The raw topic is taken of a camera's topics; depth images and those without calibration are left out."""
    data = drive(2)
    data.image(image_ns(0), picture(0), topic="/camera/image_raw/compressed", form="png")
    data.image(image_ns(0), picture(0), topic="/camera/image_rect")
    data.image(image_ns(0), picture(0), topic="/other/image_raw", frame="other")
    bag = data.write(tmp_path / "drive")
    assert [view.name for view in BagFrames([bag])[0].views] == ["/camera/image_raw"]
    names = ["/camera/image_rect", "/camera/image_raw/compressed"]
    assert [view.name for view in BagFrames([bag], cameras=names)[0].views] == names
    with pytest.raises(BagError, match="has no images on /front; its image topics are /camera/image_raw, /camera/"):
        BagFrames([bag], cameras=["/front"])
    with pytest.raises(
        BagError, match=r"no CameraInfo belongs to /other/image_raw; .* topics are /camera/camera_info\. "
    ):
        BagFrames([bag], cameras=["/other/image_raw"])
    config = BagConfig(camera_info={"/other/image_raw": "/camera/camera_info"}, frames={"/other/image_raw": "camera"})
    assert len(BagFrames([bag], config)[0].views) == 2


def test_rectified_images_and_stereo_pairs_in_one_frame(tmp_path: Path) -> None:
    data = without(drive(2), "image_raw", "info")
    lens = CameraModel(CAMERA.matrix, 64, 48, "plumb_bob", (-0.2, 0.1, 0, 0))
    for side in ("left", "right"):
        data.image(image_ns(0), picture(0), topic=f"/{side}/image_rect_color", form="")
        data.info(image_ns(0), lens, topic=f"/{side}/camera_info")
    for topic, _, _, message in data.messages:
        if topic == "/right/camera_info":
            message.p[3] = -0.12 * 40
    bag = data.write(tmp_path / "drive")
    (view,) = BagFrames([bag], cameras=["/left/image_rect_color"])[0].views
    assert view.camera.distortion_model == "pinhole"
    (view,) = BagFrames([bag], BagConfig(rectified=()), cameras=["/left/image_rect_color"])[0].views
    assert view.camera.coefficients == lens.coefficients
    with pytest.raises(ConfigError, match="/right/image_rect_color and /left/image_rect_color are both in 'camera'"):
        BagFrames([bag])


# --- Calibration from a file ----------------------------------------------------------------------------------------


def calibration(path: Path, **changes: Any) -> Path:
    camera = {
        "camera_from_lidar": rows((BASE_FROM_CAMERA.inverse() @ BASE_FROM_LIDAR).matrix()),
        "matrix": rows(CAMERA.matrix),
        "width": 64,
        "height": 48,
    }
    path.write_text(yaml.safe_dump({"cameras": {"/camera/image_raw": {**camera, **changes}}}))
    return path


@pytest.mark.parametrize("kept", ["/tf", "nothing"])
def test_a_calibration_file_stands_in_for_what_is_missing(tmp_path: Path, kept: str) -> None:
    """Where the LiDAR moves in a fixed frame, the file's camera moves with it."""
    data = drive(motion="none")
    data.messages = [entry for entry in data.messages if "tf" not in entry[0] and "camera_info" not in entry[0]]
    if kept == "/tf":
        for tick in range(-2, 14):
            stamp = START_NS + tick * SECOND_NS // 20
            data.transform("odom", "lidar", odom_from_base(stamp) @ BASE_FROM_LIDAR, stamp)
    config = BagConfig(calibration=calibration(tmp_path / "cameras.yaml"))
    frame = BagFrames([data.write(tmp_path / "drive")], config)[2]
    assert_same(frame.views[0].camera_from_lidar, expected_transform(2, kept == "/tf"), 1e-4)


@pytest.mark.parametrize(
    ("changes", "reason"),
    [
        ({"camera_from_lidar": [[1, 0, 0, 0]]}, "3x4 or 4x4"),
        ({"camera_from_lidar": [[1, 0, 0], [0, 1, 0, 0], [0, 0, 1, 0]]}, "of one length"),
        ({"matrix": [[0, 0, 0]] * 3}, "no camera matrix"),
        ({"width": 0}, "0 x 48 pixels"),
        ({"colour": "red"}, "colour"),
    ],
)
def test_a_damaged_calibration_file(tmp_path: Path, changes: dict[str, Any], reason: str) -> None:
    bag = drive(2).write(tmp_path / "drive")
    with pytest.raises(ConfigError, match=r"cameras\.yaml.*") as error:
        BagFrames([bag], BagConfig(calibration=calibration(tmp_path / "cameras.yaml", **changes)))
    assert reason in str(error.value)
    with pytest.raises(ConfigError, match="no such calibration file"):
        BagFrames([bag], BagConfig(calibration=tmp_path / "none.yaml"))


# --- Labels ---------------------------------------------------------------------------------------------------------


def test_labels_in_the_cloud(tmp_path: Path) -> None:
    raw = (np.arange(60) % 2 * 30 + 10).astype(np.uint32)  # car 10, road 40
    ids = np.where(np.arange(60) % 3 == 0, 255, np.arange(60) % 20).astype(np.uint8)
    fields: dict[str, tuple[str, np.ndarray]] = {
        "raw": ("label", raw | 7 << 16),
        "ids": ("class_id", ids),
        "floats": ("label", raw * 1.0),
    }
    for name, (field, values) in fields.items():
        data = BagData()
        data.cloud(START_NS, points(0), columns={field: values})
        source = BagFrames([data.write(tmp_path / name)])
        frame = source[0]
        assert source.labelled.tolist() == [True]
        assert frame.labels is not None
        if name == "ids":
            np.testing.assert_array_equal(frame.labels, np.where(ids == 255, 0, ids))
        else:
            np.testing.assert_array_equal(frame.labels, source.class_map.training_ids(raw))
        if name == "raw":
            assert frame.instances is not None
            assert (frame.instances == 7).all()


@pytest.mark.parametrize("columns", [{"label": np.full(60, 12345, np.uint32)}, {"class_id": np.full(60, 99, np.uint8)}])
def test_unknown_labels_in_the_cloud(tmp_path: Path, columns: dict[str, np.ndarray]) -> None:
    data = BagData()
    data.cloud(START_NS, points(0), columns=columns)
    source = BagFrames([data.write(tmp_path / "drive")])
    with pytest.raises(ScanError, match=r"drive: cloud of /points at \d+ ns: class map semantickitti .*(12345|99)"):
        source[0]


def test_labels_beside_the_bag(tmp_path: Path) -> None:
    bag = drive(4).write(tmp_path / "drive")
    store = LabelStore.beside(bag)
    store.write(scan_ns(1), np.full(60, 40, np.uint32))
    store.write(scan_ns(2), np.full(59, 40, np.uint32))
    store.proposed.write(scan_ns(3), np.full(60, 10, np.uint32))
    source = BagFrames([bag], cameras=[])
    assert source.labelled.tolist() == [False, True, True, False]
    np.testing.assert_array_equal(source[1].labels, source.class_map.training_ids(np.full(60, 40)))
    assert source[0].labels is None
    with pytest.raises(LabelError):
        source[2]
    assert BagFrames([bag], BagConfig(proposals=True), cameras=[]).labelled.tolist() == [False, True, True, True]


# --- What is missing ------------------------------------------------------------------------------------------------


def without(data: BagData, *parts: str) -> BagData:
    data.messages = [entry for entry in data.messages if not any(part in entry[0] for part in parts)]
    return data


@pytest.mark.parametrize(
    ("change", "kind", "reason"),
    [
        (lambda data: without(data, "points"), BagError, r"holds no PointCloud2; it has /camera/camera_info \(sensor"),
        (lambda data: without(data, "camera_info"), BagError, "CameraInfo topics are none. Name them by"),
        (lambda data: without(data, "tf"), TransformError, "/camera/image_raw: there is no frame .*; there are none"),
        (lambda data: data.cloud(START_NS, points(1), topic="/rear"), BagError, "as topic: /points, /rear"),
    ],
)  # fmt: skip
def test_what_a_bag_lacks_is_said(tmp_path: Path, change: Callable[[BagData], Any], kind: type, reason: str) -> None:
    data = drive(2)
    change(data)
    with pytest.raises(kind, match=reason):
        BagFrames([data.write(tmp_path / "drive")])


def test_an_image_of_another_size_than_its_camera(tmp_path: Path) -> None:
    data = without(drive(2), "camera_info")
    data.info(START_NS, CameraModel(CAMERA.matrix, 640, 480))
    with pytest.raises(ConfigError, match="has 64 x 48 pixels, but the camera is calibrated for 640 x 480"):
        BagFrames([data.write(tmp_path / "drive")])


def test_repeated_time_stamps(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    data = drive(3)
    data.cloud(scan_ns(1), points(9), log_ns=scan_ns(2) + 5)
    source = BagFrames([data.write(tmp_path / "drive")])
    assert len(source) == 3
    np.testing.assert_array_equal(source[1].points, points(1))
    assert "1 clouds of /points repeat a time stamp" in caplog.text
    data = BagData()
    for index in range(3):
        data.cloud(0, points(index), log_ns=scan_ns(index))
    with pytest.raises(BagError, match="all 3 clouds of /points have one time stamp, 0 ns"):
        BagFrames([data.write(tmp_path / "still")])


def test_unknown_fixed_frame(tmp_path: Path) -> None:
    bag = drive(2).write(tmp_path / "drive")
    with pytest.raises(TransformError, match="drive: there is no frame 'map'; there are base, camera, lidar, odom"):
        BagFrames([bag], BagConfig(fixed_frame="map"))


def test_nothing_is_logged_without_need(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    with caplog.at_level(logging.WARNING):
        BagFrames([drive().write(tmp_path / "drive")])[0]
    assert not caplog.records


# --- With the rest --------------------------------------------------------------------------------------------------


def test_bags_that_collect_records(tmp_path: Path) -> None:
    """Sets in chunks, several files, static transforms and CameraInfo at the start of each."""
    data, bag = drive(6), tmp_path / "drive"
    with BagWriter(bag, WriterSettings(split_seconds=0.25, chunk_bytes=12_000)) as writer:
        for topic, kind, log_ns, message in sorted(data.messages, key=lambda entry: entry[2]):
            writer.write(RecordedTopic.of_type(topic, kind), log_ns, bytes(TYPES.serialize_cdr(message, kind)))
    assert len(list(bag.glob("*.mcap"))) > 1
    source = BagFrames([bag])
    assert len(source) == 6
    for index in (5, 0, 3):
        np.testing.assert_array_equal(source[index].points, points(index))
        np.testing.assert_array_equal(source[index].views[0].load_image(), picture(index))
        assert_same(source[index].views[0].camera_from_lidar, expected_transform(index))


def test_evaluation_takes_the_labelled_scans_of_a_bag(tmp_path: Path) -> None:
    bag = drive(4).write(tmp_path / "drive")
    LabelStore.beside(bag).write(scan_ns(2), np.full(60, 40, np.uint32))
    config = BagConfig(topic="/points", intensity_scale=2)
    (source,) = evaluation_sources([bag], "semantickitti", "val", config)
    assert list(source.ids) == [f"drive/{scan_ns(2)}"]
    assert source[0].views == ()
    np.testing.assert_array_equal(source[0].points[:, 3], 2 * points(2)[:, 3])
    with pytest.raises(ConfigError, match="kitti: no bag, to which intensity_scale, topic could apply"):
        evaluation_sources([tmp_path / "kitti"], "semantickitti", "val", config)


def test_the_command_evaluates_one_of_a_bags_topics_seen_by_a_sensor_of_its_own(tmp_path: Path) -> None:
    data = drive(1)
    data.cloud(START_NS, points(7, 9), topic="/rear")
    bag, weights = data.write(tmp_path / "drive"), write_tiny_weights(tmp_path / "tiny.safetensors")
    LabelStore.beside(bag).write(scan_ns(0), np.full(9, 40, np.uint32))
    arguments = ["evaluate", str(weights), str(bag), "--device", "cpu"]
    refused = CliRunner().invoke(app, arguments)
    assert refused.exit_code == 1
    assert "name one of them by --topic, in settings as topic: /points, /rear" in refused.output
    arguments += ["--topic", "/rear", "--sensor-transform", "0,0,1.7,0,0,0", "--intensity-scale"]
    done = CliRunner().invoke(app, [*arguments, "2", "--out", str(tmp_path / "report")])
    assert done.exit_code == 0, done.output
    assert (tmp_path / "report").exists()
    wrong = CliRunner().invoke(app, [*arguments, "0"])
    assert wrong.exit_code == 1
    assert "intensity_scale: Input should be greater than 0" in wrong.output


@pytest.mark.parametrize("what", ["a bag", "its file", "a folder of bags"])
def test_a_bag_in_the_place_of_settings_is_told(tmp_path: Path, what: str) -> None:
    bag = drive(1).write(tmp_path / "drive")
    given = {"a bag": bag, "its file": bag / "drive.mcap", "a folder of bags": tmp_path}[what]
    result = CliRunner().invoke(app, ["train", str(given)])
    assert result.exit_code == 1
    assert f"{given}: holds data, not settings" in result.output
    assert f"--set data.train.root={given}" in result.output


def test_bags_without_a_camera_teach_2dpass_only_when_that_is_said(tmp_path: Path) -> None:
    bag = without(drive(3), "camera").write(tmp_path / "drive")
    LabelStore.beside(bag).write(scan_ns(1), np.full(60, 40, np.uint32))
    settings = {"kind": "bag", "root": str(bag), "unlabelled": "keep"}
    config = {"run": tmp_path / "run", "data": {"train": settings}, "machine": {"accelerator": "cpu"}}
    with pytest.raises(
        ConfigError, match=r"drive: has no camera, .* it has /points \(sensor_msgs.* `cameras` .* to \[\]"
    ):
        train(TrainingConfig.model_validate(config))
    assert not (tmp_path / "run").exists()
    said = SourceConfig.model_validate({**settings, "cameras": []})
    assert len(open_training(said, learns_from_images=True)) == 3
    assert len(open_training(SourceConfig.model_validate(settings))) == 3


@pytest.mark.slow
def test_training_on_a_bag_with_workers(tmp_path: Path) -> None:
    """Processes that load frames read the bag each for itself, images among them."""
    bag = drive(8).write(tmp_path / "drive")
    for index in range(8):
        LabelStore.beside(bag).write(scan_ns(index), (np.arange(60) % 2 * 30 + 10).astype(np.uint32))
    config = TrainingConfig.model_validate(
        {
            "run": tmp_path / "run",
            "max_steps": 3,
            "data": {"train": {"kind": "bag", "root": bag}, "batch_size": 2, "workers": 2},
            "student": {"scales": (2, 4), "width": 8, "hidden": 8},
            "augmentation": {"crop": None},
            "machine": {"accelerator": "cpu", "devices": 1},
        }
    )
    assert train(config).exists()
