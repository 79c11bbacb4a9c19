"""Reads figures back: what lines, bars, bands, dots, arrows and texts of an axes show."""

from __future__ import annotations

from collections.abc import Iterable

import numpy as np
import pytest
from matplotlib.axes import Axes
from matplotlib.collections import FillBetweenPolyCollection, LineCollection, PathCollection
from matplotlib.lines import Line2D
from matplotlib.text import Annotation

Point = tuple[float, float]


def xy(line: Line2D) -> list[Point]:
    return [(float(x), float(y)) for x, y in zip(line.get_xdata(), line.get_ydata(), strict=True)]


def near(rows: Iterable) -> list:
    """Return rows of numbers to compare with approximately."""
    return [pytest.approx(tuple(row)) for row in rows]


def thick(ax: Axes) -> list[Line2D]:
    """The lines of the arms."""
    return [line for line in ax.lines if line.get_linewidth() == 2 and len(line.get_xdata())]


def faint(ax: Axes) -> list[Line2D]:
    """The lines of the seeds."""
    return [line for line in ax.lines if line.get_linewidth() == 0.7]


def marked(ax: Axes) -> list[Line2D]:
    return [
        line for line in ax.lines if line.get_marker() not in ("None", "", None) and len(line.get_xdata())
    ]


def marks(ax: Axes) -> list[Point]:
    return [point for line in marked(ax) for point in xy(line)]


def lines_of(ax: Axes, style: str) -> list[list[Point]]:
    """The lines in a style of matplotlib's: ":" is dotted, as chance is, and "--" dashed, as a bound is."""
    return [xy(line) for line in ax.lines if line.get_linestyle() == style]


def bands(ax: Axes) -> list[np.ndarray]:
    """The corners (x, y) of each band."""
    return [c.get_paths()[0].vertices for c in ax.collections if isinstance(c, FillBetweenPolyCollection)]


def dots(ax: Axes) -> list[Point]:
    """The dots of the seeds."""
    found = [c.get_offsets() for c in ax.collections if isinstance(c, PathCollection)]
    return [(float(x), float(y)) for points in found for x, y in np.asarray(points)]


def segments(ax: Axes) -> list[tuple[float, ...]]:
    """The ends (x, y, x, y) of each bar."""
    drawn = [c for c in ax.collections if isinstance(c, LineCollection)]
    return [tuple(map(float, np.ravel(ends))) for c in drawn for ends in c.get_segments() if len(ends)]


def bars(ax: Axes) -> list[Point]:
    """The ends of each bar, along the side on which it is longer."""
    return [(y0, y1) if abs(y1 - y0) > abs(x1 - x0) else (x0, x1) for x0, y0, x1, y1 in segments(ax)]


def arrows(ax: Axes) -> list[tuple[float, float, bool]]:
    """Where arrows without words start, and whether they point up or right."""
    found = [text for text in ax.texts if isinstance(text, Annotation) and not text.get_text()]
    return sorted((float(one.xy[0]), float(one.xy[1]), sum(one.xyann) > 0) for one in found)


def opened(ax: Axes) -> list[Point]:
    """The open markers: mere bounds."""
    return [point for line in ax.lines if line.get_markerfacecolor() == "white" for point in xy(line)]


def written(ax: Axes) -> set[str]:
    """The words in an axes and in the legends of its figure."""
    shown = [*ax.texts, *(text for one in ax.get_figure(root=True).legends for text in one.get_texts())]
    return {text.get_text() for text in shown} - {""}


def ticks(ax: Axes, which: str) -> list[str]:
    return [text.get_text() for text in (ax.get_xticklabels() if which == "x" else ax.get_yticklabels())]
