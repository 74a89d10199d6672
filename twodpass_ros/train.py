"""`ros2 run twodpass_ros train CONFIG ...`: the command `twodpass train` where ROS 2 looks for it. It makes no node."""

from __future__ import annotations

import sys

from twodpass_core.process import tune_process
from twodpass_ros.command_line import own_arguments
from twodpass_ros.errors import NodeError


def main(args: list[str] | None = None) -> None:
    """Run `twodpass train` with the arguments (those of the process by default) less those that are ROS's.

    Raises:
        SystemExit: always, with the command's exit code.
    """
    tune_process()  # before torch is imported
    from twodpass_core.cli import app

    try:
        _, *own = own_arguments(args or sys.argv)
    except NodeError as error:
        sys.exit(f"error: {error}")
    app(["train", *own], prog_name="twodpass")


if __name__ == "__main__":
    main()
