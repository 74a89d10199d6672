"""The weights that come with twodpass, on streets that they were not trained on."""

from __future__ import annotations

from pathlib import Path

import pytest
from typer.testing import CliRunner

from twodpass_core.cli import app
from twodpass_core.data.simulated import SimulatedStreets, SimulationConfig
from twodpass_core.pretrained import default_weights, weights_file
from twodpass_core.segmenter import Segmenter
from twodpass_core.weights import read_card


@pytest.fixture(scope="module")
def streets() -> SimulatedStreets:
    return SimulatedStreets("test", SimulationConfig(streets=4, frames=1), cameras=())


def test_they_are_small_trained_and_free_to_use() -> None:
    card = read_card(default_weights())
    assert card.trained
    assert "2DPASS" in card.origin
    assert "Simulat" in card.origin
    assert card.licence == "Apache-2.0"
    assert default_weights().stat().st_size < 5e6


def test_they_are_meant_by_a_word_unless_a_file_is_called_so(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    assert weights_file(None) == weights_file(Path("default")) == default_weights()
    shown = CliRunner().invoke(app, ["info", "default", "--json"])
    assert read_card(default_weights()).origin in shown.output
    Path("default").mkdir()
    assert weights_file(Path("default")) == default_weights()
    Path("default").rmdir()
    Path("default").touch()
    assert weights_file(Path("default")) == Path("default")
    assert weights_file(Path("own.safetensors")) == Path("own.safetensors")


def test_they_know_streets_they_have_not_seen_and_bf16_says_what_fp32_says(streets: SimulatedStreets) -> None:
    exact = Segmenter.from_weights(default_weights(), "cpu")
    rounded = Segmenter.from_weights(default_weights(), "cpu", "bf16")
    right = same = points = 0
    for index in range(len(streets)):
        frame = streets[index]
        assert frame.labels is not None
        class_id = exact.segment(frame.points).class_id
        answered = class_id != 255
        right += int((class_id == frame.labels)[answered].sum())
        same += int((class_id == rounded.segment(frame.points).class_id)[answered].sum())
        points += int(answered.sum())
    assert right / points > 0.75
    assert same / points > 0.998  # 0.9990 on 50 frames
