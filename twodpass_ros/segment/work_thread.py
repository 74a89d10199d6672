"""The thread for the heavy work, so that the executor's callbacks never wait for it."""

from __future__ import annotations

import threading
from collections.abc import Callable
from concurrent.futures import Future
from queue import Queue
from typing import Any, TypeVar

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
        self._is_over = False
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

    def end(self) -> None:
        """Ends it after all that is queued; its helpers end with it."""

        def make_it_the_last() -> None:
            self._is_over = True

        self.submit(make_it_the_last)

    def run(self) -> None:
        while not self._is_over:
            self._do(*self._queue.get())
            self._queue.task_done()

    def _do(self, outcome: Future[Any], work: Callable[[], Any]) -> None:
        """Of its own, so that nothing of a piece of work is kept while the next is waited for."""
        try:
            outcome.set_result(work())
        except BaseException as error:
            outcome.set_exception(error)
