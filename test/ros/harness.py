"""What the tests over DDS share: the node in a process of its own, and its peer, that sends scans and reads answers."""

from __future__ import annotations

import contextlib
import fcntl
import multiprocessing
import os
import re
import signal
import sys
import tempfile
import time
from array import array
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path
from typing import Any, TypeVar

import fake_segment
import numpy as np
import rclpy
from diagnostic_msgs.msg import DiagnosticArray, DiagnosticStatus
from lifecycle_msgs.msg import State, Transition
from lifecycle_msgs.srv import ChangeState, GetState
from rcl_interfaces.srv import GetParameters, SetParameters
from rclpy.executors import SingleThreadedExecutor
from rclpy.node import Node
from rclpy.parameter import Parameter, parameter_value_to_python
from rclpy.qos import QoSProfile, ReliabilityPolicy
from sensor_msgs.msg import PointCloud2

from twodpass_core.cloud import make_cloud
from twodpass_ros.conversion import point_cloud2
from twodpass_ros.msg import SegmentationStatus
from twodpass_ros.segment import main

STOP = 10.0
HANG = 60.0
"""Seconds after which a wait is a failure: a bound against hangs, generous for a loaded machine."""

MANY = QoSProfile(depth=100, reliability=ReliabilityPolicy.RELIABLE)
Self = TypeVar("Self", bound="RosPeer")


# Children of a process that has imported everything: they start at once. Nothing of this process is in them.
_FORKSERVER = multiprocessing.get_context("forkserver")
_FORKSERVER.set_forkserver_preload(["fake_segment", "twodpass_ros.segment_node"])

Main = Callable[[list[str]], int]
"""Runs a node with these arguments until it ends; returns the exit code."""


class NodeProcess:
    """A node in a process and a process group of its own, as a launch would start it. Its log is kept."""

    def __init__(self, main: Main, *ros_arguments: str) -> None:
        self._folder = tempfile.TemporaryDirectory()
        self._log = Path(self._folder.name, "log")
        self._log.touch()
        arguments = ["--ros-args", *ros_arguments]
        self._process = _FORKSERVER.Process(target=_run, args=(main, arguments, self._log), daemon=True)
        self._process.start()

    @classmethod
    def fake(cls, *ros_arguments: str, weights: str = "quick") -> NodeProcess:
        """`segment` with the made-up network of fake_segment.py."""
        return cls(partial(main, load_segmenter=fake_segment.load), "-p", f"weights:='{weights}'", *ros_arguments)

    @classmethod
    def real(cls, *ros_arguments: str) -> NodeProcess:
        """`segment` with weights."""
        return cls(main, *ros_arguments)

    def __enter__(self) -> NodeProcess:
        return self

    def __exit__(self, *_: object) -> None:
        self._process.terminate()  # a node that ends by itself leaves no shared memory behind
        self._process.join(STOP)
        self._process.kill()
        self._process.join()
        self._folder.cleanup()

    def kill(self) -> None:
        """As a loss of power would end it."""
        self._process.kill()
        self._process.join()
        _remove_shared_memory_of_the_dead()

    def is_alive(self) -> bool:
        return self._process.is_alive()

    def end(self, number: signal.Signals, timeout: float) -> int | None:
        """Sends a signal; returns the exit code, None if it did not end in time."""
        os.kill(self._pid, number)
        return self.wait(timeout)

    def wait(self, timeout: float = HANG) -> int | None:
        self._process.join(timeout)
        return self._process.exitcode

    def log(self) -> str:
        return self._log.read_text()

    @property
    def _pid(self) -> int:
        assert self._process.pid is not None
        return self._process.pid

    def wait_for_log(self, words: str) -> None:
        end = time.monotonic() + HANG
        while words not in self.log():
            assert time.monotonic() < end, f"waited in vain for {words!r} in the log:\n{self.log()}"
            time.sleep(0.05)

    def memory(self) -> int:
        """Resident bytes."""
        pages = int(Path(f"/proc/{self._pid}/statm").read_text().split()[1])
        return pages * os.sysconf("SC_PAGE_SIZE")


