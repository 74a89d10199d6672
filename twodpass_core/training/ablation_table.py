"""The rows of an ablation, and what it found: scores of every run, mean and spread over seeds, as a table."""

from __future__ import annotations

import statistics
from collections.abc import Mapping, Sequence
from typing import Any, Final

from pydantic import BaseModel, ConfigDict

from twodpass_core.wording import counted

ROWS: Final[Mapping[str, Mapping[str, Any]]] = {
    "baseline": {"kind": "none"},
    "KL": {"kind": "msfskd", "fusion": False, "learner": False},
    "fusion": {"kind": "msfskd", "fusion": True, "learner": False},
    "learner": {"kind": "msfskd", "fusion": True, "learner": True},
}
"""Settings of the distillation in each row; each adds one part to the row before."""


class RunScores(BaseModel):
    """One run on the validation frames, from 0 to 1."""

    model_config = ConfigDict(frozen=True)

    seed: int
    frames: int
    mean_iou: float
    accuracy: float
    iou: Mapping[str, float | None]  # by class; None where the class neither is there nor was predicted


class AblationRow(BaseModel):
    """The runs with some parts of the distillation, by seed."""

    model_config = ConfigDict(frozen=True)

    name: str
    runs: tuple[RunScores, ...]

    def over(self, other: AblationRow) -> list[float]:
        """Gain in mean IoU over another row, for each seed that both have: the same start and order of frames."""
        theirs = {run.seed: run.mean_iou for run in other.runs}
        return [run.mean_iou - theirs[run.seed] for run in self.runs if run.seed in theirs]


class AblationResult(BaseModel):
    """All rows, the baseline first, and the settings that they share."""

    model_config = ConfigDict(frozen=True)

    rows: tuple[AblationRow, ...]
    settings: Mapping[str, Any]

    def markdown(self) -> str:
        """Two tables: mean IoU by row, and IoU by class; percent, mean and standard deviation over seeds."""
        frames = max((run.frames for row in self.rows for run in row.runs), default=0)
        seeds = len({run.seed for row in self.rows for run in row.runs})
        lines = [
            "# What each part of 2DPASS adds",
            "",
            f"Mean IoU in percent on {counted(frames, 'validation frame')} at the end of each run (no best epoch is "
            f"picked), mean and standard deviation over {counted(seeds, 'seed')}. Gains are between runs of the "
            "same seed.",
            "",
            *_table(
                ("", "KL", "fusion", "2D learner", "mean IoU", "gain over baseline", "by seed"),
                [self._row(row) for row in self.rows],
            ),
            "",
            "IoU by class, mean over seeds:",
            "",
            *_table(("class", *(_title(row) for row in self.rows)), self._class_rows()),
        ]
        return "\n".join(lines)

    def _row(self, row: AblationRow) -> list[str]:
        values = [run.mean_iou for run in row.runs]
        gain = "" if row is self.rows[0] else _spread(row.over(self.rows[0]), sign="+")
        by_seed = ", ".join(f"{100 * value:.2f}" for value in values)
        return [_title(row), *_marks(row), _spread(values), gain, by_seed]

    def _class_rows(self) -> list[list[str]]:
        classes = next((list(run.iou) for row in self.rows for run in row.runs), [])
        return [[name, *(_mean([run.iou[name] for run in row.runs]) for row in self.rows)] for name in classes]


def _title(row: AblationRow) -> str:
    return row.name if row.name == "baseline" else f"+ {'2D learner' if row.name == 'learner' else row.name}"


def _marks(row: AblationRow) -> list[str]:
    """Which of KL, fusion and 2D learner are part of it."""
    settings = ROWS[row.name]
    parts = settings["kind"] == "msfskd", settings.get("fusion"), settings.get("learner")
    return ["✓" if part else "" for part in parts]


def _spread(values: Sequence[float], sign: str = "") -> str:
    if not values:
        return ""
    mean = f"{100 * statistics.fmean(values):{sign}.2f}"
    return mean if len(values) < 2 else f"{mean} ± {100 * statistics.stdev(values):.2f}"


def _mean(values: Sequence[float | None]) -> str:
    known = [value for value in values if value is not None]
    return f"{100 * statistics.fmean(known):.1f}" if known else ""


def _table(header: Sequence[str], rows: Sequence[Sequence[str]]) -> list[str]:
    return [f"| {' | '.join(cells)} |" for cells in (header, ["---"] * len(header), *rows)]
