"""Weights that know one sensor are taught another by a bag of which some scans are labelled. Minutes on a CPU."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from bag_data import BagData
from typer.testing import CliRunner

from twodpass_core.cli import app
from twodpass_core.labels.store import LabelStore
from twodpass_core.simulation import HDL_64E, Drive, kitti_camera

FRAMES, LABELLED = 24, 6
STUDENT = {"scales": [2, 4, 8], "width": 16, "hidden": 32}
OLD = {"kind": "simulation", "simulation": {"beams": 16, "columns": 512, "frames": 1, "image_width": 320}}


def write_drive(bag: Path) -> None:
    """A street seen by a LiDAR that stands a metre lower than the one the weights know, and dims intensity."""
    lidar = replace(HDL_64E, elevations_deg=HDL_64E.elevations_deg[::4], columns=512)
    drive, camera, data = Drive(5, lidar), kitti_camera(320), BagData()
    for number in range(FRAMES):
        stamp_ns = 10**18 + number * 10**9
        scan = drive.scan(number * 10**9)
        points = scan.points.copy()
        points[:, 2] += 1
        points[:, 3] *= 0.3
        data.cloud(stamp_ns, points)
        data.image(stamp_ns, drive.picture(number * 10**9, camera).image)
        data.info(stamp_ns, camera.model)
        if number % (FRAMES // LABELLED) == 0 or number >= FRAMES * 3 // 4:  # the end is held out
            LabelStore(bag.with_name("files")).write(stamp_ns, scan.raw_labels)
    lower = replace(camera.camera_from_lidar, translation=camera.camera_from_lidar.apply(np.array([[0.0, 0, -1]]))[0])
    data.transform("camera", "lidar", lower, 10**18, static=True)
    data.write(bag)


def settings(path: Path, **content: Any) -> Path:
    machine = {"accelerator": "cpu", "devices": 1}
    content = {"student": STUDENT, "machine": machine, "augmentation": {"crop": None}, **content}
    path.write_text(json.dumps(content))  # which is YAML, too
    return path


def run(*arguments: object) -> str:
    result = CliRunner().invoke(app, list(map(str, arguments)))
    assert result.exit_code == 0, result.output
    return result.output


@pytest.mark.slow
def test_a_few_labels_teach_a_new_sensor_and_the_old_one_is_not_forgotten(tmp_path: Path) -> None:
    bag = tmp_path / "drive"
    write_drive(bag)
    assert f"{FRAMES // 4 + 5} new" in run("labels", "import", bag, tmp_path / "files")
    old = {**OLD, "simulation": {**OLD["simulation"], "streets": 32, "cache": str(tmp_path / "cache")}}  # type: ignore[dict-item]
    held_out = {**old, "split": "val", "simulation": {**old["simulation"], "streets": 6}}  # type: ignore[dict-item]
    first = settings(
        tmp_path / "first.yaml",
        run=str(tmp_path / "first"),
        epochs=20,
        validate_every=20,
        data={"train": old, "validation": held_out, "batch_size": 4, "workers": 0},
        distillation={"kind": "none"},
        optimiser={"learning_rate": 0.1},
    )
    run("train", first)
    before = tmp_path / "first/weights.safetensors"
    own = {"kind": "bag", "root": str(bag), "bag": {"held_out": 0.25}}
    second = settings(
        tmp_path / "second.yaml",
        run=str(tmp_path / "second"),
        epochs=12,
        validate_every=12,
        start_from=str(before),
        data={
            "train": [{**own, "split": "train", "unlabelled": "keep", "share": 2}, {**old, "share": 1}],
            "validation": {**own, "split": "val"},
            "batch_size": 3,
            "workers": 0,
        },
        distillation={"kind": "msfskd", "width": 16},
        optimiser={"learning_rate": 0.03},
    )
    run("train", second)
    after = tmp_path / "second/weights.safetensors"
    run("evaluate", after, second, first, "--before", before, "--out", tmp_path / "report", "--device", "cpu")
    old_data, own_data = (
        json.loads((tmp_path / f"report/{name}/comparison.json").read_text()) for name in ("first", "second")
    )
    assert own_data["mean_iou"]["low"] > 0.01
    mended, broken = (sum(entry[name] for entry in own_data["classes"]) for name in ("mended", "broken"))
    assert mended > 5 * broken
    assert old_data["mean_iou"]["iou_after"] > 0.8 * old_data["mean_iou"]["iou_before"]
