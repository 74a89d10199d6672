"""What has to be said about bags beyond where they are."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any

import numpy as np
from pydantic import Field, ValidationError, model_validator
from typing_extensions import Self

from twodpass_core.cameras.model import CameraModel, DistortionModel
from twodpass_core.checked import Checked, describe_problems
from twodpass_core.errors import ConfigError
from twodpass_core.files import UserPath
from twodpass_core.geometry.rigid_transform import RigidTransform
from twodpass_core.sensor import SensorMounting
from twodpass_core.sparse.grid import KITTI_GRID, VoxelGrid
from twodpass_core.yaml_files import read_yaml_file

Row = Annotated[tuple[float, ...], Field(min_length=3, max_length=4)]


class BagConfig(Checked):
    """How bags are read. Topics and frames are found by type and in the messages where they are not named."""

    bags: tuple[UserPath, ...] = Field((), description="these bags, or folders of bags, instead of root")
    topic: str | None = Field(None, description="PointCloud2 topic of bags that have several")
    intensity_field: str | None = Field(None, description="of the clouds; null: found by its name")
    max_offset: float = Field(0.05, gt=0, le=10, description="seconds between a scan and the images that go with it")
    calibration: UserPath | None = Field(None, description="YAML file with cameras that the bags do not calibrate")
    camera_info: dict[str, str] = Field({}, description="image topic: its CameraInfo topic, where not found by name")
    rectified: tuple[str, ...] | None = Field(
        None,
        description="image topics without distortion; null: those with `rect` as a word in their name",
    )
    frames: dict[str, str] = Field({}, description="topic: its frame, where messages name another than /tf does")
    fixed_frame: str | None = Field(
        None, description="frame that stands still; null: odom, or the last that others move in"
    )
    class_map: str = Field("semantickitti", description="what labels mean: semantickitti, nuscenes, or a YAML file")
    proposals: bool = Field(False, description="where labels are missing, use those that a network has proposed")
    grid: VoxelGrid = Field(KITTI_GRID, description="the volume, in the frame of the training data")
    intensity_max: float = Field(1.0, gt=0, description="full scale of the intensity, after intensity_scale")
    intensity_scale: float = Field(1.0, gt=0, description="factor from the sensor's intensity to the training data's")
    training_from_sensor: tuple[float, float, float, float, float, float] = Field(
        (0, 0, 0, 0, 0, 0), description="pose of the sensor in the training frame: x, y, z, roll, pitch, yaw"
    )
    held_out: float = Field(
        0.0,
        ge=0,
        lt=1,
        description="share of each bag, its end, that split val has and train has not; 0: both have all",
    )

    @property
    def mounting(self) -> SensorMounting:
        """How the sensor's points become training points."""
        return SensorMounting.of(self.training_from_sensor, self.intensity_scale)


class FileCamera(Checked):
    """One camera of a calibration file: how it stands to the LiDAR, and K where there is no CameraInfo."""

    camera_from_lidar: tuple[Row, ...]  # 3x4 or 4x4; the camera's frame is optical: x right, y down, z forward
    matrix: tuple[Row, ...] | None = None
    width: int = 0
    height: int = 0
    distortion_model: DistortionModel = "pinhole"
    coefficients: tuple[float, ...] = ()

    @model_validator(mode="after")
    def _sound(self) -> Self:
        try:
            self.transform()
            self.camera()
        except ConfigError as error:
            raise ValueError(str(error)) from error
        return self

    def transform(self) -> RigidTransform:
        """camera_from_lidar, in metres."""
        return RigidTransform.from_matrix(_matrix(self.camera_from_lidar))

    def camera(self) -> CameraModel | None:
        """Its matrix, in pixels, with size and distortion; None where no matrix is given."""
        if self.matrix is None:
            return None
        return CameraModel(_matrix(self.matrix), self.width, self.height, self.distortion_model, self.coefficients)


class CalibrationFile(Checked):
    """Cameras by their image topic."""

    cameras: dict[str, FileCamera]


def read_calibration_file(path: Path) -> CalibrationFile:
    """Raises ConfigError naming the file and what is wrong in it."""
    content = read_yaml_file(path, "calibration file", ConfigError)
    try:
        return CalibrationFile.model_validate(content)
    except ValidationError as error:
        raise ConfigError(f"{path}: {describe_problems(error)}") from error


def _matrix(rows: tuple[Row, ...]) -> Any:
    if len({len(row) for row in rows}) != 1:
        raise ConfigError("the rows of a matrix are of one length")
    return np.array(rows, np.float64)
