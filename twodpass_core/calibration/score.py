"""How well scan and image fit each other: the calibration score of a set.

After Levinson and Thrun, Automatic Online Calibration of Cameras and Lasers, RSS 2013: where the distance jumps, there
is mostly an edge in the image, too. If the calibration is right, then moved a little, the scan's edges meet fewer of
the image's.
"""

from __future__ import annotations

import itertools
import math
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from twodpass_core.calibration.checks import checked_points
from twodpass_core.calibration.edges import DepthEdges, ImageEdges, depth_edges, image_edges
from twodpass_core.cameras.model import CameraModel
from twodpass_core.geometry.rigid_transform import RigidTransform

ANGLE = math.radians(0.35)  # that the camera is turned by about each axis: 0.6 degrees together
SHIFT = 0.035  # metres along each axis: 6 cm together
MAX_EDGES = 1000  # of the scan that are looked at, for time
MIN_EDGES = 60  # in the image, below which a score would be chance
MIN_CLEAR = 0.002  # share of the image's pixels on edges, the same


@dataclass(frozen=True)
class CalibrationScore:
    """`score` is the share, 0 to 1, of the transforms near the given one that fit worse.

    Where the calibration is right it is about 1 with 64 beams, 0.85 with 32; off by a degree, it is anything, 0.6 on
    average. Single sets mislead, a mean over a dozen different ones tells. NaN where scan or image have too few edges
    to say.
    """

    score: float
    edges: int  # of the scan, seen in the image


def calibration_score(
    points: npt.NDArray[np.floating],
    image: npt.NDArray[np.uint8],
    camera: CameraModel,
    camera_from_lidar: RigidTransform,
) -> CalibrationScore:
    """Compare a transform with the 64 others that turn and shift the camera a little in all directions.

    Args:
        points: (N, >=3) x, y, z in metres, in the LiDAR's frame with z along its axis.
        image: (H, W, 3) RGB, distorted as the camera made it.

    Raises:
        ScanError: arrays of other shapes, or an image not of the camera's size.
    """
    edges = _in_view(checked_points(points, image, camera), camera, camera_from_lidar)
    targets = image_edges(image)
    if len(edges) < MIN_EDGES or targets.clear < MIN_CLEAR:
        return CalibrationScore(math.nan, len(edges))
    in_camera = camera_from_lidar.apply(edges.xyz)
    fit = _fit(in_camera, edges, camera, targets)
    others = [_fit(near.apply(in_camera), edges, camera, targets) for near in nearby_transforms()]
    return CalibrationScore(float(np.mean(fit > np.array(others))), len(edges))


def nearby_transforms() -> list[RigidTransform]:
    """camera_from_camera: turned by ANGLE about and shifted by SHIFT along every axis, both ways, all combinations."""
    signs = itertools.product((-1, 1), repeat=6)
    return [RigidTransform.from_xyz_rpy([SHIFT * s for s in six[:3]] + [ANGLE * s for s in six[3:]]) for six in signs]


def _in_view(xyz: npt.NDArray[np.float64], camera: CameraModel, camera_from_lidar: RigidTransform) -> DepthEdges:
    """Edges of the scan in the image, evenly thinned out."""
    # Edges need neighbours, which may be outside the image; behind the camera they are not needed.
    edges = depth_edges(xyz[camera_from_lidar.apply(xyz)[:, 2] > 0])
    _, visible = camera.project(camera_from_lidar.apply(edges.xyz))
    edges = edges[visible]
    if len(edges) > MAX_EDGES:
        edges = edges[np.linspace(0, len(edges) - 1, MAX_EDGES).astype(np.int64)]
    return edges


def _fit(in_camera: npt.NDArray[np.float64], edges: DepthEdges, camera: CameraModel, targets: ImageEdges) -> float:
    """Mean strength of the image's edges where the scan's are seen, 0..255; 0 where none is seen."""
    uv, visible = camera.project(in_camera)
    strength = targets.at(uv[visible], edges.upright[visible])
    return float(strength.mean()) if len(strength) else 0.0
