"""Starts the node `segment` (node.py).

python -m twodpass_ros.segment --ros-args -r '~/input/points:=/velodyne_points'; --help lists the parameters
"""

from __future__ import annotations

import sys
import threading
from typing import TYPE_CHECKING

import rclpy
from rclpy.exceptions import ParameterException
from rclpy.executors import ExternalShutdownException, SingleThreadedExecutor
from rclpy.signals import SignalHandlerOptions
from rich.console import Console

from twodpass_core.errors import MissingDependencyError
from twodpass_core.process import tune_process
from twodpass_ros.command_line import (
    asks_for_help,
    importing_the_node,
    node_help,
    reading_ros_arguments,
)
from twodpass_ros.core_log import forward_core_log
from twodpass_ros.errors import NodeError
from twodpass_ros.segment.work_thread import WorkThread
from twodpass_ros.signals import ignore_signals, leave_at_once, tell_of_signals

if TYPE_CHECKING:
    from twodpass_ros.segment.node import LoadSegmenter, SegmentNode

PURPOSE = "Labels every point of the clouds on ~/input/points; with their labels they come out on ~/output/points."
WAKE_UP = 0.25  # seconds within which a signal is heard


def run(args: list[str] | None = None, load_segmenter: LoadSegmenter | None = None) -> int:
    """Runs the node until SIGINT, SIGTERM or SIGHUP; returns the exit code.

    0, or 1 where it cannot start: an argument is refused, or a package is missing.

    `args` are those of the process unless given.

    `load_segmenter` is `Segmenter.from_weights` unless given.
    """
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
        ended = tell_of_signals()
        with reading_ros_arguments():
            rclpy.init(args=arguments, signal_handler_options=SignalHandlerOptions.NO)
        node = SegmentNode(load_segmenter or Segmenter.from_weights, ended)
        forward_core_log(node.get_logger())  # which knows its namespace
        node.autostart()
        executor = SingleThreadedExecutor()
        executor.add_node(node)
        while not ended.is_set():
            executor.spin_once(timeout_sec=WAKE_UP)
    except (KeyboardInterrupt, ExternalShutdownException):
        pass
    except (NodeError, ParameterException, MissingDependencyError) as error:
        rclpy.logging.get_logger("segment").fatal(str(error))
        return 1
    finally:
        try:
            if node is not None:
                node.destroy_node()
        finally:
            rclpy.try_shutdown()
            ignore_signals()
    if any(isinstance(thread, WorkThread) and thread.is_busy for thread in threading.enumerate()):
        leave_at_once()
    return 0
