"""config/segment.yaml is the table of parameters, with its defaults."""

from __future__ import annotations

import dataclasses
from pathlib import Path

import pytest
import yaml

from twodpass_ros.parameter_table import rules_of
from twodpass_ros.segment_parameters import SegmentParameters

CONFIG = Path(__file__).resolve().parents[2] / "config/segment.yaml"
RULES = rules_of(SegmentParameters)


def test_the_configuration_file_names_every_parameter_with_its_default() -> None:
    values = yaml.safe_load(CONFIG.read_text())["/**"]["ros__parameters"]
    defaults = {
        name: list(value) if isinstance(value, tuple) else value
        for name, value in dataclasses.asdict(SegmentParameters()).items()
    }
    assert values == defaults
    assert {name: type(value) for name, value in values.items()} == {n: type(v) for n, v in defaults.items()}


@pytest.mark.parametrize("name", RULES)
def test_every_parameter_is_described_and_takes_its_default(name: str) -> None:
    rule, default = RULES[name], getattr(SegmentParameters(), name)
    assert rule.description.endswith(".")
    assert rule.accepts(default)
    assert rule.minimum is None or rule.maximum is None or rule.minimum <= default <= rule.maximum
