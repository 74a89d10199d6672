"""Settings that say where frames come from."""

from __future__ import annotations

import pytest
from pydantic import ValidationError

from twodpass_core.data.source import SourceConfig


@pytest.mark.parametrize(
    ("kind", "setting", "value", "empty"),
    [
        ("nuscenes", "sequences", ["00"], "null"),
        ("nuscenes", "bag", {"intensity_scale": 0.1}, "{}"),
        ("nuscenes", "simulation", {"streets": 3}, "{}"),
        ("simulation", "root", "streets", "data/semantickitti"),
        ("kitti_raw", "split", "val", "train"),
    ],
)
def test_a_setting_for_another_kind_of_data_is_refused(kind: str, setting: str, value: object, empty: str) -> None:
    with pytest.raises(
        ValidationError, match=f"{setting} is for .*, not for {kind}: leave it out, or set it to {empty} "
    ):
        SourceConfig.model_validate({"kind": kind, setting: value})
    default = SourceConfig.model_validate({"kind": kind}).model_dump()
    assert SourceConfig.model_validate(default).kind == kind
