"""What `twodpass segment` does: scans in, files out, a summary at the end."""

from __future__ import annotations

import time
from collections import defaultdict
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
import torch
from rich.console import Console
from rich.markup import escape
from rich.table import Table

from twodpass_core.classes import IGNORED, UNLABELLED, ClassMap
from twodpass_core.cli.edge import print_error, print_note, refuse_existing
from twodpass_core.cli.work.progress import progress_bar
from twodpass_core.data.scans import SCAN_FOLDERS, Scan, ScanSequence
from twodpass_core.errors import ConfigError, TwodpassError
from twodpass_core.files import replacing
from twodpass_core.labels.raw import write_raw_labels
from twodpass_core.render import render_bird_eye
from twodpass_core.segmenter import Segmentation, Segmenter
from twodpass_core.sensor import SensorMounting, doubt_of_unit
from twodpass_core.weights import UNTRAINED
from twodpass_core.wording import counted, without_numbers


@dataclass(frozen=True)
class LabelFolder:
    """Where results go, and which of them are wanted."""

    path: Path
    picture: bool
    probabilities: bool

    @property
    def suffixes(self) -> tuple[str, ...]:
        return (".label", *[".png"] * self.picture, *[".probability.npy"] * self.probabilities)

    def prepare(self, inputs: Sequence[Path], names: Sequence[str], *, overwrite: bool) -> None:
        """Make the folder. Raises ConfigError where results would lie among the scans, or replace files unasked."""
        scan_folders = [place if place.is_dir() else place.parent for place in inputs]
        scan_folders += [folder / inner for folder in scan_folders for inner in SCAN_FOLDERS]
        if self.path.resolve() in [folder.resolve() for folder in scan_folders]:
            raise ConfigError(f"{self.path} holds the scans: choose another folder for --out")
        if self.path.exists() and not self.path.is_dir():
            raise ConfigError(f"{self.path} is not a folder: --out is the folder to write to")
        for name in names:
            for suffix in self.suffixes:
                refuse_existing(self.path / f"{name}{suffix}", overwrite)
        self.path.mkdir(parents=True, exist_ok=True)

    def write(self, scan: Scan, result: Segmentation, class_map: ClassMap, title: str) -> None:
        """The files of one scan: raw ids (N,) uint32, and what else is wanted; `title` is the picture's."""
        write_raw_labels(self.path / f"{scan.name}.label", class_map.raw_labels(result.class_id))
        if self.probabilities:
            with replacing(self.path / f"{scan.name}.probability.npy") as path, path.open("wb") as file:
                np.save(file, result.probability)
        if self.picture:
            render_bird_eye(scan.points, result.class_id, class_map, self.path / f"{scan.name}.png", title=title)


@dataclass(eq=False)
class Tally:
    """What became of the scans so far."""

    expected: int
    class_counts: np.ndarray = field(default_factory=lambda: np.zeros(256, np.int64))
    seconds: list[float] = field(default_factory=list)

    @property
    def missing(self) -> int:
        """Scans without labels: unreadable ones, and those after the place where a bag is damaged."""
        return self.expected - len(self.seconds)


def label_scans(
    scans: ScanSequence,
    segmenter: Segmenter,
    mounting: SensorMounting,
    folder: LabelFolder,
    *,
    votes: int = 1,
    random_angles: bool = False,
) -> Tally:
    """Label every scan and write its files, showing progress. One that fails is reported and the next is done."""
    tally = Tally(len(scans))
    rng = np.random.default_rng(0) if random_angles else None
    console = Console(stderr=True)
    doubt = ""
    failures: dict[str, list[str]] = defaultdict(list)
    if not segmenter.card.trained:
        console.print(f"[bold red]{UNTRAINED}[/]")
    with progress_bar(console) as progress:
        for scan in progress.track(_read(scans), total=len(scans)):
            if isinstance(scan, TwodpassError):
                alike = failures[without_numbers(str(scan))]
                alike.append(str(scan))
                if len(alike) == 1:
                    print_error(str(scan), console)
                continue
            start = time.perf_counter()
            try:
                points = mounting.to_training(scan.points)
                result = segmenter.segment(points, votes=votes, random_votes=rng)
            except (MemoryError, torch.cuda.OutOfMemoryError) as error:
                print_error(f"{scan.name}: the memory is full: {error}", console)
                continue
            tally.seconds.append(time.perf_counter() - start)
            if not doubt and (doubt := doubt_of_unit(points[:, 3], segmenter.card.intensity_max)):
                print_note(f"{scan.name}: {doubt}; --intensity-scale converts it", console)
            tally.class_counts += np.bincount(result.class_id, minlength=256)
            title = scan.name if segmenter.card.trained else f"{scan.name}   {UNTRAINED}"
            folder.write(scan, result, segmenter.class_map, title)
    for first, *more in failures.values():
        if more:
            print_note(f"{counted(len(more), 'more scan')} like this: {first}", console)
    return tally


def print_summary(tally: Tally, segmenter: Segmenter, folder: LabelFolder) -> None:
    """Points by class over all scans, and how long one took; where none could be labelled, only that."""
    output = Console()
    if tally.seconds:
        output.print(_class_table(tally, segmenter.class_map))
        where = f"{segmenter.device} ({segmenter.backend})"
        median = 1000 * np.median(tally.seconds)
        written = f"median {median:.0f} ms per scan on {where}, written to {folder.path}"
        output.print(written, markup=False, soft_wrap=True)
    if tally.missing:
        output.print(f"[red]not labelled: {tally.missing} of {counted(tally.expected, 'scan')}[/]")
    if not segmenter.card.trained:
        output.print(f"[bold red]{UNTRAINED}[/]")


def _class_table(tally: Tally, class_map: ClassMap) -> Table:
    total = int(tally.class_counts.sum())
    title = f"{counted(len(tally.seconds), 'scan')}, {counted(total, 'point')}"
    table = Table("id", "class", "raw id", "points", "share", title=title)
    for column in (0, 2, 3, 4):
        table.columns[column].justify = "right"
    rows = [(str(c.id), escape(c.name), str(c.raw_id), int(tally.class_counts[c.id])) for c in class_map.classes[1:]]
    unlabelled_raw = class_map.classes[IGNORED].raw_id
    rows.append((str(UNLABELLED), "unlabelled", str(unlabelled_raw), int(tally.class_counts[UNLABELLED])))
    for class_id, name, raw_id, count in rows:
        table.add_row(class_id, name, raw_id, f"{count:,}", f"{count / total:.1%}" if total else "")
    return table


def _read(scans: ScanSequence) -> Iterator[Scan | TwodpassError]:
    """The scans, with the error in the place of one that cannot be read."""
    iterator = iter(scans)
    while True:
        try:
            yield next(iterator)
        except StopIteration:
            return
        except TwodpassError as error:
            yield error
