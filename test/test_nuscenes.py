"""nuScenes from its JSON tables: a made-up set in the published schema, and one real sample."""

from __future__ import annotations

import json
import shutil
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from twodpass_core.data import nuscenes_tables
from twodpass_core.data.frame import FrameSource
from twodpass_core.data.nuscenes import CAMERAS, VALIDATION, NuScenes, _scene_names
from twodpass_core.data.nuscenes_tables import Row, read_table
from twodpass_core.data.sample import pair
from twodpass_core.errors import ConfigError, ScanError
from twodpass_core.geometry import RigidTransform

SECOND_US = 1_000_000
SPEED = 10.0  # metres per second, along the world's x
CAMERA_DELAY_US = 200_000
# The camera looks along the vehicle's x: x right, y down, z forward.
VEHICLE_FROM_CAMERA = RigidTransform(np.array([[0, 0, 1], [-1, 0, 0], [0, -1, 0]], np.float64), np.array([1.5, 0, 1.5]))
# The LiDAR's y looks ahead, as in nuScenes.
VEHICLE_FROM_LIDAR = RigidTransform.from_xyz_rpy([1.0, 0, 1.8, 0, 0, -np.pi / 2])
INTRINSIC = [[100.0, 0, 80], [0, 100, 45], [0, 0, 1]]
Tables = dict[str, list[Row]]


def mounting(token: str, sensor: str, vehicle_from_sensor: RigidTransform, intrinsic: Sequence[Any]) -> Row:
    return {
        "token": token,
        "sensor_token": sensor,
        "translation": vehicle_from_sensor.translation.tolist(),
        "rotation": vehicle_from_sensor.quaternion().tolist(),
        "camera_intrinsic": intrinsic,
    }


def measurement(sample: str, channel: str, time_us: int, key_frame: bool, filename: str) -> Row:
    image = channel != "LIDAR_TOP"
    token = f"{sample}-{channel}-{time_us}"
    return {
        "token": token, "sample_token": sample, "ego_pose_token": f"pose-{token}",
        "calibrated_sensor_token": f"mounted-{channel}", "timestamp": time_us,
        "fileformat": "jpg" if image else "pcd", "is_key_frame": key_frame,
        "height": 90 if image else 0, "width": 160 if image else 0, "filename": filename, "prev": "", "next": "",
    }  # fmt: skip


def made_up_tables() -> Tables:
    """Scenes 0003 (validation) and 0001 (training) of two samples each, with sweeps between them."""
    tables: Tables = {
        "category": [{"token": "c17", "name": "vehicle.car", "description": "", "index": 17}],
        "sensor": [
            {"token": name.lower(), "channel": name, "modality": "lidar" if name == "LIDAR_TOP" else "camera"}
            for name in ("LIDAR_TOP", "CAM_FRONT", "RADAR_FRONT")
        ],
        "calibrated_sensor": [
            mounting("mounted-LIDAR_TOP", "lidar_top", VEHICLE_FROM_LIDAR, []),
            mounting("mounted-CAM_FRONT", "cam_front", VEHICLE_FROM_CAMERA, INTRINSIC),
            mounting("mounted-RADAR_FRONT", "radar_front", RigidTransform.identity(), []),
        ],
        "scene": [], "sample": [], "sample_data": [], "ego_pose": [], "lidarseg": [],
    }  # fmt: skip
    for number, scene in enumerate(("scene-0003", "scene-0001")):
        tables["scene"].append({"token": f"token-{scene}", "name": scene, "log_token": "", "description": "a, b] c"})
        for sample_index in (1, 0):  # not in the order of time
            time_us = (100 * number + sample_index) * SECOND_US
            sample = f"{scene}-{sample_index}"
            listed: Row = {
                "token": sample,
                "scene_token": f"token-{scene}",
                "timestamp": time_us,
                "prev": "",
                "next": "",
            }
            tables["sample"].append(listed)
            for channel, delay in (("LIDAR_TOP", 0), ("CAM_FRONT", CAMERA_DELAY_US), ("RADAR_FRONT", 0)):
                for key_frame in (True, False):
                    at = time_us + delay + (0 if key_frame else 50_000)
                    folder = "samples" if key_frame else "sweeps"
                    suffix = {"LIDAR_TOP": "pcd.bin", "CAM_FRONT": "png"}.get(channel, "pcd")
                    filename = f"{folder}/{channel}/{sample}.{suffix}"
                    tables["sample_data"].append(measurement(sample, channel, at, key_frame, filename))
    for row in tables["sample_data"]:
        x = SPEED * row["timestamp"] / SECOND_US
        pose: Row = {"token": row["ego_pose_token"], "timestamp": row["timestamp"], "rotation": [1, 0, 0, 0]}
        tables["ego_pose"].append({**pose, "translation": [x, 0, 0]})
        if row["is_key_frame"] and "LIDAR" in row["filename"]:
            tables["lidarseg"].append(
                {"token": row["token"], "sample_data_token": row["token"], "filename": f"lidarseg/{row['token']}.bin"}
            )
    return tables


def write_tables(root: Path, tables: Tables, version: str = "v1.0-trainval") -> None:
    (root / version).mkdir(exist_ok=True)
    for name, rows in tables.items():
        (root / version / f"{name}.json").write_text(json.dumps(rows, indent=0))


