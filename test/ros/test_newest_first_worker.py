"""One item in work, one waiting, the newest wins."""

from __future__ import annotations

import threading
import time

import pytest

from twodpass_ros.segment.newest_first_worker import NewestFirstWorker
from twodpass_ros.segment.work_thread import WorkThread
from twodpass_ros.transport import SequenceGaps

HANG = 30.0


def test_a_newer_item_replaces_the_one_that_waits() -> None:
    begun, go_on, done = threading.Event(), threading.Event(), threading.Event()
    processed: list[int] = []

    def process(item: int) -> None:
        processed.append(item)
        begun.set()
        go_on.wait(HANG)
        if item == 3:
            done.set()

    worker = NewestFirstWorker(process, WorkThread("test"))
    assert not worker.offer(1)
    assert begun.wait(HANG)
    assert not worker.offer(2)
    assert worker.offer(3)
    go_on.set()
    assert done.wait(HANG)
    assert processed == [1, 3]
    assert worker.stop(HANG)


def test_a_stop_drops_what_waits_and_tells_whether_the_work_has_ended() -> None:
    begun, go_on = threading.Event(), threading.Event()
    processed: list[int] = []

    def process(item: int) -> None:
        processed.append(item)
        begun.set()
        go_on.wait(HANG)

    worker = NewestFirstWorker(process, WorkThread("test"))
    worker.offer(1)
    assert begun.wait(HANG)
    worker.offer(2)
    assert not worker.stop(timeout=0.01)
    go_on.set()
    assert worker.stop(HANG)
    assert processed == [1]


def test_gaps_are_counted_for_each_publisher_from_its_first_message_on() -> None:
    gaps = SequenceGaps()
    assert not gaps.numbered
    seen = [("a", 5), ("a", 6), ("b", 1), ("a", 9), ("b", 2), ("a", 3), ("b", 4)]
    counted = [gaps.before({"publication_sequence_number": n, "publisher_gid": {"data": p.encode()}}) for p, n in seen]
    assert counted == [0, 0, 0, 2, 0, 0, 1]
    assert gaps.numbered


def test_messages_that_come_late_are_no_loss_and_those_that_come_twice_are_told() -> None:
    gaps = SequenceGaps()
    seen = [5, 8, 6, 6, 8, 3, 3, 5000, 4999, 7]
    counted = [gaps.before({"publication_sequence_number": n, "publisher_gid": {"data": b"a"}}) for n in seen]
    assert counted == [0, 2, -1, None, None, 0, None, 4991, -1, None]


def test_without_numbers_no_gap_is_made_up() -> None:
    gaps = SequenceGaps()
    assert gaps.before({"publication_sequence_number": None, "publisher_gid": None}) == 0
    assert gaps.before({"publication_sequence_number": 4}) == 0
    assert not gaps.numbered


def test_all_work_is_done_in_one_thread_in_order() -> None:
    thread = WorkThread("test")
    outcomes = [thread.submit(threading.current_thread) for _ in range(3)]
    (used,) = {outcome.result(HANG) for outcome in outcomes}
    assert used is not threading.current_thread()
    assert used.daemon


def test_a_thread_is_busy_from_the_moment_that_it_is_given_work() -> None:
    thread, go_on = WorkThread("test"), threading.Event()
    seen = [thread.is_busy]
    done = [thread.submit(lambda: go_on.wait(HANG)) for _ in range(2)]
    seen.append(thread.is_busy)
    go_on.set()
    assert all(outcome.result(HANG) for outcome in done)
    assert seen == [False, True]
    end = time.monotonic() + HANG
    while thread.is_busy:
        assert time.monotonic() < end


def test_an_error_reaches_the_one_that_waits_and_the_thread_goes_on() -> None:
    thread = WorkThread("test")
    with pytest.raises(ZeroDivisionError):
        thread.submit(lambda: 1 // 0).result(HANG)
    assert thread.submit(lambda: 1).result(HANG) == 1
