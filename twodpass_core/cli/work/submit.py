"""What `twodpass submit` does."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import numpy as np
from rich.console import Console

from twodpass_core.classes import check_classes
from twodpass_core.cli.work.evaluation_data import frames_of
from twodpass_core.data.source import SourceConfig, open_source
from twodpass_core.evaluation.submissions import (
    NuScenesSubmission,
    SemanticKittiSubmission,
    Submission,
    write_submission,
)
from twodpass_core.segmenter import Segmenter
from twodpass_core.wording import counted


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
        for frame in frames_of(source, segmenter.card):
            yield frame.id, frame.points, segmenter.segment(frame.points, votes=votes).class_id

    number = write_submission(out, submission, labelled())
    Console().print(f"{counted(number, 'scan')} written to {out}", markup=False, soft_wrap=True)
