"""From a sensor's points to what a network was trained on: frame, height and intensity unit."""

from __future__ import annotations

import math
from dataclasses import dataclass, field

import numpy as np
import numpy.typing as npt

from twodpass_core.errors import ConfigError
from twodpass_core.geometry import RigidTransform


@dataclass(frozen=True)
class SensorMounting:
    """How a sensor's points become training points. The one place where frames and intensities are converted."""

    training_from_sensor: RigidTransform = field(default_factory=RigidTransform.identity)
    intensity_scale: float = 1.0

    def __post_init__(self) -> None:
        if not (math.isfinite(self.intensity_scale) and self.intensity_scale > 0):
            raise ConfigError(f"intensity_scale must be a positive number, not {self.intensity_scale}")

    def to_training(self, points: npt.NDArray[np.float32]) -> npt.NDArray[np.float32]:
        """(N, 4) x, y, z, intensity of the sensor -> (N, 4) in the training frame and unit.

        Points without a return, (0, 0, 0) or not finite, become NaN: after a transform they would look like real ones.
        """
        x, y, z, intensity = points.T  # column by column: reductions over so short an axis are slow
        has_return = (x != 0) | (y != 0) | (z != 0)
        for column in (x, y, z, intensity):
            has_return &= np.isfinite(column)
        out = np.empty(points.shape, dtype=np.float32)
        with np.errstate(invalid="ignore", over="ignore"):
            if self.training_from_sensor.is_identity():
                out[:, :3] = points[:, :3]
            else:
                out[:, :3] = self.training_from_sensor.apply(points[:, :3])
            np.multiply(points[:, 3], np.float32(self.intensity_scale), out=out[:, 3])
        out[~has_return] = np.nan
        return out
