"""Which sets are worth recording: not too near, in space or in time, to the last one."""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np

from twodpass_core.data.pairing import DISORDER_NS
from twodpass_core.errors import ConfigError
from twodpass_core.geometry.rigid_transform import RigidTransform


@dataclass(frozen=True)
class GateSettings:
    """All conditions that are given have to hold. Raises ConfigError for settings out of range."""

    min_distance: float = 0.0  # metres driven since the last set
    min_interval: float = 0.0  # seconds since the last set
    every_nth: int = 1  # of the sets that arrive

    def __post_init__(self) -> None:
        for name in ("min_distance", "min_interval"):
            value = getattr(self, name)
            if not (math.isfinite(value) and value >= 0):
                raise ConfigError(f"{name} must be a number from 0 on, not {value}")
        if self.every_nth < 1:
            raise ConfigError(f"every_nth must be 1 or more, not {self.every_nth}")


class Gate:
    """Admits sets. A set without a pose is not held back for its distance.

    Sets may come a little out of order; time that jumps back by more than that starts anew.
    """

    def __init__(self, settings: GateSettings) -> None:
        self._settings = settings
        self._arrived = 0
        self._newest_ns: int | None = None
        self._recorded_ns: int | None = None
        self._recorded_pose: RigidTransform | None = None

    def admits(self, stamp_ns: int, world_from_vehicle: RigidTransform | None) -> bool:
        """Whether to record the set of this time and pose."""
        if self._newest_ns is not None and stamp_ns < self._newest_ns - DISORDER_NS:
            self._arrived, self._newest_ns, self._recorded_ns, self._recorded_pose = 0, None, None, None
        self._newest_ns = max(stamp_ns, self._newest_ns or stamp_ns)
        is_nth = self._arrived % self._settings.every_nth == 0
        self._arrived += 1
        return is_nth and self._is_later(stamp_ns) and self._is_farther(world_from_vehicle)

    def note_recorded(self, stamp_ns: int, world_from_vehicle: RigidTransform | None) -> None:
        """That it was recorded: others have to be far enough from it."""
        self._recorded_ns = stamp_ns
        self._recorded_pose = world_from_vehicle or self._recorded_pose

    def _is_later(self, stamp_ns: int) -> bool:
        return self._recorded_ns is None or stamp_ns - self._recorded_ns >= round(self._settings.min_interval * 1e9)

    def _is_farther(self, pose: RigidTransform | None) -> bool:
        if self._settings.min_distance == 0 or pose is None or self._recorded_pose is None:
            return True
        distance = np.linalg.norm(pose.translation - self._recorded_pose.translation)
        return bool(distance >= self._settings.min_distance)
