"""Work on everything in order, in a thread, from a queue that does not grow beyond a length: `collect` and its sets."""

from __future__ import annotations

import queue
import threading
from collections.abc import Callable
from typing import Generic, TypeVar

Item = TypeVar("Item")


class InOrderWorker(Generic[Item]):
    """Hands items to `process`, one after the other. `process` must handle its own errors."""

    def __init__(self, process: Callable[[Item], None], length: int, name: str) -> None:
        self._process = process
        self._queue: queue.Queue[Item | None] = queue.Queue(length)
        self._thread = threading.Thread(target=self._run, name=name, daemon=True)
        self._thread.start()

    def offer(self, item: Item) -> bool:
        """Queues an item; False: there is no room for it. Never blocks."""
        try:
            self._queue.put_nowait(item)
        except queue.Full:
            return False
        return True

    @property
    def is_behind(self) -> bool:
        """Whether more items wait."""
        return not self._queue.empty()

    def drain(self) -> None:
        """Returns when all that was queued is done."""
        self._queue.join()

    def stop(self) -> None:
        """Does what is queued, and ends the thread."""
        self._queue.put(None)
        self._thread.join()

    def _run(self) -> None:
        while (item := self._queue.get()) is not None:
            self._process(item)
            self._queue.task_done()
