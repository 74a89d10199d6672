"""Labels kept beside a bag: BAG_labels/STAMP_NS.label, one file a scan, in SemanticKITTI's form.

Proposals of a network lie in BAG_labels/proposed/ in the same form. The bag itself is never written to.

Two LiDARs may have the same time stamps, so the labels of a folder are of one PointCloud2 topic, which its topic.txt
names; without that file, as earlier versions left it, they are taken for any.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Final

import numpy as np
import numpy.typing as npt

from twodpass_core.errors import LabelError
from twodpass_core.labels.raw import RawLabels, read_raw_labels, write_raw_labels

SUFFIX: Final = ".label"
FOLDER_SUFFIX: Final = "_labels"
PROPOSED: Final = "proposed"
TOPIC: Final = "topic.txt"
RAW_LABEL_LIMIT: Final = 2**32


@dataclass(frozen=True)
class LabelStore:
    """A folder of labels, by the time stamp of their scan. With `proposals`, those stand in where labels are missing.

    For the clouds of a `topic` it looks empty where the labels are of another one's; None: they are of any.

    Nothing is kept in memory: what is read is what lies there at that moment.
    """

    folder: Path
    proposals: bool = False
    topic: str | None = None

    @classmethod
    def beside(cls, bag: Path, *, proposals: bool = False, topic: str | None = None) -> LabelStore:
        """The store of a bag: its folder, or a single file. A file of a folder's bag shares that bag's store."""
        return cls(_folder_beside(_whole_bag(bag)), proposals, topic)

    @property
    def proposed(self) -> LabelStore:
        """The proposals alone."""
        return LabelStore(self.folder / PROPOSED, topic=self.topic)

    def stamps(self) -> frozenset[int]:
        """Of the scans that have labels, or, with `proposals`, either."""
        files = () if self._other_topic() else self.folder.glob(f"*{SUFFIX}")
        own = frozenset(int(path.stem) for path in files if _is_stamp(path.stem))
        return own | self.proposed.stamps() if self.proposals else own

    def path(self, stamp_ns: int) -> Path:
        """Where the labels of a scan lie, if it has any."""
        return self.folder / f"{stamp_ns}{SUFFIX}"

    def has(self, stamp_ns: int) -> bool:
        """Whether a scan has labels; its proposals do not count."""
        return not self._other_topic() and self.path(stamp_ns).exists()

    def read(self, stamp_ns: int, num_points: int) -> RawLabels | None:
        """(num_points,) raw labels of the scan taken at that time; None where there are none.

        Raises:
            LabelError: the file is not of that many labels, or cannot be read.
        """
        labels = None if self._other_topic() else read_raw_labels(self.path(stamp_ns), num_points)
        if labels is None and self.proposals:
            return self.proposed.read(stamp_ns, num_points)
        return labels

    def write(self, stamp_ns: int, raw: npt.NDArray[np.integer]) -> None:
        """Keep raw labels (N,) of any integer type, in place of any that are there. The folder is made if missing.

        Raises:
            LabelError: not one row of integers of 32 bits, or the labels there are of another topic.
            OSError: the folder cannot be written to.
        """
        if raw.ndim != 1 or raw.dtype.kind not in "iu":
            raise LabelError(f"labels of scan {stamp_ns} must be (N,) integers, not {raw.shape} {raw.dtype}")
        if len(raw) and not 0 <= int(raw.min()) <= int(raw.max()) < RAW_LABEL_LIMIT:
            raise LabelError(f"labels of scan {stamp_ns} must be 0..{RAW_LABEL_LIMIT - 1}")
        self.refuse_other_topic()
        self.folder.mkdir(parents=True, exist_ok=True)
        if self.topic and read_topic(self.folder) is None:
            write_topic(self.folder, self.topic)
        write_raw_labels(self.path(stamp_ns), raw)

    def refuse_other_topic(self) -> None:
        """Raise LabelError where there are labels of another topic."""
        if other := self._other_topic():
            raise LabelError(
                f"{self.folder}: has labels of {other}, and those of {self.topic} may have the same time stamps: label "
                "one topic of a bag, or move that folder away"
            )

    def _other_topic(self) -> str:
        """The one whose labels these are, where that is another one; else nothing."""
        named = read_topic(self.folder)
        return "" if self.topic is None or named is None or named == self.topic else named


def write_topic(folder: Path, topic: str) -> None:
    """Note in a folder of labels which PointCloud2 topic they are of. Raises OSError."""
    (folder / TOPIC).write_text(f"{topic}\n", encoding="utf-8")


def read_topic(folder: Path) -> str | None:
    """The topic that a folder's labels are of, where that is noted."""
    path = folder / TOPIC
    return path.read_text(encoding="utf-8", errors="replace").strip() if path.exists() else None


def labels_of_single_files(bag: Path) -> list[Path]:
    """Folders of labels that were kept for single files of a bag, before it had its metadata.yaml."""
    bag = _whole_bag(bag)
    folders = {_folder_beside(file) for file in bag.iterdir() if file.is_file()} if bag.is_dir() else set()
    return sorted(folder for folder in folders if folder.is_dir())


def labels_of_no_bag(bag: Path) -> list[Path]:
    """Folders of labels beside a bag whose own bag is not there, as where it has been renamed."""
    bag = _whole_bag(bag)
    stems = {path.name if path.is_dir() else path.stem for path in bag.parent.glob("*")}
    folders = bag.parent.glob(f"*{FOLDER_SUFFIX}")
    return sorted(path for path in folders if path.is_dir() and path.name.removesuffix(FOLDER_SUFFIX) not in stems)


def _whole_bag(bag: Path) -> Path:
    """The folder that a single file belongs to, if it does."""
    bag = bag.resolve()
    return bag.parent if not bag.is_dir() and (bag.parent / "metadata.yaml").exists() else bag


def _folder_beside(bag: Path) -> Path:
    return bag.parent / f"{bag.name if bag.is_dir() else bag.stem}{FOLDER_SUFFIX}"


def _is_stamp(name: str) -> bool:
    return name.isdecimal() and name == str(int(name))
