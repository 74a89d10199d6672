"""A few bad messages in a bag: the rest is used, and it is told how many were left out."""

from __future__ import annotations

import logging
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from bag_data import TYPES, BagData, make_header
from drive_bag import BASE_FROM_CAMERA, CAMERA, drive, image_ns, picture, points, scan_ns, without
from rosbags.rosbag2 import CompressionMode, StoragePlugin

from twodpass_core.cameras.model import CameraModel
from twodpass_core.data.bags.config import BagConfig
from twodpass_core.data.bags.frames import BagFrames
from twodpass_core.data.prepare import prepare
from twodpass_core.data.sample import make_sample
from twodpass_core.data.semantickitti import SemanticKitti
from twodpass_core.errors import BagError, ConfigError, ImageError, TransformError
from twodpass_core.geometry.rigid_transform import RigidTransform
from twodpass_core.labels.store import LabelStore

IMAGES = "/camera/image_raw"
COMPRESSED = "/camera/image_raw/compressed"


def cut_off(message: Any) -> bytes:
    """Serialised, and half of it gone."""
    kind = message.__msgtype__
    raw = bytes(TYPES.serialize_cdr(message, kind))
    return raw[: len(raw) // 2]


def too_wide(message: Any) -> Any:
    return replace(message, width=999_999)


def short(message: Any) -> Any:
    """A message that is whole, with the end of its content gone."""
    return replace(message, data=message.data[:-10])


def smaller(message: Any) -> Any:
    return replace(message, height=24, data=message.data[: 24 * message.step])


# --- Clouds ---------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("compression", [CompressionMode.NONE, CompressionMode.MESSAGE])
@pytest.mark.parametrize("damage", [too_wide, short, cut_off])
@pytest.mark.parametrize("bad", [0, 2])
def test_malformed_clouds_are_left_out(
    tmp_path: Path,
    caplog: pytest.LogCaptureFixture,
    bad: int,
    damage: Callable[[Any], Any],
    compression: CompressionMode,
) -> None:
    data = drive(4)
    data.change("/points", bad, damage)
    bag = data.write(tmp_path / "drive", StoragePlugin.SQLITE3, compression)
    rest = [index for index in range(4) if index != bad]
    for _ in range(2):  # by an index that is made, and by one that is kept
        caplog.clear()
        source = BagFrames([bag])
        assert list(source.ids) == [f"drive/{scan_ns(index)}" for index in rest]
        for position, index in enumerate(rest):
            np.testing.assert_array_equal(source[position].points, points(index))
            np.testing.assert_array_equal(source[position].views[0].load_image(), picture(index))
        (record,) = caplog.records
        assert "drive: malformed messages are left out, 1 of /points: " in record.getMessage()


@pytest.mark.parametrize("others", [(0,), (2, 4)])
def test_clouds_in_another_frame_are_left_out(
    tmp_path: Path, caplog: pytest.LogCaptureFixture, others: tuple[int, ...]
) -> None:
    data = drive(5)
    for index in others:
        data.change("/points", index, lambda cloud: replace(cloud, header=replace(cloud.header, frame_id="rear")))
    data.change("/points", 1, lambda cloud: replace(cloud, header=replace(cloud.header, frame_id="/lidar")))
    source = BagFrames([data.write(tmp_path / "drive")])
    assert list(source.ids) == [f"drive/{scan_ns(index)}" for index in range(5) if index not in others]
    assert f"left out, {len(others)} of /points: in frame 'rear', while most are in 'lidar'" in caplog.text


def test_malformed_clouds_count_where_several_are_recorded_at_one_time(tmp_path: Path) -> None:
    data = BagData()
    for index in range(4):
        data.cloud(scan_ns(index), points(index), log_ns=scan_ns(0))
    data.change("/points", 1, too_wide)
    source = BagFrames([data.write(tmp_path / "drive")])
    for position, index in enumerate((0, 2, 3)):
        np.testing.assert_array_equal(source[position].points, points(index))


def test_a_bag_of_malformed_clouds_alone_is_refused(tmp_path: Path) -> None:
    data = drive(2)
    for index in range(2):
        data.change("/points", index, too_wide)
    with pytest.raises(BagError, match=r"drive: none of the clouds of /points can be read: data: .* do not fit"):
        BagFrames([data.write(tmp_path / "drive")])


@pytest.mark.parametrize("topic", ["/tf", "/tf_static", "/camera/camera_info", IMAGES])
def test_other_malformed_messages_are_left_out(tmp_path: Path, caplog: pytest.LogCaptureFixture, topic: str) -> None:
    data = drive(4)
    (first, *_) = (entry for entry in data.messages if entry[0] == topic)
    data.messages.append((*first[:2], first[2] - 1, cut_off(first[3])))
    source = BagFrames([data.write(tmp_path / "drive")])
    assert [len(source[index].views) for index in range(4)] == [1] * 4
    np.testing.assert_array_equal(source[2].views[0].load_image(), picture(2))
    assert f"malformed messages are left out, 1 of {topic}: " in caplog.text


def test_transforms_of_no_frame_are_left_out(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    data = drive(2)
    data.transform("", "base", RigidTransform.identity(), scan_ns(0))
    data.transform("base", "base", RigidTransform.identity(), scan_ns(0), static=True)
    assert len(BagFrames([data.write(tmp_path / "drive")])[0].views) == 1
    assert "left out, 1 of /tf: a transform needs two frames, not '' and 'base'" in caplog.text
    assert "left out, 1 of /tf_static: " in caplog.text


def test_frames_in_a_circle_concern_cameras_only(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    data = drive(2)
    for stamp in (scan_ns(0), scan_ns(1)):
        data.transform("lidar", "odom", RigidTransform.identity(), stamp)
    bag = data.write(tmp_path / "drive")
    frame = BagFrames([bag], cameras=[])[0]
    assert (frame.views, frame.world_from_lidar) == ((), None)
    assert "drive: its transforms are of no use, so no motion is known: these frames form a cycle" in caplog.text
    with pytest.raises(TransformError, match="drive: these frames form a cycle: lidar in "):
        BagFrames([bag])
    with pytest.raises(TransformError, match="drive: these frames form a cycle"):
        BagFrames([bag], BagConfig(fixed_frame="odom"), cameras=[])


# --- Images ---------------------------------------------------------------------------------------------------------


def bad_images(*bad: int, how: str, scans: int = 4) -> BagData:
    data = drive(scans, form="jpeg" if how == "cut off" else "")
    for index in bad:
        data.change(COMPRESSED if how == "cut off" else IMAGES, index, short if how == "cut off" else smaller)
    return data


REASONS = {"cut off": "is damaged or cut off", "another size": "has 64 x 24 pixels, but the camera is calibrated for"}


@pytest.mark.parametrize("how", list(REASONS))
@pytest.mark.parametrize("bad", [0, 2])
def test_a_scan_whose_image_is_of_no_use_is_prepared_without(
    tmp_path: Path, caplog: pytest.LogCaptureFixture, bad: int, how: str
) -> None:
    frames = BagFrames([bad_images(bad, how=how).write(tmp_path / "drive")])
    (done,) = prepare(frames, tmp_path / "out")
    (name,) = frames.cameras
    assert (done.scans, done.images) == (4, {name: ("image_2", 3)})
    source = SemanticKitti(done.folder, "train", partly_labelled=True)
    assert [len(source[index].views) for index in range(4)] == [int(index != bad) for index in range(4)]
    (record,) = caplog.records
    assert f"drive: image {bad} of {name}: " in record.getMessage()
    assert REASONS[how] in record.getMessage()


def test_a_scan_whose_image_is_of_no_use_is_trained_on_without(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    bag = bad_images(1, how="another size").write(tmp_path / "drive")
    for index in range(4):
        LabelStore.beside(bag).write(scan_ns(index), np.full(60, 40, np.uint32))
    source = BagFrames([bag])
    frames = [source[index] for index in range(4)]
    samples = [make_sample(frame, source.grid, frame.views[0]) for frame in frames]
    assert [sample.image is not None for sample in samples] == [True, False, True, True]
    assert len(samples[1].image_points) == 0
    assert len(samples[1].points)
    for _ in range(30):
        make_sample(frames[1], source.grid, frames[1].views[0])
    assert [record.args[-1] for record in caplog.records] == [1, 10]  # type: ignore[index]
    with pytest.raises(ImageError, match=r"image 1 of /camera/image_raw: has 64 x 24 pixels"):
        frames[1].views[0].load_image()


def test_a_camera_of_which_no_image_fits_is_refused(tmp_path: Path) -> None:
    with pytest.raises(
        ConfigError, match=r"image 0 of /camera/image_raw/compressed: .* cut off.* leave the camera out"
    ):
        BagFrames([bad_images(*range(8), how="cut off", scans=8).write(tmp_path / "drive")])


def test_where_a_camera_was_not_calibrated_for_a_while_its_images_are_not_used(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    data = drive(3)
    data.change("/camera/camera_info", 1, lambda info: replace(info, k=np.zeros(9)))
    source = BagFrames([data.write(tmp_path / "drive")])
    assert [len(source[index].views) for index in range(3)] == [1, 0, 1]
    np.testing.assert_array_equal(source[2].views[0].camera.matrix, CAMERA.matrix)
    assert "drive: /camera/image_raw: CameraInfo of 'camera': " in caplog.text


def test_whole_bags_raise_no_warning(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    with caplog.at_level(logging.WARNING):
        source = BagFrames([bad_images(how="another size").write(tmp_path / "drive")])
        assert image_ns(3) - scan_ns(3) == 20_000_000
        source[3].views[0].load_image()
    assert not caplog.records


# --- What is told of a whole bag ------------------------------------------------------------------------------------


def test_a_clock_that_was_set_back_is_told(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    data = BagData()
    for number, index in enumerate((0, 10, 20, 30, 15, 25)):
        data.cloud(scan_ns(index), points(index), log_ns=scan_ns(0) + number)
    assert len(BagFrames([data.write(tmp_path / "drive")])) == 6
    assert "the time stamps of /points go back by 1.5 s on the way" in caplog.text


def test_static_transforms_that_change_are_told(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    data = drive(2)
    moved = RigidTransform.from_xyz_rpy([0, 0, 0.4, 0, 0, 0]) @ BASE_FROM_CAMERA
    for pose, seconds in ((BASE_FROM_CAMERA, 1), (moved, 2)):
        data.transform("base", "camera", pose, scan_ns(0) + seconds, static=True)
    BagFrames([data.write(tmp_path / "drive")])
    assert "/tf_static: where 'camera' is in 'base' changes, 1 time; the last counts for the whole bag" in caplog.text


def test_settings_of_topics_that_no_bag_has_are_told(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    BagFrames([drive(2).write(tmp_path / "drive")], BagConfig(frames={"/camera/image": "lens"}))
    assert "no bag has the topics ['/camera/image'] that calibration, camera_info, rectified or frames" in caplog.text


def test_calibrations_without_a_stamp_count_from_when_they_were_recorded(tmp_path: Path) -> None:
    data = without(drive(4), "camera_info")
    for index in range(4):
        scaled = CameraModel(CAMERA.matrix * [[1 + (index > 1)], [1], [1]], CAMERA.width, CAMERA.height)
        data.info(image_ns(index) - 1, scaled)
        data.change("/camera/camera_info", index, lambda info: replace(info, header=make_header(0, "camera")))
    source = BagFrames([data.write(tmp_path / "drive")])
    assert [source[index].views[0].camera.matrix[0, 0] for index in range(4)] == [40, 40, 80, 80]
