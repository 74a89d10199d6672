"""What `twodpass evaluate` does."""

from __future__ import annotations

import os
from collections.abc import Sequence
from itertools import product
from pathlib import Path

from rich.console import Console

from twodpass_core.choices import Definition
from twodpass_core.classes import check_classes
from twodpass_core.cli.edge import print_whole
from twodpass_core.cli.work.evaluation_data import frames_of
from twodpass_core.data.frame import FrameSource
from twodpass_core.data.labelled import LabelledOnly
from twodpass_core.errors import ConfigError
from twodpass_core.evaluation.compare import compare
from twodpass_core.evaluation.comparison_report import comparison_table, summary, write_comparison
from twodpass_core.evaluation.evaluate import evaluate
from twodpass_core.evaluation.report import class_table, write_report
from twodpass_core.segmenter import Segmenter
from twodpass_core.wording import counted


def report_folders(out: Path | None, data: Sequence[Path]) -> list[Path | None]:
    """Where the report on each set of data goes: into `out`, or with several sets into folders of their names there.

    A link has its own name, not that of what it points to.
    """
    if out is None or len(data) == 1:
        return [out] * len(data)
    given = [Path(os.path.abspath(path)) for path in data]
    names = [path.stem if path.is_file() else path.name for path in given]
    return [out / (name if names.count(name) == 1 else f"{number}_{name}") for number, name in enumerate(names)]


def _make_folder(out: Path | None) -> None:
    """Make the folder of a report, before the evaluation has taken its time."""
    if out is not None:
        if out.exists() and not out.is_dir():
            raise ConfigError(f"{out} is not a folder: --out is the folder to write to")
        out.mkdir(parents=True, exist_ok=True)


def check_all_classes(segmenters: Sequence[Segmenter], sources: Sequence[FrameSource]) -> None:
    """Raise ConfigError unless all weights know the classes of all data: before the first evaluation has taken time."""
    for segmenter, source in product(segmenters, sources):
        check_classes(segmenter.class_map, source.class_map)


def run_evaluation(
    segmenter: Segmenter, source: FrameSource, *, votes: int, definition: Definition, out: Path | None
) -> None:
    """Evaluate, print the tables, and write the report if there is a folder for it.

    The weights know the classes of the data (`check_all_classes`).
    """
    _make_folder(out)
    evaluation = evaluate(segmenter, frames_of(source, segmenter.card), votes=votes, definition=definition)
    output = Console()
    output.print(class_table(evaluation))
    _tell_left_out(source, output)
    if out is not None:
        write_report(evaluation, out)
        output.print(f"written to {out}", markup=False, soft_wrap=True)


def run_comparison(
    before: Segmenter,
    after: Segmenter,
    source: FrameSource,
    *,
    names: tuple[str, str],
    votes: int,
    definition: Definition,
    out: Path | None,
) -> None:
    """Evaluate both, print what changed, and write the reports if there is a folder for them.

    Both know the classes of the data (`check_all_classes`).
    """
    _make_folder(out)
    comparison = compare(before, after, frames_of(source, before.card, after.card), votes=votes, definition=definition)
    output = Console()
    print_whole(comparison_table(comparison))
    _tell_left_out(source, output)
    output.print(summary(comparison), markup=False, soft_wrap=True)
    if out is not None:
        write_report(comparison.after, out)
        write_report(comparison.before, out / "before")
        write_comparison(comparison, out, before=names[0], after=names[1])
        output.print(f"written to {out}", markup=False, soft_wrap=True)


def _tell_left_out(source: FrameSource, output: Console) -> None:
    if isinstance(source, LabelledOnly):
        found = counted(len(source) + source.left_out, "frame")
        output.print(f"{source.left_out} of {found} left out: without labels", markup=False)
