"""The frames that `twodpass evaluate` and `twodpass submit` are given."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Final, get_args

from rich.console import Console

from twodpass_core.choices import BenchmarkKind
from twodpass_core.cli.bag_options import bag_option
from twodpass_core.cli.edge import checked_settings, print_note
from twodpass_core.cli.work.progress import progress_bar
from twodpass_core.data.bags import bags_in
from twodpass_core.data.bags.config import BagConfig
from twodpass_core.data.frame import Frame, FrameSource
from twodpass_core.data.opening import open_evaluation
from twodpass_core.data.source import SourceConfig
from twodpass_core.errors import ConfigError
from twodpass_core.files import expanded
from twodpass_core.sensor import doubt_of_unit
from twodpass_core.training.config_file import load_config
from twodpass_core.training.shipped import is_settings, shipped_settings
from twodpass_core.weights import Card

BY_THE_SCALE: Final = (
    "bags are converted by --intensity-scale, those of settings by data.validation.bag.intensity_scale, folders that "
    "were prepared from bags by `twodpass prepare --intensity-scale`"
)
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

    Args:
        kind: what is in folders; semantickitti unless given.
        split: the part of it to take, val unless given; of settings, instead of their own.
        bag: how bags are read.
        sequences: those to take in folders of SemanticKITTI's form, instead of the split's.

    Raises:
        ConfigError: one of these is given, and there is nothing that it could apply to.
    """
    named = ", ".join(map(str, data))
    if (said := bag.model_dump(exclude_defaults=True)) and not any(map(bags_in, data)):
        raise ConfigError(f"{named}: no bag, to which {', '.join(map(bag_option, sorted(said)))} could apply")
    in_other_form = kind not in (None, "semantickitti")
    if sequences and (in_other_form or all(bags_in(path) or is_settings(path) for path in data)):
        raise ConfigError(f"{named}: no folder in SemanticKITTI's form, to which --sequences could apply")
    _refuse_unheeded(data, kind, split)
    return [open_evaluation(_settings(path, kind, split, "val", bag, sequences)) for path in data]


def submission_settings(data: Path, kind: str | None, split: str | None) -> SourceConfig:
    """A folder's data, or what a training's settings validate on, without images.

    Of a folder `split`, test unless given; of settings, `split` instead of their own. Raises ConfigError for data that
    has no benchmark.
    """
    _refuse_unheeded([data], kind, split)
    settings = _settings(data, kind, split, "test", BagConfig()).model_copy(update={"cameras": ()})
    if settings.kind not in BENCHMARKS:
        raise ConfigError(
            f"{data}: is of kind {settings.kind}, and benchmarks are for {' and '.join(BENCHMARKS)}: "
            "`twodpass segment` labels scans of bags and folders"
        )
    return settings


def _refuse_unheeded(data: Sequence[Path], kind: str | None, split: str | None) -> None:
    bags = [path for path in data if bags_in(path)]
    other_kind = kind is not None and not (kind == "bag" and bags)
    if other_kind and all(path in bags or is_settings(path) for path in data):
        raise ConfigError(
            f"--kind is for folders of data, but {data[0]} says itself what it is: leave it out"
            + ("" if bags else ", or change its data.validation")
        )
    if split and len(bags) == len(data):
        raise ConfigError(f"--split is for folders of data and settings, but {data[0]} is a bag: leave it out")


def _settings(
    data: Path,
    kind: str | None,
    split: str | None,
    usual_split: str,
    bag: BagConfig,
    sequences: Sequence[str] | None = None,
) -> SourceConfig:
    unlabelled = "skip"
    if bags_in(data):
        bags = {"kind": "bag", "root": data, "split": usual_split, "unlabelled": unlabelled, "bag": bag}
        return checked_settings(SourceConfig, bags)
    if is_settings(data):
        settings = load_config(data).data.validation
        if settings is None:
            raise ConfigError(f"{data}: has no data.validation to evaluate on")
        # Sequences that are named stand in the place of a split, and so would in that of another one.
        return settings.model_copy(update={"split": split, "sequences": None}) if split else settings
    if not expanded(data).exists():
        known = ", ".join(shipped_settings())
        raise ConfigError(f"{data}: does not exist: give a folder of data, a bag, or settings: a YAML file, or {known}")
    folder = {"kind": kind or "semantickitti", "root": data, "split": split or usual_split, "sequences": sequences}
    return checked_settings(SourceConfig, {**folder, "unlabelled": unlabelled})


def frames_of(source: FrameSource, *cards: Card) -> Iterator[Frame]:
    """All of them, while a bar shows how far it is. Intensities in another unit than that of weights are told once."""
    console = Console(stderr=True)
    limits = {card.intensity_max for card in cards}
    with progress_bar(console) as progress:
        for frame in progress.track((source[index] for index in range(len(source))), total=len(source)):
            for limit in sorted(limits):
                if doubt := doubt_of_unit(frame.points[:, 3], limit):
                    limits.remove(limit)
                    print_note(f"{frame.id}: {doubt}; {BY_THE_SCALE}", console)
            yield frame
