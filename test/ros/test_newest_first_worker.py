"""One item in work, one waiting, the newest wins."""

from __future__ import annotations

import threading
import time

import pytest

from twodpass_ros.segment.newest_first_worker import NewestFirstWorker
from twodpass_ros.segment.work_thread import WorkThread

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
