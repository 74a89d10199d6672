"""The node with a real, small, untrained network: what it publishes is what the Segmenter says."""

from __future__ import annotations

from array import array
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
from clouds import records
from lifecycle_msgs.msg import Transition
from node_process import NodeProcess
from rclpy.qos import QoSProfile
from rosgraph_msgs.msg import Clock
from segment_peer import UNCONFIGURED, Peer
from sensor_msgs.msg import PointCloud2

from twodpass_core.cloud import make_cloud
from twodpass_core.segmenter import Segmenter
from twodpass_core.sensor import SensorMounting
from twodpass_ros.conversion import point_cloud2

MEBIBYTE = 1 << 20


@pytest.fixture(scope="module")
def node(weights: Path) -> Iterator[NodeProcess]:
    """Time comes from /clock, intensity is 0..255."""
    arguments = ("-p", f"weights:={weights}", "-p", "use_sim_time:=true", "-p", "intensity_scale:=0.00392156862745098")
    with NodeProcess.real("-p", "device:=cpu", *arguments) as process:
        yield process


def made_up_scan(seed: int, points: int = 3000) -> PointCloud2:
    rng = np.random.default_rng(seed)
    xyz = rng.normal(0.0, [20.0, 20.0, 1.0], size=(points, 3)).astype(np.float32)
    xyz[::50] = 0.0  # no return
    xyz[7::50] = np.nan
    intensity = rng.integers(0, 256, points).astype(np.uint8)
    cloud = make_cloud({"x": xyz[:, 0], "y": xyz[:, 1], "z": xyz[:, 2], "intensity": intensity})
    message = point_cloud2(PointCloud2().header, cloud)
    message.header.frame_id = "lidar"
    message.header.stamp.sec = seed
    return message


def test_labels_are_those_of_the_segmenter(node: NodeProcess, peer: Peer, weights: Path) -> None:
    peer.wait_for_active_node()
    sent = made_up_scan(1)
    column = records(peer.label(sent), ("x", "y", "z", "intensity", "class_id", "probability"))

    points = np.stack([column[name].astype(np.float32) for name in ("x", "y", "z", "intensity")], axis=1)
    expected = Segmenter.from_weights(weights, "cpu").segment(
        SensorMounting(intensity_scale=1 / 255).to_training(points)
    )
    np.testing.assert_array_equal(column["class_id"], expected.class_id)
    np.testing.assert_allclose(column["probability"], expected.probability, atol=1e-6)
    assert 100 < (column["class_id"] != 255).sum() < len(points)
    assert "UNTRAINED" in node.log()


def test_what_the_core_logs_is_said_by_the_node_in_its_namespace(weights: Path) -> None:
    with NodeProcess.real("-r", "__ns:=/front", "-p", "device:=cpu", "-p", f"weights:={weights}") as node:
        node.wait_for_log("Ready on cpu")
        assert "[front.segment]: sparse backend torch" in node.log()


def test_threads_of_the_processor_are_those_asked_for(weights: Path) -> None:
    counts = []
    for threads in (1, 9):
        with NodeProcess.real("-p", "device:=cpu", "-p", f"weights:={weights}", "-p", f"threads:={threads}") as node:
            node.wait_for_log("Ready on cpu")
            counts.append(node.threads())
    assert counts[1] - counts[0] >= 8  # those that help the first; torch has a pool for other things, too


def test_a_deactivated_node_gives_back_what_its_scans_needed(node: NodeProcess, peer: Peer) -> None:
    peer.wait_for_active_node()
    peer.label(made_up_scan(1, points=60_000))
    before = node.memory()
    assert peer.change_state(Transition.TRANSITION_DEACTIVATE)
    assert node.memory() < before - 20 * MEBIBYTE
    assert peer.change_state(Transition.TRANSITION_ACTIVATE)


def test_a_looped_bag_gives_the_same_the_second_time(node: NodeProcess, peer: Peer) -> None:
    """Stamps and /clock jump back to the start, as `ros2 bag play --loop --clock` does."""
    clock = peer.node.create_publisher(Clock, "/clock", QoSProfile(depth=10))
    peer.wait_for_active_node()
    passes: list[list[array[int]]] = []
    for _ in range(2):
        labelled = []
        for second in range(1, 6):
            tick = Clock()
            tick.clock.sec = second
            clock.publish(tick)
            cloud = peer.label(made_up_scan(second))
            assert cloud.header.stamp.sec == second
            labelled.append(cloud.data)
        passes.append(labelled)
    assert passes[0] == passes[1]


@pytest.mark.slow
def test_twenty_lives_need_no_more_memory_than_three(node: NodeProcess, peer: Peer) -> None:
    peer.wait_for_active_node()
    memory: list[int] = []
    for _ in range(20):
        assert peer.change_state(Transition.TRANSITION_DEACTIVATE)
        assert peer.change_state(Transition.TRANSITION_CLEANUP)
        assert peer.state() == UNCONFIGURED
        assert peer.change_state(Transition.TRANSITION_CONFIGURE)
        assert peer.change_state(Transition.TRANSITION_ACTIVATE)
        while peer.scans.get_subscription_count() != 1:
            peer.spin(0.02)
        peer.label(made_up_scan(1))
        memory.append(node.memory())
    # The least of some: what a scan leaves in the heap for the moment differs from life to life by some megabytes.
    assert min(memory[-5:]) - min(memory[:5]) < 10 * MEBIBYTE, memory


def test_weights_may_be_named_from_the_home_folder() -> None:
    with NodeProcess.real("-p", "weights:='~/absent.safetensors'") as process:
        process.wait_for_log(f"{Path.home()}/absent.safetensors")
