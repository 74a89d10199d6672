"""KITTI raw, real and made up."""

from __future__ import annotations

import shutil
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from twodpass_core.data.frame import FrameSource
from twodpass_core.data.kitti_raw import KittiRaw
from twodpass_core.data.opening import open_training
from twodpass_core.data.sample import pair
from twodpass_core.data.source import SourceConfig, open_source
from twodpass_core.errors import ConfigError, ScanError


def test_real_kitti_raw(shared_data: Path) -> None:
    source: FrameSource = KittiRaw(shared_data / "kitti_raw_2011_09_26")
    assert source.ids[0] == "kitti_raw_2011_09_26/0000000000"
    counts = [len(pair(source[index].points, source[index].views[0])[0]) for index in range(len(source))]
    assert (len(counts), min(counts), max(counts)) == (8, 15187, 16333)
    assert source[0].labels is None


@pytest.fixture
def drive(shared_data: Path, tmp_path: Path) -> Path:
    """A KITTI raw drive as published: a folder below that of its day."""
    drive = tmp_path / "2011_09_26/2011_09_26_drive_0001_sync"
    (drive / "velodyne_points/data").mkdir(parents=True)
    np.ones((3, 4), "<f4").tofile(drive / "velodyne_points/data/0000000000.bin")
    (drive / "velodyne_points/timestamps.txt").write_text("2011-09-26 13:02:25.951199337\n")
    for name in ("calib_cam_to_cam.txt", "calib_velo_to_cam.txt"):
        shutil.copy(shared_data / "kitti_raw_2011_09_26" / name, drive.parent)
    return drive


def test_kitti_raw_drive(drive: Path) -> None:
    frame = KittiRaw(drive)[0]
    assert frame.id == "2011_09_26_drive_0001_sync/0000000000"
    assert frame.stamp_ns == 1_317_042_145_951_199_337
    assert frame.views == ()
    assert len(open_source(SourceConfig(kind="kitti_raw", root=drive))) == 1
    with pytest.raises(ConfigError, match="1 frame without any labels"):
        open_training(SourceConfig(kind="kitti_raw", root=drive))


def test_images_have_their_own_time(drive: Path) -> None:
    (drive / "image_02/data").mkdir(parents=True)
    Image.new("RGB", (1242, 375)).save(drive / "image_02/data/0000000000.png")
    assert KittiRaw(drive)[0].views[0].stamp_ns is None
    (drive / "image_02/timestamps.txt").write_text("2011-09-26 13:02:25.994360375\n")
    assert KittiRaw(drive)[0].views[0].stamp_ns == 1_317_042_145_994_360_375


@pytest.mark.parametrize(
    ("name", "content", "message"),
    [
        ("../calib_velo_to_cam.txt", "R: 1 2", r"calib_velo_to_cam\.txt: R has 2 numbers, not 9"),
        ("../calib_velo_to_cam.txt", "R: 1 0 0 0 1 0 0 0 2\nT: 0 0 0", "no rotation"),
        ("velodyne_points/timestamps.txt", "noon", "not a time stamp"),
        ("velodyne_points/timestamps.txt", "", "has 0 time stamps"),
    ],
)
def test_kitti_raw_names_the_file_at_fault(drive: Path, name: str, content: str, message: str) -> None:
    (drive / name).write_text(content)
    with pytest.raises(ScanError, match=message):
        KittiRaw(drive)


def test_kitti_raw_needs_scans_and_known_cameras(tmp_path: Path) -> None:
    with pytest.raises(ScanError, match="must be a drive's folder"):
        KittiRaw(tmp_path)
    with pytest.raises(ConfigError, match="image_00"):
        KittiRaw(tmp_path, ["image_00"])
