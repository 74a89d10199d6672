"""Waits until a lifecycle node is active, then becomes another command.

So the launch file plays a bag, and no scan is sent too early. The command and its environment are settled when launch
starts this: at the end of the waiting, a group of a composed launch has forgotten its arguments.
"""

from __future__ import annotations

import os
import signal
import sys
import time
from argparse import REMAINDER, ArgumentParser
from collections.abc import Sequence

import rclpy
from lifecycle_msgs.msg import State
from lifecycle_msgs.srv import GetState
from rclpy.client import Client
from rclpy.exceptions import InvalidServiceNameException
from rclpy.node import Node
from rclpy.signals import SignalHandlerOptions
from rclpy.utilities import remove_ros_args
from rclpy.validate_topic_name import validate_topic_name

PAUSE, ANSWER_TIMEOUT = 0.1, 2.0
"""Seconds between questions, and until one is asked again: no answer comes while a transition loads weights."""


def main(args: Sequence[str] | None = None) -> int:
    """Waits for a node. When it is active, becomes the command; without one, returns 0.

    Also 0 when SIGINT ends the waiting, as launch sends it to all at its end; 143 when SIGTERM does.
    """
    arguments = sys.argv[1:] if args is None else list(args)
    parser = ArgumentParser("python3 -m twodpass_ros.wait_until_active", description="Wait until a node is active.")
    parser.add_argument(
        "node", help="its name, as /segment; without the slash as seen from --ros-args -r __ns:=NAMESPACE"
    )
    parser.add_argument("command", nargs=REMAINDER, help="what to become then, with its arguments")
    own = parser.parse_args(remove_ros_args(arguments))
    try:
        validate_topic_name(f"{own.node}/get_state", is_service=True)
    except InvalidServiceNameException:
        parser.error(f"{own.node!r} is not the name of a node")
    heard: list[int] = []
    for number in (signal.SIGINT, signal.SIGTERM):  # not by an exception, which what happens to run may swallow
        signal.signal(number, lambda number, _: heard.append(number))
    rclpy.init(args=arguments, signal_handler_options=SignalHandlerOptions.NO)
    node = rclpy.create_node("wait_until_active")
    client = node.create_client(GetState, f"{own.node}/get_state")
    while not (heard or is_active(node, client)):
        time.sleep(PAUSE)
    node.destroy_node()
    rclpy.shutdown()
    if own.command and not heard:
        os.execvp(own.command[0], own.command)
    return 128 + signal.SIGTERM if signal.SIGTERM in heard else 0


def is_active(node: Node, client: Client) -> bool:
    """Whether the client's lifecycle node says so, in time."""
    if not client.service_is_ready():
        return False
    answer = client.call_async(GetState.Request())
    rclpy.spin_until_future_complete(node, answer, timeout_sec=ANSWER_TIMEOUT)
    return bool(answer.done() and answer.result().current_state.id == State.PRIMARY_STATE_ACTIVE)


if __name__ == "__main__":
    sys.exit(main())
