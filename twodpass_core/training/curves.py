"""A run's log as a picture."""

from __future__ import annotations

import json
from pathlib import Path

from twodpass_core.errors import MissingDependencyError
from twodpass_core.files import replacing


def read_log(path: Path) -> list[dict[str, float]]:
    """The entries of a log.jsonl, one per epoch; of an epoch that was resumed and logged again, the last."""
    entries = [json.loads(line) for line in path.read_text(encoding="utf-8").splitlines()]
    return list({entry["epoch"]: entry for entry in entries}.values())


def draw_curves(log: Path, picture: Path) -> None:
    """Loss, mean IoU and learning rate by epoch. Raises MissingDependencyError without matplotlib."""
    try:
        from matplotlib.backends.backend_agg import FigureCanvasAgg
        from matplotlib.figure import Figure
    except ImportError as error:
        raise MissingDependencyError("matplotlib", "drawing pictures", "pip install matplotlib") from error

    entries = read_log(log)
    figure = Figure(figsize=(11, 3.4), dpi=110, layout="constrained")
    FigureCanvasAgg(figure)
    panels = (
        ("train/loss", "training loss", 1.0),
        ("val/mean_iou", "validation mean IoU, %", 100.0),
        ("learning_rate", "learning rate", 1.0),
    )
    for axes, (key, title, factor) in zip(figure.subplots(1, 3), panels, strict=True):
        known = [entry for entry in entries if key in entry]
        axes.plot([entry["epoch"] + 1 for entry in known], [factor * entry[key] for entry in known], marker=".")
        axes.set_title(title)
        axes.set_xlabel("epoch")
        axes.grid(alpha=0.3)
    with replacing(picture) as partial:
        figure.savefig(str(partial), format="png", metadata={"Software": None})
