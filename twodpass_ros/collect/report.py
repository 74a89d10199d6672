"""What `collect` says of itself: numbers on ~/status, what is wrong on /diagnostics."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field

from twodpass_core.wording import counted
from twodpass_ros.collect.input import Input
from twodpass_ros.collect.parameters import CollectParameters
from twodpass_ros.collect.sensors import Sensors
from twodpass_ros.collect.sets import CalibrationWatch
from twodpass_ros.diagnostics import ERROR, WARN, Streak
from twodpass_ros.msg import CollectionStatus

POOR_SCORE = 0.65
"""Mean calibration score below which something may be wrong: right ones have over 0.75, but for the sparsest LiDARs."""

_WITHOUT_PLACE = "min_distance cannot be kept: neither odometry nor /tf tells where the vehicle is: all sets are taken"

_ANOTHER_BAG = "one bag cannot tell of both; ~/stop and ~/start begin another"


@dataclass
class RecordingState:
    """Where the recording stands."""

    wanted: bool = False
    bag: str = ""
    """Of this recording, or of the last one."""
    recording: bool = False
    sets: int = 0
    sets_per_second: float = 0.0
    free_bytes: int = 0
    failure: str = ""
    """Why the last one ended by itself, or could not begin."""


def status_message(
    state: RecordingState, sensors: Sensors, watch: CalibrationWatch, dropped: Counter[str]
) -> CollectionStatus:
    """All but the stamp."""
    unpaired, inputs, cameras = sensors.unpaired(), sensors.inputs, list(sensors.cameras)
    status = CollectionStatus(
        recording=state.recording,
        bag=state.bag,
        sets=state.sets,
        sets_per_second=state.sets_per_second,
        disk_free_bytes=state.free_bytes,
        cameras=cameras,
        offset_ms=[1e-6 * sensors.offsets_ns.get(camera, math.nan) for camera in cameras],
        calibration_score=[watch.mean(camera) for camera in cameras],
        topics=[topic.name for topic in inputs],
        received=[topic.received for topic in inputs],
        dropped=[dropped[topic.name] for topic in inputs],
        unpaired=[unpaired[topic.name] for topic in inputs],
    )
    status.header.frame_id = sensors.scans.newest.frame_id if sensors.scans.newest else ""
    return status


@dataclass
class Health:
    """Finds out what is wrong, or was since the last look."""

    sensors: Sensors
    watch: CalibrationWatch
    failures: Streak  # of sets
    _dropped: Counter[str] = field(default_factory=Counter)
    _missing: Counter[str] = field(default_factory=Counter)

    def troubles(
        self,
        state: RecordingState,
        problems: list[str],
        dropped: Counter[str],
        parameters: CollectParameters,
    ) -> list[tuple[bytes, str]]:
        """(level, message), the worst first; empty if all is well."""
        sensors, found = self.sensors, []
        if state.failure:
            found.append((ERROR, state.failure))
        found += [(ERROR, text) for text in _silences(sensors.of_sets, parameters.input_timeout)]
        if state.recording:
            found += [(WARN, text) for text in _silences(sensors.beside_sets, parameters.input_timeout)]
            found += [(WARN, f"{text} since the recording began: {_ANOTHER_BAG}") for text in sensors.upsets()]
            if parameters.min_distance > 0 and not sensors.place_is_known:
                found.append((WARN, _WITHOUT_PLACE))
        found += [(ERROR if state.wanted and not state.recording else WARN, text) for text in problems]
        for streak in (self.failures, *(topic.failures for topic in sensors.inputs)):
            if (level := streak.look()) >= WARN:
                found.append((level, streak.reason))
        for topic in sensors.inputs:
            if topic.is_latched:  # a better message may never come
                topic.failures.good()
        found += [(WARN, text) for text in self._losses(dropped)]
        found += [(WARN, text) for text in _doubts(self.watch, sensors)]
        return sorted(found, key=lambda trouble: trouble[0], reverse=True)

    def _losses(self, dropped: Counter[str]) -> Iterator[str]:
        for topic, count in (dropped - self._dropped).items():
            yield f"{counted(count, 'message')} of {topic} dropped"
        missing = self.sensors.missing()
        for camera, count in (missing - self._missing).items():
            yield f"{counted(count, 'scan')} without an image of {camera} within the slop"
        self._dropped, self._missing = dropped, missing


def _silences(topics: Iterable[Input], timeout: float) -> Iterator[str]:
    """Streams that were there; of those that never came, the problems tell."""
    for topic in topics:
        if (silence := topic.silence()) > timeout:
            yield f"nothing on {topic.name} for {silence:.1f} s{topic.describe_change()}"


def _doubts(watch: CalibrationWatch, sensors: Sensors) -> Iterator[str]:
    if watch.trouble:
        yield watch.trouble
    for name, camera in sensors.cameras.items():
        yield from camera.doubts()
        if watch.is_telling(name) and (score := watch.mean(name)) < POOR_SCORE:
            yield (
                f"{name} may not stand where its calibration says (score {score:.2f}, where 1 is best): look at "
                f"~/overlay/{name}"
            )
