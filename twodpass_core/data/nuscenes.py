"""nuScenes with lidarseg labels, read from its JSON tables. Key frames only, six cameras each."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Final

import numpy as np
import numpy.typing as npt

from twodpass_core.cameras.model import CameraModel
from twodpass_core.classes import ClassMap
from twodpass_core.data.frame import CameraView, Frame
from twodpass_core.data.labelled import LABEL_OR_LEAVE_OUT
from twodpass_core.data.nuscenes_tables import Row, read_table
from twodpass_core.data.scan_files import NUSCENES_COLUMNS, read_scan
from twodpass_core.errors import ClassMapError, ConfigError, ScanError
from twodpass_core.geometry.rigid_transform import RigidTransform
from twodpass_core.geometry.trajectory import camera_from_lidar_across_times
from twodpass_core.sparse.grid import NUSCENES_GRID
from twodpass_core.wording import counted

LIDAR: Final = "LIDAR_TOP"
CAMERAS: Final = (
    "CAM_FRONT", "CAM_FRONT_RIGHT", "CAM_BACK_RIGHT", "CAM_BACK", "CAM_BACK_LEFT", "CAM_FRONT_LEFT",
)  # fmt: skip
VERSIONS: Final = {  # split -> folder of its tables
    "train": "v1.0-trainval",
    "val": "v1.0-trainval",
    "trainval": "v1.0-trainval",
    "test": "v1.0-test",
    "mini_train": "v1.0-mini",
    "mini_val": "v1.0-mini",
}
# The official validation scenes; the other scenes of the same version are for training.
VALIDATION: Final = (
    "3 12-18 35-36 38-39 92-110 221 268-278 329-332 344-346 519-524 552-565 625-627 629-630 632-638 770-771 775 "
    "777-778 780-784 794-800 802 904-917 919-931 962-963 966-969 971-972 1059-1073"
)
MINI_VALIDATION: Final = "103 916"
RECORD_FIELDS: Final = (
    "token", "sample_token", "ego_pose_token", "calibrated_sensor_token", "timestamp", "filename", "width", "height",
)  # fmt: skip


class NuScenes:
    """A split of nuScenes as a FrameSource. Frames are named by the token of their LiDAR's sample_data."""

    grid = NUSCENES_GRID
    kind = "nuScenes"
    intensity_max = 255.0

    def __init__(
        self, root: Path, split: str = "train", *, cameras: Sequence[str] = CAMERAS, partly_labelled: bool = False
    ) -> None:
        """Read the tables.

        Args:
            root: the folder with `v1.0-trainval` (or -mini, -test), `samples` and `lidarseg`.
            split: train, val, trainval, test, mini_train or mini_val; test has no labels.
            cameras: channels to use where their images are there.
            partly_labelled: labels may be missing for some key frames.

        Raises:
            ConfigError: unknown split or camera.
            ScanError: a table is missing or damaged; labels are missing for some key frames.
        """
        if split not in VERSIONS:
            raise ConfigError(f"nuScenes has no split '{split}': choose {', '.join(VERSIONS)}")
        if unknown := sorted(set(cameras) - set(CAMERAS)):
            raise ConfigError(f"nuScenes has no camera {', '.join(unknown)}: choose {', '.join(CAMERAS)}")
        if not (root / VERSIONS[split]).is_dir():
            raise ScanError(_no_tables(root, split))
        self.class_map = ClassMap.load("nuscenes")
        self._root = root
        self._samples = _read_samples(root / VERSIONS[split], split, cameras)
        if split != "test" and not partly_labelled:
            _refuse_unlabelled(root / VERSIONS[split], self._samples)

    @property
    def ids(self) -> Sequence[str]:
        return [sample.lidar.token for sample in self._samples]

    @property
    def labelled(self) -> npt.NDArray[np.bool_]:
        """(frames,) which have labels."""
        return np.array([sample.labels is not None for sample in self._samples], np.bool_)

    def __len__(self) -> int:
        return len(self._samples)

    def __getitem__(self, index: int) -> Frame:
        sample = self._samples[index]
        points = read_scan(self._root / sample.lidar.filename, NUSCENES_COLUMNS)
        views = [self._view(channel, record, sample.lidar) for channel, record in sample.cameras.items()]
        return Frame(
            id=sample.lidar.token,
            points=points,
            labels=None if sample.labels is None else self._read_labels(self._root / sample.labels, len(points)),
            views=tuple(view for view in views if view is not None),
            world_from_lidar=sample.lidar.world_from_vehicle @ sample.lidar.vehicle_from_sensor,
            stamp_ns=sample.lidar.stamp_ns,
        )

    def _view(self, channel: str, record: _Record, lidar: _Record) -> CameraView | None:
        path = self._root / record.filename
        if not path.is_file():
            return None
        camera_from_lidar = camera_from_lidar_across_times(
            record.vehicle_from_sensor.inverse(),
            record.world_from_vehicle,
            lidar.world_from_vehicle,
            lidar.vehicle_from_sensor,
        )
        camera = CameraModel(np.array(record.mounting["camera_intrinsic"]), record.width, record.height)
        return CameraView(channel, camera, camera_from_lidar, path, record.stamp_ns)

    def _read_labels(self, path: Path, num_points: int) -> npt.NDArray[np.uint8]:
        try:
            raw = np.fromfile(path, np.uint8)
        except OSError as error:
            raise ScanError(f"{path}: cannot be read: {error.strerror}") from error
        if len(raw) != num_points:
            raise ScanError(f"{path}: has {len(raw)} labels, its scan {num_points} points")
        try:
            return self.class_map.training_ids(raw)
        except ClassMapError as error:
            raise ScanError(f"{path}: {error}") from error


