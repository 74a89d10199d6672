"""Scans from files, folders and bags, as one sequence of (N, 4) point arrays."""

from __future__ import annotations

import os
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import chain, islice
from pathlib import Path
from typing import Final

import numpy as np
import numpy.typing as npt

from twodpass_core.cloud import NO_INTENSITY, read_points
from twodpass_core.data.bags import CloudTopic, bags_in, is_bag, open_clouds, open_each, read_cloud, refuse_ros1
from twodpass_core.data.scan_files import SCAN_SUFFIXES, check_columns, check_file, read_scan, scan_suffix
from twodpass_core.errors import CloudError, ScanError

SCAN_FOLDERS: Final = ("velodyne", "velodyne_points/data")  # of a SemanticKITTI sequence, of a KITTI raw drive


@dataclass(frozen=True, eq=False)
class Scan:
    """One turn of a LiDAR.

    `name` is a file stem, unique in its sequence; `points` (N, 4) float32 x, y, z, intensity in the source's units;
    `stamp_ns` is the message's time stamp, None for files.
    """

    name: str
    points: npt.NDArray[np.float32]
    stamp_ns: int | None


@dataclass(frozen=True)
class _ScanFile:
    path: Path
    name: str
    columns: int | None
    intensity_field: str | None

    def __len__(self) -> int:
        return 1

    @property
    def names(self) -> list[str]:
        return [self.name]

    def __iter__(self) -> Iterator[Scan]:
        yield self[0]

    def __getitem__(self, index: int) -> Scan:
        return Scan(self.name, read_scan(self.path, self.columns, self.intensity_field), None)


@dataclass(frozen=True)
class _BagScans:
    clouds: CloudTopic
    name: str
    intensity_field: str | None

    @property
    def path(self) -> Path:
        return self.clouds.path

    def __len__(self) -> int:
        return len(self.clouds)

    @property
    def names(self) -> list[str]:
        return [f"{self.name}_{index:06d}" for index in range(len(self))]

    def __iter__(self) -> Iterator[Scan]:
        return map(self._decode, range(len(self)), self.clouds)  # unlike a generator, goes on after a bad cloud

    def __getitem__(self, index: int) -> Scan:
        return self._decode(index, next(islice(self.clouds, index, None)))

    def _decode(self, index: int, raw: bytes) -> Scan:
        try:
            cloud = read_cloud(raw)
            points = read_points(cloud.message, self.intensity_field)
        except CloudError as error:
            raise ScanError(f"{self.path}: cloud {index} of {self.clouds.topic}: {error}") from error
        return Scan(f"{self.name}_{index:06d}", points, cloud.stamp_ns)


@dataclass(frozen=True)
class ScanSequence:
    """Scans in order, read one at a time while iterating, which raises `ScanError` or `BagError`."""

    sources: tuple[_ScanFile | _BagScans, ...]

    @property
    def names(self) -> list[str]:
        """The names of the scans, known without reading them."""
        return [name for source in self.sources for name in source.names]

    def __len__(self) -> int:
        return sum(len(source) for source in self.sources)

    def __iter__(self) -> Iterator[Scan]:
        return chain.from_iterable(self.sources)

    def __getitem__(self, index: int) -> Scan:
        """One scan, whatever is wrong with those before it. Raises `IndexError`, `ScanError` and `BagError`."""
        if index >= 0:
            for source in self.sources:
                if index < len(source):
                    return source[index]
                index -= len(source)
        raise IndexError(f"there are {len(self)} scans")


