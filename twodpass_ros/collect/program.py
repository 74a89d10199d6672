"""Starts the node `collect` (node.py).

python -m twodpass_ros.collect --ros-args -p images:='[/camera/image_raw]' -r '~/input/points:=/velodyne_points'
--help lists the parameters.
"""

from __future__ import annotations

from typing import Any

from twodpass_ros.program import MakeNode, run_node

PURPOSE = "Records scans with the images that belong to them, their calibration, transforms and odometry, as a bag."


def run(args: list[str] | None = None) -> int:
    """As `run_node`; the exit code is 0 also after a disk has run full."""

    def import_parameters() -> type[Any]:
        from twodpass_ros.collect.parameters import CollectParameters

        return CollectParameters

    def import_node() -> MakeNode:
        from twodpass_ros.collect.node import CollectNode

        return lambda ended: CollectNode()

    return run_node("collect", PURPOSE, import_parameters, import_node, args)
