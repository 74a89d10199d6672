"""Starts the node `collect` (node.py).

python -m twodpass_ros.collect --ros-args -p images:='[/camera/image_raw]' -r '~/input/points:=/velodyne_points'
--help lists the parameters.
"""

from __future__ import annotations

import signal
import sys
import threading
from typing import TYPE_CHECKING

import rclpy
from rclpy.exceptions import ParameterException
from rclpy.executors import ExternalShutdownException, SingleThreadedExecutor
from rclpy.signals import SignalHandlerOptions
from rich.console import Console

from twodpass_core.errors import MissingDependencyError
from twodpass_ros.collect.parameters import CollectParameters
from twodpass_ros.command_line import (
    asks_for_help,
    ending_signals,
    importing_the_node,
    node_help,
    reading_ros_arguments,
)
from twodpass_ros.errors import NodeError

if TYPE_CHECKING:
    from twodpass_ros.collect.node import CollectNode

PURPOSE = "Records scans with the images that belong to them, their calibration, transforms and odometry, as a bag."
WAKE_UP = 0.5  # seconds within which a signal is heard


def main(args: list[str] | None = None) -> int:
    """Runs the node until SIGINT, SIGTERM or SIGHUP; returns the exit code.

    0, also after a disk has run full; 1 where it cannot start: an argument is refused, or a package is missing.
    """
    ended = threading.Event()
    ending = ending_signals()
    for number in ending:
        signal.signal(number, lambda *_: ended.set())  # no message is left half done, and ROS stays until the bag is
    arguments = sys.argv[1:] if args is None else args
    node: CollectNode | None = None
    try:
        if asks_for_help(arguments):
            Console().print(node_help("collect", PURPOSE, CollectParameters))
            return 0
        with importing_the_node("collect"):
            from twodpass_ros.collect.node import CollectNode

        with reading_ros_arguments():
            rclpy.init(args=arguments, signal_handler_options=SignalHandlerOptions.NO)
        node = CollectNode()
        executor = SingleThreadedExecutor()
        executor.add_node(node)
        while not ended.is_set():
            executor.spin_once(timeout_sec=WAKE_UP)
    except ExternalShutdownException:
        pass
    except (NodeError, ParameterException, MissingDependencyError) as error:
        rclpy.logging.get_logger("collect").fatal(str(error))
        return 1
    finally:
        if node is not None:
            node.close()
            node.destroy_node()
        rclpy.try_shutdown()
        for number in ending:
            signal.signal(number, signal.SIG_IGN)  # Python ends with handlers of its own
    return 0
