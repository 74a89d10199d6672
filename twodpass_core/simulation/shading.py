"""Light, shadow and air: from what rays have hit to colours 0..1."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Final

import numpy as np

from twodpass_core.geometry.rigid_transform import rotation_about_z
from twodpass_core.simulation.bodies import Body
from twodpass_core.simulation.labels import GROUND
from twodpass_core.simulation.noise import smooth_noise
from twodpass_core.simulation.plan import Light
from twodpass_core.simulation.textures import blend

HORIZON: Final = (0.80, 0.86, 0.92)
ZENITH: Final = (0.30, 0.52, 0.83)
CLOUD: Final = (0.97, 0.97, 0.98)
HILLS: Final = (0.55, 0.64, 0.66)
HAZE: Final = 350.0  # metres after which air hides all but 37 % of a colour
SKIN: Final = 0.01  # metres of a body that let the sun through: surfaces do not shade themselves by rounding
LOWEST: Final = -0.1  # nothing below casts or catches a shadow, metres

Window = tuple[slice, slice] | None


@dataclass(frozen=True, eq=False)
class Hits:
    """Where rays end: places (M, 3) in the world, distance (M,) from the lens, owner (M,) index of the body."""

    places: np.ndarray
    distance: np.ndarray
    owner: np.ndarray


def sky(rays: np.ndarray) -> np.ndarray:
    """(M, 3) colours of the sky, with a few clouds and far hills, along unit rays (M, 3)."""
    rise = rays[:, 2]
    colours = blend(HORIZON, ZENITH, np.sqrt(np.clip(rise * 2.2, 0.0, 1.0)))
    overhead = rays / np.maximum(np.abs(rise), 0.02)[:, None]
    clouds = 0.65 * smooth_noise(overhead * 0.35) + 0.35 * smooth_noise(overhead * 1.1)
    colours = blend(colours, CLOUD, np.clip((clouds - 0.5) * 3.0, 0.0, 0.8) * np.clip(rise * 8, 0.0, 1.0))
    bearing = np.arctan2(rays[:, 1], rays[:, 0])[:, None] * (9.0, 0.0, 0.0)
    hills = rise < 0.012 + 0.035 * smooth_noise(bearing)
    return blend(colours, HILLS, hills * 0.8)


def shadowed_light(
    hits: Hits,
    index: np.ndarray,
    bodies: Sequence[Body],
    light: Light,
    windows: Callable[[np.ndarray], list[Window]],
) -> np.ndarray:
    """(M,) share of the sun's light that reaches each hit: 0 behind closed bodies, some of it through foliage.

    `index` (H, W) gives the hit of each pixel, -1 for none; `windows` the parts of the image that hulls lie within.
    A body's shadow is looked for only where the hull of the body and of its shadow on the ground is seen.
    """
    reaching = np.ones(len(hits.owner))
    sun = np.asarray(light.towards_sun)
    casting = [body for body in bodies if body.raw_id not in GROUND]
    corners = np.stack([body.shape.corners for body in casting]) if casting else np.empty((0, 8, 3))
    fallen = corners - sun * ((corners[..., 2:] - LOWEST) / sun[2])
    for body, window in zip(casting, windows(np.concatenate([corners, fallen], axis=1)), strict=True):
        if window is None:
            continue
        receiving = index[window].ravel()
        receiving = receiving[receiving >= 0]
        receiving = receiving[reaching[receiving] > 0]
        entry, leave = body.shape.intersect(hits.places[receiving], sun)
        way = np.maximum(leave - np.maximum(entry, 0.0), 0.0)
        if body.material.free_path:
            reaching[receiving] *= np.exp(-way / body.material.free_path)
        else:
            reaching[receiving[way > SKIN]] = 0.0
    return reaching


def paint(hits: Hits, bodies: Sequence[Body], light: Light, sunlight: np.ndarray, pixel_size: np.ndarray) -> np.ndarray:
    """(M, 3) colours of the hits, given the share of sunlight (M,) and the metres a pixel covers there (M,)."""
    colours = np.empty((len(hits.owner), 3))
    order = np.argsort(hits.owner, kind="stable")
    owners, starts = np.unique(hits.owner[order], return_index=True)
    for owner, chosen in zip(owners, np.split(order, starts)[1:], strict=True):
        shape, material = bodies[owner].shape, bodies[owner].material
        normals = shape.normals(hits.places[chosen])
        surface = material.texture.colours(shape.local(hits.places[chosen]), normals, pixel_size[chosen])
        facing = normals @ (np.asarray(light.towards_sun) @ rotation_about_z(shape.yaw))
        direct = np.clip(0.35 + 0.65 * facing, 0, 1) if material.free_path else np.clip(facing, 0, 1)
        skylight = light.sky * (0.8 + 0.2 * normals[:, 2])
        colours[chosen] = surface * (skylight + 1.3 * light.sun * direct * sunlight[chosen])[:, None]
    return blend(colours, HORIZON, 1 - np.exp(-hits.distance / HAZE))
