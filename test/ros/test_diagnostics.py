"""When failures are told, and as what."""

from __future__ import annotations

from twodpass_ros.diagnostics import ERROR, OK, RUN, WARN, Streak


def test_a_run_of_failures_between_two_looks_is_told_though_it_is_over() -> None:
    streak = Streak()
    assert streak.look() == OK
    for _ in range(RUN):
        streak.bad("cut off")
    streak.good()
    streak.bad("cut off")
    streak.good()
    assert streak.look() == ERROR
    assert streak.look() == OK


def test_a_run_of_failures_is_one_however_often_it_is_looked_at() -> None:
    streak, levels = Streak(), []
    for _ in range(RUN):
        streak.bad("cut off")
        levels.append(streak.look())
    assert levels == [WARN] * (RUN - 1) + [ERROR]
    assert streak.look() == ERROR
    streak.good()
    assert streak.look() == OK
