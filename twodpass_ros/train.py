"""`ros2 run twodpass_ros train CONFIG ...`: the command `twodpass train` where ROS 2 looks for it. It makes no node."""

from __future__ import annotations

import sys
from collections.abc import Sequence

from twodpass_core.cli import main as twodpass
from twodpass_ros.command_line import own_arguments
from twodpass_ros.errors import NodeError


def main(args: Sequence[str] | None = None) -> None:
    """Run `twodpass train` with the arguments (those of the process unless given) less those that are ROS's.

    Raises:
        SystemExit: always, with the command's exit code.
    """
    try:
        own = own_arguments(sys.argv[1:] if args is None else args)
    except NodeError as error:
        sys.exit(f"error: {error}")
    twodpass(["train", *own])


if __name__ == "__main__":
    main()
