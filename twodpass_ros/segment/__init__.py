"""The node `segment` (node.py), and what starts it (program.py)."""

from __future__ import annotations

from typing import TYPE_CHECKING

from twodpass_ros.signals import end_at_once_on_signals

if TYPE_CHECKING:
    from twodpass_ros.segment.node import LoadSegmenter


def main(args: list[str] | None = None, load_segmenter: LoadSegmenter | None = None) -> int:
    """`twodpass_ros.segment.program.run`, with signals heeded from the first moment on."""
    end_at_once_on_signals()
    from twodpass_ros.segment.program import run

    return run(args, load_segmenter)
