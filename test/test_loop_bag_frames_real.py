"""Real recordings written as bags: points land on the pixels that the data sets' own calibration gives."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
from bag_data import BagData
from PIL import Image

from twodpass_core.cameras.model import CameraModel
from twodpass_core.data.bags.config import BagConfig
from twodpass_core.data.bags.frames import BagFrames
from twodpass_core.data.kitti_raw import KittiRaw
from twodpass_core.data.sample import pair
from twodpass_core.data.scan_files import read_scan
from twodpass_core.geometry.rigid_transform import RigidTransform

START_NS = 1_714_506_077_250_967_979


def test_real_kitti_raw_as_a_bag_projects_where_the_authors_calibration_does(shared_data: Path, tmp_path: Path) -> None:
    """Images, calibration and TF of KITTI raw recorded as drivers do; points land on the same pixels."""
    kitti = KittiRaw(shared_data / "kitti_raw_2011_09_26")
    data = BagData()
    for index in range(3):
        frame = kitti[index]
        (view,) = frame.views
        stamp = START_NS + index * 10**8
        if index == 0:
            base_from_lidar = RigidTransform.from_xyz_rpy([0.81, -0.32, 0.8, 0, 0, 0])
            data.transform("base_link", "velodyne", base_from_lidar, stamp - 1, static=True)
            base_from_camera = base_from_lidar @ view.camera_from_lidar.inverse()
            data.transform("base_link", "camera_color_left", base_from_camera, stamp - 1, static=True)
        data.cloud(stamp, frame.points, topic="/velodyne_points", frame="velodyne")
        data.image(stamp + 3_000_000, view.load_image(), topic="/left/image_raw", frame="camera_color_left")
        data.info(stamp + 3_000_000, view.camera, topic="/left/camera_info", frame="camera_color_left")
    recorded = BagFrames([data.write(tmp_path / "kitti")])
    counts = []
    for index in range(3):
        frame, (view,) = recorded[index], recorded[index].views
        expected_points, expected_pixels = pair(kitti[index].points, kitti[index].views[0])
        found_points, found_pixels = pair(frame.points, view)
        np.testing.assert_array_equal(found_points, expected_points)
        np.testing.assert_array_equal(found_pixels, expected_pixels)
        np.testing.assert_array_equal(view.load_image(), kitti[index].views[0].load_image())
        counts.append(len(found_points))
    assert 15187 <= min(counts) <= max(counts) <= 16333


def test_real_nuscenes_pairing_and_motion(shared_data: Path, tmp_path: Path) -> None:
    """Eq. 2 from the vehicle's poses on /tf gives the data set's own lidar2cam, motion of the vehicle included."""
    folder = shared_data / "nuscenes_mini"
    sample = json.loads((folder / "calibration.json").read_text())
    lidar_ns = round(sample["timestamp"] * 1e6) * 1000
    lidar_points = read_scan(folder / sample["lidar"]["path"])
    data = BagData()
    lidar_in_ego = RigidTransform.from_matrix(sample["lidar"]["lidar2ego"])
    data.transform("ego", "lidar", lidar_in_ego, lidar_ns, static=True)
    data.transform("map", "ego", RigidTransform.from_matrix(sample["ego2global"]), lidar_ns)
    data.cloud(lidar_ns, lidar_points)
    expected = {}
    for name, camera in sample["cameras"].items():
        camera_ns = round(camera["timestamp"] * 1e6) * 1000
        ego_from_camera = RigidTransform.from_matrix(camera["cam2ego"])
        lidar_from_camera = RigidTransform.from_matrix(camera["lidar2cam"]).inverse()
        # The data set gives the poses at the cameras' times through lidar2cam alone.
        at_camera = RigidTransform.from_matrix(sample["ego2global"]) @ lidar_in_ego @ lidar_from_camera
        data.transform("map", "ego", at_camera @ ego_from_camera.inverse(), camera_ns)
        data.transform("ego", name, ego_from_camera, lidar_ns, static=True)
        image = np.asarray(Image.open(folder / camera["path"]))
        data.image(camera_ns, image, topic=f"/{name}/image_raw", frame=name)
        data.image(camera_ns - 200_000_000, image, topic=f"/{name}/image_raw", frame=name)
        model = CameraModel(np.array(camera["cam2img"]), image.shape[1], image.shape[0])
        data.info(camera_ns, model, topic=f"/{name}/camera_info", frame=name)
        expected[f"/{name}/image_raw"] = camera, model
    frame = BagFrames([data.write(tmp_path / "nuscenes")], BagConfig(intensity_max=255))[0]
    assert {view.name for view in frame.views} == set(expected)
    total = 0
    for view in frame.views:
        camera, model = expected[view.name]
        lidar_to_camera = RigidTransform.from_matrix(camera["lidar2cam"])
        np.testing.assert_allclose(view.camera_from_lidar.matrix(), lidar_to_camera.matrix(), rtol=0, atol=1e-4)
        standing = RigidTransform.from_matrix(camera["cam2ego"]).inverse() @ lidar_in_ego
        motion_m = np.linalg.norm(standing.translation - lidar_to_camera.translation)
        if view.name == "/CAM_FRONT/image_raw":
            assert motion_m > 0.1  # 35 ms apart: it matters
        visible = model.project(lidar_to_camera.apply(lidar_points[:, :3].astype(np.float64)))[1]
        assert abs(len(pair(frame.points, view)[0]) - int(visible.sum())) <= 3
        total += int(visible.sum())
    assert total == 22152  # the data set's own counts, added


def test_real_distorted_camera(shared_data: Path, tmp_path: Path) -> None:
    """Intrinsics with five coefficients through CameraInfo and back, and the scan in the distorted image."""
    cv2 = pytest.importorskip("cv2")
    folder = shared_data / "opencalib_lidar2camera"
    intrinsic = json.loads((folder / "center_camera-intrinsic.json").read_text())["center_camera-intrinsic"]["param"]
    extrinsic = json.loads((folder / "top_center_lidar-to-center_camera-extrinsic.json").read_text())
    (entry,) = extrinsic.values()
    camera_from_lidar = RigidTransform.from_matrix(entry["param"]["sensor_calib"]["data"])
    matrix, coefficients = np.array(intrinsic["cam_K"]["data"]), np.array(intrinsic["cam_dist"]["data"][0])
    scan, image = read_scan(folder / "calib.pcd"), np.asarray(Image.open(folder / "calib.png").convert("RGB"))
    data = BagData()
    data.transform("lidar", "camera", camera_from_lidar.inverse(), START_NS, static=True)
    data.cloud(START_NS, scan)
    data.image(START_NS, image)
    data.info(START_NS, CameraModel(matrix, 1920, 1200, "plumb_bob", tuple(coefficients.tolist())))
    frame = BagFrames([data.write(tmp_path / "drive")], BagConfig(intensity_max=255))[0]
    (view,) = frame.views
    assert view.camera.coefficients == tuple(coefficients)
    image_points, pixels = pair(frame.points, view)
    assert len(image_points) > 9000
    in_camera = camera_from_lidar.apply(scan[image_points, :3].astype(np.float64))
    by_opencv, _ = cv2.projectPoints(in_camera, np.zeros(3), np.zeros(3), matrix, coefficients)
    assert np.abs(np.floor(by_opencv[:, 0, ::-1]) - pixels).max() <= 1  # where float32 is between two pixels
    assert (np.floor(by_opencv[:, 0, ::-1]) == pixels).mean() > 0.999
    without_distortion = in_camera[:, :2] / in_camera[:, 2:] @ matrix[:2, :2].T + matrix[:2, 2]
    assert np.abs(without_distortion - by_opencv[:, 0]).max() > 5  # pixels: it matters
