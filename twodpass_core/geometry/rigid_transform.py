"""Rigid transforms, named target_from_source. Frames follow REP-103: x forward, y left, z up, metres, radians."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, TypeVar

import numpy as np
import numpy.typing as npt

from twodpass_core.errors import ConfigError

ORTHONORMALITY_TOLERANCE = 1e-3  # of rotations read from files, some of which are rounded to float32 or a few digits
Float = TypeVar("Float", bound="np.floating[Any]")


@dataclass(frozen=True, eq=False)
class RigidTransform:
    """p_target = rotation @ p_source + translation. Chained with `@`: a_from_c = a_from_b @ b_from_c."""

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

    @classmethod
    def from_quaternion(cls, quaternion: npt.ArrayLike, translation: npt.ArrayLike) -> RigidTransform:
        """From a rotation as w, x, y, z (of any length but zero) and a translation (3,) in metres.

        Raises:
            ConfigError: not four and three finite numbers, or a quaternion of length zero.
        """
        q, t = np.asarray(quaternion, np.float64), np.asarray(translation, np.float64)
        if q.shape != (4,) or t.shape != (3,) or not (np.isfinite(q).all() and np.isfinite(t).all() and q.any()):
            raise ConfigError(
                f"a pose is a quaternion w, x, y, z and a translation x, y, z, not {q.tolist()} and {t.tolist()}"
            )
        q = np.ldexp(q, -np.frexp(np.abs(q).max())[1])  # to about 1, exactly: squares of what is tiny or huge are lost
        w, (x, y, z) = q[0] / np.linalg.norm(q), q[1:] / np.linalg.norm(q)
        cross = np.array([[0, -z, y], [z, 0, -x], [-y, x, 0]])
        return cls(np.eye(3) + 2 * w * cross + 2 * cross @ cross, t)

    @classmethod
    def from_matrix(cls, matrix: npt.ArrayLike) -> RigidTransform:
        """From a matrix (4, 4), or its upper rows (3, 4).

        Raises:
            ConfigError: not of that shape, or the left part is not a rotation, or the last row not 0 0 0 1.
        """
        m = np.asarray(matrix, np.float64)
        if m.shape not in ((3, 4), (4, 4)) or not np.isfinite(m).all():
            raise ConfigError(f"a rigid transform is a finite 3x4 or 4x4 matrix, not one of shape {m.shape}")
        if m.shape == (4, 4) and np.abs(m[3] - (0, 0, 0, 1)).max() > ORTHONORMALITY_TOLERANCE:
            raise ConfigError(f"the last row of a rigid transform is 0 0 0 1, not {m[3].tolist()}: is it transposed?")
        rotation = m[:3, :3]
        error = np.abs(rotation @ rotation.T - np.eye(3)).max()
        if error > ORTHONORMALITY_TOLERANCE or np.linalg.det(rotation) < 0:
            raise ConfigError(f"this matrix holds no rotation (rows off unit length or right angles by {error:.2g})")
        return cls(rotation, m[:3, 3])

    def __matmul__(self, other: RigidTransform) -> RigidTransform:
        return RigidTransform(self.rotation @ other.rotation, self.rotation @ other.translation + self.translation)

    def inverse(self) -> RigidTransform:
        """source_from_target."""
        return RigidTransform(self.rotation.T, -self.rotation.T @ self.translation)

    def matrix(self) -> npt.NDArray[np.float64]:
        """(4, 4)."""
        matrix = np.eye(4)
        matrix[:3, :3], matrix[:3, 3] = self.rotation, self.translation
        return matrix

    def quaternion(self) -> npt.NDArray[np.float64]:
        """(4,) w, x, y, z of the rotation, of unit length, w >= 0."""
        r = self.rotation
        # q q^T is linear in the rotation; its largest column is the one that can be divided by safely.
        products = np.empty((4, 4))
        products[0, 0] = 1 + np.trace(r)
        products[1:, 1:] = r + r.T + np.eye(3) * (1 - np.trace(r))
        products[0, 1:] = products[1:, 0] = r[2, 1] - r[1, 2], r[0, 2] - r[2, 0], r[1, 0] - r[0, 1]
        q = products[:, np.argmax(np.diag(products))]
        return np.asarray(q / np.linalg.norm(q) * (1 if q[0] >= 0 else -1))

    def is_identity(self) -> bool:
        return bool(np.array_equal(self.rotation, np.eye(3)) and not self.translation.any())

    def apply(self, xyz: npt.NDArray[Float]) -> npt.NDArray[Float]:
        """(N, 3) -> (N, 3), in the precision of the points, float32 or float64."""
        # Column by column, for matrix products wake BLAS's threads: on a busy machine they take 100 times as long.
        x, y, z = xyz.T
        result = np.empty(xyz.shape, xyz.dtype)
        rows = zip(self.rotation.astype(xyz.dtype), self.translation.astype(xyz.dtype), strict=True)
        for column, ((a, b, c), shift) in enumerate(rows):
            result[:, column] = a * x + b * y + c * z + shift
        return result


def rotation_about_z(angle: float) -> npt.NDArray[np.float64]:
    """(3, 3) counter-clockwise rotation by an angle in radians."""
    return np.array([[math.cos(angle), -math.sin(angle), 0], [math.sin(angle), math.cos(angle), 0], [0, 0, 1]])
