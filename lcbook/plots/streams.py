"""Figures of reading long texts piece by piece: what it costs, and recall against a share of the haystack."""

from __future__ import annotations

import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.ticker import FuncFormatter, LogLocator, NullLocator
from scipy import stats as distributions

from lcbook import stats
from lcbook.formats import percent, tokens
from lcbook.plots._marks import COUNTS, draw_line, require_columns
from lcbook.plots._style import dress, looks, new, recall_axis, styled, token_axis
from lcbook.plots.costs import duration, memory


@styled
def seconds_and_memory(frame: pd.DataFrame) -> np.ndarray:
    """Draw seconds a text (left, log) and peak memory (right, log) against its length; return the two axes.

    `frame` has the columns length, seed (the round), seconds and peak_bytes. Bars are 95 % intervals of the mean over
    rounds on a log scale. Raises ValueError for missing columns or no rows.
    """
    require_columns(frame, ("length", "seed", "seconds", "peak_bytes"))
    axes = np.ravel(new((6.4, 3.2), ncols=2))
    lengths = sorted(frame["length"].unique())
    for ax, column, label, write in zip(
        axes, ("seconds", "peak_bytes"), ("Seconds a text", "Peak memory"), (duration, memory), strict=True
    ):
        logs = np.log(frame[column].astype(float)).groupby(frame["length"])
        mean, count = logs.mean(), logs.count()
        half = (distributions.t.ppf(0.975, (count - 1).clip(lower=1)) * logs.std() / np.sqrt(count)).fillna(0)
        middle = np.exp(mean)
        bars = [middle - np.exp(mean - half), np.exp(mean + half) - middle]
        ax.errorbar(lengths, middle, yerr=bars, color="#0072b2", marker="o", lw=2, capsize=3)
        dress(ax, "Length (tokens)", label)
        token_axis(ax, lengths, ticks=4)
        ax.set_yscale("log")
        ax.set_ylim(middle.min() / 3, middle.max() * 3)
        ax.yaxis.set_major_locator(LogLocator(base=2 if column == "peak_bytes" else 10, numticks=5))
        ax.yaxis.set_minor_locator(NullLocator())
        ax.yaxis.set_major_formatter(FuncFormatter(lambda value, _, write=write: write(value)))
        ends = (f"{write(middle[n])} at {tokens(n)} tokens" for n in (lengths[0], lengths[-1]))
        ax.set_label(f"{label} against length: {', '.join(ends)}.")
    return axes


@styled
def recall_by_share(frame: pd.DataFrame, *, x: str, xlabel: str, ax: Axes | None = None) -> Axes:
    """Draw recall against a share `x` in per cent: a line with its 95 % band over seeds, each seed faintly.

    Raises ValueError for missing columns, no rows, or a share outside [0, 1].
    """
    require_columns(frame, (x, *COUNTS))
    if not frame[x].between(0, 1).all():
        raise ValueError(
            f"{x} runs from {frame[x].min()} to {frame[x].max()}; allowed is a share from 0 to 1."
        )
    ax, look = new() if ax is None else ax, looks(["recall"])["recall"]
    dress(ax, xlabel, "Recall")
    for _, seed in frame.groupby("seed"):
        sums = seed.groupby(x)[["correct", "total"]].sum()
        ax.plot(sums.index, sums["correct"] / sums["total"], color=look.color, lw=0.7, alpha=0.35, zorder=2)
    table = stats.recall(frame, by=[x]).sort_values(x)
    draw_line(ax, table, x, "recall", look)
    recall_axis(ax, {"chance": float(np.average(frame["chance"], weights=frame["total"]))})
    ax.xaxis.set_major_formatter(FuncFormatter(lambda value, _: percent(value)))
    ends = (f"{percent(row['recall'])} at {percent(row[x])}" for _, row in table.iloc[[0, -1]].iterrows())
    ax.set_label(f"Recall against {x}: {', '.join(ends)}.")
    return ax
