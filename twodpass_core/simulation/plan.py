"""What differs from street to street: its cross-section, its ground, the light."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from twodpass_core.simulation import materials
from twodpass_core.simulation.bodies import Material


@dataclass(frozen=True)
class Light:
    """Sun and sky.

    towards_sun: unit vector. sun, sky: brightness of either on a surface that faces it, about 1 together.
    """

    towards_sun: tuple[float, float, float]
    sun: float
    sky: float

    @classmethod
    def draw(cls, rng: np.random.Generator) -> Light:
        """Sun at 28 to 60 degrees above the horizon in any direction; the weaker it is, the brighter is the sky."""
        azimuth, elevation = rng.uniform(0, 2 * np.pi), rng.uniform(np.radians(28), np.radians(60))
        sun = rng.uniform(0.35, 0.7)
        flat = np.cos(elevation)
        return cls((flat * np.cos(azimuth), flat * np.sin(azimuth), np.sin(elevation)), sun, 1.12 - 0.75 * sun)


@dataclass(frozen=True)
class StreetPlan:
    """Distances (metres) of `lane` end, `kerb`, start of the `pavement`, its `edge` and house `front` from the middle.

    `kerb_height` is that of verge, pavement and gardens above the road, `bay_height` that of parking bays: some streets
    have next to no steps, and their ground then differs in colour and hardly in shape or intensity.
    """

    lane: float
    kerb: float
    pavement: float
    edge: float
    front: float
    kerb_height: float
    bay_height: float
    asphalt: Material
    paving: Material
    cobbles: Material
    gravel: Material
    grass: Material
    light: Light

    @classmethod
    def draw(cls, rng: np.random.Generator) -> StreetPlan:
        """A street of its own: widths, heights, materials and light, all from the generator."""
        lane = rng.uniform(3.2, 3.8)
        kerb = lane + rng.uniform(2.1, 2.5)
        pavement = kerb + (rng.uniform(0.9, 1.8) if rng.random() < 0.5 else 0.0)
        edge = pavement + rng.uniform(2.2, 3.4)
        return cls(
            lane=lane,
            kerb=kerb,
            pavement=pavement,
            edge=edge,
            front=edge + rng.uniform(2.5, 5.5),
            kerb_height=rng.uniform(0.015, 0.13),
            bay_height=rng.uniform(0.0, 0.03),
            asphalt=materials.asphalt(rng),
            paving=materials.paving(rng),
            cobbles=materials.cobbles(rng),
            gravel=materials.gravel(rng),
            grass=materials.grass(rng),
            light=Light.draw(rng),
        )
