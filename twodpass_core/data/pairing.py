"""Scans with the images that belong to them, by time: live streams (SetPairer) and recorded ones (nearest_within).

A set is a scan and one image of every camera, each within the slop. Of all ways to pair the messages that wait, one is
taken that leaves the fewest scans without an image, and of these the one with the smallest sum of offsets: best match,
not first match.
"""

from __future__ import annotations

from bisect import bisect_left, bisect_right, insort
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Generic, TypeVar

import numpy as np
import numpy.typing as npt

from twodpass_core.errors import ConfigError

Item = TypeVar("Item")
SCANS = ""
"""The stream of scans among those of the cameras."""

DISORDER_NS = 1_000_000_000
"""A message older than the newest of its stream by more than this is no late one: the clock has been set back."""


@dataclass(frozen=True)
class PairedImage(Generic[Item]):
    """An image of a set, taken `offset_ns` after its scan (negative: before)."""

    item: Item
    offset_ns: int


@dataclass(frozen=True)
class PairedSet(Generic[Item]):
    """A scan, its time, and an image of each camera."""

    stamp_ns: int
    scan: Item
    images: Mapping[str, PairedImage[Item]]


@dataclass
class StreamCounts:
    """What became of the messages of one stream: received = paired + unpaired + dropped + those still waiting."""

    received: int = 0
    paired: int = 0
    unpaired: int = 0
    """Scans that lacked an image of some camera; images that no scan wanted, as most of a fast camera's."""
    dropped: int = 0
    """Late, of a stamp that was there before, out of room, or from before the clock was set back."""
    missing: int = 0
    """Of a camera: scans that found none of its images within the slop."""
    nearest_ns: int | None = None
    """Of a camera: how far its nearest image was from the last of these scans; None where there was no image at all."""


@dataclass(order=True)
class _Waiting(Generic[Item]):
    stamp_ns: int
    item: Item = field(compare=False)


class SetPairer(Generic[Item]):
    """Forms sets of messages that arrive one by one. Not for several threads at once.

    A scan is decided when every camera has passed it by the slop and the scans have passed it by twice the slop: then
    all that could want the same images is known. If that does not come about before `queue_size` messages of a stream
    wait (a camera is dead or far behind), it is decided by what there is. Messages may come a little out of order.
    Where the clock is set back, as by a bag that starts over, all that waits is dropped, and sets are formed anew.
    Without cameras a scan waits for nothing: each is a set at once, in whatever order.

    Raises:
        ConfigError: a slop below zero, or a queue too short to compare anything in.
    """

    def __init__(self, cameras: Sequence[str], slop_ns: int, queue_size: int) -> None:
        if slop_ns < 0 or queue_size < 2:
            raise ConfigError(f"pairing needs a slop >= 0 ns and a queue >= 2, not {slop_ns} and {queue_size}")
        if SCANS in cameras or len(set(cameras)) != len(cameras):
            raise ConfigError(f"cameras need different names, not empty: {list(cameras)}")
        self._cameras = tuple(cameras)
        self._slop_ns = slop_ns
        self._queue_size = queue_size
        self.restarts = 0
        """How often the clock has been set back."""
        self.counts: Mapping[str, StreamCounts] = {stream: StreamCounts() for stream in (SCANS, *cameras)}
        self._forget()

    def add_scan(self, stamp_ns: int, item: Item) -> list[PairedSet[Item]]:
        """Takes a scan; gives the sets that are decided by it, in the order of their stamps."""
        return self._add(SCANS, stamp_ns, item)

    def add_image(self, camera: str, stamp_ns: int, item: Item) -> list[PairedSet[Item]]:
        """Takes an image of a camera; gives the sets that are decided by it. Raises KeyError for an unknown camera."""
        if camera == SCANS:
            raise KeyError(camera)
        return self._add(camera, stamp_ns, item)

    def flush(self) -> list[PairedSet[Item]]:
        """Decides all that waits, at the end of a recording, and empties the queues."""
        sets = self._decide(until_empty=True)
        for camera in self._cameras:
            self._retire(camera, len(self._waiting[camera]))
        self._forget()
        return sets

    @property
    def dropped(self) -> Mapping[str, int]:
        """Per stream: messages lost by lateness, full queues or a clock set back. Scans are under SCANS."""
        return {stream: counts.dropped for stream, counts in self.counts.items()}

    def _forget(self) -> None:
        self._waiting: dict[str, list[_Waiting[Item]]] = {stream: [] for stream in self.counts}
        self._newest: dict[str, int] = {}
        self._last_decided: int | None = None

    def _add(self, stream: str, stamp_ns: int, item: Item) -> list[PairedSet[Item]]:
        counts = self.counts[stream]
        counts.received += 1
        if stamp_ns < self._newest.get(stream, stamp_ns) - DISORDER_NS:
            self._start_anew()
        if self._is_late(stream, stamp_ns):
            counts.dropped += 1
            return []
        self._newest[stream] = max(stamp_ns, self._newest.get(stream, stamp_ns))
        insort(self._waiting[stream], _Waiting(stamp_ns, item))
        return self._decide()

    def _start_anew(self) -> None:
        self.restarts += 1
        for stream, waiting in self._waiting.items():
            self.counts[stream].dropped += len(waiting)
        self._forget()

    def _is_late(self, stream: str, stamp_ns: int) -> bool:
        """Whether a message is of no use any more. Scans are told apart by stamps: the second of one is of none."""
        decided = self._last_decided
        if stream != SCANS:
            return decided is not None and stamp_ns < decided - self._slop_ns
        scans = self._waiting[SCANS]
        at = bisect_left(scans, stamp_ns, key=_stamp_of)
        twice = at < len(scans) and scans[at].stamp_ns == stamp_ns
        if decided is None or twice:
            return twice
        return stamp_ns <= decided if self._cameras else stamp_ns == decided

    def _decide(self, until_empty: bool = False) -> list[PairedSet[Item]]:
        """Decides the oldest scan as long as that can be done, or must be for want of room."""
        sets = []
        scans = self._waiting[SCANS]
        while scans and (until_empty or self._is_settled(scans[0].stamp_ns) or self._is_full()):
            if (paired := self._pair_oldest()) is not None:
                sets.append(paired)
        for camera in self._cameras:  # without scans to wait for, the newest images stay
            excess = len(self._waiting[camera]) - self._queue_size
            self.counts[camera].dropped += max(0, excess)
            del self._waiting[camera][: max(0, excess)]
        return sets

    def _is_settled(self, scan_ns: int) -> bool:
        if not self._cameras:
            return True
        if self._newest[SCANS] < scan_ns + 2 * self._slop_ns:
            return False
        return all(self._newest.get(camera, scan_ns - 1) >= scan_ns + self._slop_ns for camera in self._cameras)

    def _is_full(self) -> bool:
        return any(len(waiting) > self._queue_size for waiting in self._waiting.values())

    def _pair_oldest(self) -> PairedSet[Item] | None:
        """Takes the oldest scan out, with its images if there is one of every camera."""
        scans = self._waiting[SCANS]
        stamps = [scan.stamp_ns for scan in scans]
        chosen = {}
        for camera in self._cameras:
            images = [image.stamp_ns for image in self._waiting[camera]]
            chosen[camera] = _partner_of_first(stamps, images, self._slop_ns)
            if chosen[camera] is None:
                self.counts[camera].missing += 1
                self.counts[camera].nearest_ns = min((abs(stamp - stamps[0]) for stamp in images), default=None)
        scan = scans.pop(0)
        self._last_decided = scan.stamp_ns
        paired: PairedSet[Item] | None = None
        if None in chosen.values():
            self.counts[SCANS].unpaired += 1
        else:
            self.counts[SCANS].paired += 1
            paired = PairedSet(scan.stamp_ns, scan.item, {c: self._take(c, at, scan) for c, at in chosen.items()})
        for camera in self._cameras:  # no scan to come can want these
            waiting = self._waiting[camera]
            self._retire(camera, bisect_left(waiting, scan.stamp_ns - self._slop_ns, key=_stamp_of))
        return paired

    def _take(self, camera: str, at: int | None, scan: _Waiting[Item]) -> PairedImage[Item]:
        assert at is not None
        image = self._waiting[camera].pop(at)
        self.counts[camera].paired += 1
        return PairedImage(image.item, image.stamp_ns - scan.stamp_ns)

    def _retire(self, camera: str, count: int) -> None:
        self.counts[camera].unpaired += count
        del self._waiting[camera][:count]


