"""The node while a real network computes: it ends orderly in the midst of it, and keeps up with what it can."""

from __future__ import annotations

import signal
import statistics
import subprocess
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pytest
from builtin_interfaces.msg import Time
from node_process import HANG, NodeProcess, shared_memory
from segment_peer import Peer
from sensor_msgs.msg import PointCloud2
from std_msgs.msg import Header
from tiny_weights import tiny_card, write_tiny_weights

from twodpass_ros.child_process import running_node
from twodpass_ros.conversion import point_cloud2
from twodpass_ros.msg import SegmentationStatus
from twodpass_ros.player import cloud_of

COUNTS = "received", "published", "dropped"


@pytest.fixture(scope="module")
def wide_weights(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A network whose warm-up alone takes a second or more."""
    return write_tiny_weights(tmp_path_factory.mktemp("weights") / "wide.safetensors", tiny_card(width=128))


def street(points: int, number: int = 0) -> PointCloud2:
    rng = np.random.default_rng(number)
    everywhere = rng.uniform([-50, -50, -4, 0], [50, 50, 2, 1], (points, 4)).astype(np.float32)
    return point_cloud2(Header(stamp=Time(sec=number), frame_id="lidar"), cloud_of(everywhere))


@contextmanager
def program(log: Path, **parameters: object) -> Iterator[Program]:
    """The node as a program of its own: children of node_process's server leave out the way in which Python ends."""
    with running_node({"device": "cpu", **parameters}, log) as process:
        yield Program(process, log)


@dataclass(frozen=True)
class Program:
    process: subprocess.Popen[bytes]
    log: Path

    def wait_for_log(self, words: str) -> None:
        end = time.monotonic() + HANG
        while words not in self.log.read_text():
            assert time.monotonic() < end, self.log.read_text()
            time.sleep(0.02)

    def assert_ends_orderly(self, number: signal.Signals) -> None:
        """With exit code 0 in time, and without the 64 MB that a process that aborts leaves in /dev/shm."""
        left = shared_memory(self.process.pid)
        self.process.send_signal(number)
        assert self.process.wait(5.0) == 0, self.log.read_text()
        assert "Traceback" not in self.log.read_text()
        assert not [path for path in left if path.exists()]


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_a_signal_ends_the_node_while_the_network_warms_up(
    number: signal.Signals, wide_weights: Path, tmp_path: Path
) -> None:
    with program(tmp_path / "log", weights=str(wide_weights)) as node:
        node.wait_for_log("Loading")
        time.sleep(0.3)
        assert "Ready" not in node.log.read_text()
        node.assert_ends_orderly(number)


def test_a_signal_ends_the_node_in_a_scan_that_outlasts_its_patience(peer: Peer, weights: Path, tmp_path: Path) -> None:
    with program(tmp_path / "log", weights=str(weights)) as node:
        peer.wait_for_active_node()
        assert peer.set_parameter("votes", 36) == ""
        peer.scans.publish(street(300_000))
        peer.spin(0.5)
        node.assert_ends_orderly(signal.SIGTERM)
        assert "A scan is still in work" in node.log.read_text()


def seconds_in_work(status: SegmentationStatus) -> float:
    """Without those that a scan waited for its turn."""
    return 1e-3 * float(status.decode_ms + status.voxelise_ms + status.network_ms + status.encode_ms)


@pytest.mark.slow
def test_overload_keeps_results_fresh_counts_the_lost_and_needs_no_more_memory(peer: Peer, weights: Path) -> None:
    """Input at three times the rate that the network sustains, for a minute."""
    with NodeProcess.real("-p", f"weights:={weights}", "-p", "device:=cpu") as node:
        peer.wait_for_active_node()
        for number in range(3):
            peer.label(street(100_000, number))
        period = seconds_in_work(peer.statuses[-1]) / 3
        scans = [street(100_000, number) for number in range(5)]
        peer.clear()
        received, published, dropped = (int(peer.value(key)) for key in COUNTS)
        ages: list[float] = []
        sent: dict[int, float] = {}
        memory: list[int] = []

        def take_results() -> None:
            now = time.monotonic()
            ages.extend(now - sent[cloud.header.stamp.sec] for cloud in peer.labelled)
            peer.labelled.clear()

        end = time.monotonic() + HANG
        while time.monotonic() < end:
            number = len(sent) + 1
            message = scans[number % len(scans)]
            message.header.stamp.sec = number
            sent[number] = time.monotonic()
            peer.scans.publish(message)
            next_one = sent[number] + period
            while (left := next_one - time.monotonic()) > 0:
                peer.spin(min(left, 0.01))
                take_results()
            memory.append(node.memory())
        peer.spin(3.0)
        inference = statistics.median(map(seconds_in_work, peer.statuses))
        peer.clear()
        received, published, dropped = (
            int(peer.value(key)) - before for key, before in zip(COUNTS, (received, published, dropped), strict=True)
        )

    assert received == len(sent)
    assert dropped == len(sent) - published
    assert len(sent) / 8 < len(ages) < len(sent) * 0.7
    assert statistics.median(ages) <= 2 * inference + period
    assert memory[-1] - memory[len(memory) // 4] < 50 << 20
