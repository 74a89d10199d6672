"""A made-up nuScenes in the published schema: two scenes of two samples, a LiDAR and a camera."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

from twodpass_core.data.nuscenes_tables import Row
from twodpass_core.geometry.rigid_transform import RigidTransform

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


def write_nuscenes(root: Path) -> None:
    """The tables, with scans of three points, labels and images."""
    tables = made_up_tables()
    write_tables(root, tables)
    for name in ("samples/LIDAR_TOP", "samples/CAM_FRONT", "lidarseg"):
        (root / name).mkdir(parents=True)
    points = np.array([[0, 20, 0, 200, 3], [1, 20, 0, 10, 4], [0, -20, 0, 0, 5]], "<f4")
    for sample in tables["sample"]:
        points.tofile(root / f"samples/LIDAR_TOP/{sample['token']}.pcd.bin")
        Image.new("RGB", (160, 90)).save(root / f"samples/CAM_FRONT/{sample['token']}.png")
    for row in tables["lidarseg"]:
        np.array([17, 24, 0], np.uint8).tofile(root / row["filename"])
