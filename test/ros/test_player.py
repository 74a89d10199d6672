"""What the demo checks, against a node that does it wrong."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import numpy as np
import pytest
from node_process import HANG

from twodpass_core.data.scans import Scan
from twodpass_ros.errors import NodeError
from twodpass_ros.player import Player

REPOSITORY = Path(__file__).resolve().parents[2]
SCAN = Scan("one", np.random.default_rng(0).normal(size=(500, 4)).astype(np.float32), None)


@contextmanager
def player_of(fault: str) -> Iterator[Player]:
    path = os.pathsep.join(filter(None, [str(REPOSITORY), os.environ.get("PYTHONPATH")]))
    command = [sys.executable, str(Path(__file__).parent / "support/faulty_node.py"), fault]
    process = subprocess.Popen(command, env=os.environ | {"PYTHONPATH": path}, start_new_session=True)
    try:
        with Player(process) as player:
            yield player
    finally:
        process.terminate()  # a node that ends by itself leaves no shared memory behind
        process.wait(HANG)


def test_sound_answers_are_taken_one_after_the_other() -> None:
    with player_of("nothing") as player:
        player.wait_until_active()
        for count in (500, 1, 300):
            answer = player.send(Scan("some", SCAN.points[:count], None))
            assert answer.class_id.tolist() == [9] * count
            assert answer.status.points == count
            assert answer.round_trip_ms > 0.0


def test_the_time_of_an_answer_counts_from_the_first_sending() -> None:
    with player_of("is slow once") as player:
        player.wait_until_active()
        assert player.send(SCAN, resend_after=0.5).round_trip_ms > 500.0


@pytest.mark.parametrize(
    ("fault", "said"),
    [
        ("loses a point", "one: 500 points went in, 499 came out"),
        ("swaps points", "one: the points came out changed"),
        ("dies", "ended with exit code 7 while labelling one"),
    ],
)
def test_wrong_answers_are_told(fault: str, said: str) -> None:
    with player_of(fault) as player:
        player.wait_until_active()
        with pytest.raises(NodeError, match=said):
            player.send(SCAN)


def test_node_that_did_not_start_is_told() -> None:
    reason = "did not start, it is unconfigured: Cannot configure: no weights"
    with player_of("unconfigured") as player, pytest.raises(NodeError, match=reason):
        player.wait_until_active()
