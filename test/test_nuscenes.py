"""nuScenes from its JSON tables: a made-up set in the published schema, and one real sample."""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from nuscenes_data import (
    CAMERA_DELAY_US,
    made_up_tables,
    measurement,
    mounting,
    write_nuscenes,
    write_tables,
)

from twodpass_core.data import nuscenes_tables
from twodpass_core.data.frame import FrameSource
from twodpass_core.data.labelled import Unlabelled
from twodpass_core.data.nuscenes import CAMERAS, VALIDATION, NuScenes, _scene_names
from twodpass_core.data.nuscenes_tables import read_table
from twodpass_core.data.opening import open_evaluation, open_training
from twodpass_core.data.sample import pair
from twodpass_core.data.source import SourceConfig, open_source
from twodpass_core.errors import ConfigError, ScanError
from twodpass_core.geometry.rigid_transform import RigidTransform


@pytest.fixture
def root(tmp_path: Path) -> Path:
    write_nuscenes(tmp_path)
    return tmp_path


def test_frames_in_the_order_of_time(root: Path) -> None:
    source: FrameSource = NuScenes(root, "val")
    assert source.ids == ["scene-0003-0-LIDAR_TOP-0", "scene-0003-1-LIDAR_TOP-1000000"]
    frame = source[1]
    assert frame.id == source.ids[1]
    assert frame.points.shape == (3, 4)
    assert frame.points[0, 3] == 200  # intensity as it is, ring dropped
    assert frame.labels is not None
    assert frame.labels.tolist() == [4, 11, 0]  # car, driveable surface, noise
    assert frame.stamp_ns == 1_000_000_000
    assert [view.stamp_ns for view in frame.views] == [frame.stamp_ns + 1000 * CAMERA_DELAY_US]
    assert frame.world_from_lidar is not None
    np.testing.assert_allclose(frame.world_from_lidar.translation, [11, 0, 1.8])


def test_the_order_is_that_of_time_whatever_the_tokens(root: Path) -> None:
    samples = made_up_tables()["sample"]
    for row in samples:
        row["timestamp"] = -row["timestamp"]
    write_tables(root, {"sample": samples})
    assert NuScenes(root, "val").ids == ["scene-0003-1-LIDAR_TOP-1000000", "scene-0003-0-LIDAR_TOP-0"]


def test_the_vehicle_moves_between_lidar_and_camera(root: Path) -> None:
    """20 m ahead of the LiDAR is 21 m ahead of the vehicle, and after 2 m of driving 17.5 m ahead of the camera."""
    frame = NuScenes(root, "val")[0]
    (view,) = frame.views
    in_camera = view.camera_from_lidar.apply(frame.points[:, :3].astype(np.float64))
    np.testing.assert_allclose(in_camera[:2], [[0, -0.3, 17.5], [1, -0.3, 17.5]], atol=1e-6)
    image_points, pixels = pair(frame.points, view)
    assert image_points.tolist() == [0, 1]
    assert pixels.tolist() == [[43, 80], [43, 85]]


def test_a_split_has_its_scenes_and_unknown_names_are_refused(root: Path) -> None:
    assert NuScenes(root, "train").ids[0].startswith("scene-0001-0")
    assert len(NuScenes(root, "trainval")) == 4
    with pytest.raises(ConfigError, match="choose train, val"):
        NuScenes(root, "dev")
    with pytest.raises(ConfigError, match="CAM_TOP"):
        NuScenes(root, "val", cameras=["CAM_TOP"])


def test_official_validation_scenes() -> None:
    """150 of them; spot checks."""
    names = _scene_names(VALIDATION)
    assert len(names) == 150
    assert {"scene-0003", "scene-0103", "scene-0558", "scene-1073"} <= names
    assert not {"scene-0001", "scene-0061", "scene-1074"} & names


def test_mini_has_its_own_splits(root: Path) -> None:
    """Scene 0553 is one of validation in the whole set, and of training in the mini set."""
    tables = made_up_tables()
    for row, name in zip(tables["scene"], ("scene-0553", "scene-0103"), strict=True):
        row["name"] = name
    write_tables(root, tables, "v1.0-mini")
    assert NuScenes(root, "mini_train").ids[0].startswith("scene-0003")
    assert NuScenes(root, "mini_val").ids[0].startswith("scene-0001")
    shutil.rmtree(root / "v1.0-trainval")
    with pytest.raises(ScanError, match=r"trainval: no tables of split val; .* v1\.0-mini of split mini_train or mini"):
        NuScenes(root, "val")


def test_the_test_split_has_no_labels(root: Path) -> None:
    (root / "v1.0-trainval").rename(root / "v1.0-test")
    (root / "v1.0-test/lidarseg.json").unlink()
    source = NuScenes(root, "test")
    assert source.labelled.tolist() == [False] * 4
    assert source[0].labels is None
    settings = SourceConfig(kind="nuscenes", root=root, split="test", unlabelled="skip")
    with pytest.raises(ConfigError, match=r"4 frames without any labels: .* another split, or `twodpass submit`"):
        open_evaluation(settings)


