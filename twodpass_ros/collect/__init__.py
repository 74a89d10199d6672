"""The node `collect` (node.py), and what starts it (program.py)."""

from __future__ import annotations

from twodpass_ros.signals import end_at_once_on_signals


def main(args: list[str] | None = None) -> int:
    """`twodpass_ros.collect.program.run`, with signals heeded from the first moment on."""
    end_at_once_on_signals()
    from twodpass_ros.collect.program import run

    return run(args)
