"""The nodes' files in config/ are their tables of parameters, with the defaults; every one is described."""

from __future__ import annotations

import dataclasses
from pathlib import Path
from typing import Any

import pytest
import yaml
from rules import rules_of

from twodpass_ros.collect.parameters import CollectParameters
from twodpass_ros.parameter_table import Rule
from twodpass_ros.segment.parameters import SegmentParameters

CONFIG = Path(__file__).resolve().parents[2] / "config"
TABLES = {"segment": SegmentParameters, "collect": CollectParameters}
DEFAULTS = {
    (node, field.name): (field.default, rules_of(table)[field.name])
    for node, table in TABLES.items()
    for field in dataclasses.fields(table)
}


@pytest.mark.parametrize("node", TABLES)
def test_the_configuration_file_names_every_parameter_with_its_default(node: str) -> None:
    values = yaml.safe_load((CONFIG / f"{node}.yaml").read_text())["/**"]["ros__parameters"]
    defaults = {
        name: list(value) if isinstance(value, tuple) else value
        for name, value in dataclasses.asdict(TABLES[node]()).items()
    }
    assert values == defaults
    assert {name: type(value) for name, value in values.items()} == {n: type(v) for n, v in defaults.items()}


@pytest.mark.parametrize(("default", "rule"), DEFAULTS.values(), ids=map(".".join, DEFAULTS))
def test_every_parameter_is_described_and_takes_its_default(default: Any, rule: Rule) -> None:
    assert rule.description.endswith(".")
    assert rule.accepts(default)
    assert rule.minimum is None or rule.maximum is None or rule.minimum <= default <= rule.maximum
