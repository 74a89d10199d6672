"""Pictures drawn with matplotlib, without a window: they are files."""

from __future__ import annotations

from pathlib import Path
from typing import Literal

from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure

from twodpass_core.files import replacing

DOTS_PER_INCH = 120


def new_figure(
    width: float, height: float, *, dpi: int = DOTS_PER_INCH, layout: Literal["constrained"] | None = "constrained"
) -> Figure:
    """An empty one; inches. Without a layout its axes are where they are put."""
    figure = Figure(figsize=(width, height), dpi=dpi, layout=layout)
    FigureCanvasAgg(figure)
    return figure


def save_figure(figure: Figure, path: Path) -> None:
    """Write a PNG whole or not at all, the same bytes for the same figure. Raises OSError."""
    with replacing(path) as partial:
        figure.savefig(str(partial), format="png", metadata={"Software": None})