def _stamp_of(waiting: _Waiting[Item]) -> int:
    return waiting.stamp_ns


def _partner_of_first(scans: Sequence[int], images: Sequence[int], slop_ns: int) -> int | None:
    """Index of the image for the first scan, None for none, in the best pairing of all; both in increasing order.

    Pairs of the best pairing do not cross, so it is found from the back. Only the images within the slop of a scan are
    looked at: `cost` has one entry for each of them and one for their end, the cost of the scans from that one on with
    the images from there on; `after` is the same of the scan after it, whose images begin at `after_begin`.
    """
    # Those beyond a gap share no image with the first.
    apart = (at for at in range(1, len(scans)) if scans[at] - scans[at - 1] > 2 * slop_ns)
    together = scans[: next(apart, len(scans))]
    unpaired = len(together) * slop_ns + 1  # more than all offsets together
    after_begin, after = len(images), [0]
    for scan in reversed(together):
        begin, end = bisect_left(images, scan - slop_ns), bisect_right(images, scan + slop_ns)
        # An image before those of the next scan is of no use to it, nor to any after it.
        rest = [after[max(at - after_begin, 0)] for at in range(begin, end + 1)]
        cost = [rest[-1] + unpaired] * (end - begin + 1)
        take, skip = [False] * (end - begin), [False] * (end - begin)
        for at in range(end - begin - 1, -1, -1):
            with_image, without = abs(scan - images[begin + at]) + rest[at + 1], rest[at] + unpaired
            take[at] = with_image <= min(cost[at + 1], without)
            skip[at] = not take[at] and cost[at + 1] < without
            cost[at] = min(with_image, cost[at + 1], without)
        after_begin, after = begin, cost
    for at, (is_taken, is_skipped) in enumerate(zip(take, skip, strict=True)):  # the choices of the first scan
        if is_taken:
            return begin + at
        if not is_skipped:
            return None
    return None


def nearest_within(
    stamps_ns: npt.NDArray[np.int64], others_ns: npt.NDArray[np.int64], limit_ns: int
) -> npt.NDArray[np.int64]:
    """For each of (N,) times the index of the nearest of (M,) others, -1 where none is within the limit.

    For recordings, where one image may serve two scans. `others_ns` in any order; of two equally near, the earlier one.
    """
    if not len(others_ns):
        return np.full(len(stamps_ns), -1, np.int64)
    order = np.argsort(others_ns, kind="stable")
    others = others_ns[order]
    after = np.searchsorted(others, stamps_ns).clip(max=len(others) - 1)
    before = (after - 1).clip(min=0)
    is_before = np.abs(stamps_ns - others[before]) <= np.abs(others[after] - stamps_ns)
    nearest = np.where(is_before, before, after)
    within = np.abs(others[nearest] - stamps_ns) <= limit_ns
    return np.where(within, order[nearest], -1).astype(np.int64)
