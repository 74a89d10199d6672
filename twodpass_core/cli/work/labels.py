"""What `twodpass labels` shows."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Final

import numpy as np
from rich.console import Console
from rich.markup import escape
from rich.table import Table

from twodpass_core.classes import ClassMap
from twodpass_core.cli.edge import print_note
from twodpass_core.cli.work.progress import progress_bar
from twodpass_core.labels.proposals import Proposal
from twodpass_core.labels.status import LabelStatus
from twodpass_core.weights import UNTRAINED
from twodpass_core.wording import counted

HARDLY_ANY: Final = 0.001  # share of the points


def status_table(found: Sequence[LabelStatus]) -> Table:
    """A row for each bag."""
    table = Table("bag", "scans", "labelled", "proposed", "problems")
    for column in range(1, 5):
        table.columns[column].justify = "right"
    for entry in found:
        counts = entry.scans, entry.labelled, entry.proposed, len(entry.problems)
        table.add_row(escape(str(entry.bag)), *(f"{count:,}" for count in counts))
    return table


def class_table(found: Sequence[LabelStatus], class_map: ClassMap) -> Table:
    """Points of each class in the label files of all bags."""
    points = np.sum([entry.points for entry in found], axis=0)
    table = Table("id", "class", "points", "share", title="labelled beside the bags")
    for column in (0, 2, 3):
        table.columns[column].justify = "right"
    for entry, count in zip(class_map.classes, points.tolist(), strict=True):
        if count:
            table.add_row(str(entry.id), escape(entry.name), f"{count:,}", f"{count / points.sum():.1%}")
    return table


def print_proposals(proposals: Iterable[Proposal], total: int, *, min_probability: float, trained: bool) -> None:
    """Show progress while they are made, and a summary, with a note where hardly any point was sure enough."""
    console = Console(stderr=True)
    if not trained:
        console.print(f"[bold red]{UNTRAINED}[/]")
    scans = points = labelled = 0
    with progress_bar(console) as progress:
        for proposal in progress.track(proposals, total=total):
            scans, points, labelled = scans + 1, points + proposal.points, labelled + proposal.labelled
    share = f", {labelled / points:.1%} of their points" if points else ""
    Console().print(f"labels proposed for {counted(scans, 'scan')}{share}", markup=False)
    if labelled < HARDLY_ANY * points:
        print_note(
            f"hardly any point reaches --min-probability {min_probability:g}: are --sensor-transform and "
            "--intensity-scale right? If so, lower it, and run again with --again"
        )
