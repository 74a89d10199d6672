"""Starts the node `collect` (collect_node.py).

python -m twodpass_ros.collect --ros-args -p images:='[/camera/image_raw]' -r '~/input/points:=/velodyne_points'
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

from twodpass_core.errors import MissingDependencyError
from twodpass_ros.command_line import reading_ros_arguments
from twodpass_ros.errors import NodeError

if TYPE_CHECKING:
    from twodpass_ros.collect_node import CollectNode

WAKE_UP = 0.5  # seconds within which a signal is heard


def main(args: list[str] | None = None) -> int:
    """Runs the node until SIGINT or SIGTERM; returns the exit code.

    0, also after a disk has run full; 1 where it cannot start: an argument is refused, or a package is missing.
    """
    ended = threading.Event()
    for number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(number, lambda *_: ended.set())  # no message is left half done, and ROS stays until the bag is
    node: CollectNode | None = None
    try:
        from twodpass_ros.collect_node import CollectNode

        with reading_ros_arguments():
            rclpy.init(args=args, signal_handler_options=SignalHandlerOptions.NO)
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
    return 0


if __name__ == "__main__":
    sys.exit(main())
