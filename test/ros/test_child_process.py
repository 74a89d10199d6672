"""Processes that help a benchmark end by themselves, so that they give back what they have taken."""

from __future__ import annotations

from multiprocessing.connection import Connection
from pathlib import Path

from twodpass_ros.child_process import helper_process


def answer_until_closed(connection: Connection, note: Path) -> None:
    try:
        while True:
            connection.send(2 * connection.recv())
    except EOFError:
        note.write_text("ended by itself")


def test_a_helper_is_talked_to_and_ends_by_itself_when_left(tmp_path: Path) -> None:
    note = tmp_path / "note"
    with helper_process(answer_until_closed, note) as connection:
        connection.send(21)
        assert connection.recv() == 42
        assert not note.exists()
    assert note.read_text() == "ended by itself"
