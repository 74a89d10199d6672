"""Which paths are ROS 2 bags, and the bags in a folder of several."""

from __future__ import annotations

import logging
from collections.abc import Callable, Collection, Iterable
from pathlib import Path
from typing import Final, TypeVar

from twodpass_core.bag_files import BAG_SUFFIXES
from twodpass_core.errors import BagError, NoCloudsError

logger = logging.getLogger(__name__)

Opened = TypeVar("Opened")

ROS1_SUFFIX: Final = ".bag"


def is_bag(path: Path) -> bool:
    """Whether a path looks like a ROS 2 bag: a folder that a recorder wrote, or one of its files."""
    if not path.is_dir():
        return path.suffix in BAG_SUFFIXES
    entries = list(path.iterdir())
    if any(entry.name == "metadata.yaml" for entry in entries):
        return True
    has_files = any(entry.suffix in BAG_SUFFIXES for entry in entries)
    return has_files and not any(entry.is_dir() and _is_readable_bag(entry) for entry in entries)  # a folder of bags


def bags_in(path: Path) -> list[Path]:
    """The bag that a path is, or the bags in the folder that it is; none for anything else.

    A link beside its bag, as `latest` often is, is no other bag.
    """
    if is_bag(path) or not path.is_dir():
        return [path] if is_bag(path) else []
    found = [entry for entry in path.iterdir() if _is_readable_bag(entry)]
    by_place = {entry.resolve(): entry for entry in sorted(found, key=lambda entry: (not entry.is_symlink(), entry))}
    return sorted(by_place.values())


def _is_readable_bag(path: Path) -> bool:
    """As `is_bag`, of what nobody has named: a folder that may not be looked into, as lost+found, is left out."""
    try:
        return is_bag(path)
    except PermissionError:
        logger.warning("%s: may not be looked into, and is left out", path)
        return False


def refuse_ros1(path: Path) -> None:
    """Raise BagError, which says how to convert it, for a bag of ROS 1, or a folder that has one."""
    for bag in [path] if path.is_file() else sorted(path.glob(f"*{ROS1_SUFFIX}")):
        if bag.suffix == ROS1_SUFFIX:
            raise BagError(
                f"{bag}: is a bag of ROS 1: `rosbags-convert --src {bag} --dst {bag.with_suffix('')}` makes one of "
                "ROS 2 of it"
            )


def open_each(
    paths: Iterable[tuple[Path, str]], given: Collection[Path], open_one: Callable[[Path, str], Opened]
) -> list[Opened]:
    """What `open_one` makes of each path and its name.

    A bag without clouds, as of a recording that ended before the first, is left out with a warning, unless it was
    `given` itself or all are so. Raises BagError where a bag is there twice.
    """
    paths = list(paths)
    _refuse_twice(path for path, _ in paths if is_bag(path))
    opened: list[Opened] = []
    left_out: NoCloudsError | None = None
    for path, name in paths:
        try:
            opened.append(open_one(path, name))
        except NoCloudsError as error:
            if path in given:
                raise
            logger.warning("left out: %s", error)
            left_out = error
    if left_out is not None and not opened:
        raise left_out
    return opened


def _refuse_twice(bags: Iterable[Path]) -> None:
    """Raise BagError where one is a link to another, or a file of another: its scans would count twice."""
    by_place: dict[Path, Path] = {}
    for bag in bags:
        if (other := by_place.setdefault(bag.resolve(), bag)) is not bag:
            raise BagError(f"{other} and {bag} are one bag: give one of them")
    for place, bag in by_place.items():
        if place.is_file() and place.parent in by_place:
            raise BagError(f"{bag} is a file of {by_place[place.parent]}: give one of them")
