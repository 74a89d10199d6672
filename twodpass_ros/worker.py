"""The thread for the heavy work, so that the executor's callbacks never wait for it, and what it works on."""

from __future__ import annotations

import threading
from collections.abc import Callable
from concurrent.futures import Future
from concurrent.futures import TimeoutError as FutureTimeoutError  # a builtin only from Python 3.11 on
from queue import Queue
from typing import Any, Generic, TypeVar

Item = TypeVar("Item")
Result = TypeVar("Result")


class WorkThread(threading.Thread):
    """Does one piece of work after the other. A daemon: not even a hung GPU can keep the program alive.

    All that computes with OpenMP belongs in one thread. Each thread that has done so keeps helpers of its own; GNU
    OpenMP counts them, and as soon as there are more than processors all sleep where they would spin, which slows
    every parallel loop. And what one thread has freed of its heap, another one cannot use.
    """

    def __init__(self, name: str) -> None:
        super().__init__(name=name, daemon=True)
        self._queue: Queue[tuple[Future[Any], Callable[[], Any]]] = Queue()
        self.start()

    @property
    def is_busy(self) -> bool:
        """Whether something is in work, or waits to be."""
        return self._queue.unfinished_tasks > 0

    def submit(self, work: Callable[[], Result]) -> Future[Result]:
        """Queues it; the future will hold what it returns or raises."""
        outcome: Future[Result] = Future()
        self._queue.put((outcome, work))
        return outcome

    def run(self) -> None:
        while True:
            self._do(*self._queue.get())
            self._queue.task_done()

    def _do(self, outcome: Future[Any], work: Callable[[], Any]) -> None:
        """Of its own, so that nothing of a piece of work is kept while the next is waited for."""
        try:
            outcome.set_result(work())
        except BaseException as error:
            outcome.set_exception(error)


class NewestFirstWorker(Generic[Item]):
    """Works on one item at a time and keeps one more waiting: a newer item replaces the one that waits.

    `process` must handle its own errors.
    """

    def __init__(self, process: Callable[[Item], None], thread: WorkThread) -> None:
        self._process = process
        self._thread = thread
        self._lock = threading.Lock()
        self._waiting: Item | None = None

    def offer(self, item: Item) -> bool:
        """Hands over an item; returns whether it replaced one that still waited. Never blocks."""
        with self._lock:
            replaced = self._waiting is not None
            self._waiting = item
        if not replaced:
            self._thread.submit(self._process_newest)
        return replaced

    def stop(self, timeout: float) -> bool:
        """Drops what waits, gives the item in work `timeout` seconds; returns whether it has ended."""
        self._take()
        try:
            self._thread.submit(lambda: None).result(timeout)
        except FutureTimeoutError:
            return False
        return True

    def _process_newest(self) -> None:
        if (item := self._take()) is not None:
            self._process(item)

    def _take(self) -> Item | None:
        with self._lock:
            item, self._waiting = self._waiting, None
            return item
