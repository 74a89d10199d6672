"""Transforms between named frames, over time: what /tf and /tf_static say, live or from a bag."""

from __future__ import annotations

from array import array
from bisect import bisect_left, bisect_right
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import numpy.typing as npt

from twodpass_core.errors import ConfigError, TransformError, TransformTimeError
from twodpass_core.geometry.rigid_transform import RigidTransform
from twodpass_core.geometry.trajectory import interpolate
from twodpass_core.message_types import header_stamp_ns
from twodpass_core.wording import shorten

MAX_GAP_NS = 2_000_000_000
"""Between measurements that are farther apart nothing is known, as a vehicle may have turned, unless they are equal."""
_POSE = 7  # numbers of a kept pose: quaternion w, x, y, z, translation


def frame_name(frame: str) -> str:
    """A frame without the slash in front that it has in messages that once were of ROS 1."""
    return frame.removeprefix("/")


class TransformTree:
    """Frames, each hung in a parent by a transform that is static or has been measured at some times.

    Between two measurements a moving transform is interpolated, where they are not more than `MAX_GAP_NS` apart; up to
    `tolerance_ns` beyond them it goes on moving as it did. Of a moving transform the last `history_ns` are kept,
    everything if None (for bags). One thread at a time may use a tree.
    """

    def __init__(self, history_ns: int | None = None, tolerance_ns: int = 0) -> None:
        self.history_ns, self.tolerance_ns = history_ns, tolerance_ns
        self._parents: dict[str, str] = {}
        self._static: dict[str, RigidTransform] = {}
        self._moving: dict[str, _Poses] = {}

    @property
    def frames(self) -> list[str]:
        """All frames, sorted."""
        return sorted({*self._parents, *self._parents.values()})

    def add(self, parent: str, child: str, parent_from_child: RigidTransform, stamp_ns: int | None) -> None:
        """Add a transform measured at a time, or a static one (`stamp_ns` None). As in tf2 the newest parent counts.

        Stamps may come in any order. With a history, one older than that means that time has jumped back: the
        transform starts anew.

        Raises:
            TransformError: a frame without a name, or in itself.
        """
        child = self._hang(parent, child)
        if stamp_ns is None:
            self._moving.pop(child, None)
            self._static[child] = parent_from_child
        else:
            self._static.pop(child, None)
            self._moving.setdefault(child, _Poses()).add(stamp_ns, parent_from_child, self.history_ns)

    def add_recorded(
        self, parent: str, child: str, stamps_ns: npt.NDArray[np.int64], poses: npt.NDArray[np.float64]
    ) -> None:
        """Set a moving transform to all its measurements: (M,) increasing times and (M, 7) parent_from_child, M > 0.

        A pose is a quaternion w, x, y, z and a translation. Raises TransformError as `add`.
        """
        child = self._hang(parent, child)
        self._static.pop(child, None)
        self._moving[child] = _Poses(array("q", stamps_ns.tolist()), array("d", poses.ravel().tolist()))

    def lookup(self, target: str, source: str, stamp_ns: int | None = None) -> RigidTransform:
        """target_from_source at a time; None: the last one at which all transforms between the two are known.

        Raises:
            TransformError: an unknown frame, or no connection; it lists what there is.
            TransformTimeError: a transform between the two is not known at that time.
        """
        up, down = self.ancestry(target), self.ancestry(source)
        common = next((frame for frame in up if frame in down), None)
        if common is None:
            raise TransformError(
                f"no transform from '{source}' to '{target}': the root of '{source}' is '{down[-1]}', that of "
                f"'{target}' '{up[-1]}', and nothing connects the two. There are the frames {shorten(self.frames)}"
            )
        up, down = up[: up.index(common)], down[: down.index(common)]
        if stamp_ns is None:
            stamp_ns = min(
                (self._moving[frame].stamps_ns[-1] for frame in up + down if frame in self._moving), default=0
            )
        return self._climb(up, stamp_ns).inverse() @ self._climb(down, stamp_ns)

    def lookup_across(self, target: str, target_ns: int, source: str, source_ns: int, fixed: str) -> RigidTransform:
        """Eq. 2: target_from_source where each is at its own time, and what is between stands still in `fixed`.

        Raises:
            TransformError, TransformTimeError: as `lookup`.
        """
        return self.lookup(target, fixed, target_ns) @ self.lookup(fixed, source, source_ns)

    def moves(self, frame: str, ancestor: str) -> bool:
        """Whether a moving transform lies between a frame and one that it hangs in, directly or not."""
        chain = self.ancestry(frame)
        ancestor = frame_name(ancestor)
        return ancestor in chain and any(link in self._moving for link in chain[: chain.index(ancestor)])

    def ancestry(self, frame: str) -> list[str]:
        """The frame, its parent, and so on to the root. Raises TransformError for an unknown one, or a circle."""
        frame = frame_name(frame)
        if frame not in self._parents and frame not in self._parents.values():
            raise TransformError(f"there is no frame '{frame}'; there are {shorten(self.frames) or 'none'}")
        chain = [frame]
        while (parent := self._parents.get(chain[-1])) is not None:
            if parent in chain:
                raise TransformError(f"these frames form a cycle: {' in '.join([*chain, parent])}")
            chain.append(parent)
        return chain

    def _hang(self, parent: str, child: str) -> str:
        """Hang a frame in a parent; gives its name. What was known of it in another parent is forgotten."""
        parent, child = frame_name(parent), frame_name(child)
        if not parent or not child or parent == child:
            raise TransformError(f"a transform needs two frames, not '{parent}' and '{child}'")
        if self._parents.get(child) != parent:
            self._moving.pop(child, None)
        self._parents[child] = parent
        return child

    def _climb(self, chain: list[str], stamp_ns: int) -> RigidTransform:
        """From the first frame of a chain to the parent of its last."""
        result = RigidTransform.identity()
        for frame in chain:
            if frame in self._static:
                step = self._static[frame]
            else:
                try:
                    step = self._moving[frame].at(stamp_ns, self.tolerance_ns)
                except ConfigError as error:
                    raise TransformTimeError(f"'{frame}' in '{self._parents[frame]}': {error}") from None
            result = step @ result
        return result


