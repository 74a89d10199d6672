"""An evaluation for people: tables and pictures."""

from __future__ import annotations

import csv
import json
import math
from itertools import pairwise
from pathlib import Path
from typing import Final

import torch
from rich.markup import escape
from rich.table import Table

from twodpass_core.evaluation.evaluate import Evaluation
from twodpass_core.evaluation.metrics import DISTANCES
from twodpass_core.figures import new_figure, save_figure
from twodpass_core.files import replacing
from twodpass_core.wording import counted

SCORES: Final = "scores.json"
CLASSES: Final = "classes.csv"


def write_report(evaluation: Evaluation, folder: Path) -> None:
    """Write classes.csv, scores.json, confusion.png and distance.png into a folder, made if missing.

    Raises OSError where it cannot be written to.
    """
    folder.mkdir(parents=True, exist_ok=True)
    with replacing(folder / CLASSES) as path, path.open("w", newline="", encoding="utf-8") as file:
        csv.writer(file).writerows(class_rows(evaluation))
    scores = evaluation.scores
    summary = {
        "definition": evaluation.definition,
        "frames": evaluation.frames,
        "mean_iou": finite_or_none(scores.mean_iou),
        "accuracy": finite_or_none(scores.accuracy),
        "frequency_weighted_iou": finite_or_none(scores.frequency_weighted_iou),
        "distances": list(DISTANCES),
        "mean_iou_by_distance": [finite_or_none(part.mean_iou) for part in evaluation.by_distance],
    }
    with replacing(folder / SCORES) as path:
        path.write_text(json.dumps(summary, indent=2) + "\n", encoding="utf-8")
    draw_confusion(evaluation, folder / "confusion.png")
    draw_distances(evaluation, folder / "distance.png")


def class_rows(evaluation: Evaluation) -> list[list[object]]:
    """A header and a row for every class but 0: id, name, labelled points, IoU (empty where there is none)."""
    scores = evaluation.scores
    rows: list[list[object]] = [["id", "class", "points", "iou"]]
    for entry, points, iou in zip(evaluation.class_map.classes[1:], scores.points, scores.iou, strict=True):
        rows.append([entry.id, entry.name, points, "" if math.isnan(iou) else f"{iou:.4f}"])
    return rows


def class_table(evaluation: Evaluation) -> Table:
    """The same for a terminal, with what is over all classes."""
    scores = evaluation.scores
    title = f"{counted(evaluation.frames, 'frame')}, {evaluation.definition}"
    table = Table("id", "class", "points", "IoU, %", title=title)
    for column in (0, 2, 3):
        table.columns[column].justify = "right"
    for entry, points, iou in zip(evaluation.class_map.classes[1:], scores.points, scores.iou, strict=True):
        table.add_row(str(entry.id), escape(entry.name), f"{points:,}", percent(iou))
    table.add_section()
    table.add_row("", "mean IoU", f"{sum(scores.points):,}", percent(scores.mean_iou))
    table.add_row("", "accuracy", "", percent(scores.accuracy))
    table.add_row("", "frequency-weighted IoU", "", percent(scores.frequency_weighted_iou))
    table.add_section()
    for name, part in zip(_bins(), evaluation.by_distance, strict=True):
        table.add_row("", f"mean IoU, {name}", f"{sum(part.points):,}", percent(part.mean_iou))
    if any(map(math.isnan, scores.iou)):
        table.caption = "classes neither labelled nor predicted are not in the mean"
    return table


def draw_confusion(evaluation: Evaluation, path: Path) -> None:
    """Where the points of each class went, as shares of the class; the first column is nothing."""
    counts = evaluation.counts.sum(0)[1:].double()
    shares = torch.where(counts.sum(1, keepdim=True) > 0, counts / counts.sum(1, keepdim=True), torch.nan)
    names = evaluation.class_map.names
    size = 2.5 + 0.33 * len(names)
    figure = new_figure(size + 0.8, size)
    axes = figure.add_subplot()
    image = axes.imshow(shares.cpu().numpy(), vmin=0, vmax=1, cmap="viridis")
    axes.set_xticks(range(len(names)), ["nothing", *names[1:]], rotation=90, parse_math=False)
    axes.set_yticks(range(len(names) - 1), names[1:], parse_math=False)
    axes.set_xlabel("predicted class")
    axes.set_ylabel("labelled class (blank: has no points)")
    axes.set_title(f"What the points of each class were taken for, {counted(evaluation.frames, 'frame')}")
    figure.colorbar(image, label="share of the class's labelled points", fraction=0.046)
    save_figure(figure, path)


def draw_distances(evaluation: Evaluation, path: Path) -> None:
    """Mean IoU by distance from the sensor (fig. 6a)."""
    figure = new_figure(6, 4)
    axes = figure.add_subplot()
    values = [100 * part.mean_iou for part in evaluation.by_distance]
    heights = [0 if math.isnan(value) else value for value in values]
    bars = axes.bar(_bins(), heights, color="#3b7dd8")
    axes.bar_label(bars, ["no points" if math.isnan(value) else f"{value:.1f}" for value in values], padding=2)
    axes.set_title(f"Mean IoU by distance, {counted(evaluation.frames, 'frame')}")
    axes.set_ylim(0, 108)  # with room for the number above a full bar
    axes.set_xlabel("distance from the sensor, m")
    axes.set_ylabel("mean IoU, %")
    save_figure(figure, path)


def _bins() -> list[str]:
    inner = [f"{low:g}-{high:g} m" for low, high in pairwise(DISTANCES)]
    return [*inner, f"from {DISTANCES[-1]:g} m"]


def percent(value: float) -> str:
    """Of a share; empty for what is not a number."""
    return "" if math.isnan(value) else f"{100 * value:.2f}"


def finite_or_none(value: float) -> float | None:
    """As JSON can hold it: None for what is not a number."""
    return value if math.isfinite(value) else None
