"""A launch file under test, in a process of its own, as `ros2 launch` runs it."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path

from node_process import HANG, STOP

LAUNCH = Path(__file__).resolve().parents[3] / "launch"
RUN = """
import sys
from launch import LaunchDescription, LaunchService
from launch.actions import IncludeLaunchDescription
from launch.launch_description_sources import PythonLaunchDescriptionSource
arguments = [tuple(argument.split(":=", 1)) for argument in sys.argv[2:]]
service = LaunchService(noninteractive=True)  # a SIGINT is for this process alone: launch passes it on
service.include_launch_description(LaunchDescription([
    IncludeLaunchDescription(PythonLaunchDescriptionSource(sys.argv[1]), launch_arguments=arguments)]))
sys.exit(service.run())
"""

Launch = Callable[..., "LaunchProcess"]
"""Launches a file of the folder launch/, or another, with arguments."""


class LaunchProcess:
    """The launch file and all that it starts. Its log is kept."""

    def __init__(self, file: Path, *arguments: str, folder: Path) -> None:
        self._log = folder / "launch_output"
        with self._log.open("wb") as output:
            self._process = subprocess.Popen(
                [sys.executable, "-c", RUN, str(file), *arguments],
                stdout=output,
                stderr=subprocess.STDOUT,
                start_new_session=True,
                env={**os.environ, "ROS_LOG_DIR": str(folder)},
            )

    def log(self) -> str:
        return self._log.read_text()

    def wait_until(self, condition: Callable[[], object]) -> None:
        """Fails with the log where that does not come true, or launch ends before."""
        end = time.monotonic() + HANG
        while not condition():
            assert self._process.poll() is None, self.log()
            assert time.monotonic() < end, self.log()
            time.sleep(0.1)

    def interrupt(self) -> int:
        """Sends launch alone a SIGINT, which it passes on; returns the exit code."""
        self._process.send_signal(signal.SIGINT)
        return self.wait()

    def wait(self) -> int:
        return self._process.wait(HANG)

    def end(self) -> None:
        """Ends all of it as Ctrl-C does in a terminal, and firmly where launch was not ready for that."""
        sys.stderr.write(self.log())  # pytest shows it if the test fails
        if self._process.poll() is None:
            os.killpg(self._process.pid, signal.SIGINT)
            with suppress(subprocess.TimeoutExpired):
                self._process.wait(STOP)
        with suppress(ProcessLookupError):
            os.killpg(self._process.pid, signal.SIGKILL)
        self._process.wait()
