"""Bags written in SemanticKITTI's layout: what is read from there is what was recorded."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from bag_data import BagData
from drive_bag import (
    BASE_FROM_CAMERA,
    BASE_FROM_LIDAR,
    CAMERA,
    OPTICAL,
    SECOND_NS,
    START_NS,
    drive,
    image_ns,
    odom_from_base,
    picture,
    points,
    scan_ns,
)
from typer.testing import CliRunner

from twodpass_core.cameras.model import CameraModel, split_projection
from twodpass_core.cameras.undistort import Undistortion
from twodpass_core.cli import app
from twodpass_core.data.bags.config import BagConfig
from twodpass_core.data.bags.frames import BagFrames
from twodpass_core.data.bags.index import TopicIndex
from twodpass_core.data.bags.reader import BagReader
from twodpass_core.data.kitti_raw import KittiRaw
from twodpass_core.data.prepare import prepare
from twodpass_core.data.sample import pair
from twodpass_core.data.semantickitti import SemanticKitti
from twodpass_core.errors import ConfigError
from twodpass_core.geometry.rigid_transform import RigidTransform
from twodpass_core.labels.exchange import import_labels
from twodpass_core.labels.status import label_status
from twodpass_core.labels.store import LabelStore

BASE_FROM_REAR = RigidTransform.from_xyz_rpy([-1, 0, 1.4, 0, 0.1, 3]) @ OPTICAL


def two_cameras(scans: int = 4) -> BagData:
    """The second camera looks back, and its images come 10 ms later, so that motion makes its calibration differ."""
    data = drive(scans)
    data.transform("base", "rear", BASE_FROM_REAR, START_NS - 1, static=True)
    for index in range(scans):
        stamp = image_ns(index) + 3_000_000 * index
        data.image(stamp, picture(index) // 2, topic="/rear/image_raw", frame="rear")
        data.info(stamp, CAMERA, topic="/rear/camera_info", frame="rear")
    return data


def read(folder: Path) -> SemanticKitti:
    return SemanticKitti(folder, "train", cameras=["image_2", "image_3"], partly_labelled=True)


def test_what_is_read_from_there_is_what_was_recorded(tmp_path: Path) -> None:
    frames = BagFrames([two_cameras().write(tmp_path / "drive")])
    (done,) = prepare(frames, tmp_path / "out")
    assert (done.scans, done.labelled) == (4, 0)
    assert len([*(done.folder / "calib").iterdir()]) == 3
    assert done.images == {"/camera/image_raw": ("image_2", 4), "/rear/image_raw": ("image_3", 4)}
    lines = dict(line.split(": ") for line in (done.folder / "calib.txt").read_text().splitlines())
    assert lines["P0"] == lines["P1"] == lines["P2"] != lines["P3"]
    source = read(tmp_path / "out/sequences/00")
    assert len(source) == 4
    first = frames[0].world_from_lidar
    assert first is not None
    for index in range(4):
        recorded, prepared = frames[index], source[index]
        np.testing.assert_array_equal(prepared.points, recorded.points)
        assert prepared.stamp_ns == scan_ns(index) - scan_ns(0)
        assert prepared.labels is None
        assert [view.name for view in prepared.views] == ["image_2", "image_3"]
        for one, other in zip(prepared.views, recorded.views, strict=True):
            expected, found = other.camera_from_lidar, one.camera_from_lidar
            np.testing.assert_allclose(found.matrix(), expected.matrix(), atol=1e-9)
            np.testing.assert_allclose(one.camera.matrix, other.camera.matrix, atol=1e-9)
            np.testing.assert_array_equal(one.load_image(), other.load_image())
        assert recorded.world_from_lidar is not None
        assert prepared.world_from_lidar is not None
        motion = first.inverse() @ recorded.world_from_lidar
        np.testing.assert_allclose(prepared.world_from_lidar.matrix(), motion.matrix(), atol=1e-9)


def test_every_cloud_is_read_once(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    frames = BagFrames([drive(4).write(tmp_path / "drive")])
    LabelStore.beside(tmp_path / "drive").write(scan_ns(0), np.ones(60, np.uint32))
    read_message, reads = BagReader.read, list[str]()

    def counted_read(reader: BagReader, topic: TopicIndex, position: int) -> object:
        reads.append(topic.topic)
        return read_message(reader, topic, position)

    monkeypatch.setattr(BagReader, "read", counted_read)
    prepare(frames, tmp_path / "out")
    assert reads.count("/points") == 4
    label_status(frames)
    import_labels(frames, tmp_path / "out")
    assert reads.count("/points") == 4


def test_points_without_a_return_keep_their_place(tmp_path: Path) -> None:
    data, scan = BagData(), points(0)
    scan[3] = np.nan
    scan[5] = 0
    scan[7, 1] = np.nan
    scan[9, 2] = np.inf
    data.cloud(START_NS, scan)
    prepare(BagFrames([data.write(tmp_path / "drive")]), tmp_path / "out")
    written = np.fromfile(tmp_path / "out/sequences/00/velodyne/000000.bin", "<f4").reshape(-1, 4)
    scan[[3, 7, 9]] = 0
    np.testing.assert_array_equal(written, scan)


@pytest.mark.parametrize("known", [range(2, 5), range(0)])
def test_there_is_a_pose_for_every_scan(tmp_path: Path, known: range) -> None:
    """Tools do not open a sequence without: where one is not known, the nearest known one stands in its place."""
    data = drive(8, motion="none")
    for index in known:
        data.transform("odom", "base", odom_from_base(scan_ns(index)), scan_ns(index))
    bag = data.write(tmp_path / "drive")
    result = CliRunner().invoke(app, ["prepare", str(bag), str(tmp_path / "out"), "--no-cameras"])
    assert result.exit_code == 0, result.output
    poses = np.loadtxt(tmp_path / "out/sequences/00/poses.txt").reshape(8, 3, 4)
    nearest = [1, 1, 2, 3, 4, 5, 5, 5] if known else [0] * 8  # as known counts 0.1 s beyond both ends
    for index in range(8):
        expected = np.linalg.inv(world_from_lidar(nearest[0])) @ world_from_lidar(nearest[index])
        np.testing.assert_allclose(poses[index], expected[:3], atol=1e-9)
    unknown = 3 if known else 8  # TF holds for 100 ms beyond its ends
    assert f"{unknown} of 8 poses unknown" in result.output


def world_from_lidar(index: int) -> np.ndarray:
    return (odom_from_base(scan_ns(index)) @ BASE_FROM_LIDAR).matrix()


def test_distortion_is_taken_out(tmp_path: Path) -> None:
    """A picture of dots where a lens puts points: without distortion they are where the points are by K alone."""
    pytest.importorskip("cv2")
    lens = CameraModel(
        np.array([[300.0, 0, 160], [0, 300, 120], [0, 0, 1]]), 320, 240, "plumb_bob", (-0.3, 0.1, 0.001, 0.002)
    )
    rays = np.array([[x, y, 1.0] for x in (-0.4, -0.1, 0.3) for y in (-0.3, 0.0, 0.25)])
    picture_of_dots = np.zeros((240, 320, 3), np.uint8)
    for u, v in np.floor(lens.project(rays)[0]).astype(int):
        picture_of_dots[v - 2 : v + 3, u - 2 : u + 3] = 255
    plain = Undistortion(lens)(picture_of_dots)
    for u, v in np.floor(CameraModel(lens.matrix, 320, 240).project(rays)[0]).astype(int):
        assert plain[v, u].min() > 200
        assert plain[v - 6, u].max() == 0

    data = drive(1)
    data.messages = [entry for entry in data.messages if "camera" not in entry[0]]
    data.image(START_NS, picture_of_dots)
    data.info(START_NS, lens)
    (done,) = prepare(BagFrames([data.write(tmp_path / "drive")]), tmp_path / "out")
    view = read(done.folder)[0].views[0]
    np.testing.assert_array_equal(view.load_image(), plain)


def test_a_lens_that_changes(tmp_path: Path) -> None:
    """Each scan has the projection of its own image, and each image is undistorted by its own lens."""
    pytest.importorskip("cv2")
    data, image = drive(0), np.random.default_rng(0).integers(0, 256, (48, 64, 3)).astype(np.uint8)
    zoomed = CAMERA.matrix * [[2], [2], [1]]
    lenses = [CameraModel(CAMERA.matrix, 64, 48, "plumb_bob", (-0.1, 0, 0, 0))]
    lenses += [CameraModel(matrix, 64, 48, "plumb_bob", (0.2, 0, 0, 0)) for matrix in (CAMERA.matrix, zoomed)]
    for index, lens in enumerate(lenses):
        data.cloud(scan_ns(index), points(index))
        data.image(scan_ns(index), image)
        data.info(scan_ns(index), lens)
    (done,) = prepare(BagFrames([data.write(tmp_path / "drive")]), tmp_path / "out")
    source = read(done.folder)
    for index, lens in enumerate(lenses):
        (view,) = source[index].views
        np.testing.assert_allclose(view.camera.matrix, lens.matrix)
        np.testing.assert_array_equal(view.load_image(), Undistortion(lens)(image))


def test_cameras_beyond_those_that_the_layout_has_are_refused(tmp_path: Path) -> None:
    data = drive(1)
    for number in range(8):
        data.image(image_ns(0), picture(0), topic=f"/camera_{number}/image_raw")
        data.info(image_ns(0), CAMERA, topic=f"/camera_{number}/camera_info")
    bag = data.write(tmp_path / "drive")
    with pytest.raises(ConfigError, match="9 cameras are more than the 8 there are folders for"):
        prepare(BagFrames([bag]), tmp_path / "out")
    eight = [f"/camera_{number}/image_raw" for number in range(8)]
    (done,) = prepare(BagFrames([bag], cameras=eight), tmp_path / "out")
    source = SemanticKitti(done.folder, cameras=[folder for folder, _ in done.images.values()], partly_labelled=True)
    assert len(source[0].views) == 8


def test_several_bags_are_several_sequences(tmp_path: Path) -> None:
    bags = [drive(2).write(tmp_path / name) for name in ("a", "b")]
    done = prepare(BagFrames(bags), tmp_path / "out", first_sequence=7)
    assert [(entry.bag, entry.folder.name) for entry in done] == [(bags[0], "07"), (bags[1], "08")]
    last = prepare(BagFrames(bags), tmp_path / "out", first_sequence=98)
    assert [entry.folder.name for entry in last] == ["98", "99"]
    with pytest.raises(ConfigError, match=r"07.* exists"):
        prepare(BagFrames(bags), tmp_path / "out", first_sequence=7)
    with pytest.raises(ConfigError, match="2 bags from sequence 99 on are more than the numbers up to 99"):
        prepare(BagFrames(bags), tmp_path / "out", first_sequence=99)


def test_a_bag_is_never_written_to(tmp_path: Path) -> None:
    bag = drive(2).write(tmp_path / "drive")
    before = sorted(path.name for path in bag.iterdir())
    for out in (bag, bag / "out"):
        with pytest.raises(ConfigError, match="drive, which is never written to: choose another folder"):
            prepare(BagFrames([bag]), out)
    assert sorted(path.name for path in bag.iterdir()) == before


def test_a_failure_leaves_nothing_behind(tmp_path: Path) -> None:
    data = drive(3)
    data.cloud(scan_ns(3), points(3), columns={"class_id": np.full(60, 99, np.uint8)})
    frames = BagFrames([data.write(tmp_path / "drive")], cameras=[])
    LabelStore.beside(tmp_path / "drive").write(scan_ns(2), np.zeros(3, np.uint32))
    with pytest.raises(Exception, match="not its labels"):
        prepare(frames, tmp_path / "out")
    assert list((tmp_path / "out/sequences").iterdir()) == []


def test_the_command(tmp_path: Path) -> None:
    bag = two_cameras(2).write(tmp_path / "drive")
    arguments = ["prepare", str(bag), str(tmp_path / "out"), "--camera", "/rear/image_raw", "--sequence", "3"]
    result = CliRunner().invoke(app, arguments)
    assert result.exit_code == 0, result.output
    assert "2 scans, 0 labelled, 2 images of /rear/image_raw in image_2" in result.output.replace("\n", " ")
    assert f"labels import {bag} {tmp_path}/out/sequences/03\n" in result.output
    result = CliRunner().invoke(app, ["prepare", str(bag), str(tmp_path / "out"), "--no-cameras", "--topic", "/points"])
    assert result.exit_code == 0, result.output
    assert f"labels import {bag} {tmp_path}/out/sequences/00 --topic /points\n" in result.output
    assert (tmp_path / "out/sequences/00/calib.txt").read_text().splitlines()[-1].startswith("Tr: 1.0")
    assert CliRunner().invoke(app, ["prepare", str(tmp_path / "none"), str(tmp_path / "out")]).exit_code == 1


def test_the_folder_to_write_to_is_asked_for() -> None:
    result = CliRunner().invoke(app, ["prepare", "drive"])
    assert result.exit_code == 1
    assert "give the bags and then the folder to write to: twodpass prepare drive FOLDER" in result.stderr


def test_projections_of_cameras_that_look_another_way() -> None:
    camera_from_first = BASE_FROM_REAR.inverse() @ BASE_FROM_CAMERA
    for scale in (1, -2.5):
        matrix, transform = split_projection(scale * (CAMERA.matrix @ camera_from_first.matrix()[:3]))
        np.testing.assert_allclose(matrix, CAMERA.matrix, atol=1e-12)
        np.testing.assert_allclose(transform.matrix(), camera_from_first.matrix(), atol=1e-12)


def test_real_kitti_raw_through_a_bag_to_the_layout(shared_data: Path, tmp_path: Path) -> None:
    kitti = KittiRaw(shared_data / "kitti_raw_2011_09_26")
    frame, data = kitti[0], BagData()
    (view,) = frame.views
    data.transform("velodyne", "left", view.camera_from_lidar.inverse(), START_NS, static=True)
    data.cloud(START_NS, frame.points, frame="velodyne")
    data.image(START_NS + SECOND_NS // 100, view.load_image(), topic="/left/image_raw", frame="left")
    data.info(START_NS, view.camera, topic="/left/camera_info", frame="left")
    (done,) = prepare(BagFrames([data.write(tmp_path / "kitti")], BagConfig()), tmp_path / "out")
    prepared = read(done.folder)[0]
    for one, other in zip(pair(prepared.points, prepared.views[0]), pair(frame.points, view), strict=True):
        np.testing.assert_array_equal(one, other)


@pytest.mark.parametrize(
    "option", [("--camera", "/front/image_raw"), ("--calibration", "front.yaml"), ("--max-offset", "0.05")]
)
def test_options_of_cameras_are_refused_without_cameras(tmp_path: Path, option: tuple[str, str]) -> None:
    arguments = ["prepare", str(tmp_path), str(tmp_path / "out"), "--no-cameras", *option]
    result = CliRunner().invoke(app, arguments)
    assert result.exit_code == 1
    assert "--no-cameras leaves no use for" in result.stderr
    assert not (tmp_path / "out").exists()


def test_a_camera_of_another_bag_leaves_no_empty_folder(tmp_path: Path) -> None:
    one, two = drive(2).write(tmp_path / "one"), two_cameras(2).write(tmp_path / "two")
    first, second = prepare(BagFrames([one, two]), tmp_path / "out")
    assert [sorted(done.images) for done in (first, second)] == [
        ["/camera/image_raw"],
        ["/camera/image_raw", "/rear/image_raw"],
    ]
    assert not (first.folder / "image_3").exists()
    assert len(SemanticKitti(first.folder, partly_labelled=True)[0].views) == 1


def test_an_undistorted_picture_has_no_dark_edge() -> None:
    pytest.importorskip("cv2")
    camera = CameraModel(
        np.array([[300.0, 0, 160], [0, 300, 100], [0, 0, 1]]), 320, 200, "plumb_bob", (0.05, 0, 0, 0, 0)
    )
    white = np.full((200, 320, 3), 255, np.uint8)
    assert set(np.unique(Undistortion(camera)(white))) <= {0, 255}
