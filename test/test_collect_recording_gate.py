"""The gate: which of the sets that come are recorded."""

from __future__ import annotations

import math
from itertools import pairwise

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from twodpass_core.errors import ConfigError
from twodpass_core.geometry.rigid_transform import RigidTransform
from twodpass_core.recording import (
    Gate,
    GateSettings,
)


def at(x: float) -> RigidTransform:
    return RigidTransform(np.eye(3), np.array([x, 0.0, 0.0]))


def passes(gate: Gate, stamp_ns: int, pose: RigidTransform | None = None) -> bool:
    """Whether a set is admitted; then it is recorded."""
    admitted = gate.admits(stamp_ns, pose)
    if admitted:
        gate.note_recorded(stamp_ns, pose)
    return admitted


def test_a_set_that_was_not_recorded_holds_none_back() -> None:
    gate = Gate(GateSettings(min_distance=10.0))
    assert gate.admits(0, at(0.0))  # but the disk was too slow for it
    assert passes(gate, 1, at(5.0))
    assert not passes(gate, 2, at(9.0))


def test_gate_by_distance() -> None:
    gate = Gate(GateSettings(min_distance=1.0))
    assert [passes(gate, k, at(0.4 * k)) for k in range(7)] == [True, False, False, True, False, False, True]
    assert passes(gate, 8, None)  # not known to be near
    assert not passes(gate, 9, at(2.9))  # 0.5 m from the last that was known


def test_gate_by_time() -> None:
    gate = Gate(GateSettings(min_interval=0.25))
    assert [passes(gate, k * 10**8) for k in range(7)] == [True, False, False, True, False, False, True]


def test_what_is_just_far_enough_is_admitted() -> None:
    """A scan every 100 ms, of which each second is wanted."""
    gate = Gate(GateSettings(min_interval=0.2, min_distance=1.0))
    assert [passes(gate, k * 10**8, at(0.5 * k)) for k in range(5)] == [True, False, True, False, True]


def test_gate_by_number() -> None:
    gate = Gate(GateSettings(every_nth=3))
    assert [passes(gate, k) for k in range(7)] == [True, False, False, True, False, False, True]


def test_gate_after_time_jumped_back() -> None:
    gate = Gate(GateSettings(min_distance=1.0, min_interval=10.0))
    assert [passes(gate, t, at(0)) for t in (10**12, 10**12 + 1, 5, 6)] == [True, False, True, False]


@pytest.mark.parametrize("settings", [GateSettings(every_nth=5), GateSettings(min_interval=0.45)])
def test_sets_a_little_out_of_order_do_not_open_the_gate(settings: GateSettings) -> None:
    gate = Gate(settings)
    stamps = [k ^ 1 for k in range(10)]  # 1 0 3 2 5 4 ...
    assert sum(passes(gate, 10**12 + 10**8 * stamp) for stamp in stamps) == 2


@given(
    st.floats(0, 5),
    st.floats(0, 2),
    st.integers(1, 4),
    st.lists(st.tuples(st.integers(1, 10**9), st.floats(-3, 3)), max_size=40),
)
def test_admitted_sets_keep_their_distance(
    distance: float, interval: float, nth: int, steps: list[tuple[int, float]]
) -> None:
    gate = Gate(GateSettings(distance, interval, nth))
    stamp, x, admitted = 0, 0.0, []
    for number, (wait, move) in enumerate(steps):
        stamp, x = stamp + wait, x + move
        if passes(gate, stamp, at(x)):
            admitted.append((number, stamp, x))
    assert not steps or admitted[0][0] == 0
    for (number_a, stamp_a, x_a), (number_b, stamp_b, x_b) in pairwise(admitted):
        assert number_b % nth == number_a % nth == 0
        assert stamp_b - stamp_a >= round(interval * 1e9)
        assert abs(x_b - x_a) >= distance


@pytest.mark.parametrize(
    "wrong", [{"min_distance": -1.0}, {"min_interval": math.inf}, {"min_distance": math.nan}, {"every_nth": 0}]
)
def test_gate_settings_out_of_range(wrong: dict[str, float]) -> None:
    with pytest.raises(ConfigError, match=next(iter(wrong))):
        GateSettings(**wrong)  # type: ignore[arg-type]
