"""How `segment` fares: counts, scans that fail in a row, silence, lateness and doubts of the labels."""

from __future__ import annotations

import dataclasses
import threading
import time

from twodpass_ros.diagnostics import ERROR, OK, RUN, WARN, Streak


@dataclasses.dataclass
class Counts:
    """Scans since activation: received = published + dropped + unread + those still in work (two at most)."""

    received: int = 0
    published: int = 0
    dropped: int = 0
    unread: int = 0
    """Not labelled, because nobody read the result."""
    latency: float = 0.0
    """Seconds from receipt to publication, of the newest."""


class Health:
    """What has happened since activation. Its methods may be called from any thread.

    Time is not ROS's, which stands still or jumps back when a bag is played.
    """

    def __init__(self) -> None:
        self._newest_scan = time.monotonic()
        self._in_work_since: float | None = None
        self._counts = Counts()
        self._failures = Streak()
        self._lateness = Streak()
        self._doubt = ""
        self._lock = threading.Lock()

    def counts(self) -> Counts:
        with self._lock:
            return dataclasses.replace(self._counts)

    def scan_received(self) -> None:
        with self._lock:
            self._counts.received += 1
            self._newest_scan = time.monotonic()

    def scan_unread(self) -> None:
        """Nobody reads: what was wrong with scans before is over, as far as anybody can tell."""
        with self._lock:
            self._counts.unread += 1
            self._failures.good()
            self._lateness.good()
            self._doubt = ""

    def scan_replaced(self) -> None:
        """A newer one came before its turn."""
        with self._lock:
            self._counts.dropped += 1

    def scans_lost(self, number: int) -> None:
        """Sent, but lost or replaced before this node took them from the middleware."""
        with self._lock:
            self._counts.received += number
            self._counts.dropped += number

    def work_begun(self) -> None:
        """On a scan; it ends with `scan_failed` or `scan_published`."""
        with self._lock:
            self._in_work_since = time.monotonic()

    def scan_failed(self, reason: str) -> None:
        with self._lock:
            self._in_work_since = None
            self._counts.dropped += 1
            self._failures.bad(reason)

    def scan_published(self, latency: float, late_after: float, doubt: str = "") -> None:
        """A labelled cloud was published `latency` seconds after its scan's receipt; `doubt`: why to mistrust it."""
        with self._lock:
            self._in_work_since = None
            self._counts.published += 1
            self._counts.latency = latency
            self._failures.good()
            if latency > late_after:
                self._lateness.bad(f"a labelled cloud took {latency:.2f} s, more than late_after, {late_after:g} s")
            else:
                self._lateness.good()
            self._doubt = doubt

    def troubles(self, input_timeout: float, late_after: float, source: str) -> list[tuple[bytes, str]]:
        """(level, message) of what is wrong, or was since the last call, the worst first; empty if all is well.

        In seconds: how long no scan may come, and how long one may take. `source` says where scans should come from.
        """
        with self._lock:
            now = time.monotonic()
            silence = now - self._newest_scan
            work = now - (self._in_work_since or now)
            if silence > input_timeout:  # that is all there is to say: the rest is of scans long gone
                return [(ERROR, f"no scan for {silence:.1f} s: {source}")]
            hang = ERROR if work > RUN * late_after else WARN if work > late_after else OK
            found = [
                (hang, f"a scan has been in work for {work:.1f} s"),
                (self._failures.look(), f"scan dropped: {self._failures.reason}"),
                (self._lateness.look(), self._lateness.reason),
                (WARN if self._doubt else OK, self._doubt),
            ]
        return sorted((trouble for trouble in found if trouble[0] != OK), key=lambda trouble: trouble[0], reverse=True)
