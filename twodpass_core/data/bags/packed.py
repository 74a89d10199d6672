"""Bags whose files are compressed as a whole: before anything else rosbags unpacks them to the temporary folder."""

from __future__ import annotations

import shutil
import struct
import tempfile
from collections.abc import Sequence
from contextlib import suppress
from pathlib import Path, PurePath
from typing import Any, Final

from twodpass_core.errors import BagError
from twodpass_core.mcap_files.unpacked_size import DamageError, zstd_bound

MAX_EXPANSION: Final = 1000  # beyond that it is no recording
REST_BYTES: Final = 2**28  # of the disk that is left to others


def packed_files(bag: Path) -> list[Path]:
    """The files of a bag's folder that are compressed as a whole, by its metadata.yaml; none of any other bag."""
    with suppress(Exception):  # no metadata, or damaged, which rosbags tells
        return [bag / PurePath(path).name for path in _metadata(bag)["relative_file_paths"]]
    return []


def packed_topics(bag: Path) -> list[tuple[str, str, int]]:
    """Name, type and number of messages of such a bag's topics, by its metadata.yaml; none of any other bag."""
    with suppress(Exception):
        entries = [
            (entry["topic_metadata"], entry["message_count"]) for entry in _metadata(bag)["topics_with_message_count"]
        ]
        return [(str(topic["name"]), str(topic["type"]), int(count)) for topic, count in entries]
    return []


def _metadata(bag: Path) -> Any:
    """Of a bag whose files are compressed as a whole. Raises errors of all kinds for any other."""
    from ruamel.yaml import YAML  # rosbags' own: what that reads is what is checked

    metadata = YAML(typ="safe").load((bag / "metadata.yaml").read_text())["rosbag2_bagfile_information"]
    if metadata["compression_mode"].lower() != "file":
        raise ValueError("its files are not compressed as a whole")
    return metadata


def check_room(files: Sequence[Path]) -> None:
    """Raise BagError where unpacking files may take more room than there is, or than a recording ever would."""
    wanted = 0
    for path in files:
        size = path.stat().st_size
        try:
            with path.open("rb") as file:
                bound = zstd_bound(file, 0, size)
        except (DamageError, struct.error) as damage:
            raise BagError(f"{path}: cannot be unpacked: {damage}") from None
        if bound > MAX_EXPANSION * size:
            raise BagError(f"{path}: {size} bytes may unpack to {bound}, too many to be a recording")
        wanted += bound
    folder = tempfile.gettempdir()
    if files and wanted > (free := shutil.disk_usage(folder).free - REST_BYTES):
        raise BagError(
            f"{files[0].parent}: its files are compressed as a whole and may unpack to {wanted / 1e6:.0f} MB, but "
            f"{folder} has room for {max(free, 0) / 1e6:.0f} MB: set TMPDIR to a larger disk, or unpack them by "
            "`ros2 bag convert`"
        )
