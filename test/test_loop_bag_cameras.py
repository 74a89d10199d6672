"""The cameras of a bag: which are used, with which calibration."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import yaml
from bag_data import BagData, rows
from drive_bag import (
    BASE_FROM_CAMERA,
    BASE_FROM_LIDAR,
    CAMERA,
    SECOND_NS,
    START_NS,
    assert_same,
    drive,
    expected_transform,
    image_ns,
    odom_from_base,
    picture,
    without,
)

from twodpass_core.cameras.model import CameraModel
from twodpass_core.data.bags.config import BagConfig
from twodpass_core.data.bags.frames import BagFrames
from twodpass_core.errors import BagError, ConfigError
from twodpass_core.geometry.rigid_transform import RigidTransform


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


def test_images_of_an_unknown_encoding_are_named(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    data = drive(2)
    data.image(image_ns(0), picture(0), topic="/other/image_raw")
    data.change("/other/image_raw", 0, lambda image: replace(image, encoding="nv21"))
    data.image(image_ns(0), picture(0), topic="/depth/image_raw")
    data.change("/depth/image_raw", 0, lambda image: replace(image, encoding="32FC1"))
    assert BagFrames([data.write(tmp_path / "drive")]).cameras == ["/camera/image_raw"]
    (told,) = [record.getMessage() for record in caplog.records if "not decoded here" in record.getMessage()]
    assert "left out: /other/image_raw (nv21); known are mono8" in told


@pytest.mark.parametrize("axis", [0, 1])
def test_rectified_images_and_stereo_pairs_in_one_frame(tmp_path: Path, axis: int) -> None:
    data = without(drive(2), "image_raw", "info")
    lens = CameraModel(CAMERA.matrix, 64, 48, "plumb_bob", (-0.2, 0.1, 0, 0))
    for side in ("left", "right"):
        data.image(image_ns(0), picture(0), topic=f"/{side}/image_rect_color", form="")
        data.info(image_ns(0), lens, topic=f"/{side}/camera_info")
    for topic, _, _, message in data.messages:
        if topic == "/right/camera_info":
            message.p[3 + 4 * axis] = -0.12 * 40
    bag = data.write(tmp_path / "drive")
    (view,) = BagFrames([bag], cameras=["/left/image_rect_color"])[0].views
    assert view.camera.distortion_model == "pinhole"
    (view,) = BagFrames([bag], BagConfig(rectified=()), cameras=["/left/image_rect_color"])[0].views
    assert view.camera.coefficients == lens.coefficients
    refused = "/right/image_rect_color is in frame 'camera', as is the camera of /left/camera_info, but by its"
    for chosen in (None, ["/right/image_rect_color"]):
        with pytest.raises(ConfigError, match=refused):
            BagFrames([bag], cameras=chosen)


def test_a_rectified_image_is_turned_as_its_camera_info_says(tmp_path: Path) -> None:
    turn = RigidTransform.from_xyz_rpy([0, 0, 0, 0.02, -0.1, 0.05])
    data = without(drive(2), "image_raw")
    data.image(image_ns(0), picture(0), topic="/camera/image_rect")
    for index in range(2):
        data.change("/camera/camera_info", index, lambda info: replace(info, r=turn.rotation.ravel()))
    (view,) = BagFrames([data.write(tmp_path / "drive")])[0].views
    assert_same(view.camera_from_lidar, turn @ expected_transform(0), 1e-6)


def test_a_rectified_camera_that_stands_apart_may_be_alone_in_its_frame(tmp_path: Path) -> None:
    data = without(drive(2), "image_raw", "info")
    data.image(image_ns(0), picture(0), topic="/right/image_rect")
    data.info(image_ns(0), CAMERA, topic="/right/camera_info")
    data.change("/right/camera_info", 0, lambda info: replace(info, p=info.p - 4.8 * np.eye(12)[3]))
    assert BagFrames([data.write(tmp_path / "drive")]).cameras == ["/right/image_rect"]


def two_cameras(data: BagData, topics: Sequence[str], infos: Sequence[str], frames: Sequence[str]) -> BagData:
    """In place of the one that is there; the second stands 0.5 m to the right and has twice the focal length."""
    data = without(data, "image_raw", "camera_info")
    second = CameraModel(CAMERA.matrix * [[2], [2], [1]], 64, 48)
    beside = BASE_FROM_CAMERA @ RigidTransform.from_xyz_rpy([0.5, 0, 0, 0, 0, 0])
    for number, (topic, info, frame) in enumerate(zip(topics, infos, frames, strict=True)):
        data.transform("base", frame, (BASE_FROM_CAMERA, beside)[number], START_NS - 1, static=True)
        data.image(image_ns(0), picture(number), topic=topic, frame=frame, form="png" * ("compressed" in topic))
        data.info(image_ns(0), (CAMERA, second)[number], topic=info, frame=frame)
    return data


@pytest.mark.parametrize(
    ("topics", "infos"),
    [
        (["/cameras/l", "/cameras/r"], ["/info/l", "/info/r"]),
        (["/image_l/compressed", "/image_r/compressed"], ["/image_l/camera_info", "/image_r/camera_info"]),
        (["/front/compressed", "/rear/compressed"], ["/front/camera_info", "/rear/camera_info"]),
        (["/camera/image_l", "/camera/image_r"], ["/other/camera_info", "/camera/camera_info"]),
    ],
)
def test_cameras_in_one_namespace_are_told_by_their_frames(
    tmp_path: Path, topics: Sequence[str], infos: Sequence[str]
) -> None:
    bag = two_cameras(drive(1), topics, infos, ["one", "two"]).write(tmp_path / "drive")
    views = BagFrames([bag])[0].views
    assert [view.name for view in views] == list(topics)
    assert [view.camera.matrix[0, 0] for view in views] == [40, 80]
    apart = views[1].camera_from_lidar.translation - views[0].camera_from_lidar.translation
    np.testing.assert_allclose(apart, [-0.5, 0, 0], atol=1e-9)


@pytest.mark.parametrize("topic", ["/camera/image_raw", "/camera/image_raw/compressed"])
def test_pictures_made_of_a_cameras_images_are_not_another_camera(topic: str, tmp_path: Path) -> None:
    data = drive(2)
    data.messages = [(topic if entry[0] == "/camera/image_raw" else entry[0], *entry[1:]) for entry in data.messages]
    data.image(image_ns(0), picture(1), topic="/camera/image_annotated")
    data.image(image_ns(0), picture(1), topic="/detector/image")
    data.image(image_ns(0), picture(1)[:24], topic="/thumbnail/image_raw")
    assert BagFrames([data.write(tmp_path / "drive")]).cameras == [topic]


def test_a_calibration_that_may_be_of_another_camera_is_told(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    data = drive(2)
    data.change("/camera/camera_info", 0, lambda info: replace(info, header=replace(info.header, frame_id="lens")))
    assert BagFrames([data.write(tmp_path / "drive")]).cameras == ["/camera/image_raw"]
    assert "are in frame 'camera', their CameraInfo on /camera/camera_info in 'lens': is it theirs?" in caplog.text


def test_of_several_calibrations_in_the_frame_of_the_images_none_is_guessed(tmp_path: Path) -> None:
    data = without(drive(2), "image_raw", "info")
    data.image(image_ns(0), picture(0), topic="/pictures/image_raw")
    for topic in ("/left/camera_info", "/right/camera_info"):
        data.info(image_ns(0), CAMERA, topic=topic)
    with pytest.raises(BagError, match="no CameraInfo belongs to /pictures/image_raw; its CameraInfo topics are /left"):
        BagFrames([data.write(tmp_path / "drive")])


def test_of_a_cameras_images_those_that_are_not_compressed_are_taken(tmp_path: Path) -> None:
    data = without(drive(2), "image_raw")
    data.image(image_ns(0), picture(0), topic="/camera/compressed", form="jpeg")
    data.image(image_ns(0), picture(0), topic="/camera/image")
    assert BagFrames([data.write(tmp_path / "drive")]).cameras == ["/camera/image"]


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


def test_a_calibration_file_counts_whatever_the_bag_says(tmp_path: Path) -> None:
    """Of each topic that it names, though two have one CameraInfo and one frame."""
    data = without(drive(2), "camera_info")
    data.image(image_ns(0), picture(0), topic="/camera/image_mono")
    data.info(START_NS, CameraModel(CAMERA.matrix * [[3], [3], [1]], 64, 48))
    file = calibration(tmp_path / "cameras.yaml")
    entry = yaml.safe_load(file.read_text())["cameras"]["/camera/image_raw"]
    file.write_text(yaml.safe_dump({"cameras": {"/camera/image_raw": entry, "/camera/image_mono": entry}}))
    views = BagFrames([data.write(tmp_path / "drive")], BagConfig(calibration=file))[0].views
    assert [view.name for view in views] == ["/camera/image_mono", "/camera/image_raw"]
    assert [view.camera.matrix[0, 0] for view in views] == [40, 40]


def test_a_calibration_file_for_other_topics_is_told(tmp_path: Path) -> None:
    data = without(drive(2), "camera")
    data.image(image_ns(0), picture(0), topic="/front/image_raw")
    config = BagConfig(calibration=calibration(tmp_path / "cameras.yaml"))
    with pytest.raises(
        BagError,
        match=r"is for /camera/image_raw, which the bag does not have\. Name them in settings bag\.camera_info",
    ):
        BagFrames([data.write(tmp_path / "other")], config)


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


def test_an_image_of_another_size_than_its_camera(tmp_path: Path) -> None:
    data = without(drive(2), "camera_info")
    data.info(START_NS, CameraModel(CAMERA.matrix, 640, 480))
    with pytest.raises(ConfigError, match="has 64 x 48 pixels, but the camera is calibrated for 640 x 480"):
        BagFrames([data.write(tmp_path / "drive")])
