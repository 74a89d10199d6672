"""Starts the node `collect` (node.py).

python -m twodpass_ros.collect --ros-args -p images:='[/camera/image_raw]' -r '~/input/points:=/velodyne_points'
--help lists the parameters.
"""

from __future__ import annotations

import sys
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
    importing_the_node,
    node_help,
    reading_ros_arguments,
)
from twodpass_ros.errors import NodeError
from twodpass_ros.signals import ignore_signals, tell_of_signals

if TYPE_CHECKING:
    from twodpass_ros.collect.node import CollectNode

PURPOSE = "Records scans with the images that belong to them, their calibration, transforms and odometry, as a bag."
WAKE_UP = 0.5  # seconds within which a signal is heard


def run(args: list[str] | None = None) -> int:
    """Runs the node until SIGINT, SIGTERM or SIGHUP; returns the exit code.

    0, also after a disk has run full; 1 where it cannot start: an argument is refused, or a package is missing.
    """
    arguments = sys.argv[1:] if args is None else args
    node: CollectNode | None = None
    try:
        if asks_for_help(arguments):
            Console().print(node_help("collect", PURPOSE, CollectParameters))
            return 0
        with importing_the_node("collect"):
            from twodpass_ros.collect.node import CollectNode

        ended = tell_of_signals()  # no message is left half done, and ROS stays until the bag is
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
        ignore_signals()
    return 0
