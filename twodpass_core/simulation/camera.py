"""A camera that ray-casts the street: one ray through the middle of every pixel."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import combinations
from typing import Final

import numpy as np

from twodpass_core.cameras.model import CameraModel
from twodpass_core.errors import ConfigError
from twodpass_core.geometry.rigid_transform import RigidTransform
from twodpass_core.simulation.bodies import Bodies, Body
from twodpass_core.simulation.noise import cell_noise
from twodpass_core.simulation.plan import Light
from twodpass_core.simulation.shading import Hits, paint, shadowed_light, sky

NEAR: Final = 0.1  # metres ahead of the lens; what is nearer is not seen
PIXEL_NOISE: Final = 0.008  # standard deviation, of full scale


@dataclass(frozen=True, eq=False)
class Picture:
    """What a camera has seen.

    image: (H, W, 3) uint8 RGB.
    raw_labels: (H, W) uint32 SemanticKITTI's raw ids; 0 where there is only sky.
    distance: (H, W) float64 metres from the lens, inf where there is only sky.
    """

    image: np.ndarray
    raw_labels: np.ndarray
    distance: np.ndarray


@dataclass(frozen=True, eq=False)
class StreetCamera:
    """A camera without distortion, and where it stands to the LiDAR. Raises ConfigError for one with distortion."""

    model: CameraModel
    camera_from_lidar: RigidTransform

    def __post_init__(self) -> None:
        if any(self.model.coefficients) or self.model.distortion_model == "equidistant":
            raise ConfigError(
                f"the simulated camera has no lens distortion: use pinhole, not {self.model.distortion_model}"
            )

    def render(self, world_from_camera: np.ndarray, bodies: Bodies, light: Light, rng: np.random.Generator) -> Picture:
        """A picture from `world_from_camera` (4, 4)."""
        rays = self.directions() @ world_from_camera[:3, :3].T
        distance, owner = self._nearest(world_from_camera, rays, bodies)
        seen = np.isfinite(distance)
        eye, flat_rays = world_from_camera[:3, 3], rays[seen]
        hits = Hits(eye + flat_rays * distance[seen][:, None], distance[seen], owner[seen])

        colours = np.empty_like(rays)
        colours[~seen] = sky(rays[~seen])
        pixel_size = distance[seen] / self.model.matrix[0, 0]
        index = np.full(distance.shape, -1)
        index[seen] = np.arange(len(flat_rays))
        sunlight = shadowed_light(hits, index, bodies, light, lambda corners: self._windows(world_from_camera, corners))
        colours[seen] = paint(hits, bodies, light, sunlight, pixel_size)
        colours += rng.normal(0.0, PIXEL_NOISE, colours.shape)
        raw_ids = np.array([body.raw_id for body in bodies], np.uint32)
        image = np.round(np.clip(colours, 0.0, 1.0) * 255).astype(np.uint8)
        return Picture(image, np.where(seen, raw_ids[owner], 0), distance)

    def directions(self) -> np.ndarray:
        """(H, W, 3) float64 unit vectors through the middle of each pixel, in the camera's frame."""
        v, u = np.mgrid[: self.model.height, : self.model.width] + 0.5
        pixels = np.stack([u, v, np.ones_like(u)], axis=-1)
        rays = pixels @ np.linalg.inv(self.model.matrix).T
        return np.asarray(rays / np.linalg.norm(rays, axis=-1, keepdims=True))

    def _nearest(
        self, world_from_camera: np.ndarray, rays: np.ndarray, bodies: Sequence[Body]
    ) -> tuple[np.ndarray, np.ndarray]:
        """Distance (H, W) to the first body on each ray, inf where there is none, and the body's index."""
        distance = np.full(rays.shape[:2], np.inf)
        owner = np.zeros(rays.shape[:2], np.intp)
        windows = self._windows(world_from_camera, np.stack([body.shape.corners for body in bodies]))
        for index, (body, window) in enumerate(zip(bodies, windows, strict=True)):
            if window is None:
                continue
            nearest = distance[window]
            entry, leave = body.shape.intersect(world_from_camera[:3, 3], rays[window])
            hit = (entry > NEAR) & (entry < leave) & (entry < nearest)
            if body.material.free_path:
                entry, hit = _into_leaves(body, world_from_camera[:3, 3], rays[window], entry, leave, nearest, hit)
            nearest[hit] = entry[hit]
            owner[window][hit] = index
        return distance, owner

    def _windows(self, world_from_camera: np.ndarray, corners: np.ndarray) -> list[tuple[slice, slice] | None]:
        """Rows and columns of the image that the convex hulls of corners (B, C, 3) lie within; None if unseen."""
        rotation, eye = world_from_camera[:3, :3], world_from_camera[:3, 3]
        return [self._window(hull) for hull in (corners - eye) @ rotation]

    def _window(self, hull: np.ndarray) -> tuple[slice, slice] | None:
        depth = hull[:, 2]
        ahead = depth > NEAR
        if not ahead.any():
            return None
        if not ahead.all():
            hull = _clip(hull, ahead)
        model = self.model
        uvw = hull @ model.matrix.T
        uv = uvw[:, :2] / uvw[:, 2:]
        left, top = np.clip(np.floor(uv.min(axis=0)), 0, (model.width, model.height)).astype(int)
        right, bottom = np.clip(np.ceil(uv.max(axis=0)), 0, (model.width, model.height)).astype(int)
        return None if left >= right or top >= bottom else (slice(top, bottom), slice(left, right))


def kitti_camera(width: int = 1242) -> StreetCamera:
    """KITTI's left colour camera, its image scaled to a width (621 x 188 for 621)."""
    scale = width / 1242
    matrix = np.array([[721.54 * scale, 0.0, 609.56 * scale], [0.0, 721.54 * scale, 172.85 * scale], [0.0, 0.0, 1.0]])
    axes = np.array([[0.0, -1.0, 0.0], [0.0, 0.0, -1.0], [1.0, 0.0, 0.0]])  # x right, y down, z forward
    place = np.array([0.27, 0.06, -0.08])
    return StreetCamera(CameraModel(matrix, width, math.ceil(375 * scale)), RigidTransform(axes, -axes @ place))


def _into_leaves(
    body: Body,
    eye: np.ndarray,
    rays: np.ndarray,
    entry: np.ndarray,
    leave: np.ndarray,
    nearest: np.ndarray,
    reached: np.ndarray,
) -> tuple[np.ndarray, np.ndarray]:
    """How far rays get into foliage, as in SpinningLidar, but drawn once for each clump on its surface."""
    row, column = np.nonzero(reached)
    surface = body.shape.local(eye + rays[row, column] * entry[row, column, None])
    drawn = cell_noise(surface / body.material.clump)
    entry[row, column] -= np.log(np.maximum(drawn, 1e-9)) * body.material.free_path
    return entry, reached & (entry < leave) & (entry < nearest)


def _clip(hull: np.ndarray, ahead: np.ndarray) -> np.ndarray:
    """Corners of the part of a convex hull (C, 3) ahead of the lens; some that are not corners are among them."""
    one, other = (hull[list(ends)] for ends in zip(*combinations(range(len(hull)), 2), strict=True))
    crossing = (one[:, 2] > NEAR) != (other[:, 2] > NEAR)
    one, other = one[crossing], other[crossing]
    share = (NEAR - one[:, 2:]) / (other[:, 2:] - one[:, 2:])
    return np.concatenate([hull[ahead], one + share * (other - one)])