def _no_tables(root: Path, split: str) -> str:
    there = {version: [name for name in VERSIONS if VERSIONS[name] == version] for version in VERSIONS.values()}
    found = [
        f"{version} of split {' or '.join(names)}" for version, names in there.items() if (root / version).is_dir()
    ]
    known = f"there is {', '.join(found)}: choose that by --split, in settings as split" if found else "there are none"
    return f"{root / VERSIONS[split]}: no tables of split {split}; {known}"


@dataclass(frozen=True)
class _Record:
    """One measurement of one sensor, as the tables have it."""

    token: str
    filename: str
    stamp_ns: int
    width: int
    height: int
    pose: tuple[float, ...]  # of the vehicle in the world: quaternion w, x, y, z, translation
    mounting: Row  # of the sensor on the vehicle; shared by all records of a sensor

    @property
    def world_from_vehicle(self) -> RigidTransform:
        return RigidTransform.from_quaternion(self.pose[:4], self.pose[4:])

    @property
    def vehicle_from_sensor(self) -> RigidTransform:
        return RigidTransform.from_quaternion(self.mounting["rotation"], self.mounting["translation"])


@dataclass(frozen=True)
class _Sample:
    lidar: _Record
    cameras: Mapping[str, _Record]
    labels: str | None


def _read_samples(folder: Path, split: str, cameras: Sequence[str]) -> list[_Sample]:
    """The key frames of a split's scenes, by scene and time."""
    scenes = {row["token"] for row in read_table(folder, "scene", ("token", "name")) if _in_split(row["name"], split)}
    rows = read_table(folder, "sample", ("token", "scene_token", "timestamp"), lambda row: row["scene_token"] in scenes)
    order = sorted(rows, key=lambda row: (row["scene_token"], row["timestamp"]))
    tokens = {row["token"] for row in order}
    if len(tokens) < len(order):
        raise ScanError(f"{folder / 'sample.json'}: has samples twice")
    records = _read_records(folder, tokens, cameras)
    labels: dict[str, str] = {}
    if split != "test":
        table = read_table(folder, "lidarseg", ("sample_data_token", "filename"))
        labels = {row["sample_data_token"]: row["filename"] for row in table}
    samples = []
    for row in order:
        of_sample = records.get(row["token"], {})
        if LIDAR not in of_sample:
            raise ScanError(f"{folder / 'sample_data.json'}: sample {row['token']} has no key frame of {LIDAR}")
        lidar = of_sample[LIDAR]
        views = {channel: of_sample[channel] for channel in cameras if channel in of_sample}
        samples.append(_Sample(lidar, views, labels.get(lidar.token)))
    return samples


def _refuse_unlabelled(folder: Path, samples: Sequence[_Sample]) -> None:
    if unlabelled := [sample.lidar.token for sample in samples if sample.labels is None]:
        raise ScanError(
            f"{folder / 'lidarseg.json'}: {len(unlabelled)} of {counted(len(samples), 'key frame')} have no labels, "
            f"{unlabelled[0]} among them: {LABEL_OR_LEAVE_OUT}"
        )


def _read_records(folder: Path, samples: set[str], cameras: Sequence[str]) -> dict[str, dict[str, _Record]]:
    """Of each sample, the key frame of each sensor."""
    channels = {row["token"]: row["channel"] for row in read_table(folder, "sensor", ("token", "channel"))}
    mountings = {
        row["token"]: row
        for row in read_table(
            folder, "calibrated_sensor", ("token", "sensor_token", "translation", "rotation", "camera_intrinsic")
        )
        if channels.get(row["sensor_token"]) in (LIDAR, *cameras)
    }

    def wanted(row: Row) -> bool:
        return (
            row["is_key_frame"] is True
            and row["sample_token"] in samples
            and row["calibrated_sensor_token"] in mountings
        )

    measured = read_table(folder, "sample_data", RECORD_FIELDS, wanted)
    used = {row["ego_pose_token"] for row in measured}
    pose_table = read_table(folder, "ego_pose", ("token", "rotation", "translation"), lambda row: row["token"] in used)
    poses = {row["token"]: (*row["rotation"], *row["translation"]) for row in pose_table}
    records: dict[str, dict[str, _Record]] = {}
    for row in measured:
        if row["ego_pose_token"] not in poses:
            raise ScanError(f"{folder / 'ego_pose.json'}: has no pose {row['ego_pose_token']}")
        mounting = mountings[row["calibrated_sensor_token"]]
        records.setdefault(row["sample_token"], {})[channels[mounting["sensor_token"]]] = _Record(
            token=row["token"],
            filename=row["filename"],
            stamp_ns=row["timestamp"] * 1000,  # microseconds
            width=row["width"],
            height=row["height"],
            pose=poses[row["ego_pose_token"]],
            mounting=mounting,
        )
    return records


def _in_split(scene: str, split: str) -> bool:
    if split in ("trainval", "test"):
        return True
    validation = _scene_names(MINI_VALIDATION if split.startswith("mini") else VALIDATION)
    return (scene in validation) == split.endswith("val")


def _scene_names(ranges: str) -> set[str]:
    spans = [part.split("-") for part in ranges.split()]
    return {f"scene-{number:04d}" for span in spans for number in range(int(span[0]), int(span[-1]) + 1)}
