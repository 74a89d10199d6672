"""What surfaces look like: colour as a function of place, so that nothing has to be stored and nothing swims.

Places (metres) and normals are in the axes of the solid (Shape.local, Shape.normals); colours are RGB, 0..1.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Protocol

import numpy as np

from twodpass_core.simulation.noise import cell_noise, smooth_noise

Colour = tuple[float, float, float]


class Texture(Protocol):
    """A colour for every place of a surface."""

    def colours(self, places: np.ndarray, normals: np.ndarray, pixel: np.ndarray) -> np.ndarray:
        """(M, 3) colours at `places` (M, 3) with `normals` (M, 3); `pixel` (M,) is how many metres a pixel covers
        there: what is smaller than that is blurred."""
        ...


@dataclass(frozen=True)
class Mottled:
    """Two colours mixed by noise with grains of `grain` metres and blotches eight times as large; `stretch` makes the
    grains longer along the vertical."""

    colour: Colour
    other: Colour
    grain: float = 0.1
    stretch: float = 1.0

    def colours(self, places: np.ndarray, normals: np.ndarray, pixel: np.ndarray) -> np.ndarray:
        place = places / (self.grain * np.array([1.0, 1.0, self.stretch]))
        blotches = smooth_noise(place / 8) - 0.5
        grains = (cell_noise(place) - 0.5) * sharpness(self.grain, pixel)
        return blend(self.colour, self.other, 0.5 + 0.6 * blotches + 0.5 * grains)


@dataclass(frozen=True)
class Plain:
    """One colour."""

    colour: Colour

    def colours(self, places: np.ndarray, normals: np.ndarray, pixel: np.ndarray) -> np.ndarray:
        return np.tile(self.colour, (len(places), 1))


@dataclass(frozen=True)
class Tiled:
    """Tiles or bricks of `length` by `width` metres, every other row shifted by half, with joints between."""

    colour: Colour
    joint: Colour
    length: float
    width: float
    variation: float = 0.15

    def colours(self, places: np.ndarray, normals: np.ndarray, pixel: np.ndarray) -> np.ndarray:
        across, up = unroll(places, normals)
        row = np.floor(up / self.width)
        tile = across / self.length + row / 2
        gap = np.minimum(part_of_cell(tile) * self.length, part_of_cell(up / self.width) * self.width)
        sharp = sharpness(self.width, pixel)
        shade = cell_noise(np.stack([tile, row, np.zeros_like(row)], axis=1)) - 0.5
        tiles = np.asarray(self.colour) * (1 + self.variation * (shade * sharp)[:, None])
        return blend(tiles, self.joint, np.where(gap < 0.04 * self.width + 0.006, sharp, 0.08))


@dataclass(frozen=True)
class Planked:
    """Upright boards of `width` metres with gaps of another colour, and a rail."""

    colour: Colour
    gap: Colour
    width: float = 0.14

    def colours(self, places: np.ndarray, normals: np.ndarray, pixel: np.ndarray) -> np.ndarray:
        across, up = unroll(places, normals)
        board = across / self.width
        shade = cell_noise(np.stack([board, np.zeros_like(board), np.zeros_like(board)], axis=1)) - 0.5
        sharp = sharpness(self.width, pixel)
        boards = np.asarray(self.colour) * (1 + 0.3 * (shade * sharp)[:, None])
        rail = np.abs(up) < 0.05
        return blend(boards, self.gap, np.where((part_of_cell(board) < 0.16) & ~rail, sharp, 0.2))


@dataclass(frozen=True)
class Facade:
    """A wall with rows of windows; `places` count from the middle of a house of `height` metres."""

    wall: Texture
    height: float
    spacing: float
    storey: float = 2.9
    glass: Colour = (0.2, 0.25, 0.31)
    frame: Colour = (0.88, 0.87, 0.83)

    def colours(self, places: np.ndarray, normals: np.ndarray, pixel: np.ndarray) -> np.ndarray:
        across, up = unroll(places, normals)
        up = up + self.height / 2
        column, row = across / self.spacing, up / self.storey
        sideways = np.abs(column - np.floor(column) - 0.5) * self.spacing
        upward = np.abs(row - np.floor(row) - 0.55) * self.storey
        outside = np.maximum(sideways - 0.5, upward - 0.65)
        has_windows = (np.abs(normals[:, 2]) < 0.5) & (np.floor(row) < np.floor(self.height / self.storey))
        colours = self.wall.colours(places, normals, pixel)
        colours[has_windows & (outside < 0.1)] = self.frame
        reflection = cell_noise(np.floor(np.stack([column, row, np.zeros_like(row)], axis=1))) * 0.3
        window = has_windows & (outside < 0.0)
        colours[window] = np.asarray(self.glass) + (reflection * (0.4 + 0.6 * part_of_cell(row)))[window, None]
        colours[(up < 0.45) & (np.abs(normals[:, 2]) < 0.5)] *= 0.7
        return colours


@dataclass(frozen=True)
class Banded:
    """A colour with a band of another between two heights (metres, from the solid's centre): windows of a vehicle.

    Posts of the first colour divide the band every `spacing` metres.
    """

    colour: Colour
    band: Colour
    low: float
    high: float
    spacing: float = 1.1

    def colours(self, places: np.ndarray, normals: np.ndarray, pixel: np.ndarray) -> np.ndarray:
        across, up = unroll(places, normals)
        posts = part_of_cell(across / self.spacing + 0.5) * self.spacing < 0.05
        banded = (up > self.low) & (up < self.high) & ~posts & (normals[:, 2] < 0.9)
        return np.where(banded[:, None], self.band, self.colour)


@dataclass(frozen=True)
class Plate:
    """A square sign of `size` metres with a rim, grey from behind (it is seen from smaller x)."""

    colour: Colour
    rim: Colour
    size: float

    def colours(self, places: np.ndarray, normals: np.ndarray, pixel: np.ndarray) -> np.ndarray:
        at_rim = np.abs(places[:, 1:]).max(axis=1) > 0.36 * self.size
        faces = np.where(at_rim[:, None], self.rim, self.colour)
        return np.where((normals[:, 0] < 0)[:, None], faces, (0.45, 0.46, 0.47))


def unroll(places: np.ndarray, normals: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Coordinates (M,) on a surface: x and y where it faces up, else along it and height."""
    flat = np.abs(normals[:, 2]) > 0.9
    facing_x = np.abs(normals[:, 0]) > np.abs(normals[:, 1])
    across = np.where(~flat & facing_x, places[:, 1], places[:, 0])
    return across, np.where(flat, places[:, 1], places[:, 2])


def part_of_cell(values: np.ndarray) -> np.ndarray:
    """How far values are from the nearest integer: 0 at cell borders, 0.5 in the middle."""
    return np.asarray(np.abs(values - np.round(values)))


def sharpness(size: float, pixel: np.ndarray) -> np.ndarray:
    """1 where details of `size` metres are larger than a pixel, falling to 0 where they are much smaller."""
    return np.asarray(1 / (1 + (2 * pixel / size) ** 2))


def blend(one: Colour | np.ndarray, other: Colour | np.ndarray, share: np.ndarray) -> np.ndarray:
    """(M, 3): `one` where share (M,) is 0, `other` where it is 1."""
    share = np.clip(share, 0.0, 1.0)[:, None]
    return np.asarray(np.asarray(one) * (1 - share) + np.asarray(other) * share)
