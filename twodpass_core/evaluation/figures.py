"""Pictures drawn with matplotlib, without a window: they are files."""

from __future__ import annotations

from pathlib import Path

from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure

from twodpass_core.files import replacing

DOTS_PER_INCH = 120


def new_figure(width: float, height: float) -> Figure:
    """An empty one; inches."""
    figure = Figure(figsize=(width, height), dpi=DOTS_PER_INCH, layout="constrained")
    FigureCanvasAgg(figure)
    return figure


def save_figure(figure: Figure, path: Path) -> None:
    """Write a PNG whole or not at all, the same bytes for the same figure. Raises OSError."""
    with replacing(path) as partial:
        figure.savefig(str(partial), format="png", metadata={"Software": None})