def shared_memory(pid: int) -> set[Path]:
    """Fast DDS's 64 MB of a process. What it has opened of this one's is left out."""

    def opened(by: int) -> set[str]:
        return set(re.findall(r"/dev/shm/fastdds_[0-9a-f]{16}\b", Path(f"/proc/{by}/maps").read_text()))

    return set(map(Path, opened(pid) - opened(os.getpid())))


def _remove_shared_memory_of_the_dead() -> None:
    """Fast DDS leaves 64 MB of a process that is killed. Of the living, the file beside the memory is locked."""
    for lock in Path("/dev/shm").glob("fastdds_*_el"):
        if "port" in lock.name:
            continue
        with contextlib.suppress(OSError), lock.open() as file:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
            lock.with_name(lock.name.removesuffix("_el")).unlink()
            lock.unlink()


def _run(main: Main, arguments: list[str], log: Path) -> None:
    os.setsid()
    output = os.open(log, os.O_WRONLY | os.O_APPEND)
    os.dup2(output, sys.stdout.fileno())
    os.dup2(output, sys.stderr.fileno())
    sys.exit(main(arguments))


class RosPeer:
    """A ROS node of this process, that listens to a node under test and asks it."""

    def __init__(self, watched: str) -> None:
        self.context = rclpy.Context()
        rclpy.init(context=self.context)
        self.node = Node("peer", context=self.context)
        self._executor = SingleThreadedExecutor(context=self.context)
        self._executor.add_node(self.node)
        self._watched = watched
        self.diagnostics: list[DiagnosticStatus] = []
        self.node.create_subscription(DiagnosticArray, "/diagnostics", self._keep_diagnostics, MANY)

    def _keep_diagnostics(self, message: DiagnosticArray) -> None:
        self.diagnostics += [status for status in message.status if status.name.startswith(f"{self._watched}:")]

    def __enter__(self: Self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self._executor.shutdown()
        self.node.destroy_node()
        rclpy.shutdown(context=self.context)

    def spin(self, seconds: float) -> None:
        end = time.monotonic() + seconds
        while (left := end - time.monotonic()) > 0:
            self._executor.spin_once(timeout_sec=left)

    def spin_until(self, condition: Callable[[], object], what: str, timeout: float = HANG) -> None:
        end = time.monotonic() + timeout
        while not condition():
            assert time.monotonic() < end, f"waited {timeout} s in vain for {what}"
            self._executor.spin_once(timeout_sec=0.05)

    @contextlib.contextmanager
    def reading(self, message_type: type[Any], topic: str, qos: QoSProfile) -> Iterator[list[Any]]:
        """One more reader, and what it has received."""
        received: list[Any] = []
        subscription = self.node.create_subscription(message_type, topic, received.append, qos)
        yield received
        self.node.destroy_subscription(subscription)

    def next_level(self) -> bytes:
        """The level of the next diagnostics."""
        self.diagnostics.clear()
        self.spin_until(lambda: self.diagnostics, "diagnostics")
        return bytes(self.diagnostics[-1].level)

    def levels(self) -> list[bytes]:
        return [status.level for status in self.diagnostics]

    def value(self, key: str) -> str:
        """A value of the newest diagnostics."""
        self.spin_until(lambda: self.diagnostics, "diagnostics")
        return str({entry.key: entry.value for entry in self.diagnostics[-1].values}[key])

    def call(self, service_type: type[Any], name: str, request: Any) -> Any:
        client = self.node.create_client(service_type, name)
        assert client.wait_for_service(HANG), f"no service {name}"
        future = client.call_async(request)
        self.spin_until(future.done, name)
        self.node.destroy_client(client)
        return future.result()

    def get_parameter(self, name: str) -> Any:
        answer = self.call(GetParameters, f"{self._watched}/get_parameters", GetParameters.Request(names=[name]))
        return parameter_value_to_python(answer.values[0])

    def set_parameter(self, name: str, value: Any) -> str:
        """Returns the reason of a refusal, or ''."""
        request = SetParameters.Request(parameters=[Parameter(name, value=value).to_parameter_msg()])
        result = self.call(SetParameters, f"{self._watched}/set_parameters", request).results[0]
        assert result.successful == (not result.reason)
        reason: str = result.reason
        return reason


class Peer(RosPeer):
    """Sends scans to /segment and keeps all that comes back."""

    def __init__(self) -> None:
        super().__init__("/segment")
        self.labelled: list[PointCloud2] = []
        self.statuses: list[SegmentationStatus] = []
        self.scans = self.node.create_publisher(PointCloud2, "/segment/input/points", MANY)
        self._results = self._read_results()

    def wait_for_active_node(self) -> None:
        """Until scans and results have found their ways."""
        self.spin_until(
            lambda: (
                self.scans.get_subscription_count()
                and self.node.count_publishers("/segment/output/points")
                and self.node.count_publishers("/segment/status")
                and self.diagnostics
            ),
            "an active node",
        )
        while not (self.labelled and self.statuses):  # then the node has found this reader, too
            self.scans.publish(scan())
            self.spin(0.1)
        self.clear()

    def clear(self) -> None:
        """Forgets what has come so far."""
        self.spin(0.1)
        self.labelled.clear()
        self.statuses.clear()
        self.diagnostics.clear()

    @contextlib.contextmanager
    def not_reading(self) -> Iterator[None]:
        """Nobody reads the results meanwhile."""
        for subscription in self._results:
            self.node.destroy_subscription(subscription)
        yield
        self._results = self._read_results()

    def _read_results(self) -> list[Any]:
        return [
            self.node.create_subscription(PointCloud2, "/segment/output/points", self.labelled.append, MANY),
            self.node.create_subscription(SegmentationStatus, "/segment/status", self.statuses.append, MANY),
        ]

    def label(self, message: PointCloud2) -> PointCloud2:
        """Sends a scan and waits for its labelled cloud."""
        before = len(self.labelled)
        self.scans.publish(message)
        self.spin_until(lambda: len(self.labelled) > before, "a labelled cloud")
        return self.labelled[-1]

    def dropped(self) -> int:
        return int(self.value("dropped"))

    def published(self) -> int:
        return int(self.value("published"))

    def state(self) -> int:
        return int(self.call(GetState, "/segment/get_state", GetState.Request()).current_state.id)

    def change_state(self, transition: int) -> bool:
        request = ChangeState.Request(transition=Transition(id=transition))
        return bool(self.call(ChangeState, "/segment/change_state", request).success)

    def wait_for_state(self, state: int) -> None:
        end = time.monotonic() + HANG
        while self.state() != state:
            assert time.monotonic() < end, f"state {state} was not reached"


def scan(points: int = 50, first_intensity: float = 0.5, stamp: tuple[int, int] = (7, 11)) -> PointCloud2:
    """A small cloud of x, y, z, intensity, ring; x = 1.0, 1.1, 1.2 ..."""
    x = 1.0 + 0.1 * np.arange(points, dtype=np.float32)
    intensity = np.full(points, 0.5, np.float32)
    intensity[:1] = first_intensity
    ring = (np.arange(points) % 16).astype(np.uint16)
    cloud = make_cloud({"x": x, "y": -x, "z": 0 * x - 1.0, "intensity": intensity, "ring": ring})
    message = point_cloud2(PointCloud2().header, cloud)
    message.header.frame_id = "velodyne"
    message.header.stamp.sec, message.header.stamp.nanosec = stamp
    return message


def malformed() -> PointCloud2:
    """Says 50 points, holds 49."""
    message = scan()
    message.data = array("B", bytes(message.data)[: -message.point_step])
    return message


def records(message: PointCloud2, names: tuple[str, ...]) -> dict[str, np.ndarray]:
    """Columns of a little-endian cloud without row padding, read without the code under test."""
    types = {1: "i1", 2: "u1", 3: "<i2", 4: "<u2", 5: "<i4", 6: "<u4", 7: "<f4", 8: "<f8"}
    fields = {field.name: field for field in message.fields}
    dtype = np.dtype(
        {
            "names": list(names),
            "formats": [types[fields[name].datatype] for name in names],
            "offsets": [fields[name].offset for name in names],
            "itemsize": message.point_step,
        }
    )
    data = np.frombuffer(message.data, dtype)
    return {name: data[name] for name in names}


INACTIVE, ACTIVE, UNCONFIGURED, FINALIZED = (
    State.PRIMARY_STATE_INACTIVE,
    State.PRIMARY_STATE_ACTIVE,
    State.PRIMARY_STATE_UNCONFIGURED,
    State.PRIMARY_STATE_FINALIZED,
)
