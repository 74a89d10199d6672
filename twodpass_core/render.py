"""Bird's-eye pictures of labelled scans."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from twodpass_core.classes import IGNORED, ClassMap
from twodpass_core.wording import counted

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.typing import ColorType

Limits = tuple[float, float]

BACKGROUND, GRID, TEXT, MUTED = "#12161c", "#2b333d", "#e6eaf0", "#8b95a3"
PLOT_WIDTH, LEGEND_WIDTH, MARGIN, RIM, TITLE_HEIGHT = 11.0, 2.6, 0.75, 0.25, 0.35
MIN_HEIGHT, MAX_HEIGHT = 5.5, 11.0
"""Inches."""
LEGEND_ROW = 0.28
"""Inches."""
DOTS_PER_INCH = 150
DARKEST = 0.16
"""The lowest luminance (0..1) that is told from the background."""
RING_SPACING = 10.0
FARTHEST = 250.0
"""Metres in x and y beyond which nothing is drawn: a driver's odd point, or a damaged scan's, may be anywhere."""


def render_bird_eye(
    points: np.ndarray, class_id: np.ndarray, class_map: ClassMap, path: str | Path, *, title: str = ""
) -> None:
    """Write a PNG of the scan seen from above, x (forward) to the right, to `path`, whole or not at all.

    points: (N, >= 3), metres; those that are not finite or beyond FARTHEST are not drawn. class_id: (N,) uint8; 255 and
    the ignored class are drawn faintly below the rest. Colours are the class map's, dark ones lightened to stand out
    from the background. The legend lists the classes present with their share of all N points. The view holds the
    sensor and 99 % of the points drawn in each direction. The same arguments give the same file.
    Raises ValueError for arrays that do not fit each other, OSError where it cannot be written.
    """
    if points.ndim != 2 or points.shape[1] < 3 or class_id.shape != points.shape[:1]:
        raise ValueError(f"points {points.shape} and class_id {class_id.shape}: (N, >= 3) and (N,) are needed")
    from twodpass_core.figures import new_figure, save_figure

    shown = np.isfinite(points[:, :3]).all(axis=1) & (np.abs(points[:, :2]) <= FARTHEST).all(axis=1)
    x_limits, y_limits = _view(points[shown])
    height = PLOT_WIDTH * (y_limits[1] - y_limits[0]) / (x_limits[1] - x_limits[0])
    width, full_height = (
        MARGIN + PLOT_WIDTH + LEGEND_WIDTH + RIM,
        MARGIN + height + RIM + (TITLE_HEIGHT if title else 0.0),
    )
    figure = new_figure(width, full_height, dpi=DOTS_PER_INCH, layout=None)
    figure.set_facecolor(BACKGROUND)
    axes, legend = (
        figure.add_axes((x / width, MARGIN / full_height, part / width, height / full_height))
        for x, part in ((MARGIN, PLOT_WIDTH), (MARGIN + PLOT_WIDTH, LEGEND_WIDTH))
    )

    _draw_frame(axes, x_limits, y_limits)
    drawable = title.encode("utf-8", "replace").decode()  # a file's name may have bytes that are no text
    axes.set_title(drawable, color=TEXT, loc="left", fontsize=14, fontweight="bold", pad=12, parse_math=False)
    _draw_points(axes, points[shown], class_id[shown], class_map)
    _draw_sensor(axes)
    _draw_legend(legend, class_id, class_map, rows=height / LEGEND_ROW)
    save_figure(figure, Path(path))


def _view(points: np.ndarray) -> tuple[Limits, Limits]:
    """Limits of x and y in whole 5 m around the origin and 99 % of the points, widened to a height that is pleasant."""
    x, y = (_extent(points[:, axis]) for axis in (0, 1))
    width, depth = x[1] - x[0], y[1] - y[0]
    short = max(MIN_HEIGHT / PLOT_WIDTH * width - depth, 0.0) / 2
    narrow = max(PLOT_WIDTH / MAX_HEIGHT * depth - width, 0.0) / 2
    return (x[0] - narrow, x[1] + narrow), (y[0] - short, y[1] + short)


def _extent(coordinate: np.ndarray) -> Limits:
    low, high = np.quantile(coordinate, [0.005, 0.995]) if len(coordinate) else (0.0, 0.0)
    return 5.0 * np.floor(min(low, -10.0) / 5.0), 5.0 * np.ceil(max(high, 10.0) / 5.0)


def _draw_frame(axes: Axes, x: Limits, y: Limits) -> None:
    """Axes in metres with range rings around the sensor."""
    from matplotlib.patches import Circle

    axes.set_facecolor(BACKGROUND)
    axes.set_aspect("equal")
    axes.set_xlim(*x)
    axes.set_ylim(*y)
    for radius in np.arange(RING_SPACING, np.hypot(max(map(abs, x)), max(map(abs, y))), RING_SPACING):
        axes.add_patch(Circle((0, 0), radius, fill=False, edgecolor=GRID, linewidth=0.6, zorder=0))
    for spine in axes.spines.values():
        spine.set_color(GRID)
    axes.tick_params(colors=MUTED, labelsize=9, length=3)
    axes.set_xlabel("x, forward (m)", color=MUTED, fontsize=10)
    axes.set_ylabel("y, left (m)", color=MUTED, fontsize=10)


def _draw_points(axes: Axes, points: np.ndarray, class_id: np.ndarray, class_map: ClassMap) -> None:
    """Low points first, so that what stands on the ground is seen; points without a class below all."""
    labelled = _is_labelled(class_id, class_map)
    faint = points[~labelled]
    axes.scatter(faint[:, 0], faint[:, 1], s=0.9, color=MUTED, alpha=0.75, linewidths=0, zorder=1)
    order = np.flatnonzero(labelled)
    order = order[np.argsort(points[order, 2], kind="stable")]
    colours = _visible_colours(class_map)[class_id[order]]
    axes.scatter(points[order, 0], points[order, 1], s=1.8, c=colours, linewidths=0, zorder=2)


def _draw_sensor(axes: Axes) -> None:
    axes.plot(
        0, 0, marker="o", markersize=9, markerfacecolor="none", markeredgecolor=TEXT, markeredgewidth=1.2, zorder=3
    )
    axes.plot(0, 0, marker=">", markersize=5, color=TEXT, markeredgewidth=0, zorder=3)


def _draw_legend(axes: Axes, class_id: np.ndarray, class_map: ClassMap, rows: float) -> None:
    """Colour, name and share of the classes present, most frequent first, the unlabelled last."""
    counts = np.bincount(class_id[_is_labelled(class_id, class_map)], minlength=class_map.num_classes)
    colours = _visible_colours(class_map)
    present = [i for i in np.argsort(-counts, kind="stable") if counts[i]]
    entries: list[tuple[str, ColorType, int]] = [
        (class_map.names[i], tuple(colours[i]), int(counts[i])) for i in present
    ]
    if unlabelled := len(class_id) - int(counts.sum()):
        entries.append(("unlabelled", MUTED, unlabelled))
    axes.axis("off")
    axes.set(xlim=(0, 1), ylim=(max(rows, len(entries) + 1.5), 0))
    axes.text(0.08, 0.5, counted(len(class_id), "point"), color=MUTED, fontsize=10, va="center")
    for row, (name, colour, count) in enumerate(entries, start=1):
        axes.plot(0.11, row + 0.6, "s", markersize=8, color=colour, markeredgewidth=0)
        axes.text(0.19, row + 0.6, name, color=TEXT, fontsize=10.5, va="center", parse_math=False)
        axes.text(1.0, row + 0.6, _share(count / len(class_id)), color=MUTED, fontsize=10.5, va="center", ha="right")


def _visible_colours(class_map: ClassMap) -> np.ndarray:
    """(256, 3) float64 colours 0..1 of the class map; those too dark for the background are mixed with white."""
    colours = class_map.colour_table / 255.0
    luminance = colours @ np.array([0.2126, 0.7152, 0.0722])
    white = np.maximum((DARKEST - luminance) / (1.0 - np.minimum(luminance, DARKEST)), 0.0)[:, None]
    return np.asarray(colours + white * (1.0 - colours))


def _is_labelled(class_id: np.ndarray, class_map: ClassMap) -> np.ndarray:
    return np.asarray((class_id < class_map.num_classes) & (class_id != IGNORED))


def _share(fraction: float) -> str:
    return f"{fraction:.1%}" if fraction >= 0.001 else "<0.1%"
