"""Starts the node `segment` (node.py).

python -m twodpass_ros.segment --ros-args -r '~/input/points:=/velodyne_points'; --help lists the parameters
"""

from __future__ import annotations

import os
import signal
import sys
import threading
from types import FrameType
from typing import TYPE_CHECKING, NoReturn

import rclpy
from rclpy.exceptions import ParameterException
from rclpy.executors import ExternalShutdownException
from rich.console import Console

from twodpass_core.errors import MissingDependencyError
from twodpass_core.process import tune_process
from twodpass_ros.command_line import (
    asks_for_help,
    ending_signals,
    importing_the_node,
    node_help,
    reading_ros_arguments,
)
from twodpass_ros.core_log import forward_core_log
from twodpass_ros.errors import NodeError
from twodpass_ros.segment.work_thread import WorkThread

if TYPE_CHECKING:
    from twodpass_ros.segment.node import LoadSegmenter, SegmentNode

PURPOSE = "Labels every point of the clouds on ~/input/points; with their labels they come out on ~/output/points."


def main(args: list[str] | None = None, load_segmenter: LoadSegmenter | None = None) -> int:
    """Runs the node until SIGINT, SIGTERM or SIGHUP; returns the exit code.

    0, or 1 where it cannot start: an argument is refused, or a package is missing.

    `args` are those of the process unless given.

    `load_segmenter` is `Segmenter.from_weights` unless given.
    """
    for number in ending_signals():
        signal.signal(number, _interrupt)
    tune_process()
    arguments = sys.argv[1:] if args is None else args
    node: SegmentNode | None = None
    try:
        with importing_the_node("segment"):
            from twodpass_core.segmenter import Segmenter  # torch, after the process is tuned for it
            from twodpass_ros.segment.node import SegmentNode
            from twodpass_ros.segment.parameters import SegmentParameters

        if asks_for_help(arguments):
            Console().print(node_help("segment", PURPOSE, SegmentParameters))
            return 0
        with reading_ros_arguments():
            rclpy.init(args=arguments)
        forward_core_log(rclpy.logging.get_logger("segment"))
        try:
            node = SegmentNode(load_segmenter or Segmenter.from_weights)
        except Exception:
            if rclpy.ok():
                raise
            return 0  # a signal has come meanwhile: rclpy has heard it first, and shut down
        node.autostart()
        rclpy.spin(node)
    except (KeyboardInterrupt, ExternalShutdownException):
        pass
    except (NodeError, ParameterException, MissingDependencyError) as error:
        rclpy.logging.get_logger("segment").fatal(str(error))
        return 1
    finally:
        if node is not None:
            node.stop()
            node.destroy_node()
        rclpy.try_shutdown()
    if any(isinstance(thread, WorkThread) and thread.is_busy for thread in threading.enumerate()):
        _leave_at_once()
    return 0


def _interrupt(number: int, frame: FrameType | None) -> NoReturn:
    """Leaves whatever the main thread does, loading weights included. A second signal must not disturb the clean-up."""
    for other in ending_signals():
        signal.signal(other, signal.SIG_IGN)
    raise KeyboardInterrupt


def _leave_at_once() -> NoReturn:
    """Ends the process under a thread that computes. Where Python ends while torch is at work, the process aborts."""
    sys.stdout.flush()
    sys.stderr.flush()
    os._exit(0)
