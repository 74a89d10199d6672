"""Rigid transforms, named target_from_source. Frames follow REP-103: x forward, y left, z up, metres, radians."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from twodpass_core.errors import ConfigError


@dataclass(frozen=True)
class RigidTransform:
    """p_target = rotation @ p_source + translation."""

    rotation: npt.NDArray[np.float64]  # (3, 3)
    translation: npt.NDArray[np.float64]  # (3,)

    @classmethod
    def identity(cls) -> RigidTransform:
        return cls(np.eye(3), np.zeros(3))

    @classmethod
    def from_xyz_rpy(cls, values: Sequence[float]) -> RigidTransform:
        """From x, y, z (metres), roll, pitch, yaw (radians, about the fixed axes x, y, z as in URDF).

        Raises:
            ConfigError: not six finite numbers.
        """
        if len(values) != 6 or not all(math.isfinite(value) for value in values):
            raise ConfigError(
                f"a transform is six finite numbers x, y, z (metres), roll, pitch, yaw (radians), not {list(values)}"
            )
        x, y, z, roll, pitch, yaw = values
        about_x = np.array([[1, 0, 0], [0, math.cos(roll), -math.sin(roll)], [0, math.sin(roll), math.cos(roll)]])
        about_y = np.array([[math.cos(pitch), 0, math.sin(pitch)], [0, 1, 0], [-math.sin(pitch), 0, math.cos(pitch)]])
        return cls(rotation_about_z(yaw) @ about_y @ about_x, np.array([x, y, z], dtype=np.float64))

    def is_identity(self) -> bool:
        return bool(np.array_equal(self.rotation, np.eye(3)) and not self.translation.any())

    def apply(self, xyz: npt.NDArray[np.float32]) -> npt.NDArray[np.float32]:
        """(N, 3) float32 -> (N, 3) float32."""
        return xyz @ self.rotation.T.astype(np.float32) + self.translation.astype(np.float32)


def rotation_about_z(angle: float) -> npt.NDArray[np.float64]:
    """(3, 3) counter-clockwise rotation by an angle in radians."""
    return np.array([[math.cos(angle), -math.sin(angle), 0], [math.sin(angle), math.cos(angle), 0], [0, 0, 1]])
