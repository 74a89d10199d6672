"""A comparison for people: what changed by class, in the terminal, as Markdown and as JSON."""

from __future__ import annotations

import json
import math
from collections.abc import Callable
from pathlib import Path

from rich import box
from rich.markup import escape
from rich.table import Table

from twodpass_core.evaluation.compare import MIN_FRAMES, Change, ClassChange, Comparison
from twodpass_core.evaluation.report import finite_or_none, percent
from twodpass_core.files import replacing
from twodpass_core.wording import counted

COLUMNS = ("class", "points", "before", "after", "change", "95 %", "mended", "broken", "mostly taken for")


def comparison_table(comparison: Comparison) -> Table:
    """IoU in per cent; changes that nearly all resamplings agree on in colour."""
    title = f"{counted(comparison.after.frames, 'frame')}, {comparison.after.definition}"
    table = Table(*COLUMNS, title=title, box=box.SIMPLE_HEAD, padding=(0, 1, 0, 0))  # little but the columns
    for column in table.columns[1:-1]:
        column.justify, column.overflow = "right", "fold"
    table.columns[0].no_wrap = True
    for change in comparison.classes:
        table.add_row(*map(escape, _row(change)), style=_style(change.iou))
    table.add_section()
    table.add_row(*_mean_row(comparison), style=_style(comparison.mean_iou))
    return table


def summary(comparison: Comparison) -> str:
    """What changed, in a sentence or two."""
    mean = comparison.mean_iou
    scores = f"Mean IoU {percent(mean.before)} before, {percent(mean.after)} after ({_signed(mean.difference)})."
    if mean.frames < MIN_FRAMES:
        frames = counted(mean.frames, "frame")
        return f"{scores} {frames} cannot tell better from worse, which takes {MIN_FRAMES} at least."
    better = _names(comparison, lambda change: change.is_clear and change.difference > 0)
    worse = _names(comparison, lambda change: change.is_clear and change.difference < 0)
    unknown = _names(comparison, lambda change: change.is_unknown)
    rare = f" In fewer than {MIN_FRAMES} frames, too few to tell: {unknown}." if unknown else ""
    return f"{scores} Clearly better: {better or 'no class'}. Clearly worse: {worse or 'no class'}.{rare}"


def _names(comparison: Comparison, which: Callable[[Change], bool]) -> str:
    return ", ".join(change.entry.name for change in comparison.classes if which(change.iou))


def write_comparison(comparison: Comparison, folder: Path, *, before: str, after: str) -> None:
    """Write comparison.md and comparison.json into a folder, made if missing; `before`, `after`: names of the weights.

    Raises OSError where it cannot be written to.
    """
    folder.mkdir(parents=True, exist_ok=True)
    with replacing(folder / "comparison.md") as path:
        path.write_text(_markdown(comparison, before, after), encoding="utf-8")
    content = {
        "before": before,
        "after": after,
        "frames": comparison.after.frames,
        "definition": comparison.after.definition,
        "mean_iou": _json(comparison.mean_iou),
        "classes": [
            {
                "id": change.entry.id,
                "class": change.entry.name,
                "points": change.points,
                "mended": change.mended,
                "broken": change.broken,
                **_json(change.iou),
            }
            for change in comparison.classes
        ],
    }
    with replacing(folder / "comparison.json") as path:
        path.write_text(json.dumps(content, indent=2) + "\n", encoding="utf-8")


def _markdown(comparison: Comparison, before: str, after: str) -> str:
    rows = [_row(change) for change in comparison.classes] + [_mean_row(comparison)]
    lines = [
        f"# {after} against {before}",
        "",
        summary(comparison),
        "",
        f"{counted(comparison.after.frames, 'frame')}; IoU in per cent, counted as {comparison.after.definition}. "
        f"95 %: the change in that share of resamplings of the frames, where {MIN_FRAMES} or more have the class. "
        "Mended, broken: labelled points that only the later, only the earlier weights are right on.",
        "",
        _line(COLUMNS),
        _line(["---"] + ["---:"] * (len(COLUMNS) - 2) + ["---"]),
        *map(_line, rows),
    ]
    return "\n".join(lines) + "\n"


def _line(cells: tuple[str, ...] | list[str]) -> str:
    return f"| {' | '.join(cell.replace('|', '/') for cell in cells)} |"


def _row(change: ClassChange) -> tuple[str, ...]:
    taken = "" if change.taken_for is None else f"{change.taken_for[0].name} ({100 * change.taken_for[1]:.0f} %)"
    return change.entry.name, *_numbers(change.points, change.iou, change.mended, change.broken), taken


def _mean_row(comparison: Comparison) -> tuple[str, ...]:
    points, mended, broken = (
        sum(getattr(change, name) for change in comparison.classes) for name in ("points", "mended", "broken")
    )
    return "mean IoU", *_numbers(points, comparison.mean_iou, mended, broken), ""


def _numbers(points: int, iou: Change, mended: int, broken: int) -> tuple[str, ...]:
    interval = "" if math.isnan(iou.low) else f"{100 * iou.low:+.1f} .. {100 * iou.high:+.1f}"
    shown = percent(iou.before), percent(iou.after), _signed(iou.difference), interval
    return f"{points:,}", *shown, f"{mended:,}", f"{broken:,}"


def _style(change: Change) -> str:
    if not change.is_clear:
        return ""
    return "green" if change.difference > 0 else "red"


def _signed(value: float) -> str:
    return "" if math.isnan(value) else f"{100 * value:+.2f}"


def _json(change: Change) -> dict[str, float | None]:
    values = {"iou_before": change.before, "iou_after": change.after, "low": change.low, "high": change.high}
    return {"frames": change.frames, **{name: finite_or_none(value) for name, value in values.items()}}
