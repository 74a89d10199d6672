"""Files that the benchmarks take."""

from __future__ import annotations

import json
import zipfile
from pathlib import Path

import numpy as np
import pytest

from twodpass_core.classes import UNLABELLED, ClassMap
from twodpass_core.errors import ConfigError
from twodpass_core.evaluation.submissions import (
    NuScenesSubmission,
    SemanticKittiSubmission,
    complete,
    write_submission,
)

POINTS = np.array([[0, 0, 0, 0], [10, 0, 0, 0], [11, 0, 0, 0], [70, 0, 0, 0]], np.float32)
IDS = np.array([1, 9, 6, UNLABELLED], np.uint8)


def test_semantic_kitti_folder(tmp_path: Path) -> None:
    submission = SemanticKittiSubmission(ClassMap.load("semantickitti"))
    assert write_submission(tmp_path / "out", submission, [("11/000042", POINTS, IDS)]) == 1
    written = np.fromfile(tmp_path / "out/sequences/11/predictions/000042.label", "<u4")
    assert written.tolist() == [10, 40, 30, 0]


def test_semantic_kitti_zip(tmp_path: Path) -> None:
    submission = SemanticKittiSubmission(ClassMap.load("semantickitti"))
    write_submission(tmp_path / "out.zip", submission, [("11/000000", POINTS, IDS), ("12/000000", POINTS, IDS)])
    with zipfile.ZipFile(tmp_path / "out.zip") as archive:
        assert archive.namelist() == [f"sequences/{sequence}/predictions/000000.label" for sequence in ("11", "12")]
        assert len(archive.read("sequences/12/predictions/000000.label")) == 4 * len(POINTS)


def test_a_nuscenes_submission_has_a_class_for_every_point(tmp_path: Path) -> None:
    write_submission(tmp_path / "out", NuScenesSubmission(), [("abc", POINTS, IDS)])
    written = np.fromfile(tmp_path / "out/lidarseg/test/abc_lidarseg.bin", np.uint8)
    assert written.tolist() == [1, 9, 6, 6]
    meta = json.loads((tmp_path / "out/test/submission.json").read_text())["meta"]
    assert meta == {"use_camera": False, "use_lidar": True, "use_radar": False, "use_map": False, "use_external": False}


def test_points_without_a_class_get_the_nearest_ones() -> None:
    rng = np.random.default_rng(0)
    points = rng.uniform(-60, 60, (1000, 4)).astype(np.float32)
    points[7] = np.nan
    ids = rng.integers(1, 17, 1000).astype(np.uint8)
    ids[rng.random(1000) < 0.4] = UNLABELLED
    before = ids.copy()
    filled = complete(points, ids)
    assert np.array_equal(ids, before)
    known = ids != UNLABELLED
    assert np.array_equal(filled[known], ids[known])
    for index in np.flatnonzero(~known):
        distance = np.linalg.norm(np.nan_to_num(points[index, :3]) - np.nan_to_num(points[known, :3]), axis=1)
        assert filled[index] in ids[known][distance <= distance.min() + 1e-3]


def test_what_a_benchmark_would_refuse_is_refused(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="no point in the volume"):
        complete(POINTS, np.full(4, UNLABELLED, np.uint8))
    with pytest.raises(ConfigError, match="NN/NNNNNN"):
        write_submission(
            tmp_path / "out", SemanticKittiSubmission(ClassMap.load("semantickitti")), [("abc", POINTS, IDS)]
        )
    (tmp_path / "there").mkdir()
    with pytest.raises(ConfigError, match="exists"):
        write_submission(tmp_path / "there", NuScenesSubmission(), [])


@pytest.mark.parametrize("name", ["out.zip", "out"])
def test_what_fails_is_not_left_behind(name: str, tmp_path: Path) -> None:
    submission = SemanticKittiSubmission(ClassMap.load("semantickitti"))
    with pytest.raises(ConfigError):
        write_submission(tmp_path / name, submission, [("11/000000", POINTS, IDS), ("abc", POINTS, IDS)])
    assert not list(tmp_path.iterdir())
