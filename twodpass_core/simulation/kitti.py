"""Write a simulated drive as a sequence of SemanticKITTI."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path

import numpy as np
from PIL import Image

from twodpass_core.data.kitti_files import matrix_line, write_labels, write_lines, write_scan
from twodpass_core.errors import ConfigError
from twodpass_core.files import new_folder
from twodpass_core.labels.raw import with_instances
from twodpass_core.simulation.camera import StreetCamera
from twodpass_core.simulation.drive import Drive


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
            write_scan(partial, f"{index:06d}", scan.points)
            write_labels(partial, f"{index:06d}", with_instances(scan.raw_labels, scan.instances))
            image = drive.picture(stamp_ns, camera).image
            Image.fromarray(image).save(partial / "image_2" / f"{index:06d}.png")
            scans.append((scan.stamp_ns, scan.pose))
        _write_tables(partial, scans, camera)


def _write_tables(folder: Path, scans: list[tuple[int, np.ndarray]], camera: StreetCamera) -> None:
    """`scans`: stamp and world_from_lidar (4, 4) of each."""
    projection = matrix_line(camera.model.matrix @ np.eye(3, 4))
    camera_from_lidar = camera.camera_from_lidar.matrix()
    calibration = [f"P{number}: {projection}" for number in range(4)] + [f"Tr: {matrix_line(camera_from_lidar[:3])}"]
    poses = [world_from_lidar @ np.linalg.inv(camera_from_lidar) for _, world_from_lidar in scans]
    relative = [matrix_line((np.linalg.inv(poses[0]) @ pose)[:3]) for pose in poses]
    write_lines(folder / "calib.txt", calibration)
    write_lines(folder / "poses.txt", relative)
    write_lines(folder / "times.txt", [f"{stamp_ns * 1e-9:.9f}" for stamp_ns, _ in scans])
