"""Random weights that say so."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from twodpass_core.benchmark.untrained import write_untrained_weights
from twodpass_core.models.student import StudentConfig
from twodpass_core.segmenter import Segmenter
from twodpass_core.simulation import STREET_SEED, simulate_scans
from twodpass_core.weights import load_weights


def test_scales_at_which_all_points_share_a_voxel_have_random_weights_too(tmp_path: Path) -> None:
    write_untrained_weights(tmp_path / "a.safetensors", StudentConfig(width=4, scales=(2048,)))
    card, _ = load_weights(tmp_path / "a.safetensors")
    assert card.architecture.scales == (2048,)


@pytest.mark.slow
def test_random_weights_are_the_same_every_time_and_tell_points_apart(tmp_path: Path) -> None:
    write_untrained_weights(tmp_path / "a.safetensors", StudentConfig())
    write_untrained_weights(tmp_path / "b.safetensors", StudentConfig())
    first, second = (Segmenter.from_weights(tmp_path / f"{name}.safetensors", device="cpu") for name in "ab")
    assert not first.card.trained
    (scan,) = simulate_scans(1, STREET_SEED)
    labels = first.segment(scan.points).class_id
    assert np.array_equal(labels, second.segment(scan.points).class_id)
    assert len(np.unique(labels)) > 10
