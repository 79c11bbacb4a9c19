"""What the figures share: lines with bands, reference lines, and names at line ends that do not overlap."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import pandas as pd
from matplotlib import patheffects
from matplotlib.axes import Axes
from matplotlib.layout_engine import ConstrainedLayoutEngine
from matplotlib.lines import Line2D

from lcbook.formats import Number, tokens
from lcbook.plots._style import GREY, SMALL, Look

COUNTS = ("seed", "correct", "total", "chance")  # the columns that recall and n50 are computed from
POINT: dict[str, Any] = {"mec": "white", "mew": 0.6, "zorder": 3}


def select(frame: pd.DataFrame, column: str, value: Any) -> pd.DataFrame:
    """Return the rows with `value` in `column`; ValueError lists the values if there are none."""
    chosen = frame[frame[column] == value]
    if chosen.empty:
        allowed = ", ".join(map(repr, frame[column].unique().tolist()))
        raise ValueError(f"{column} is {value!r}; allowed is one of {allowed}.")
    return chosen


def require_one_probe(frame: pd.DataFrame) -> None:
    """Raise ValueError if the frame mixes probes, which must not be pooled."""
    if "probe" in frame.columns and frame["probe"].nunique() > 1:
        raise ValueError(f"frame mixes the probes {list(frame['probe'].unique())}; allowed is one.")


def draw_line(ax: Axes, table: pd.DataFrame, x: str, y: str, look: Look) -> None:
    """Draw a line through the table's rows and its band from low to high; a single point has a bar."""
    mark: dict[str, Any] = {"color": look.color, "marker": look.marker, "linestyle": look.line, **POINT}
    ax.plot(table[x], table[y], lw=2, ms=6, **mark)
    if len(table) > 1:
        ax.fill_between(table[x], table["low"], table["high"], color=look.color, alpha=0.16, linewidth=0)
    else:
        ax.vlines(table[x], table["low"], table["high"], color=look.color, linewidth=2)


def trained_lengths(frame: pd.DataFrame, train_length: Number | None) -> list[Number]:
    """Return the given training length, or those in the frame's column train.length if it has one."""
    if train_length is not None:
        return [train_length]
    return sorted(frame["train.length"].dropna().unique()) if "train.length" in frame.columns else []


def mark_training(ax: Axes, frame: pd.DataFrame, train_length: Number | None, *, named: bool = True) -> None:
    """Mark the training length (see `trained_lengths`) on an x axis of tokens."""
    trained = trained_lengths(frame, train_length)
    for length in trained:
        text = "training length" if len(trained) == 1 else f"trained to {tokens(length)}"
        mark_x(ax, float(length), text if named else "")


def halo() -> list[patheffects.AbstractPathEffect]:
    """Return the white outline that keeps text readable on top of lines."""
    return [patheffects.withStroke(linewidth=3, foreground="white")]


def mark_x(ax: Axes, value: Number, text: str) -> None:
    """Draw a dashed vertical line at `value`, named above the axes, leaning to the roomier side."""
    ax.axvline(value, color=GREY, linewidth=1.2, linestyle="--", zorder=1.5)
    ax.get_xlim()  # limits that are due settle
    left = ax.transAxes.inverted().transform(ax.transData.transform((value, 0)))[0]
    side = "left" if left < 0.3 else "right" if left > 0.7 else "center"
    ax.annotate(
        text, (value, 1), (0, 2), xycoords=("data", "axes fraction"), textcoords="offset points",
        ha=side, va="bottom", color=GREY, fontsize=SMALL,
    )  # fmt: skip


def spread(values: Sequence[float], gap: float, low: Number, high: Number) -> list[float]:
    """Return `values` moved as little as can be to lie at least `gap` apart in [low, high], in their order.

    Least squares by pooling adjacent violators; then what leaves the range is pushed back. Equal values keep
    the order given, and the last may pass `high` where there is no room for all.
    """
    order = sorted(range(len(values)), key=lambda i: values[i])
    blocks: list[list[float]] = []  # sum of (value - rank * gap), count
    for rank, i in enumerate(order):
        blocks.append([values[i] - rank * gap, 1])
        while len(blocks) > 1 and blocks[-2][0] / blocks[-2][1] >= blocks[-1][0] / blocks[-1][1]:
            total, count = blocks.pop()
            blocks[-1][0] += total
            blocks[-1][1] += count
    level = [total / count for total, count in blocks for _ in range(int(count))]
    last, placed = (len(values) - 1) * gap, [0.0] * len(values)
    for rank, i in enumerate(order):
        placed[i] = float(min(max(level[rank], low), max(high - last, low))) + rank * gap
    return placed


def name_lines(ax: Axes, named: Sequence[tuple[str, Look, float, float]], *, most: int = 8) -> None:
    """Write each line's name right of `ax` at its end (x, y), moved apart where ends meet.

    Names of more than 22 characters, or more than `most` of them, go into a legend below. An empty name is
    not written.
    """
    named = [line for line in named if line[0]]
    if not named:
        return
    if len(named) > most or max(len(name) for name, *_ in named) > 22:
        legend(ax, [(name, look) for name, look, *_ in named])
        return
    figure = ax.get_figure(root=True)
    assert figure is not None  # an axes that was drawn on belongs to a figure
    figure.draw_without_rendering()  # the layout settles, so that heights in points are known
    line = 1.12 * SMALL / 72 * figure.dpi / ax.get_window_extent().height
    ends = (ax.transData - ax.transAxes).transform([(x, y) for *_, x, y in named])
    heights = spread([float(end[1]) for end in ends], line, line / 3, 1 - line / 3)
    right = max(float(end[0]) for end in ends)
    for (name, look, x, y), end, height in zip(named, ends, heights, strict=True):
        moved = abs(height - float(end[1])) > line / 2 or end[0] < right - 0.02
        leader = {
            "arrowstyle": "-",
            "color": look.color,
            "lw": 0.8,
            "shrinkA": 1,
            "shrinkB": 4,
            "relpos": (0, 0.5),
        }
        ax.annotate(
            name,
            (x, y),
            (max(right, 1.0) + 0.035, height),
            textcoords="axes fraction",
            arrowprops=leader if moved else None,
            annotation_clip=False,
            va="center",
            color=look.ink,
            fontsize=SMALL,
        )


def legend(ax: Axes, named: Sequence[tuple[str, Look]]) -> None:
    """Put the names of the lines below the figure, in as many columns as fit."""
    handles = [
        Line2D([], [], color=look.color, marker=look.marker, linestyle=look.line, label=name)
        for name, look in named
    ]
    below(ax, handles)


def below(ax: Axes, handles: Sequence[Any]) -> None:
    """Put a legend of `handles` below the figure, in as many columns as fit."""
    longest = max(len(str(handle.get_label())) for handle in handles)
    figure = ax.get_figure(root=True)
    assert figure is not None  # an axes that was drawn on belongs to a figure
    columns = max(1, min(len(handles), int(figure.get_figwidth() * 12.5 / (longest + 7))))
    columns = -(-len(handles) // -(-len(handles) // columns))  # rows of equal length
    settings: dict[str, Any] = {
        "handles": handles, "ncols": columns, "frameon": False, "fontsize": SMALL, "columnspacing": 1.2,
        "handlelength": 1.8, "handletextpad": 0.5,
    }  # fmt: skip
    if isinstance(figure.get_layout_engine(), ConstrainedLayoutEngine):
        figure.legend(loc="outside lower center", **settings)
    else:  # a reader's own figure
        ax.legend(loc="upper center", bbox_to_anchor=(0.5, -0.16), **settings)
