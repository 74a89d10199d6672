"""What the core logs reaches ROS's log."""

from __future__ import annotations

import logging

import pytest
import rclpy.logging

from twodpass_ros.core_log import RosLogHandler


def test_records_keep_their_severity(capfd: pytest.CaptureFixture[str]) -> None:
    handler = RosLogHandler(rclpy.logging.get_logger("core_log_test"))
    core = logging.Logger("twodpass_core")
    core.addHandler(handler)
    for say in (core.debug, core.info, core.warning, core.error, core.info):
        say("told by %s", say.__name__)
    captured = capfd.readouterr()
    lines = [line for line in (captured.out + captured.err).splitlines() if "core_log_test" in line]
    assert [line.split("]")[0].strip("[ ") for line in lines] == ["INFO", "WARN", "ERROR", "INFO"]
    assert not any("told by debug" in line for line in lines)
    assert lines[1].endswith("told by warning")
