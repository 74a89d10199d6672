"""What is said of nuScenes folders with missing, damaged or contradictory tables, scans and labels."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest
from nuscenes_data import made_up_tables, write_nuscenes, write_tables

from twodpass_core.data.nuscenes import NuScenes
from twodpass_core.data.nuscenes_tables import Row
from twodpass_core.errors import ScanError


@pytest.fixture
def root(tmp_path: Path) -> Path:
    write_nuscenes(tmp_path)
    return tmp_path


@pytest.mark.parametrize(
    "table", ["scene", "sample", "sample_data", "ego_pose", "calibrated_sensor", "sensor", "lidarseg"]
)
def test_a_missing_or_damaged_table_is_named(root: Path, table: str) -> None:
    path = root / f"v1.0-trainval/{table}.json"
    content = path.read_text()
    for damaged, message in (
        (content[:-20], "not a table"),
        ('{"a": 1}', "not a table"),
        ('[{"a": 1}]', "a row has no"),
    ):
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
        ("lidarseg", lambda row: "0003-1" not in row["token"], "json: 1 of 2 key frames have no labels, scene-0003-1"),
        ("ego_pose", lambda row: "0003-1" not in row["token"], r"ego_pose\.json: has no pose"),
        ("sample_data", lambda row: "0003-1-LIDAR" not in row["token"], "no key frame of LIDAR_TOP"),
    ],
)
def test_a_missing_row_is_named(root: Path, table: str, keep: Callable[[Row], bool], message: str) -> None:
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
    labels.write_bytes(b"\1\1\1\1")
    with pytest.raises(ScanError, match=r"LIDAR_TOP-0\.bin: has 4 labels, its scan 3 points"):
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