def add_transforms(tree: TransformTree, message: Any, *, static: bool) -> None:
    """Add a tf2_msgs/TFMessage of /tf, or of /tf_static, in the form of any library that has its attributes.

    Raises:
        TransformError: it has invalid transforms, which are named; the others are added.
    """
    invalid = []
    for entry in message.transforms:
        q, t = entry.transform.rotation, entry.transform.translation
        try:
            transform = RigidTransform.from_quaternion((q.w, q.x, q.y, q.z), (t.x, t.y, t.z))
            stamp_ns = None if static else header_stamp_ns(entry.header)
            tree.add(entry.header.frame_id, entry.child_frame_id, transform, stamp_ns)
        except (ConfigError, TransformError) as error:
            invalid.append(f"'{entry.child_frame_id}' in '{entry.header.frame_id}': {error}")
    if invalid:
        raise TransformError(shorten(invalid))


@dataclass
class _Poses:
    """Poses by increasing time, in one block of memory: an hour at 100 Hz takes 23 MB."""

    stamps_ns: array[int] = field(default_factory=lambda: array("q"))
    numbers: array[float] = field(default_factory=lambda: array("d"))

    def add(self, stamp_ns: int, pose: RigidTransform, history_ns: int | None) -> None:
        if history_ns is not None and self.stamps_ns and stamp_ns < self.stamps_ns[-1] - history_ns:
            del self.stamps_ns[:], self.numbers[:]
        position = bisect_left(self.stamps_ns, stamp_ns)
        known = position < len(self.stamps_ns) and self.stamps_ns[position] == stamp_ns
        self.stamps_ns[position : position + known] = array("q", [stamp_ns])
        values = array("d", [*pose.quaternion(), *pose.translation])
        self.numbers[_POSE * position : _POSE * (position + known)] = values
        if history_ns is not None:
            old = bisect_left(self.stamps_ns, self.stamps_ns[-1] - history_ns)
            del self.stamps_ns[:old], self.numbers[: _POSE * old]

    def at(self, stamp_ns: int, tolerance_ns: int) -> RigidTransform:
        """Raises ConfigError outside the span and in gaps, where no measurement is within the tolerance."""
        after = bisect_right(self.stamps_ns, stamp_ns)
        before = after - 1
        if 0 < after < len(self.stamps_ns):
            start, end = self.stamps_ns[before], self.stamps_ns[after]
            if end - start <= MAX_GAP_NS or self._numbers(before) == self._numbers(after):
                return interpolate(self._pose(before), self._pose(after), (stamp_ns - start) / (end - start))
        known = [position for position in (before, after) if 0 <= position < len(self.stamps_ns)]
        nearest = min(known, key=lambda position: abs(self.stamps_ns[position] - stamp_ns))
        if (away_ns := abs(self.stamps_ns[nearest] - stamp_ns)) > tolerance_ns:
            where = "there" if len(known) == 1 else "the nearest measurement"
            raise ConfigError(
                f"known from {self.stamps_ns[0]} to {self.stamps_ns[-1]} ns, not at {stamp_ns} ns, "
                f"{away_ns * 1e-9:.3f} s from {where}"
            )
        return self._beyond(nearest, stamp_ns, tolerance_ns)

    def _beyond(self, end: int, stamp_ns: int, tolerance_ns: int) -> RigidTransform:
        """Extrapolate past the first or last pose.

        It goes on at the mean velocity of the poses within `tolerance_ns` of it, else of the last two.
        """
        if stamp_ns > self.stamps_ns[end]:
            other = min(bisect_left(self.stamps_ns, self.stamps_ns[end] - tolerance_ns), end - 1)
        else:
            other = max(bisect_right(self.stamps_ns, self.stamps_ns[end] + tolerance_ns) - 1, end + 1)
        if not 0 <= other < len(self.stamps_ns):
            return self._pose(end)
        span_ns = self.stamps_ns[end] - self.stamps_ns[other]
        if abs(span_ns) > MAX_GAP_NS:
            return self._pose(end)
        return interpolate(self._pose(other), self._pose(end), (stamp_ns - self.stamps_ns[other]) / span_ns)

    def _numbers(self, position: int) -> array[float]:
        return self.numbers[_POSE * position : _POSE * (position + 1)]

    def _pose(self, position: int) -> RigidTransform:
        values = self._numbers(position)
        return RigidTransform.from_quaternion(values[:4], values[4:])
