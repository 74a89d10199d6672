"""The transforms of a bag as a tree, and in which of its frames the world stands still."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from itertools import takewhile
from typing import Final

import numpy as np

from twodpass_core.data.bags.index import RecordedTransforms
from twodpass_core.errors import TransformError
from twodpass_core.geometry.rigid_transform import RigidTransform
from twodpass_core.geometry.transform_tree import TransformTree, frame_name
from twodpass_core.message_types import is_tf

TOLERANCE_NS: Final = 100_000_000
ODOMETRY_FRAME: Final = "odom"
CONSTANT: Final = 1e-6
"""Metres, and of a quaternion's numbers."""


def read_transforms(recorded: Iterable[RecordedTransforms], clouds: str) -> list[RecordedTransforms]:
    """Those that count beside a topic of clouds: of odometry, and of topics called tf or tf_static in any namespace.

    Others, as /tf_unused, are where a launch file sends what is not to be used. Of vehicles with frames of one name,
    each with a namespace, that of the clouds counts.
    """
    known = [entry for entry in recorded if len(entry.stamps_ns) and (entry.is_odometry or is_tf(entry.topic))]
    nearest: dict[str, tuple[int, int]] = {}
    for entry in known:
        if not entry.is_odometry:
            nearness, child = _nearness(entry.topic, clouds), frame_name(entry.child)
            nearest[child] = max(nearest.get(child, nearness), nearness)
    return [e for e in known if e.is_odometry or _nearness(e.topic, clouds) == nearest[frame_name(e.child)]]


def build_tree(
    recorded: Sequence[RecordedTransforms], frames: Sequence[str], clouds: str, wanted: str | None
) -> TransformTree:
    """The static transforms, and those moving ones that some of `frames` hang in: the others only take memory.

    `frames` move with the vehicle, that of the LiDAR is first. An odometry topic counts where /tf does not tell how its
    child moves. Beside it, a transform below the vehicle's frame that never changes is a mounting, though it is on /tf.
    Of odometry topics that tell of one child counts one in the `wanted` frame, else one whose poses change, in odom, in
    the namespace of the topic with the clouds, with the most messages.
    """
    tree = TransformTree(tolerance_ns=TOLERANCE_NS)
    from_tf = [entry for entry in recorded if not entry.is_odometry]
    parents = {frame_name(entry.child): frame_name(entry.parent) for entry in from_tf}
    needed = {ancestor for frame in frames for ancestor in _ancestors(frame_name(frame), parents)}
    odometry = [entry for entry in recorded if entry.is_odometry]
    vehicles = {ancestor for entry in odometry for ancestor in _ancestors(frame_name(entry.child), parents)}
    # Where a frame has several parents, the one that is named most often is added last and counts.
    for entry in sorted(from_tf, key=lambda entry: (not entry.is_static, len(entry.stamps_ns))):
        is_mounting = bool(odometry) and frame_name(entry.child) not in vehicles and _is_constant(entry)
        if entry.is_static or is_mounting:
            pose = RigidTransform.from_quaternion(entry.poses[-1, :4], entry.poses[-1, 4:])
            tree.add(entry.parent, entry.child, pose, None)
        elif frame_name(entry.child) in needed:
            tree.add_recorded(entry.parent, entry.child, entry.stamps_ns, entry.poses)

    def preference(entry: RecordedTransforms) -> tuple[bool, bool, bool, int, int]:
        parent, (shared, _) = frame_name(entry.parent), _nearness(entry.topic, clouds)
        is_wanted = wanted is not None and parent == frame_name(wanted)
        return not is_wanted, _is_constant(entry), not _is_odom(parent), -shared, -len(entry.stamps_ns)

    for entry in sorted(odometry, key=preference):
        if not _moves(tree, entry.child):
            _add_odometry(tree, entry, [frame_name(frame) for frame in frames])
    return tree


def find_fixed_frame(tree: TransformTree, frame: str, wanted: str | None = None) -> str | None:
    """A frame in which the world stands still while `frame` moves: odom or NAME/odom, else the outermost.

    None: nothing moves.

    Raises:
        TransformError: the one that is wanted is not there, or not connected to the frame.
    """
    if wanted is not None:
        if tree.ancestry(wanted)[-1] != tree.ancestry(frame)[-1]:
            raise TransformError(f"fixed_frame '{wanted}' is not connected to '{frame}'")
        return wanted
    if not _moves(tree, frame):
        return None
    moving = [ancestor for ancestor in tree.ancestry(frame) if tree.moves(frame, ancestor)]
    return next(filter(_is_odom, moving), moving[-1])


def _add_odometry(tree: TransformTree, entry: RecordedTransforms, frames: Sequence[str]) -> None:
    """Odometry tells how its child moves: hang in its parent the whole tree that the child stands in."""
    child = frame_name(entry.child)
    if child in frames and child not in tree.frames:
        tree.add_recorded(entry.parent, child, entry.stamps_ns, entry.poses)
        return
    known = [frame for frame in frames if frame in tree.frames]
    if child not in tree.frames or not known or tree.ancestry(child)[-1] != tree.ancestry(known[0])[-1]:
        return
    root = tree.ancestry(child)[-1]
    where = child
    if root != child:  # what moves is the child's pose: the tree hangs in another frame at the same place
        where = f"{child} ({entry.topic})"
        tree.add(where, root, tree.lookup(child, root), None)
    tree.add_recorded(entry.parent, where, entry.stamps_ns, entry.poses)


def _nearness(topic: str, clouds: str) -> tuple[int, int]:
    """How many parts of its namespace a topic shares with the clouds; and, negated, how many it has."""
    own, other = topic.split("/")[:-1], clouds.split("/")[:-1]
    shared = takewhile(lambda pair: pair[0] == pair[1], zip(own, other, strict=False))
    return len(list(shared)), -len(own)


def _is_odom(frame: str) -> bool:
    return frame.rpartition("/")[2] == ODOMETRY_FRAME


def _is_constant(entry: RecordedTransforms) -> bool:
    return bool(np.ptp(entry.poses, axis=0).max() <= CONSTANT)


def _moves(tree: TransformTree, frame: str) -> bool:
    return frame_name(frame) in tree.frames and tree.moves(frame, tree.ancestry(frame)[-1])


def _ancestors(frame: str, parents: dict[str, str]) -> list[str]:
    chain = [frame]
    while (parent := parents.get(chain[-1])) is not None and parent not in chain:
        chain.append(parent)
    return chain
