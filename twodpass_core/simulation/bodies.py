"""What a street is made of: solids with a material and a label."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

from twodpass_core.simulation.shapes import Box, Shape, Vector
from twodpass_core.simulation.textures import Plain, Texture

GREY: Final = Plain((0.5, 0.5, 0.5))


@dataclass(frozen=True)
class Material:
    """How a surface answers a laser pulse, and what a camera sees of it.

    reflectance: mean intensity up close, in KITTI's unit (0..1).
    roughness: standard deviation of the surface along the ray, metres.
    free_path: mean way of a ray in it before it meets a leaf or a slat, metres; 0 for a closed surface.
    clump: size of the leaves or slats that a camera sees stand out, metres, along the solid's axes.
    texture: its colours.
    """

    reflectance: float
    roughness: float = 0.0
    free_path: float = 0.0
    clump: Vector = (0.1, 0.1, 0.1)
    texture: Texture = GREY


@dataclass(frozen=True)
class Body:
    """A solid with the SemanticKITTI raw id of what it belongs to, and the instance's number (0: not counted)."""

    shape: Shape
    raw_id: int
    material: Material
    instance: int = 0


Bodies = tuple[Body, ...]


def slab(x: tuple[float, float], y: tuple[float, float], top: float, raw_id: int, material: Material) -> Body:
    """A piece of ground between two x and two y, half a metre thick."""
    centre = ((x[0] + x[1]) / 2, (y[0] + y[1]) / 2, top - 0.25)
    return Body(Box(centre, (x[1] - x[0], abs(y[1] - y[0]), 0.5)), raw_id, material)