def open_scans(
    inputs: Sequence[Path], *, columns: int | None = None, topic: str | None = None, intensity_field: str | None = None
) -> ScanSequence:
    """Find the scans that the inputs hold, without reading points.

    An input is a scan file (.bin with 4 float32 columns, nuScenes' .pcd.bin with 5, .npy, .pcd), a folder of them
    (plain, a SemanticKITTI sequence, a KITTI raw drive), or a ROS 2 bag. `columns` overrides the number of columns of
    .bin files, `topic` chooses a bag's PointCloud2 topic, `intensity_field` that field of .pcd files and clouds;
    `NO_INTENSITY` gives 0 for every point of anything. An option that no input could heed is refused.

    Scans are named after their files, or their bags and places in them; folders are added in front where a file's or
    bag's name alone would not be unique.
    Raises `ScanError` and `BagError`, which name the file. A file of a folder that is cut off or empty is told of when
    its turn comes, so that the others can be read; a bag of a folder that has no clouds is left out with a warning.
    """
    if columns is not None and columns < 4:
        raise ScanError(f"columns is {columns}, but x, y, z and intensity need at least 4")
    if not inputs:
        raise ScanError("no input was given: name scan files, folders of scans or ROS 2 bags")
    paths = [path for entry in inputs for path in _find(Path(entry), columns)]
    refuse_unheeded(paths, columns=columns, topic=topic, intensity_field=intensity_field)

    def open_source(path: Path, name: str) -> _ScanFile | _BagScans:
        if is_bag(path):
            return _BagScans(open_clouds(path, topic), name, intensity_field)
        return _ScanFile(path, name, columns, intensity_field)

    named = zip(paths, unique_names(paths), strict=True)
    sources = tuple(open_each(named, [Path(entry) for entry in inputs], open_source))
    _refuse_equal_names(sources)
    return ScanSequence(sources)


def _refuse_equal_names(sources: Sequence[_ScanFile | _BagScans]) -> None:
    """Raise ScanError where a file is called as a bag calls one of its scans: the labels of one would be lost."""
    named: dict[str, Path] = {}
    for source in sources:
        for name in source.names:
            if name in named:
                raise ScanError(
                    f"{named[name]} and {source.path} both have a scan called {name}: give one without the other"
                )
            named[name] = source.path


def refuse_unheeded(
    paths: Sequence[Path], *, columns: int | None, topic: str | None, intensity_field: str | None
) -> None:
    """Raise ScanError for an option of `open_scans` that none of these files and bags could heed."""
    kinds = {"bag" if is_bag(path) else path.suffix for path in paths}
    field = None if intensity_field == NO_INTENSITY else intensity_field
    for option, value, heeding, described in (
        ("--columns", columns, {".bin"}, ".bin file"),
        ("--topic", topic, {"bag"}, "ROS 2 bag"),
        ("--intensity-field", field, {"bag", ".pcd"}, "ROS 2 bag or .pcd file"),
    ):
        if value is not None and not kinds & heeding:
            raise ScanError(f"{option} {value}: among the scans is no {described}, to which it could apply")


def _find(path: Path, columns: int | None) -> list[Path]:
    """The scan files and bags that one input stands for. What is plain to be wrong with them is refused here."""
    if not path.exists():
        raise ScanError(f"{path}: does not exist")
    if bags := bags_in(path):
        return bags
    if path.is_file():
        if not scan_suffix(path):
            refuse_ros1(path)
            raise ScanError(
                f"{path}: is not a scan; known are {', '.join(SCAN_SUFFIXES)}, and ROS 2 bags (.mcap, .db3)"
            )
        check_file(path, columns)
        return [path]
    folders = [path / name for name in SCAN_FOLDERS if (path / name).is_dir()]
    for folder in [*folders, path]:
        found = sorted(file for file in folder.iterdir() if scan_suffix(file) and not file.name.startswith("."))
        if found:
            check_columns(folder, found, columns)
            return found
    refuse_ros1(path)
    sequences = sorted((path / "sequences").glob("*/velodyne")) if (path / "sequences").is_dir() else []
    instead = f": give one of its sequences, as {sequences[0].parent}" if sequences else ""
    below = " or ".join(SCAN_FOLDERS)
    raise ScanError(f"{path}: holds no scans ({', '.join(SCAN_SUFFIXES)}), neither in itself nor in {below}{instead}")


def unique_names(paths: Sequence[Path]) -> list[str]:
    """A file stem for each path: its own, with as many of the folders around it in front as make all of them differ.

    A link has its own name, not that of what it points to.
    """
    parts = []
    for path in paths:
        *folders, last = Path(os.path.abspath(path)).parts[1:]
        suffix = "" if path.is_dir() else scan_suffix(path) or path.suffix
        parts.append([*folders, last.removesuffix(suffix)])
    for depth in range(1, max(map(len, parts)) + 1):
        names = ["_".join(part[-depth:]) for part in parts]
        if len(set(names)) == len(names):
            return names
    clashing = [str(path) for path, name in zip(paths, names, strict=True) if names.count(name) > 1]
    raise ScanError(f"these inputs are one scan or differ in their suffix only, give one: {', '.join(clashing[:4])}")