@pytest.fixture
def root(tmp_path: Path) -> Path:
    tables = made_up_tables()
    write_tables(tmp_path, tables)
    for name in ("samples/LIDAR_TOP", "samples/CAM_FRONT", "lidarseg"):
        (tmp_path / name).mkdir(parents=True)
    points = np.array([[0, 20, 0, 200, 3], [1, 20, 0, 10, 4], [0, -20, 0, 0, 5]], "<f4")
    for sample in tables["sample"]:
        points.tofile(tmp_path / f"samples/LIDAR_TOP/{sample['token']}.pcd.bin")
        Image.new("RGB", (160, 90)).save(tmp_path / f"samples/CAM_FRONT/{sample['token']}.png")
    for row in tables["lidarseg"]:
        np.array([17, 24, 0], np.uint8).tofile(tmp_path / row["filename"])
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


def test_the_vehicle_moves_between_lidar_and_camera(root: Path) -> None:
    """20 m ahead of the LiDAR is 21 m ahead of the vehicle, and after 2 m of driving 17.5 m ahead of the camera."""
    frame = NuScenes(root, "val")[0]
    (view,) = frame.views
    in_camera = view.camera_from_lidar.apply(frame.points[:, :3].astype(np.float64))
    np.testing.assert_allclose(in_camera[:2], [[0, -0.3, 17.5], [1, -0.3, 17.5]], atol=1e-6)
    image_points, pixels = pair(frame.points, view)
    assert image_points.tolist() == [0, 1]
    assert pixels.tolist() == [[43, 80], [43, 85]]


def test_splits(root: Path) -> None:
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


def test_the_test_split_has_no_labels(root: Path) -> None:
    shutil.copytree(root / "v1.0-trainval", root / "v1.0-test")
    (root / "v1.0-test/lidarseg.json").unlink()
    frame = NuScenes(root, "test")[0]
    assert frame.labels is None


def test_without_its_image_a_frame_is_lidar_only(root: Path) -> None:
    (root / "samples/CAM_FRONT/scene-0003-1.png").unlink()
    assert [len(NuScenes(root, "val")[index].views) for index in range(2)] == [1, 0]
    assert NuScenes(root, "val", cameras=[])[0].views == ()


@pytest.mark.parametrize(
    "table", ["scene", "sample", "sample_data", "ego_pose", "calibrated_sensor", "sensor", "lidarseg"]
)
def test_a_missing_or_damaged_table_is_named(root: Path, table: str) -> None:
    path = root / f"v1.0-trainval/{table}.json"
    content = path.read_text()
    for damaged, message in ((content[:-20], "no table"), ('{"a": 1}', "no table"), ('[{"a": 1}]', "a row has no")):
        path.write_text(damaged)
        with pytest.raises(ScanError, match=rf"{table}\.json: .*{message}"):
            NuScenes(root, "val")
    path.unlink()
    with pytest.raises(ScanError, match=rf"{table}\.json: cannot be read"):
        NuScenes(root, "val")


@pytest.mark.parametrize(
    ("table", "field", "value"),
    [
        ("scene", "name", ["scene-0003"]),
        ("sample", "timestamp", "123"),
        ("sample_data", "timestamp", None),
        ("sample_data", "timestamp", 1.5),
        ("sample_data", "filename", 7),
        ("sample_data", "width", "1600"),
        ("ego_pose", "rotation", None),
        ("ego_pose", "translation", [1, 2]),
        ("calibrated_sensor", "translation", "here"),
        ("calibrated_sensor", "camera_intrinsic", [[1, 0, 0], [0, 1]]),
        ("sensor", "token", ["a"]),
        ("lidarseg", "filename", None),
    ],
)
def test_what_no_table_of_nuscenes_has_is_named(root: Path, table: str, field: str, value: object) -> None:
    tables = made_up_tables()
    for row in tables[table]:
        row[field] = value
    write_tables(root, tables)
    with pytest.raises(ScanError, match=rf"{table}\.json: a row has {field} "):
        NuScenes(root, "val")


def test_samples_that_are_there_twice_are_refused(root: Path) -> None:
    tables = made_up_tables()
    tables["sample"] *= 2
    write_tables(root, tables)
    with pytest.raises(ScanError, match=r"sample\.json: has samples twice"):
        NuScenes(root, "val")


@pytest.mark.parametrize(
    ("table", "keep", "message"),
    [
        ("lidarseg", lambda row: "0003-1" not in row["token"], r"lidarseg\.json: has no labels for scene-0003-1"),
        ("ego_pose", lambda row: "0003-1" not in row["token"], r"ego_pose\.json: has no pose"),
        ("sample_data", lambda row: "0003-1-LIDAR" not in row["token"], "no key frame of LIDAR_TOP"),
    ],
)
def test_a_missing_row_is_named(root: Path, table: str, keep, message: str) -> None:  # type: ignore[no-untyped-def]
    tables = made_up_tables()
    tables[table] = [row for row in tables[table] if keep(row)]
    write_tables(root, tables)
    with pytest.raises(ScanError, match=message):
        NuScenes(root, "val")


def test_short_labels_and_scans_are_named(root: Path) -> None:
    source = NuScenes(root, "val")
    labels = root / f"lidarseg/{source.ids[0]}.bin"
    labels.write_bytes(b"\1\1")
    with pytest.raises(ScanError, match=r"LIDAR_TOP-0\.bin: has 2 labels, its scan 3 points"):
        source[0]
    labels.write_bytes(b"\1\1\x63")
    with pytest.raises(ScanError, match=r"LIDAR_TOP-0\.bin: .* 99"):
        source[0]
    labels.unlink()
    with pytest.raises(ScanError, match=r"LIDAR_TOP-0\.bin: cannot be read"):
        source[0]
    (root / "samples/LIDAR_TOP/scene-0003-1.pcd.bin").write_bytes(b"\0" * 30)
    with pytest.raises(ScanError, match=r"scene-0003-1\.pcd\.bin: 30 bytes"):
        source[1]


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
