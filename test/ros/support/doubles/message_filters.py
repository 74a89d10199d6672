"""Stands for the ROS package of this name where it is not installed: a Subscriber that passes messages on."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any


class Subscriber:
    """Takes what Node.create_subscription takes, after the node; calls what is registered for each message."""

    def __init__(self, node: Any, *arguments: Any, **options: Any) -> None:
        self._registered: list[tuple[Callable[..., None], tuple[Any, ...]]] = []
        self.sub = node.create_subscription(*arguments, callback=self.callback, **options)

    def registerCallback(self, callback: Callable[..., None], *arguments: Any) -> None:  # noqa: N802
        self._registered.append((callback, arguments))

    def callback(self, message: Any) -> None:
        self.signalMessage(message)

    def signalMessage(self, *message: Any) -> None:  # noqa: N802
        for callback, arguments in self._registered:
            callback(*message, *arguments)
