"""Starts the node `segment` (node.py).

python -m twodpass_ros.segment --ros-args -r '~/input/points:=/velodyne_points'; --help lists the parameters
"""

from __future__ import annotations

import threading
from typing import TYPE_CHECKING, Any

from twodpass_core.process import tune_process
from twodpass_ros.core_log import forward_core_log
from twodpass_ros.program import MakeNode, run_node
from twodpass_ros.segment.work_thread import WorkThread
from twodpass_ros.signals import leave_at_once

if TYPE_CHECKING:
    from twodpass_ros.segment.node import LoadSegmenter, SegmentNode

PURPOSE = "Labels every point of the clouds on ~/input/points; with their labels they come out on ~/output/points."


def run(args: list[str] | None = None, load_segmenter: LoadSegmenter | None = None) -> int:
    """As `run_node`. `load_segmenter` is `Segmenter.from_weights` unless given."""

    def import_parameters() -> type[Any]:
        from twodpass_ros.segment.parameters import SegmentParameters

        return SegmentParameters

    def import_node() -> MakeNode:
        from twodpass_core.segmenter import Segmenter  # torch, after the process is tuned for it
        from twodpass_ros.segment.node import SegmentNode

        def make_node(ended: threading.Event) -> SegmentNode:
            node = SegmentNode(load_segmenter or Segmenter.from_weights, ended)
            forward_core_log(node.get_logger())  # which knows its namespace
            node.autostart()
            return node

        return make_node

    tune_process()
    code = run_node("segment", PURPOSE, import_parameters, import_node, args)
    if any(isinstance(thread, WorkThread) and thread.is_busy for thread in threading.enumerate()):
        leave_at_once(code)
    return code
