"""What the figures share: lines, seeds, estimates, heat maps, panels, reference lines and names at line ends."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np
import pandas as pd
import seaborn as sns
from matplotlib import patheffects
from matplotlib.axes import Axes
from matplotlib.layout_engine import ConstrainedLayoutEngine
from matplotlib.lines import Line2D
from matplotlib.ticker import FuncFormatter, LogLocator, NullLocator

from lcbook.formats import Number, called, tokens
from lcbook.plots._style import GREY, SIZE, SMALL, Look, color_bar, dress, luminance, new

COUNTS = ("seed", "correct", "total", "chance")  # the columns that recall and n50 are computed from
POINT: dict[str, Any] = {"mec": "white", "mew": 0.6, "zorder": 3}
End = tuple[str, Look, float, float]  # a line's name and look, and where it ends
Panels = Sequence[Axes] | np.ndarray


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


def require_shares(frame: pd.DataFrame, column: str) -> None:
    """Raise ValueError unless each value of `column` lies in [0, 1]."""
    bad = frame[column][~frame[column].between(0, 1)]
    if len(bad):
        raise ValueError(f"{column} has {bad.iloc[0]}; allowed is a share from 0 to 1.")


def require_positive(frame: pd.DataFrame, *columns: str) -> None:
    """Raise ValueError unless each value of `columns` is finite and above 0, as a log axis needs."""
    for column in columns:
        values = frame[column].to_numpy(float)
        bad = values[~((values > 0) & np.isfinite(values))]
        if len(bad):
            raise ValueError(f"{column} has {bad[0]:g}; allowed on a log axis are finite numbers above 0.")


def by_seed(frame: pd.DataFrame, by: Sequence[str]) -> pd.DataFrame:
    """Return a row a seed in each group of `by`, with its recall."""
    counts = frame.groupby([*by, "seed"], sort=False)[["correct", "total"]].sum()
    return counts.assign(recall=counts["correct"] / counts["total"]).reset_index()


def draw_seeds(
    ax: Axes, table: pd.DataFrame, x: str, y: str, hue: str, look: Mapping[Any, Look], **line: Any
) -> None:
    """Draw a faint line a seed in the colour of its `hue`."""
    colors = {value: one.color for value, one in look.items()}
    line = {"lw": 0.7, "alpha": 0.35, "zorder": 2} | line
    sns.lineplot(table, x=x, y=y, hue=hue, hue_order=list(look), palette=colors, units="seed", estimator=None,
                 legend=False, ax=ax, **line)  # fmt: skip


def draw_lines(ax: Axes, table: pd.DataFrame, x: str, y: str, hue: str, look: Mapping[Any, Look]) -> None:
    """Draw a line a `hue` through the table's rows and its band from low to high; a single point has a bar."""
    order = list(look)
    sns.lineplot(table, x=x, y=y, hue=hue, hue_order=order, palette={v: one.color for v, one in look.items()},
                 style=hue, style_order=order, markers={v: one.marker for v, one in look.items()},
                 dashes={v: one.dashes for v, one in look.items()}, estimator=None, errorbar=None, legend=False,
                 ax=ax, lw=2, ms=6, **POINT)  # fmt: skip
    for value, one in look.items():
        part = table[table[hue] == value].sort_values(x)
        if len(part) > 1:
            ax.fill_between(part[x], part["low"], part["high"], color=one.color, alpha=0.16, linewidth=0)
        else:
            ax.vlines(part[x], part["low"], part["high"], color=one.color, linewidth=2)


def line_ends(table: pd.DataFrame, x: str, y: str, hue: str, look: Mapping[Any, Look]) -> list[End]:
    """Return the name, look and end of each line of `draw_lines`."""
    last = table.sort_values(x).groupby(hue, sort=False).last()
    return [(called(hue, v), one, float(last[x][v]), float(last[y][v])) for v, one in look.items()]


def draw_seed_points(
    ax: Axes, table: pd.DataFrame, hue: str, look: Mapping[Any, Look], *, upright: bool
) -> None:
    """Draw a faint dot a seed: its recall, at the row or column `at`, the seeds beside each other.

    seaborn's strips would draw a collection a seed, and scatter them by numpy's global random state.
    """
    rank = table["seed"].rank(method="dense") - 1
    aside = table["at"] + 0.24 * (2 * rank / max(rank.max(), 1) - (rank.max() > 0))
    colors = {value: one.color for value, one in look.items()}
    x, y = ("aside", "recall") if upright else ("recall", "aside")
    sns.scatterplot(table.assign(aside=aside), x=x, y=y, hue=hue, palette=colors, s=25, linewidth=0, alpha=0.45,
                    zorder=2, legend=False, ax=ax)  # fmt: skip


