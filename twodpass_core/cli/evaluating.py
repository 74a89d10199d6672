"""What `twodpass evaluate` and `twodpass submit` do."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from itertools import product
from pathlib import Path
from typing import Final, get_args

import numpy as np
from rich.console import Console

from twodpass_core.choices import BenchmarkKind, Definition
from twodpass_core.classes import check_classes
from twodpass_core.cli.bag_options import bag_option
from twodpass_core.cli.edge import checked_settings, print_note, print_whole
from twodpass_core.cli.progress import progress_bar
from twodpass_core.data.bags import bags_in
from twodpass_core.data.bags.config import BagConfig
from twodpass_core.data.frame import Frame, FrameSource
from twodpass_core.data.labelled import LabelledOnly
from twodpass_core.data.opening import open_evaluation
from twodpass_core.data.source import SourceConfig, open_source
from twodpass_core.errors import ConfigError
from twodpass_core.evaluation.compare import compare
from twodpass_core.evaluation.comparison_report import comparison_table, summary, write_comparison
from twodpass_core.evaluation.evaluate import evaluate
from twodpass_core.evaluation.report import class_table, write_report
from twodpass_core.evaluation.submissions import (
    NuScenesSubmission,
    SemanticKittiSubmission,
    Submission,
    write_submission,
)
from twodpass_core.files import expanded
from twodpass_core.segmenter import Segmenter
from twodpass_core.sensor import doubt_of_unit
from twodpass_core.training.config_file import load_config
from twodpass_core.training.shipped import is_settings, shipped_settings
from twodpass_core.weights import Card
from twodpass_core.wording import counted

BENCHMARKS: Final = get_args(BenchmarkKind)
"""Kinds of data whose test sets are submitted."""


def evaluation_sources(
    data: Sequence[Path],
    kind: str | None,
    split: str | None,
    bag: BagConfig,
    sequences: Sequence[str] | None = None,
) -> list[FrameSource]:
    """The labelled frames in folders and bags, or those that trainings' settings validate on; never with images.

    `kind` and `split` say what is in folders (semantickitti and val unless given), `bag` how bags are read, `sequences`
    which ones are taken instead of the split's in folders of SemanticKITTI's form. Raises ConfigError where there is
    nothing that these could apply to.
    """
    named = ", ".join(map(str, data))
    if (said := bag.model_dump(exclude_defaults=True)) and not any(map(bags_in, data)):
        raise ConfigError(f"{named}: no bag, to which {', '.join(map(bag_option, sorted(said)))} could apply")
    in_other_form = kind not in (None, "semantickitti")
    if sequences and (in_other_form or all(bags_in(path) or is_settings(path) for path in data)):
        raise ConfigError(f"{named}: no folder in SemanticKITTI's form, to which --sequences could apply")
    _refuse_unheeded(data, kind, split)
    return [open_evaluation(_settings(path, kind, split or "val", bag, sequences)) for path in data]


def submission_settings(data: Path, kind: str | None, split: str | None) -> SourceConfig:
    """All frames in a folder, of split test unless given, or of what a training's settings validate on; no images.

    Raises ConfigError for data that has no benchmark.
    """
    _refuse_unheeded([data], kind, split)
    settings = _settings(data, kind, split or "test", BagConfig()).model_copy(update={"cameras": ()})
    if settings.kind not in BENCHMARKS:
        raise ConfigError(
            f"{data}: is of kind {settings.kind}, and benchmarks are for {' and '.join(BENCHMARKS)}: "
            "`twodpass segment` labels scans of bags and folders"
        )
    return settings


def _refuse_unheeded(data: Sequence[Path], kind: str | None, split: str | None) -> None:
    bags = [path for path in data if bags_in(path)]
    other_kind = kind is not None and not (kind == "bag" and bags)
    if (other_kind or split) and all(path in bags or is_settings(path) for path in data):
        raise ConfigError(
            f"--kind and --split are for folders of data, but {data[0]} says itself what it is: leave them out"
            + ("" if bags else ", or change its data.validation")
        )


def _settings(
    data: Path, kind: str | None, split: str, bag: BagConfig, sequences: Sequence[str] | None = None
) -> SourceConfig:
    unlabelled = "skip"
    if bags_in(data):
        bags = {"kind": "bag", "root": data, "split": split, "unlabelled": unlabelled, "bag": bag}
        return checked_settings(SourceConfig, bags)
    if is_settings(data):
        settings = load_config(data).data.validation
        if settings is None:
            raise ConfigError(f"{data}: has no data.validation to evaluate on")
        return settings
    if not expanded(data).exists():
        known = ", ".join(shipped_settings())
        raise ConfigError(f"{data}: does not exist: give a folder of data, a bag, or settings: a YAML file, or {known}")
    folder = {"kind": kind or "semantickitti", "root": data, "split": split, "sequences": sequences}
    return checked_settings(SourceConfig, {**folder, "unlabelled": unlabelled})


def report_folders(out: Path | None, data: Sequence[Path]) -> list[Path | None]:
    """Where the report on each set of data goes: into `out`, or with several sets into folders of their names there."""
    if out is None or len(data) == 1:
        return [out] * len(data)
    names = [path.resolve().stem if path.is_file() else path.resolve().name for path in data]
    return [out / (name if names.count(name) == 1 else f"{number}_{name}") for number, name in enumerate(names)]


def _make_folder(out: Path | None) -> None:
    """The folder of a report, before the time that it takes to come so far."""
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
    evaluation = evaluate(segmenter, _frames(source, segmenter.card), votes=votes, definition=definition)
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
    comparison = compare(before, after, _frames(source, before.card, after.card), votes=votes, definition=definition)
    output = Console()
    print_whole(comparison_table(comparison))
    _tell_left_out(source, output)
    output.print(summary(comparison), markup=False, soft_wrap=True)
    if out is not None:
        write_report(comparison.after, out)
        write_report(comparison.before, out / "before")
        write_comparison(comparison, out, before=names[0], after=names[1])
        output.print(f"written to {out}", markup=False, soft_wrap=True)


def run_submission(segmenter: Segmenter, settings: SourceConfig, out: Path, *, votes: int) -> None:
    """Label all frames of a source and write them as the benchmark of their classes wants them."""
    source = open_source(settings)
    check_classes(segmenter.class_map, source.class_map)
    submission: Submission
    if source.class_map.name == "nuscenes":
        submission = NuScenesSubmission(settings.split)
    else:
        submission = SemanticKittiSubmission(source.class_map)

    def labelled() -> Iterator[tuple[str, np.ndarray, np.ndarray]]:
        for frame in _frames(source, segmenter.card):
            yield frame.id, frame.points, segmenter.segment(frame.points, votes=votes).class_id

    number = write_submission(out, submission, labelled())
    Console().print(f"{counted(number, 'scan')} written to {out}", markup=False, soft_wrap=True)


def _tell_left_out(source: FrameSource, output: Console) -> None:
    if isinstance(source, LabelledOnly):
        found = counted(len(source) + source.left_out, "frame")
        output.print(f"{source.left_out} of {found} left out: without labels", markup=False)


def _frames(source: FrameSource, *cards: Card) -> Iterator[Frame]:
    """All of them, while a bar shows how far it is. Intensities in another unit than that of weights are told once."""
    console = Console(stderr=True)
    limits = {card.intensity_max for card in cards}
    with progress_bar(console) as progress:
        for frame in progress.track((source[index] for index in range(len(source))), total=len(source)):
            for limit in sorted(limits):
                if doubt := doubt_of_unit(frame.points[:, 3], limit):
                    limits.remove(limit)
                    print_note(f"{frame.id}: {doubt}; bags are converted by --intensity-scale", console)
            yield frame
