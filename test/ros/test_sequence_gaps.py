"""Losses on the way of a message, as its number tells of them."""

from __future__ import annotations

import pytest

from twodpass_ros.sequence_gaps import PUBLISHERS, SequenceGaps


def test_gaps_are_counted_for_each_publisher_from_its_first_message_on() -> None:
    gaps = SequenceGaps(lambda: False)
    assert not gaps.numbered
    seen = [("a", 5), ("a", 6), ("b", 1), ("a", 9), ("b", 2), ("a", 3), ("b", 4)]
    counted = [gaps.before({"publication_sequence_number": n, "publisher_gid": {"data": p.encode()}}) for p, n in seen]
    assert counted == [0, 0, 0, 2, 0, 0, 1]
    assert gaps.numbered


def test_messages_that_come_late_are_no_loss_and_those_that_come_twice_are_told() -> None:
    gaps = SequenceGaps(lambda: False)
    seen = [5, 8, 6, 6, 8, 3, 3, 5000, 4999, 7]
    counted = [gaps.before({"publication_sequence_number": n, "publisher_gid": {"data": b"a"}}) for n in seen]
    assert counted == [0, 2, -1, None, None, 0, None, 4991, -1, None]


def test_of_many_publishers_those_heard_last_are_known() -> None:
    gaps = SequenceGaps(lambda: False)
    often, never_again = b"often", b"never again"

    def before(publisher: bytes, number: int) -> int | None:
        return gaps.before({"publication_sequence_number": number, "publisher_gid": {"data": publisher}})

    assert [before(never_again, 1), before(often, 1)] == [0, 0]
    for other in range(PUBLISHERS):
        before(str(other).encode(), 1)
        assert before(often, 3 + 2 * other) == 1
    assert before(never_again, 9) == 0  # as of one that is new


def test_without_numbers_no_gap_is_made_up() -> None:
    gaps = SequenceGaps(lambda: False)
    assert gaps.before({"publication_sequence_number": None, "publisher_gid": None}) == 0
    assert not gaps.tells_of_losses


@pytest.mark.parametrize("alone", [True, False])
def test_numbers_without_a_name_count_where_there_is_one_publisher(alone: bool) -> None:
    """As on Jazzy. At 1 the publisher has been started anew; no message is taken for one that has come before."""
    gaps = SequenceGaps(lambda: alone)
    seen = [5, 8, 7, 9, 1, 2, 4, 10, 10]
    counted = [gaps.before({"publication_sequence_number": number}) for number in seen]
    assert counted == ([0, 2, -1, 0, 0, 0, 0, 0, 0] if alone else [0] * len(seen))
    assert gaps.tells_of_losses == alone
    assert not gaps.numbered
