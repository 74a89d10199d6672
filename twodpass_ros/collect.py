"""Starts the node `collect` (collect_node.py).

python -m twodpass_ros.collect --ros-args -p images:='[/camera/image_raw]' -r '~/input/points:=/velodyne_points'
"""

from __future__ import annotations

import signal
import sys
from types import FrameType
from typing import TYPE_CHECKING, NoReturn

import rclpy
from rclpy.exceptions import ParameterException
from rclpy.executors import ExternalShutdownException
from rclpy.signals import SignalHandlerOptions

from twodpass_core.errors import MissingDependencyError

if TYPE_CHECKING:
    from twodpass_ros.collect_node import CollectNode


def main(args: list[str] | None = None) -> int:
    """Runs the node until SIGINT or SIGTERM; returns the exit code.

    0, also after a disk has run full; 1 where it cannot start: a parameter is refused, or a package is missing.
    """
    for number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(number, _interrupt)
    node: CollectNode | None = None
    try:
        from twodpass_ros.collect_node import CollectNode

        # rclpy's own handlers would take ROS away from the node before it has ended its recording. Without them a
        # signal is heard when the executor wakes up, at the node's next timer.
        rclpy.init(args=args, signal_handler_options=SignalHandlerOptions.NO)
        node = CollectNode()
        rclpy.spin(node)
    except (KeyboardInterrupt, ExternalShutdownException):
        pass
    except (ParameterException, MissingDependencyError) as error:
        rclpy.logging.get_logger("collect").fatal(str(error))
        return 1
    finally:
        if node is not None:
            node.close()
            node.destroy_node()
        rclpy.try_shutdown()
    return 0


def _interrupt(number: int, frame: FrameType | None) -> NoReturn:
    """Leaves whatever the main thread does. A second signal must not disturb the end of the recording."""
    for other in (signal.SIGINT, signal.SIGTERM):
        signal.signal(other, signal.SIG_IGN)
    raise KeyboardInterrupt


if __name__ == "__main__":
    sys.exit(main())
