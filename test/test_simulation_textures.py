"""What simulated things are made of: textures, the colours of grounds, materials."""

from __future__ import annotations

from itertools import combinations

import numpy as np
import pytest

from twodpass_core.simulation import materials
from twodpass_core.simulation.noise import smooth_noise
from twodpass_core.simulation.street import Street
from twodpass_core.simulation.textures import Facade, Mottled, Plain, Planked, Plate, Texture, Tiled


def test_grounds_differ_in_colour_more_than_in_intensity() -> None:
    """What the camera has to teach: over many streets their intensities overlap, their colours do not."""
    places = np.random.default_rng(0).uniform(-20, 20, (2000, 3)) * (1, 1, 0)
    up, pixel = np.tile((0.0, 0.0, 1.0), (2000, 1)), np.full(2000, 0.01)
    plans = [Street(seed).plan for seed in range(30)]
    kinds = {
        name: [getattr(plan, name) for plan in plans] for name in ("asphalt", "paving", "cobbles", "gravel", "grass")
    }
    colours = {
        name: np.array([m.texture.colours(places, up, pixel).mean(axis=0) for m in kind])
        for name, kind in kinds.items()
    }
    intensities = {name: [m.reflectance for m in kind] for name, kind in kinds.items()}
    for one, other in combinations(kinds, 2):
        assert np.linalg.norm(colours[one][:, None] - colours[other], axis=-1).min() > 0.05
        assert max(min(intensities[one]), min(intensities[other])) < min(max(intensities[one]), max(intensities[other]))


@pytest.mark.parametrize(
    "texture",
    [
        Mottled((0.1, 0.2, 0.3), (0.4, 0.5, 0.6)),
        Tiled((0.5, 0.4, 0.3), (0.2, 0.2, 0.2), 0.4, 0.2),
        Planked((0.5, 0.4, 0.3), (0.1, 0.1, 0.1)),
        Facade(Plain((0.8, 0.8, 0.7)), 9.0, 2.5),
        Plate((0.9, 0.9, 0.9), (0.8, 0.1, 0.1), 0.7),
    ],
)
def test_textures_are_colours_of_places(texture: Texture) -> None:
    """In range, with detail up close that blurs from afar, and the same whichever other places are asked for."""
    rng = np.random.default_rng(1)
    places = np.stack([np.full(500, -2.0), rng.uniform(-0.35, 0.35, 500) * 5, rng.uniform(-2, 2, 500)], axis=1)
    normals = np.tile((-1.0, 0.0, 0.0), (500, 1))
    near = texture.colours(places, normals, np.full(500, 0.002))
    far = texture.colours(places, normals, np.full(500, 5.0))
    assert near.shape == (500, 3)
    assert near.min() >= 0.0
    assert near.max() <= 1.0
    assert near.std(axis=0).max() > 0.01
    assert far.std(axis=0).max() <= near.std(axis=0).max() + 1e-9
    assert texture.colours(places[100:200], normals[100:200], np.full(100, 0.002)) == pytest.approx(near[100:200])


def test_noise_has_no_steps() -> None:
    along = np.stack([np.linspace(-3, 3, 6001), np.full(6001, 0.3), np.full(6001, -0.7)], axis=1)
    noise = smooth_noise(along)
    assert np.abs(np.diff(noise)).max() < 0.003
    assert np.ptp(noise) > 0.2


def test_materials_are_drawn_from_the_generator() -> None:
    for make in (materials.asphalt, materials.grass, materials.boards, materials.bark, materials.clothes):
        assert make(np.random.default_rng(3)) == make(np.random.default_rng(3)) != make(np.random.default_rng(4))
