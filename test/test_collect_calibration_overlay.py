"""The scan drawn into the picture."""

from __future__ import annotations

import runpy
from pathlib import Path

import numpy as np
import pytest
from drive_bag import drive

from twodpass_core.calibration.overlay import draw_overlay
from twodpass_core.cameras.model import CameraModel
from twodpass_core.errors import ScanError
from twodpass_core.geometry.rigid_transform import RigidTransform

CAMERA_FROM_LIDAR = RigidTransform(np.array([[0, -1, 0], [0, 0, -1], [1, 0, 0]], float), np.zeros(3))
CAMERA = CameraModel(np.array([[100.0, 0, 100], [0, 100.0, 50], [0, 0, 1]]), 200, 100)
GREY = np.full((100, 200, 3), 77, np.uint8)


def drawn(points: list[tuple[float, float, float]]) -> np.ndarray:
    return draw_overlay(GREY, np.array(points, np.float32), CAMERA, CAMERA_FROM_LIDAR)


def changed(picture: np.ndarray) -> list[tuple[int, int]]:
    """(row, column) of the pixels that differ from the image."""
    return [(int(row), int(column)) for row, column in np.argwhere((picture != GREY).any(axis=2))]


def test_a_point_is_drawn_where_the_camera_sees_it() -> None:
    # u = 100 - 100 y / x, v = 50 - 100 z / x
    assert changed(drawn([(10.0, 2.05, -1.05)])) == [(60, 79)]
    assert GREY.min() == GREY.max() == 77


def test_points_out_of_sight_are_not_drawn() -> None:
    assert changed(drawn([(-10, 0, 0), (10, 30, 0), (float("nan"), 0, 0), (float("inf"), 0, 0)])) == []
    assert changed(draw_overlay(GREY, np.empty((0, 4), np.float32), CAMERA, CAMERA_FROM_LIDAR)) == []


def test_near_is_red_and_covers_far_which_is_blue() -> None:
    near, far = (3.0, 0.001, 0.001), (60.0, 0.02, 0.02)
    for order in ([near, far], [far, near]):
        red, _, blue = drawn(order)[49, 99].astype(int)
        assert red > blue + 50
    red, _, blue = drawn([far])[49, 99].astype(int)
    assert blue > red + 50


def test_dots_grow_with_the_image_and_stay_inside_it() -> None:
    camera = CameraModel(np.array([[900.0, 0, 900], [0, 900.0, 500], [0, 0, 1]]), 1800, 1000)
    image = np.zeros((1000, 1800, 3), np.uint8)
    middle = draw_overlay(image, np.array([[10, 0, 0]], np.float32), camera, CAMERA_FROM_LIDAR)
    assert np.count_nonzero(middle.any(axis=2)) == 16
    corner = draw_overlay(image, np.array([[10, 9.999, 5.555]], np.float32), camera, CAMERA_FROM_LIDAR)
    assert corner[0, 0].any()
    assert 0 < np.count_nonzero(corner.any(axis=2)) < 16


def test_an_image_of_another_size_is_refused() -> None:
    with pytest.raises(ScanError, match="200 x 100"):
        draw_overlay(GREY[:50], np.zeros((1, 4), np.float32), CAMERA, CAMERA_FROM_LIDAR)


def test_the_script_of_the_docs_runs(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    text = (Path(__file__).parents[1] / "docs/calibration.md").read_text(encoding="utf-8")
    (tmp_path / "script.py").write_text(text.split("```python\n")[1].split("```")[0], encoding="utf-8")
    drive(1).write(tmp_path / "drive")
    monkeypatch.chdir(tmp_path)
    runpy.run_path("script.py")
    assert (tmp_path / "overlay_0.png").exists()
