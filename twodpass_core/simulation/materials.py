"""Materials of a street. Many differ little in a laser's intensity and much in colour: that is what a camera adds.

Each function draws one of a kind from the generator. Colours are red, green, blue, 0 to 1.
"""

from __future__ import annotations

from typing import Final

import numpy as np

from twodpass_core.simulation.bodies import Material
from twodpass_core.simulation.textures import Colour, Facade, Mottled, Plain, Planked, Texture, Tiled

PAINT: Final = Material(0.62, texture=Mottled((0.92, 0.92, 0.9), (0.75, 0.75, 0.73), 0.05))
METAL: Final = Material(0.4, texture=Plain((0.5, 0.52, 0.53)))
GALVANISED: Final = Material(0.33, texture=Plain((0.36, 0.41, 0.38)))
CHROME: Final = Material(0.4, texture=Plain((0.3, 0.3, 0.33)))
RUBBER: Final = Material(0.06, texture=Plain((0.07, 0.07, 0.075)))
SKIN: Final = Material(0.31, roughness=0.01, texture=Plain((0.8, 0.6, 0.48)))

CAR_COLOURS: Final[tuple[Colour, ...]] = (
    (0.85, 0.86, 0.87), (0.66, 0.68, 0.7), (0.33, 0.35, 0.38), (0.1, 0.1, 0.12), (0.1, 0.2, 0.5), (0.58, 0.08, 0.09),
    (0.2, 0.32, 0.25), (0.86, 0.8, 0.62),
)  # fmt: skip
CLOTH_COLOURS: Final[tuple[Colour, ...]] = (
    (0.75, 0.12, 0.14), (0.12, 0.22, 0.55), (0.9, 0.75, 0.15), (0.92, 0.92, 0.92), (0.1, 0.45, 0.35), (0.85, 0.4, 0.6),
    (0.16, 0.16, 0.2),
)  # fmt: skip
WALL_COLOURS: Final[tuple[Colour, ...]] = (
    (0.87, 0.82, 0.7), (0.9, 0.88, 0.84), (0.83, 0.69, 0.52), (0.72, 0.75, 0.76), (0.86, 0.75, 0.68),
)  # fmt: skip


def asphalt(rng: np.random.Generator) -> Material:
    """The road: dark grey."""
    grey = rng.uniform(0.3, 0.42)
    texture = Mottled((grey, grey, grey * 1.02), (grey * 0.78, grey * 0.78, grey * 0.8), 0.06)
    return Material(rng.uniform(0.24, 0.32), texture=texture)


def paving(rng: np.random.Generator) -> Material:
    """Flagstones of a pavement: light, warm grey."""
    light = rng.uniform(0.62, 0.75)
    size = rng.uniform(0.3, 0.5)
    texture = Tiled((light, light * 0.96, light * 0.88), (light * 0.6, light * 0.57, light * 0.52), size, size)
    return Material(rng.uniform(0.26, 0.34), texture=texture)


def cobbles(rng: np.random.Generator) -> Material:
    """Reddish setts of parking bays."""
    red = rng.uniform(0.48, 0.58)
    texture = Tiled((red, red * 0.72, red * 0.62), (red * 0.6, red * 0.48, red * 0.44), 0.24, 0.16, variation=0.4)
    return Material(rng.uniform(0.24, 0.33), texture=texture)


def gravel(rng: np.random.Generator) -> Material:
    """Yellowish, of islands beside the lane."""
    texture = Mottled((0.78, 0.72, 0.55), (0.56, 0.5, 0.36), 0.05)
    return Material(rng.uniform(0.26, 0.34), roughness=0.01, texture=texture)


def grass(rng: np.random.Generator) -> Material:
    """Short grass: gardens and verges."""
    green = rng.uniform(0.38, 0.5)
    texture = Mottled((green * 0.75, green, green * 0.36), (green * 0.5, green * 0.72, green * 0.25), 0.08)
    return Material(rng.uniform(0.28, 0.36), roughness=0.02, texture=texture)


def bark(rng: np.random.Generator) -> Material:
    """Brown, in upright streaks."""
    brown = rng.uniform(0.3, 0.42)
    texture = Mottled((brown, brown * 0.76, brown * 0.56), (brown * 0.6, brown * 0.43, brown * 0.3), 0.05, stretch=5.0)
    return Material(rng.uniform(0.28, 0.38), roughness=0.015, texture=texture)


def foliage(rng: np.random.Generator, free_path: float) -> Material:
    """Leaves, into which a ray gets `free_path` metres on average."""
    green = rng.uniform(0.32, 0.46)
    yellow = rng.uniform(0.5, 0.85)
    texture = Mottled((green * yellow, green, green * 0.3), (green * 0.4, green * 0.55, green * 0.2), 0.12)
    return Material(rng.uniform(0.25, 0.36), free_path=free_path, texture=texture)


def boards(rng: np.random.Generator) -> Material:
    """A closed wooden fence."""
    brown = rng.uniform(0.45, 0.68)
    texture = Planked((brown, brown * 0.75, brown * 0.5), (0.16, 0.11, 0.08))
    return Material(rng.uniform(0.25, 0.42), roughness=0.01, texture=texture)


def slats(rng: np.random.Generator) -> Material:
    """A fence that one can see through in places."""
    colour = (0.86, 0.86, 0.84) if rng.random() < 0.5 else (0.5, 0.36, 0.25)
    texture = Planked(colour, (colour[0] * 0.4, colour[1] * 0.42, colour[2] * 0.42), 0.11)
    return Material(rng.uniform(0.25, 0.42), free_path=0.06, clump=(0.11, 0.11, 9.0), texture=texture)


def masonry(rng: np.random.Generator) -> Texture:
    """Plaster or brick of a house."""
    if rng.random() < 0.35:
        red = rng.uniform(0.5, 0.66)
        return Tiled((red, red * 0.54, red * 0.42), (0.66, 0.62, 0.57), 0.25, 0.085, variation=0.3)
    colour = np.array(WALL_COLOURS[rng.integers(len(WALL_COLOURS))]) * rng.uniform(0.9, 1.0)
    red, green, blue = colour.tolist()
    return Mottled((red, green, blue), (red * 0.93, green * 0.93, blue * 0.93), 0.3)


def house_wall(height: float, rng: np.random.Generator) -> Material:
    """Masonry with windows, of a house of that height in metres."""
    facade = Facade(masonry(rng), height, spacing=rng.uniform(2.0, 3.0))
    return Material(rng.uniform(0.24, 0.42), roughness=0.01, texture=facade)


def plain_wall(rng: np.random.Generator) -> Material:
    """Masonry without windows."""
    return Material(rng.uniform(0.24, 0.42), roughness=0.01, texture=masonry(rng))


def clothes(rng: np.random.Generator) -> Material:
    """Cloth in one of `CLOTH_COLOURS`."""
    colour = CLOTH_COLOURS[rng.integers(len(CLOTH_COLOURS))]
    return Material(rng.uniform(0.26, 0.38), roughness=0.02, texture=Plain(colour))


def car_colour(rng: np.random.Generator) -> Colour:
    """One of `CAR_COLOURS`."""
    return CAR_COLOURS[rng.integers(len(CAR_COLOURS))]
