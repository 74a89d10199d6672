"""Camera models as CameraInfo and OpenCV define them: from points in the camera's frame to pixels.

The frame is optical (REP-103): x right, y down, z forward. Pixel (row, column) covers row <= v < row + 1 and
column <= u < column + 1 (eq. 3).
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from functools import cached_property
from typing import Literal, TypeAlias, get_args

import numpy as np
import numpy.typing as npt
from numpy.polynomial import Polynomial

from twodpass_core.errors import ConfigError
from twodpass_core.geometry.rigid_transform import RigidTransform

DistortionModel = Literal["pinhole", "plumb_bob", "rational_polynomial", "equidistant"]
COEFFICIENTS = {"pinhole": (0,), "plumb_bob": (0, 4, 5), "rational_polynomial": (0, 8), "equidistant": (4,)}
Floats: TypeAlias = npt.NDArray[np.float64]


@dataclass(frozen=True, eq=False)
class CameraModel:
    """K, lens distortion and image size of a camera.

    `coefficients`, in CameraInfo's order: pinhole none; plumb_bob k1, k2, p1, p2[, k3]; rational_polynomial
    k1, k2, p1, p2, k3, k4, k5, k6 (these two may have none: no distortion); equidistant (fisheye) k1, k2, k3, k4.

    Raises:
        ConfigError: K is no camera matrix, an unknown distortion model, a wrong number of coefficients, an empty image.
    """

    matrix: Floats  # (3, 3) K, in pixels
    width: int
    height: int
    distortion_model: DistortionModel = "pinhole"
    coefficients: tuple[float, ...] = ()

    def __post_init__(self) -> None:
        k = np.asarray(self.matrix)
        if k.shape != (3, 3) or not np.isfinite(k).all() or min(k[0, 0], k[1, 1]) <= 0 or k[2].tolist() != [0, 0, 1]:
            raise ConfigError(
                f"no camera matrix, [fx s cx; 0 fy cy; 0 0 1] with fx, fy > 0: {k.tolist()}. Is the camera calibrated?"
            )
        if self.width <= 0 or self.height <= 0:
            raise ConfigError(f"an image of {self.width} x {self.height} pixels holds nothing")
        if self.distortion_model not in get_args(DistortionModel):
            raise ConfigError(
                f"unknown distortion model '{self.distortion_model}': known are {', '.join(get_args(DistortionModel))}"
            )
        if len(self.coefficients) not in COEFFICIENTS[self.distortion_model]:
            wanted = " or ".join(map(str, COEFFICIENTS[self.distortion_model]))
            raise ConfigError(
                f"{self.distortion_model} has {wanted} coefficients, not {len(self.coefficients)}: {self.coefficients}"
            )
        if not all(map(math.isfinite, self.coefficients)):
            raise ConfigError(f"distortion coefficients must be finite: {self.coefficients}")

    def project(self, points_camera: npt.NDArray[np.floating]) -> tuple[Floats, npt.NDArray[np.bool_]]:
        """Eq. 1: points (N, 3) in the camera's frame -> uv (N, 2) float64 in pixels, visible (N,) bool.

        Visible is what lies in front of the camera (0 < z < inf), within the angle up to which the distortion model is
        one to one (beyond it, polynomials fold points from far outside back into the image), and inside the image,
        0 < u < width and 0 < v < height. What uv says of other points means nothing.
        """
        points = np.asarray(points_camera, np.float64)
        uv = np.zeros((len(points), 2))
        visible = np.zeros(len(points), np.bool_)
        with np.errstate(invalid="ignore", over="ignore"):  # points that are not finite, or all but in the lens
            front = np.flatnonzero((points[:, 2] > 0) & (points[:, 2] < np.inf))
            plane = points[front, :2] / points[front, 2:]
            within = (plane**2).sum(axis=1) < self.max_tangent**2
            front, plane = front[within], self._distort(plane[within])
            uv[front] = plane @ self.matrix[:2, :2].T + self.matrix[:2, 2]
            visible[front] = ((uv[front] > 0) & (uv[front] < (self.width, self.height))).all(axis=1)
        return uv, visible

    @cached_property
    def max_tangent(self) -> float:
        """Tangent of the angle to the optical axis up to which radial distortion is one to one. inf if everywhere."""
        if self.distortion_model == "equidistant":
            limit = _end_of_rise(Polynomial([1, *self.coefficients]), Polynomial([1]))
            return math.tan(limit) if limit < math.pi / 2 else math.inf
        return _end_of_rise(*self._radial)

    @cached_property
    def _radial(self) -> tuple[Polynomial, Polynomial]:
        """Numerator and denominator, polynomials of r^2, of the factor by which radial distortion scales."""
        k1, k2, _, _, k3, k4, k5, k6 = (*self.coefficients, *[0.0] * (8 - len(self.coefficients)))
        return Polynomial([1, k1, k2, k3]), Polynomial([1, k4, k5, k6])

    def _distort(self, plane: Floats) -> Floats:
        """(N, 2) points on the plane z = 1 -> where the lens puts them on it."""
        squared = (plane**2).sum(axis=1)
        if self.distortion_model == "equidistant":
            tangent = np.sqrt(squared)
            theta = np.arctan(tangent)
            bent = theta * Polynomial([1, *self.coefficients])(theta**2)
            factor = np.divide(bent, tangent, out=np.ones_like(tangent), where=tangent > 0)
            return np.asarray(plane * factor[:, None])
        if not any(self.coefficients):
            return plane
        numerator, denominator = self._radial
        p1, p2 = self.coefficients[2:4]
        x, y = plane.T
        factor = numerator(squared) / denominator(squared)
        return np.stack(
            [
                x * factor + 2 * p1 * x * y + p2 * (squared + 2 * x**2),
                y * factor + p1 * (squared + 2 * y**2) + 2 * p2 * x * y,
            ],
            axis=1,
        )


def split_projection(projection: npt.ArrayLike) -> tuple[Floats, RigidTransform]:
    """A 3x4 projection P = K [R | t] -> K (3, 3) and camera_from_rectified, R and t.

    KITTI's rectified cameras all look the same way: then R is the identity, and K the left part of P as it is.

    Raises:
        ConfigError: not 3x4, or its left part cannot be inverted.
    """
    p = np.asarray(projection, np.float64)
    if p.shape != (3, 4) or not np.isfinite(p).all() or not np.linalg.det(p[:, :3]):
        raise ConfigError(f"no 3x4 projection matrix: {p.tolist()}")
    matrix, rotation = p[:, :3], np.eye(3)
    if matrix[1, 0] or matrix[2, 0] or matrix[2, 1]:
        p = p * np.sign(np.linalg.det(matrix))
        matrix, rotation = _triangular_and_rotation(p[:, :3])
    p, matrix = p / matrix[2, 2], matrix / matrix[2, 2]  # a projection is the same at any scale
    return matrix, RigidTransform(rotation, np.asarray(np.linalg.solve(matrix, p[:, 3]), np.float64))


def _triangular_and_rotation(matrix: Floats) -> tuple[Floats, Floats]:
    """RQ decomposition of (3, 3): an upper triangular matrix with positive diagonal times a rotation."""
    rotation, triangular = np.linalg.qr(matrix[::-1].T)
    triangular, rotation = triangular.T[::-1, ::-1], rotation.T[::-1]
    signs = np.sign(np.diag(triangular))
    return np.triu(triangular * signs), signs[:, None] * rotation


def _end_of_rise(numerator: Polynomial, denominator: Polynomial) -> float:
    """The smallest r > 0 where r * numerator(r^2) / denominator(r^2) stops to rise or has a pole; inf if nowhere."""
    s = Polynomial([0, 1])
    slope = (numerator + 2 * s * numerator.deriv()) * denominator - 2 * s * numerator * denominator.deriv()
    roots = np.concatenate([slope.trim().roots(), denominator.trim().roots()])
    ends = roots.real[(np.abs(roots.imag) < 1e-9 * np.maximum(np.abs(roots), 1)) & (roots.real > 0)]
    return math.sqrt(ends.min()) if len(ends) else math.inf
