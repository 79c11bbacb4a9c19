"""Figures of what a pattern keeps: recall against distance beside the reach of windows, and against the keys seen."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.ticker import FuncFormatter, LogLocator, NullLocator

from lcbook import stats
from lcbook.formats import Number, called, percent
from lcbook.plots._marks import POINT, below, draw_line, name_lines, require_columns, require_one_probe
from lcbook.plots._style import GREY, SMALL, dress, looks, new, recall_axis, styled


@styled
def recall_within_reach(
    frame: pd.DataFrame, *, reach: Mapping[Any, Number], hue: str = "arm", ax: Axes | None = None
) -> Axes:
    """Draw recall against the gap in tokens (linear), a line per `hue` and, in its colour, where its `reach` ends.

    `reach` gives for each arm the largest gap that its pattern can bridge; an arm without one is not bounded.
    """
    require_columns(frame, (hue, "gap", "seed", "correct", "total", "chance"))
    require_one_probe(frame)
    ax = new() if ax is None else ax
    look, ends, said = looks(list(frame[hue].unique())), [], []
    table = stats.recall(frame, by=[hue, "gap"])
    chance = float(np.average(frame["chance"], weights=frame["total"]))
    for value, part in table.groupby(hue, sort=False):
        part = part.sort_values("gap")
        draw_line(ax, part, "gap", "recall", look[value])
        within = part[part["gap"] <= reach.get(value, np.inf)]
        ends.append(
            (called(hue, value), look[value], float(within["gap"].iloc[-1]), float(within["recall"].iloc[-1]))
        )
        said.append(f"{called(hue, value)}: {_halves(part, chance)}")
        if value in reach:
            ax.axvline(float(reach[value]), color=look[value].color, lw=1.3, ls=(0, (1.5, 1.5)), zorder=1.8)
            said[-1] += f" of a reach of {float(reach[value]):g}"
    dress(ax, "Gap from needle to query (tokens); dotted: end of the reach", "Recall")
    recall_axis(ax, {"chance": chance})
    _legend(ax, [(name, one) for name, one, *_ in ends])
    ax.set_label(f"Recall against gap; recall is above one half up to a gap of {'; '.join(said)} (tokens).")
    return ax


def _halves(part: pd.DataFrame, chance: float) -> str:
    """Return the largest gap at which recall is above half way from chance to 1."""
    good = part[part["recall"] > (1 + chance) / 2]["gap"]
    return f"{good.max():g}" if len(good) else "none"


def _legend(ax: Axes, named: list[tuple[str, Any]]) -> None:
    handles = [
        ax.plot([], [], color=one.color, marker=one.marker, ls=one.line, label=name, **POINT)[0]
        for name, one in named
    ]
    below(ax, handles)


@styled
def keys_and_recall(
    frame: pd.DataFrame, *, keys: str = "keys", hue: str = "arm", ax: Axes | None = None
) -> Axes:
    """Draw recall against the number of keys a query is compared with (log), a marker per `hue`, intervals over seeds.

    The dashed line is what keys chosen without looking give: a needle at a random place is among k of n with
    probability k / n, and is guessed otherwise. Frame: one length, and a column `keys`.
    """
    require_columns(frame, (hue, keys, "length", "seed", "correct", "total", "chance"))
    require_one_probe(frame)
    if frame["length"].nunique() != 1:
        raise ValueError(
            f"frame has the lengths {sorted(frame['length'].unique().tolist())}; allowed is one."
        )
    length = float(frame["length"].iloc[0])
    chance = float(np.average(frame["chance"], weights=frame["total"]))
    ax = new((6.4, 4.4)) if ax is None else ax
    ax.set_xscale("log", base=2)
    look, ends, said = looks(list(frame[hue].unique())), [], []
    line = np.geomspace(frame[keys].min() / 2, length, 200)
    ax.plot(line, chance + (1 - chance) * line / length, "--", color=GREY, lw=1.2, zorder=1.5)
    middle = float(np.sqrt(frame[keys].min() * length))
    ax.annotate(
        "keys chosen blindly", (middle, chance + (1 - chance) * middle / length), (0, 6), textcoords="offset points",
        ha="right", color=GREY, fontsize=SMALL,
    )  # fmt: skip
    for value, part in frame.groupby(hue, sort=False):
        found, at = stats.recall(part, by=hue).iloc[0], float(part[keys].mean())
        one = look[value]
        ax.plot([at], [found["recall"]], color=one.color, marker=one.marker, ms=8, **POINT)
        ax.vlines(at, found["low"], found["high"], color=one.color, lw=1.8)
        ends.append((called(hue, value), one, at, float(found["recall"])))
        said.append(f"{called(hue, value)} {percent(found['recall'])} with {at:.0f}")
    dress(ax, "Keys that a query is compared with", "Recall")
    recall_axis(ax, {"chance": chance})
    ax.xaxis.set_major_locator(LogLocator(base=2, numticks=8))
    ax.xaxis.set_minor_locator(NullLocator())
    ax.xaxis.set_major_formatter(FuncFormatter(lambda value, _: f"{value:,.0f}"))
    name_lines(ax, ends, most=12)
    ax.set_label(
        f"Recall at {length:.0f} tokens against keys a query is compared with: {', '.join(said)}; "
        f"chance {percent(chance)}."
    )
    return ax
