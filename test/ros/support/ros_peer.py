"""The other side of a node under test, in this process."""

from __future__ import annotations

import contextlib
import time
from collections.abc import Callable, Iterator
from typing import Any, TypeVar

import rclpy
from diagnostic_msgs.msg import DiagnosticArray, DiagnosticStatus
from node_process import HANG
from rcl_interfaces.srv import GetParameters, SetParameters
from rclpy.executors import SingleThreadedExecutor
from rclpy.node import Node
from rclpy.parameter import Parameter, parameter_value_to_python
from rclpy.qos import QoSProfile, ReliabilityPolicy

PATIENCE = 5.0
"""Seconds after which a question is asked again."""
MANY = QoSProfile(depth=100, reliability=ReliabilityPolicy.RELIABLE)
Self = TypeVar("Self", bound="RosPeer")


class RosPeer:
    """A ROS node of this process, that listens to a node under test and asks it."""

    def __init__(self, watched: str) -> None:
        self.context = rclpy.Context()
        rclpy.init(context=self.context)
        self.node = Node("peer", context=self.context)
        self._executor = SingleThreadedExecutor(context=self.context)
        self._executor.add_node(self.node)
        self._watched = watched
        self._clients: dict[str, Any] = {}
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
        assert self._comes_true(condition, timeout), f"waited {timeout} s in vain for {what}"

    def _comes_true(self, condition: Callable[[], object], timeout: float) -> bool:
        end = time.monotonic() + timeout
        while not condition():
            if time.monotonic() > end:
                return False
            self._executor.spin_once(timeout_sec=0.05)
        return True

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

    def client(self, service_type: type[Any], name: str) -> Any:
        """A client, which is kept. Nodes find this side's readers, of answers too, in the order they were made."""
        if name not in self._clients:
            self._clients[name] = self.node.create_client(service_type, name)
        return self._clients[name]

    def call(self, service_type: type[Any], name: str, request: Any) -> Any:
        """Calls once. The answer is lost if the node has not found its reader yet."""
        client = self.client(service_type, name)
        assert client.wait_for_service(HANG), f"no service {name}"
        answer = client.call_async(request)
        self.spin_until(answer.done, name)
        return answer.result()

    def ask(self, service_type: type[Any], name: str, request: Any) -> Any:
        """Calls, again while no answer comes: for what may be done twice."""
        client = self.client(service_type, name)
        assert client.wait_for_service(HANG), f"no service {name}"
        answers: list[Any] = []
        for _ in range(int(HANG / PATIENCE)):
            answers.append(client.call_async(request))
            if self._comes_true(lambda: any(answer.done() for answer in answers), PATIENCE):
                return next(answer.result() for answer in answers if answer.done())
        raise AssertionError(f"asked {name} {len(answers)} times in vain")

    def get_parameter(self, name: str) -> Any:
        answer = self.ask(GetParameters, f"{self._watched}/get_parameters", GetParameters.Request(names=[name]))
        return parameter_value_to_python(answer.values[0])

    def set_parameter(self, name: str, value: Any) -> str:
        """Returns the reason of a refusal, or ''."""
        request = SetParameters.Request(parameters=[Parameter(name, value=value).to_parameter_msg()])
        result = self.ask(SetParameters, f"{self._watched}/set_parameters", request).results[0]
        assert result.successful == (not result.reason)
        reason: str = result.reason
        return reason
