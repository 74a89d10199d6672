"""`ros2 run twodpass_ros train CONFIG ...`: the command `twodpass train` where ROS 2 looks for it. It makes no node."""

from __future__ import annotations

import sys
from collections.abc import Sequence

from twodpass_core.errors import MissingDependencyError
from twodpass_ros.command_line import importing_for, own_arguments
from twodpass_ros.errors import NodeError


def main(args: Sequence[str] | None = None) -> None:
    """Run `twodpass train` with the arguments (those of the process unless given) less those that are ROS's.

    Raises:
        SystemExit: always, with the command's exit code.
    """
    try:
        own = own_arguments(sys.argv[1:] if args is None else args)
        with importing_for("train"):
            from twodpass_core.cli import main as twodpass
    except (NodeError, MissingDependencyError) as error:
        sys.exit(f"error: {error}")
    twodpass(["train", *own])


if __name__ == "__main__":
    main()
