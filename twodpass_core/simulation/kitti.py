"""Write a simulated drive as a sequence of SemanticKITTI."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path

import numpy as np
from PIL import Image

from twodpass_core.errors import ConfigError
from twodpass_core.files import new_folder
from twodpass_core.simulation.camera import StreetCamera
from twodpass_core.simulation.drive import Drive, SimulatedScan


def write_sequence(folder: Path, drive: Drive, stamps_ns: Iterable[int], camera: StreetCamera) -> None:
    """Make `folder` with velodyne/, labels/, image_2/, calib.txt, poses.txt and times.txt. It appears when it is whole.

    All of P0 to P3 in calib.txt are the one camera's; poses are the camera's, in its own frame at the first stamp.

    Raises:
        ConfigError: the folder exists.
        OSError: it cannot be written.
    """
    if folder.exists():
        raise ConfigError(f"{folder} exists: choose another name")
    with new_folder(folder) as partial:
        for name in ("velodyne", "labels", "image_2"):
            (partial / name).mkdir()
        scans = []
        for index, stamp_ns in enumerate(stamps_ns):
            scan = drive.scan(stamp_ns)
            _write_scan(partial, f"{index:06d}", scan)
            image = drive.picture(stamp_ns, camera).image
            Image.fromarray(image).save(partial / "image_2" / f"{index:06d}.png")
            scans.append((scan.stamp_ns, scan.pose))
        _write_tables(partial, scans, camera)


def _write_scan(folder: Path, stem: str, scan: SimulatedScan) -> None:
    (folder / "velodyne" / f"{stem}.bin").write_bytes(scan.points.astype("<f4").tobytes())
    labels = scan.raw_labels | scan.instances.astype(np.uint32) << 16
    (folder / "labels" / f"{stem}.label").write_bytes(labels.astype("<u4").tobytes())


def _write_tables(folder: Path, scans: list[tuple[int, np.ndarray]], camera: StreetCamera) -> None:
    """`scans`: stamp and world_from_lidar (4, 4) of each."""
    projection = _numbers(camera.model.matrix @ np.eye(3, 4))
    camera_from_lidar = camera.camera_from_lidar.matrix()
    calibration = [f"P{number}: {projection}" for number in range(4)] + [f"Tr: {_numbers(camera_from_lidar[:3])}"]
    poses = [world_from_lidar @ np.linalg.inv(camera_from_lidar) for _, world_from_lidar in scans]
    relative = [_numbers((np.linalg.inv(poses[0]) @ pose)[:3]) for pose in poses]
    _write_lines(folder / "calib.txt", calibration)
    _write_lines(folder / "poses.txt", relative)
    _write_lines(folder / "times.txt", [f"{stamp_ns * 1e-9:.9f}" for stamp_ns, _ in scans])


def _numbers(matrix: np.ndarray) -> str:
    return " ".join(f"{value:.12e}" for value in matrix.ravel())


def _write_lines(path: Path, lines: list[str]) -> None:
    path.write_text("".join(f"{line}\n" for line in lines), encoding="utf-8")
