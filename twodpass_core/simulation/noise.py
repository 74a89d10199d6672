"""Noise that is a function of place: the same wherever it is looked at from, with nothing to store."""

from __future__ import annotations

import numpy as np


def cell_noise(places: np.ndarray) -> np.ndarray:
    """(M,) in 0..1, constant in each unit cell of places (M, 3), as if drawn at random for it."""
    cell = np.floor(places).astype(np.int64).view(np.uint64)
    mixed = cell[:, 0] * np.uint64(0x9E3779B97F4A7C15) ^ cell[:, 1] * np.uint64(0xC2B2AE3D27D4EB4F)
    mixed ^= cell[:, 2] * np.uint64(0x165667B19E3779F9)
    mixed = (mixed ^ mixed >> np.uint64(29)) * np.uint64(0xBF58476D1CE4E5B9)
    return np.asarray((mixed >> np.uint64(40)).astype(np.float64) / 2**24)


def smooth_noise(places: np.ndarray) -> np.ndarray:
    """(M,) in 0..1, random at the corners of unit cells and blended between."""
    low = np.floor(places)
    share = places - low
    share = share * share * (3 - 2 * share)
    total = np.zeros(len(places))
    for corner in np.ndindex(2, 2, 2):
        weight = np.prod(np.where(corner, share, 1 - share), axis=1)
        total += weight * cell_noise(low + corner)
    return total
