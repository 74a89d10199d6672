"""Fixtures for tests over real DDS: the node in a process of its own, this process as its peer."""

from __future__ import annotations

import os
import sys
from collections.abc import Iterator
from importlib.util import find_spec
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

if TYPE_CHECKING:
    from launch_process import Launch, LaunchProcess
    from node_process import Main, NodeProcess
    from segment_peer import Peer
    from vehicle import Start, Vehicle

REPOSITORY = Path(__file__).resolve().parents[2]

# Read when rclpy and the messages are imported, so set before.
HUMBLE = os.environ.get("ROS_DISTRO") == "humble"
if HUMBLE:
    os.environ["ROS_LOCALHOST_ONLY"] = "1"
os.environ["ROS_AUTOMATIC_DISCOVERY_RANGE"] = "LOCALHOST"
os.environ["ROS_DOMAIN_ID"] = str(1 + os.getpid() % 100)
os.environ["ROS_PYTHON_CHECK_FIELDS"] = "1"
OLDER = os.environ.get("ROS_DISTRO") in ("humble", "jazzy")
PROFILE = "FASTRTPS_DEFAULT_PROFILES_FILE" if OLDER else "FASTDDS_DEFAULT_PROFILES_FILE"
os.environ[PROFILE] = str(REPOSITORY / "config" / ("fastdds_localhost.xml" if HUMBLE else "fastdds.xml"))
os.environ.setdefault("CYCLONEDDS_URI", f"file://{REPOSITORY / 'config/cyclonedds.xml'}")


def _is_there(module: str) -> bool:
    try:
        return find_spec(module) is not None
    except ModuleNotFoundError:
        return False


# What `collect` needs and PyPI does not have. On PYTHONPATH for the process that node processes are forked from.
SUPPORT = Path(__file__).with_name("support")
DOUBLES = SUPPORT / "doubles"
FOLDERS = [str(SUPPORT)]
if not (_is_there("message_filters") and _is_there("cv_bridge")):
    FOLDERS.append(str(DOUBLES))
    sys.path.append(str(DOUBLES))
os.environ["PYTHONPATH"] = os.pathsep.join([*FOLDERS, os.environ.get("PYTHONPATH", "")])

MISSING = [name for name in ("rclpy", "twodpass_ros.msg") if not _is_there(name)]


class _NeedsRos(pytest.Module):
    """Stands for a test module where ROS 2 is absent."""

    def collect(self) -> Iterator[pytest.Item]:
        pytest.skip(f"needs {MISSING[0]}: `make setup`, then `source .venv/ros2.sh`", allow_module_level=True)


def pytest_pycollect_makemodule(module_path: Path, parent: pytest.Collector) -> pytest.Module | None:
    return _NeedsRos.from_parent(parent, path=module_path) if MISSING else None


@pytest.fixture
def peer() -> Iterator[Peer]:
    """A ROS node of this process, that publishes scans and reads all that `segment` publishes."""
    from segment_peer import Peer

    with Peer() as peer:
        yield peer


@pytest.fixture(scope="session")
def weights(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A small network, seeded, untrained."""
    from tiny_weights import tiny_card, write_tiny_weights

    return write_tiny_weights(tmp_path_factory.mktemp("weights") / "tiny.safetensors", tiny_card(width=16))


@pytest.fixture
def vehicle() -> Iterator[Vehicle]:
    """A vehicle with one camera, for `collect` to record."""
    from vehicle import Vehicle

    with Vehicle() as vehicle:
        yield vehicle


@pytest.fixture
def start(tmp_path: Path) -> Iterator[Start]:
    """Starts `collect`, which records to tmp_path."""
    from node_process import NodeProcess

    from twodpass_ros.collect import main as collect

    running: list[NodeProcess] = []

    def start_collect(main: Main = collect, **parameters: object) -> NodeProcess:
        values = {"folder": f"'{tmp_path}'", "images": "[/front/image_raw]", "min_free_bytes": 0, **parameters}
        arguments = [part for name, value in values.items() for part in ("-p", f"{name}:={value}")]
        running.append(NodeProcess(main, *arguments))
        return running[-1].__enter__()

    yield start_collect
    for process in running:
        process.__exit__()


@pytest.fixture
def launch(tmp_path: Path) -> Iterator[Launch]:
    """Launches `segment`, or what another file says, with arguments NAME:=VALUE."""
    from launch_process import LAUNCH, LaunchProcess

    running: list[LaunchProcess] = []

    def launch_file(*arguments: str, file: Path = LAUNCH / "segment.launch.py") -> LaunchProcess:
        running.append(LaunchProcess(file, *arguments, folder=tmp_path))
        return running[-1]

    yield launch_file
    for process in running:
        process.end()
