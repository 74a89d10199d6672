"""Fixtures for tests over real DDS: the node in a process of its own, this process as its peer."""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path

import pytest

REPOSITORY = Path(__file__).resolve().parents[2]

# Read when rclpy and the messages are imported, so set before.
os.environ["ROS_AUTOMATIC_DISCOVERY_RANGE"] = "LOCALHOST"
os.environ["ROS_DOMAIN_ID"] = str(1 + os.getpid() % 100)
os.environ["ROS_PYTHON_CHECK_FIELDS"] = "1"
os.environ["FASTDDS_DEFAULT_PROFILES_FILE"] = str(REPOSITORY / "config/fastdds.xml")
os.environ.pop("FASTRTPS_DEFAULT_PROFILES_FILE", None)
# For the process that node processes are forked from.
os.environ["PYTHONPATH"] = os.pathsep.join([str(Path(__file__).parent), os.environ.get("PYTHONPATH", "")])

pytest.importorskip("rclpy", reason="needs ROS 2: source .venv/ros2.sh after `make setup`")
pytest.importorskip("twodpass_ros.msg", reason="needs the built messages: `make setup`, then source .venv/ros2.sh")

from harness import Peer  # noqa: E402


@pytest.fixture
def peer() -> Iterator[Peer]:
    """A ROS node of this process, that publishes scans and reads all that `segment` publishes."""
    with Peer() as peer:
        yield peer
