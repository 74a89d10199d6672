"""kill -9 at any moment: all that had been written is readable, and it is told how many sets are lost."""

from __future__ import annotations

import random
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

import pytest
import recording_data as data
from recorded_bags import assert_readable, set_messages

from twodpass_core.recording import BagWriter, Calibration, Manifest, WriterSettings
from twodpass_core.recording.recovery import recover


def kill_while_recording(bag: Path, moment: Callable[[int, int], bool]) -> tuple[int, int]:
    """Record in another process and kill it. Returns the sets that were accepted, and those written, for certain."""
    with subprocess.Popen(
        [sys.executable, str(Path(data.__file__)), str(bag)], stdout=subprocess.PIPE, text=True
    ) as process:
        assert process.stdout is not None
        lines = []
        for line in process.stdout:
            lines.append(line)
            accepted, written = map(int, line.split())
            if moment(accepted, written):
                break
        process.send_signal(signal.SIGKILL)
        lines += process.stdout.readlines()
    whole = [line for line in lines if line.endswith("\n")]
    accepted, written = map(int, whole[-1].split())
    return accepted, written


def assert_recovered_after_kill(bag: Path, accepted: int, written: int) -> None:
    assert not Manifest.read(bag).complete
    report = recover(bag)
    assert_readable(bag)
    manifest = Manifest.read(bag)
    kept = len(manifest.sets)
    assert report.sets is not None
    assert report.lost_sets is not None
    assert report.sets == kept >= written  # what was said to be on the disk is there
    assert accepted <= kept + report.lost_sets <= accepted + 1  # one may be accepted and not yet said to be
    assert [s.stamp_ns for s in manifest.sets] == [data.stamp(index) for index in range(kept)]  # without a gap
    assert report.lost_bytes <= 2 * 60_000  # never more than the chunk that was being written
    stored = [m for path in data.files_of(bag) for m in data.read_mcap(path)]
    by_topic = {name: [raw for topic, _, raw in stored if topic == name] for name in ("/points", "/front/image")}
    for index in range(kept):  # whole, to the byte
        assert [by_topic["/points"][index], by_topic["/front/image"][index]] == [m[2] for m in set_messages(index)]
    assert manifest.complete
    assert manifest.error is not None
    assert "was cut off" in manifest.error
    assert sorted(p.name for p in bag.iterdir() if p.suffix not in (".mcap", ".damaged")) == [
        "manifest.json",
        "metadata.yaml",
    ]


def test_kill_while_recording(tmp_path: Path) -> None:
    bag = tmp_path / "drive"
    accepted, written = kill_while_recording(bag, lambda _, written: written >= 40)
    assert_recovered_after_kill(bag, accepted, written)


@pytest.mark.slow
@pytest.mark.parametrize("seed", range(20))
def test_kill_at_a_random_moment(tmp_path: Path, seed: int) -> None:
    until = time.monotonic() + 2 + random.Random(seed).uniform(0, 2)
    bag = tmp_path / "drive"
    accepted, written = kill_while_recording(bag, lambda accepted, _: accepted > 0 and time.monotonic() > until)
    assert_recovered_after_kill(bag, accepted, written)


def test_the_calibration_survives_a_kill(tmp_path: Path) -> None:
    bag = tmp_path / "drive"
    writer = BagWriter(bag, WriterSettings(chunk_bytes=1, **data.NO_LIMIT))
    calibration = Calibration(lidar_topic="/points", lidar_frame="lidar", cameras={})
    writer.record_calibration(calibration)
    writer.write_set(data.make_set(0))
    while writer.sets == 0:
        time.sleep(0.01)
    copy = shutil.copytree(bag, tmp_path / "copy")  # what a kill would leave
    writer.close()
    report = recover(copy)
    assert (report.sets, report.lost_sets) == (1, 0)
    assert Manifest.read(copy).calibration == calibration