def draw_estimate(
    ax: Axes,
    at: Number,
    row: Mapping[Any, Any],
    y: str,
    look: Look,
    *,
    upright: bool = False,
    write: Callable[[Number], str] = tokens,
) -> tuple[str, str]:
    """Draw one number with its interval at `at` of the other axis; return it, and it with its interval, in words.

    `row` has `y`, low, high and censored, as in `stats.Estimate`. A mere bound is an open marker, and an end that was
    not measured has an arrow: the truth may lie beyond.
    """
    value, low, high = float(row[y]), float(row["low"]), float(row["high"])
    above, below = row["censored"] in ("above", "both"), row["censored"] in ("below", "both")
    sign = "≥ " if above and not value < high else "≤ " if below and not value > low else ""
    place = (lambda v: (at, v)) if upright else (lambda v: (v, at))
    (ax.vlines if upright else ax.hlines)(at, low, high, color=look.color, lw=2.4, alpha=0.6, zorder=2)
    face = {"mfc": "white", "mec": look.color, "mew": 1.8} if sign else {}
    ax.plot(*([v] for v in place(value)), look.marker, color=look.color, ms=8, **(POINT | face))
    arrow = {"arrowstyle": "<|-", "color": look.color, "lw": 1.8, "shrinkA": 0, "shrinkB": 4}
    for end, way in [(high, 22)] * above + [(low, -22)] * below:
        end = end if np.isfinite(end) else value
        shift = (0, way) if upright else (way, 0)
        ax.annotate(
            "", place(end), shift, textcoords="offset points", arrowprops=arrow, annotation_clip=False
        )
    text = sign + write(value)
    return text, text if not low < high else f"{text} [{write(low)}, {write(high)}]"


def note(
    ax: Axes, text: str, at: Any, shift: tuple[int, int] = (0, 6), color: str = GREY, **options: Any
) -> None:
    """Write small words beside a place, outlined in white so that they can be read on top of lines."""
    style: dict[str, Any] = {"color": color, "fontsize": SMALL, "path_effects": halo(), "zorder": 5}
    ax.annotate(text, at, shift, textcoords="offset points", **style, **options)


def draw_heat(
    ax: Axes,
    cells: pd.DataFrame,
    words: Any,
    labels: tuple[str, str],
    ticks: Mapping[Number, str],
    *,
    size: float = SMALL,
    cmap: str = "cividis",
) -> None:
    """Draw a cell a number with its words, the first row on top; NaN stays empty.

    The scale runs from the least to the largest of `ticks`, which name places on its bar. Words are black or white, as
    contrast asks. `labels` are those of the two axes.
    """
    sns.heatmap(cells, annot=words, fmt="", cmap=cmap, vmin=min(ticks), vmax=max(ticks), linewidths=1, cbar=False,
                annot_kws={"size": size, "linespacing": 1.1}, xticklabels=True, yticklabels=True, ax=ax)  # fmt: skip
    mesh = ax.collections[0]
    for text in ax.texts:
        column, row = (int(part) for part in text.get_position())
        dark = luminance(mesh.cmap(mesh.norm(cells.iloc[row, column]))) < 0.18
        text.set_color("white" if dark else "black")
    dress(ax, *labels, grid="")
    ax.tick_params(length=0, rotation=0)
    color_bar(ax, mesh).set_ticks(list(ticks), labels=list(ticks.values()))


class Facets(sns.FacetGrid):
    """seaborn's grid of panels in the layout of the book's figures, which is constrained and settles when drawn."""

    def tight_layout(self, *_: Any, **__: Any) -> Facets:
        """Leave the layout as it is."""
        return self


def facets(frame: pd.DataFrame, by: str, *, columns: int, height: float, **options: Any) -> dict[Any, Axes]:
    """Return the axes of a new figure, a panel of `height` inches a value of `by` in the order they come.

    `options` are those of seaborn's FacetGrid.
    """
    order = list(frame[by].unique())
    columns = min(columns, len(order))
    size = {"height": height, "aspect": SIZE[0] / columns / height}
    grid = Facets(frame, col=by, col_order=order, col_wrap=columns, **size, **options)
    grid.set_titles("")
    return dict(grid.axes_dict)


def pair(ax: Panels | None, what: str, size: tuple[float, float], **grid: Any) -> np.ndarray:
    """Return the two axes given, or those of a new figure. Raises ValueError for another number of axes."""
    axes = np.ravel(new(size, **grid) if ax is None else np.asarray(ax, dtype=object))
    if len(axes) != 2:
        raise ValueError(f"ax has {len(axes)} axes; allowed are two, for {what}.")
    return axes


def log_axis(axis: Any, write: Callable[[Number], str], *, base: int = 10, ticks: int = 7) -> None:
    """Write the powers of `base` on a logarithmic axis, and of less than two decades 2 and 5 as well."""
    (axis.axes.set_xscale if axis.axis_name == "x" else axis.axes.set_yscale)("log", base=base)
    low, high = axis.get_view_interval()
    steps = (1.0, 2.0, 5.0) if base == 10 and high < 150 * low else (1.0,)
    axis.set_major_locator(LogLocator(base, steps, numticks=ticks))
    axis.set_minor_locator(NullLocator())
    axis.set_major_formatter(FuncFormatter(lambda value, _: write(value)))


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


def name_lines(ax: Axes, named: Sequence[End], *, most: int = 8) -> None:
    """Write each line's name right of `ax` at its end (x, y), moved apart where ends meet.

    Names of more than 22 characters, or more than `most` of them, go into a legend below.
    """
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
