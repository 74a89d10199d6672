"""`collect` over real DDS: what is lost is counted, and nothing is that need not be."""

from __future__ import annotations

import time
from pathlib import Path
from typing import Any

from vehicle import Start, Vehicle, only_bag

from twodpass_core.recording import Manifest
from twodpass_ros.collect import main


def main_with_slow_sets(arguments: list[str]) -> int:
    import twodpass_ros.collect.node as module
    from twodpass_ros.collect.recording import Recording

    class SlowRecording(Recording):
        def write_set(self, *given: Any) -> None:
            time.sleep(0.1)
            super().write_set(*given)

    vars(module).update(Recording=SlowRecording, SETS_WAITING=1)
    return main(arguments)


def test_sets_that_come_faster_than_they_are_looked_at_are_counted(
    start: Start, vehicle: Vehicle, tmp_path: Path
) -> None:
    start(main_with_slow_sets)
    vehicle.wait_for_recording()
    vehicle.drive(range(100_000, 101_000, 100))
    assert vehicle.call_trigger("stop")[0]
    manifest = Manifest.read(only_bag(tmp_path))
    assert manifest.dropped_sets == manifest.dropped["/collect/input/points"] > 0
