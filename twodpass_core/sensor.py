"""From a sensor's points to what a network was trained on: frame, height and intensity unit."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, field

import numpy as np
import numpy.typing as npt

from twodpass_core.errors import ConfigError
from twodpass_core.geometry.rigid_transform import RigidTransform

TOO_BRIGHT, TOO_DARK = 4.0, 0.01
"""Of full scale: farther off, intensities are of another unit. 0..1 and 0..255 differ by more, sensors by less."""


@dataclass(frozen=True, eq=False)
class SensorMounting:
    """How a sensor's points become training points. The one place where frames and intensities are converted."""

    training_from_sensor: RigidTransform = field(default_factory=RigidTransform.identity)
    intensity_scale: float = 1.0

    def __post_init__(self) -> None:
        if not (math.isfinite(self.intensity_scale) and self.intensity_scale > 0):
            raise ConfigError(f"intensity_scale must be a positive number, not {self.intensity_scale}")

    @classmethod
    def of(cls, pose: Sequence[float], intensity_scale: float = 1.0) -> SensorMounting:
        """Of a sensor at a pose in the training frame: x, y, z in metres, roll, pitch, yaw in radians, as settings say.

        Raises:
            ConfigError: not six finite numbers, or an intensity_scale that is not positive.
        """
        return cls(RigidTransform.from_xyz_rpy(pose), intensity_scale)

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


def intensity_limit(intensity_max: float) -> float:
    """What intensities are clipped to before a network sees them: a damaged one would spoil the features all around it.

    `intensity_max` is full scale in the training data.
    """
    return TOO_BRIGHT * intensity_max


def bound_intensity(points: npt.NDArray[np.float32], intensity_max: float) -> None:
    """Clip the intensities of points (N, 4) to `intensity_limit`, in place, as `Segmenter` does."""
    limit = intensity_limit(intensity_max)
    np.clip(points[:, 3], -limit, limit, out=points[:, 3])


def is_of_another_unit(intensity: npt.NDArray[np.float32], intensity_max: float) -> bool:
    """Whether intensities (N,), NaN without a return, seem not to be in the unit of 0..intensity_max.

    Where more than one in twenty is far above full scale, or fewer than one in a hundred is above a hundredth of it.
    Zeros alone say nothing of their unit.
    """
    known = np.count_nonzero(np.isfinite(intensity))
    bright = np.count_nonzero(intensity >= intensity_limit(intensity_max)) > known / 20  # or cut off there
    dark = np.count_nonzero(intensity > TOO_DARK * intensity_max) < known / 100 and bool((intensity > 0).any())
    return bool(bright or dark)


def doubt_of_unit(intensity: npt.NDArray[np.float32], intensity_max: float) -> str:
    """Why intensities (N,) seem not to be in the unit of the weights, 0..intensity_max; empty if they do.

    How they can be converted is for the caller to add.
    """
    if not is_of_another_unit(intensity, intensity_max):
        return ""
    highest = np.nanmax(intensity)
    is_of_bytes = intensity_limit(intensity_max) < highest <= 255
    factor = f" (by {intensity_max / 255:.6g} from 0..255)" if is_of_bytes else ""
    return (
        f"intensity goes up to {highest:.3g}, in the weights' training data to {intensity_max:g}: "
        f"unless it is converted{factor}, the labels are worth little"
    )
