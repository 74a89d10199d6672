"""What the programs of all nodes have in common: from the command line to the exit code."""

from __future__ import annotations

import sys
import threading
from collections.abc import Callable, Sequence
from contextlib import suppress
from typing import Any

import rclpy
from rclpy.exceptions import ParameterException
from rclpy.executors import ExternalShutdownException, SingleThreadedExecutor
from rclpy.signals import SignalHandlerOptions

from twodpass_core.errors import MissingDependencyError
from twodpass_ros.command_line import asks_for_help, importing_for, print_node_help, reading_ros_arguments
from twodpass_ros.errors import NodeError
from twodpass_ros.signals import ignore_signals, tell_of_signals

WAKE_UP = 0.25  # seconds within which a signal is heard

MakeNode = Callable[[threading.Event], Any]
"""Makes a node, given what is set when the program shall end. Its `destroy_node` ends its work first."""


def run_node(
    name: str,
    purpose: str,
    import_parameters: Callable[[], type[Any]],
    import_node: Callable[[], MakeNode],
    args: Sequence[str] | None,
) -> int:
    """Runs a node until SIGINT, SIGTERM or SIGHUP; returns the exit code.

    0, or 1 where it cannot start: an argument is refused, or a package is missing.

    Args:
        purpose: a sentence for --help.
        import_parameters: imports the node's table of parameters, for --help.
        import_node: imports what the node is made of, which takes seconds.
        args: those of the process unless given.
    """
    arguments = sys.argv[1:] if args is None else args
    try:
        if asks_for_help(arguments):
            with importing_for(name):
                print_node_help(name, purpose, import_parameters())
            return 0
        with importing_for(name):
            make_node = import_node()
        ended = tell_of_signals()  # no message is left half done, and ROS stays until the node has ended its work
        with reading_ros_arguments():
            rclpy.init(args=arguments, signal_handler_options=SignalHandlerOptions.NO)
        _spin(make_node(ended), ended)
    except (NodeError, ParameterException, MissingDependencyError) as error:
        rclpy.logging.get_logger(name).fatal(str(error))
        return 1
    finally:
        rclpy.try_shutdown()
        ignore_signals()
    return 0


def _spin(node: Any, ended: threading.Event) -> None:
    executor = SingleThreadedExecutor()
    executor.add_node(node)
    try:
        with suppress(KeyboardInterrupt, ExternalShutdownException):
            while not ended.is_set():
                executor.spin_once(timeout_sec=WAKE_UP)
    finally:
        node.destroy_node()