def test_key_frames_without_labels_are_refused_left_out_or_kept(root: Path) -> None:
    tables = made_up_tables()
    write_tables(root, {"lidarseg": [row for row in tables["lidarseg"] if "0003-1" not in row["token"]]})

    def settings(unlabelled: Unlabelled) -> SourceConfig:
        return SourceConfig(kind="nuscenes", root=root, split="val", unlabelled=unlabelled)

    with pytest.raises(ScanError, match=r"1 of 2 key frames have no labels, scene-0003-1-.*: .* set `unlabelled`"):
        open_source(settings("refuse"))
    first, second = NuScenes(root, "val", partly_labelled=True).ids
    assert open_training(settings("skip")).ids == open_evaluation(settings("keep")).ids == [first]
    kept = open_training(settings("keep"))
    assert kept.ids == [first, second]
    assert kept[1].labels is not None
    assert not kept[1].labels.any()


def test_without_its_image_a_frame_is_lidar_only(root: Path) -> None:
    (root / "samples/CAM_FRONT/scene-0003-1.png").unlink()
    assert [len(NuScenes(root, "val")[index].views) for index in range(2)] == [1, 0]
    assert NuScenes(root, "val", cameras=[])[0].views == ()


@pytest.mark.parametrize("chunk", [1, 2, 3, 7, 1000])
def test_tables_are_read_in_chunks(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, chunk: int) -> None:
    """Wherever the borders fall."""
    rows = [{"token": f"t{index}", "text": 'br]ack"et, {and} comma', "number": 10 * index} for index in range(30)]
    (tmp_path / "sample.json").write_text(json.dumps(rows, indent=1) + "\n")
    (tmp_path / "empty.json").write_text("[\n]")
    monkeypatch.setattr(nuscenes_tables, "CHUNK", chunk)
    assert read_table(tmp_path, "sample", ("token", "text", "number")) == rows
    assert read_table(tmp_path, "sample", ("number",), lambda row: row["number"] > 270) == [
        {"number": 280},
        {"number": 290},
    ]
    assert read_table(tmp_path, "empty", ("token",)) == []


def test_real_sample(shared_data: Path, tmp_path: Path) -> None:
    """Its published calibration, put into tables, gives the published lidar2cam and counts of points in the images."""
    recording = shared_data / "nuscenes_mini"
    calibration = json.loads((recording / "calibration.json").read_text())
    vehicle_from_lidar = RigidTransform.from_matrix(calibration["lidar"]["lidar2ego"])
    world_from_vehicle = RigidTransform.from_matrix(calibration["ego2global"])
    tables = made_up_tables()
    for name in ("sensor", "calibrated_sensor", "sample_data", "ego_pose"):
        tables[name] = []
    tables["scene"] = [{"token": "s", "name": "scene-0103"}]
    tables["sample"] = [{"token": "sample", "scene_token": "s", "timestamp": 0}]

    def add(channel: str, path: str, time_s: float, vehicle_from_sensor: RigidTransform, intrinsic: Any,
            pose: RigidTransform) -> None:  # fmt: skip
        row = measurement("sample", channel, round(time_s * 1e6), True, path)
        tables["sample_data"].append({**row, "width": 1600, "height": 900})
        tables["sensor"].append({"token": channel.lower(), "channel": channel})
        tables["calibrated_sensor"].append(
            mounting(f"mounted-{channel}", channel.lower(), vehicle_from_sensor, intrinsic)
        )
        pose_row = {"token": row["ego_pose_token"], "rotation": pose.quaternion().tolist()}
        tables["ego_pose"].append({**pose_row, "translation": pose.translation.tolist()})

    add("LIDAR_TOP", calibration["lidar"]["path"], calibration["timestamp"], vehicle_from_lidar, [], world_from_vehicle)
    for channel, camera in calibration["cameras"].items():
        vehicle_from_camera = RigidTransform.from_matrix(camera["cam2ego"])
        camera_from_lidar = RigidTransform.from_matrix(camera["lidar2cam"])
        motion = vehicle_from_camera @ camera_from_lidar @ vehicle_from_lidar.inverse()
        pose = world_from_vehicle @ motion.inverse()
        add(channel, camera["path"], camera["timestamp"], vehicle_from_camera, camera["cam2img"], pose)
    (lidar,) = (row["token"] for row in tables["sample_data"] if "LIDAR" in row["token"])
    tables["lidarseg"] = [{"sample_data_token": lidar, "filename": "labels.bin"}]
    write_tables(tmp_path, tables, "v1.0-mini")
    (tmp_path / "samples").symlink_to(recording / "samples")
    np.zeros(34688, np.uint8).tofile(tmp_path / "labels.bin")

    frame = NuScenes(tmp_path, "mini_val")[0]
    assert [view.name for view in frame.views] == list(CAMERAS)
    counts = {}
    for view in frame.views:
        published = calibration["cameras"][view.name]["lidar2cam"]
        np.testing.assert_allclose(view.camera_from_lidar.matrix(), published, atol=1e-4)
        counts[view.name] = len(pair(frame.points, view)[0])
        assert view.load_image().shape == (900, 1600, 3)
    expected = {"CAM_FRONT": 3067, "CAM_FRONT_RIGHT": 3079, "CAM_FRONT_LEFT": 3704, "CAM_BACK": 4826,
                "CAM_BACK_LEFT": 4097, "CAM_BACK_RIGHT": 3379}  # fmt: skip
    for name, count in expected.items():
        assert abs(counts[name] - count) <= 5
