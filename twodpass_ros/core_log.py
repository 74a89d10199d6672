"""What twodpass_core logs, in ROS's log."""

from __future__ import annotations

import logging
from typing import Any


class RosLogHandler(logging.Handler):
    """Hands log records to a node's logger. rclpy wants each severity called from a line of its own."""

    def __init__(self, logger: Any) -> None:
        super().__init__(logging.INFO)
        self._logger = logger

    def emit(self, record: logging.LogRecord) -> None:
        message = record.getMessage()
        if record.levelno >= logging.ERROR:
            self._logger.error(message)
        elif record.levelno >= logging.WARNING:
            self._logger.warning(message)
        else:
            self._logger.info(message)


def forward_core_log(logger: Any) -> None:
    """Show what twodpass_core has to say, from information upwards, as said by `logger`."""
    core = logging.getLogger("twodpass_core")
    core.setLevel(logging.INFO)
    core.addHandler(RosLogHandler(logger))
