"""Threads for the heavy work: one beside the executor's callbacks, which never wait for it, one to wait for."""

from __future__ import annotations

import threading
from collections.abc import Callable
from concurrent.futures import Future
from typing import Generic, TypeVar

Item = TypeVar("Item")
Result = TypeVar("Result")


def run_in_own_thread(work: Callable[[], Result], name: str) -> Result:
    """Does `work` in a thread that ends with it; waits, and returns or raises what it does. Signals still interrupt.

    A thread that has computed with OpenMP keeps the threads that helped it. GNU OpenMP counts them, and as soon as
    there are more than processors all of them sleep where they would spin, which slows each parallel loop. So the
    thread that warms up must not live on beside the one that labels scans.
    """
    outcome: Future[Result] = Future()

    def run() -> None:
        try:
            outcome.set_result(work())
        except BaseException as error:
            outcome.set_exception(error)

    thread = threading.Thread(target=run, name=name, daemon=True)
    thread.start()
    thread.join()
    return outcome.result()


class NewestFirstWorker(Generic[Item]):
    """Works on one item at a time and keeps one more waiting: a newer item replaces the one that waits.

    `process` must handle its own errors. The thread is a daemon: not even a hung GPU can keep the program alive.
    """

    def __init__(self, process: Callable[[Item], None], name: str) -> None:
        self._process = process
        self._waiting: Item | None = None
        self._stopping = False
        self._changed = threading.Condition()
        self._thread = threading.Thread(target=self._run, name=name, daemon=True)
        self._thread.start()

    def offer(self, item: Item) -> bool:
        """Hands over an item; returns whether it replaced one that still waited. Never blocks."""
        with self._changed:
            replaced = self._waiting is not None
            self._waiting = item
            self._changed.notify()
        return replaced

    def stop(self, timeout: float) -> bool:
        """Drops what waits, gives the item in work `timeout` seconds; returns whether the thread has ended."""
        with self._changed:
            self._stopping = True
            self._waiting = None
            self._changed.notify()
        self._thread.join(timeout)
        return not self._thread.is_alive()

    def _run(self) -> None:
        while (item := self._take()) is not None:
            self._process(item)

    def _take(self) -> Item | None:
        """The next item, or None when it is time to stop."""
        with self._changed:
            self._changed.wait_for(lambda: self._stopping or self._waiting is not None)
            item, self._waiting = self._waiting, None
            return item
