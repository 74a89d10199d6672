"""Work on the newest item only: what `segment` does with scans."""

from __future__ import annotations

import threading
from collections.abc import Callable
from concurrent.futures import TimeoutError as FutureTimeoutError  # a builtin only from Python 3.11 on
from typing import Generic, TypeVar

from twodpass_ros.segment.work_thread import WorkThread

Item = TypeVar("Item")


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
