"""A run's log as a picture."""

from __future__ import annotations

import json
from contextlib import suppress
from pathlib import Path
from typing import Any

from matplotlib.ticker import MaxNLocator

from twodpass_core.figures import new_figure, save_figure


def read_log(path: Path) -> list[dict[str, Any]]:
    """The entries of a log.jsonl, one per epoch; of an epoch that was resumed and logged again, the last.

    Each has numbers by name, None for what is not a number. Lines that are damaged are left out.
    """
    entries = {}
    for line in path.read_text(encoding="utf-8", errors="replace").splitlines():
        with suppress(ValueError, TypeError, KeyError):  # no JSON, no mapping, no epoch
            entry = json.loads(line)
            entries[entry["epoch"]] = entry
    return list(entries.values())


def draw_curves(log: Path, picture: Path) -> None:
    """Loss, mean IoU and learning rate by epoch. Raises OSError where the picture cannot be written."""
    entries = read_log(log)
    figure = new_figure(11, 3.4)
    panels = (
        ("train/loss", "training loss", 1.0),
        ("val/mean_iou", "validation mean IoU, %", 100.0),
        ("learning_rate", "learning rate", 1.0),
    )
    for axes, (key, title, factor) in zip(figure.subplots(1, 3), panels, strict=True):
        known = [entry for entry in entries if entry.get(key) is not None]
        axes.plot([entry["epoch"] for entry in known], [factor * entry[key] for entry in known], marker=".")
        axes.set_title(title)
        axes.set_xlabel("epoch")
        axes.xaxis.set_major_locator(MaxNLocator(integer=True, min_n_ticks=1))
        axes.grid(alpha=0.3)
    save_figure(figure, picture)
