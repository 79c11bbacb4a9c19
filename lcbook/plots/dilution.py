"""Figures of softmax dilution: the needle's log odds, weights by rank, forecasts, and solving apart from reach."""

from __future__ import annotations

import math
import textwrap
from collections.abc import Mapping
from dataclasses import asdict
from typing import Any

import numpy as np
import pandas as pd
import seaborn as sns
from matplotlib.axes import Axes
from matplotlib.ticker import FuncFormatter, MaxNLocator
from scipy import stats as distributions

from lcbook import stats
from lcbook.formats import at_least, called, percent, tokens
from lcbook.plots._lines import (
    COUNTS,
    POINT,
    Panels,
    draw_estimate,
    draw_lines,
    facets,
    halo,
    legend,
    line_ends,
    log_axis,
    mark_training,
    name_lines,
    note,
    pair,
)
from lcbook.plots._style import (
    DASHED,
    DOTS,
    GREY,
    PALE,
    SMALL,
    Look,
    dress,
    looks,
    new,
    percent_axis,
    styled,
    token_axis,
)
from lcbook.plots.costs import duration, geometric_means, memory
from lcbook.stats.estimate import pooled_chance, require_columns

FORECAST = ("predicted", "asked", "correct", "total")  # the columns that forecasts are compared in
LEAST = 1e-7  # the smallest weight drawn
NEAR = 10  # points between forecast and recall that the pale band of `calibration` allows


@styled
def log_odds_by_length(frame: pd.DataFrame, *, hue: str = "arm", ax: Axes | None = None) -> Axes:
    """Draw the needle's log odds (nats) against length: a line a `hue`, the mean over seeds with its 95 % t interval.

    A dotted line of the same colour is what the scores give in theory, margin - log(length - 1) - variance / 2, from
    the means over seeds. `frame` has the columns seed, length, log_odds, margin and variance, a row a seed and length;
    train.length, if there, is marked. Raises ValueError for missing columns, no rows, several rows a seed and length,
    values that are not finite, or a length below 2.
    """
    columns = ["log_odds", "margin", "variance"]
    require_columns(frame, (hue, "seed", "length", *columns))
    if frame.duplicated([hue, "seed", "length"]).any():
        raise ValueError("frame has several rows of one seed and length; allowed is one.")
    if bad := [name for name in columns if not np.isfinite(frame[name].to_numpy(float)).all()]:
        raise ValueError(f"{bad[0]} has values that are not finite; allowed are finite ones.")
    if (least := frame["length"].min()) < 2:
        raise ValueError(f"length has {least}; allowed is 2 tokens or more.")
    look, said = looks(list(frame[hue].unique())), []
    beside = len(look) <= 8 and max(len(called(hue, value)) for value in look) <= 22  # else below
    ax = new((6.4, 4.0 if beside else 4.0 + 0.2 * len(look))) if ax is None else ax
    by = frame.groupby([hue, "length"], sort=False)
    means, n = by[columns].mean(), by.size()
    half = (distributions.t.ppf(0.975, (n - 1).clip(lower=1)) * by["log_odds"].std() / np.sqrt(n)).fillna(0)
    means = means.assign(low=means["log_odds"] - half, high=means["log_odds"] + half).reset_index()
    means["theory"] = means["margin"] - np.log(means["length"] - 1) - means["variance"] / 2
    means = means.sort_values("length", kind="stable")
    draw_lines(ax, means, "length", "log_odds", hue, look)
    for value, one in look.items():
        part = means[means[hue] == value]
        ax.plot(part["length"], part["theory"], color=one.color, ls=DOTS, lw=1.4, zorder=2.5)
        both = part.iloc[[0, -1]].round(1)[["length", "log_odds", "theory"]] + 0.0  # no -0.0
        told = [f"{y:.1f} at {tokens(n)} tokens (theory {t:.1f})" for n, y, t in both.to_numpy()]
        said.append(f"{called(hue, value)} {' and '.join(told)}")
    ends = line_ends(means, "length", "log_odds", hue, look)
    dress(ax, "Length (tokens)", "Needle's log odds (nats)")
    token_axis(ax, frame["length"].unique())
    ax.yaxis.set_major_locator(MaxNLocator(6, integer=True))
    ax.axhline(0, color=GREY, lw=1.2, zorder=1.5)
    mark_training(ax, frame, None)
    named = [] if beside else [(name, one) for name, one, *_ in ends]
    dotted, solid = Look(GREY, "", DOTS), Look(GREY, "")
    legend(ax, [*named, ("margin − log n − variance/2", dotted), ("half of the weight", solid)])
    if beside:
        name_lines(ax, ends)
    ax.set_label(f"The needle's log odds in nats against length: {'; '.join(said)}; 0 is half of the weight.")
    return ax


@styled
def weights_by_rank(rows: Mapping[str, Any], *, ax: Axes | None = None) -> Axes:
    """Draw the attention weights of one query, sorted from the largest, against their rank (log-log): a line a name.

    `rows` has for each name the weights, 1-D, in any order. Those below 1e-7 are left out, so a line ends, at its
    marker, where weights are zero; each name says how many keys have a weight above zero. Raises ValueError for no
    rows, weights that are not 1-D, or none of them 1e-7 or more, and for one that is negative or not finite.
    """
    ranked = {name: np.asarray(weights, float) for name, weights in rows.items()}
    if not ranked:
        raise ValueError("rows is empty; allowed is one row of weights or more.")
    for name, weights in ranked.items():
        fine = weights.ndim == 1 and (np.isfinite(weights) & (weights >= 0)).all()
        if not fine or not (weights >= LEAST).any():
            raise ValueError(f"rows has bad weights for {name!r}, of shape {weights.shape}; allowed are finite ones in "
                             "one dimension, 0 or more, and one of them at least 1e-7.")  # fmt: skip
    ax, look, ends, said = new() if ax is None else ax, looks(list(ranked)), [], []
    for name, weights in ranked.items():
        drawn, held, one = np.sort(weights[weights >= LEAST])[::-1], int((weights > 0).sum()), look[name]
        mark: dict[str, Any] = {"marker": one.marker, "ms": 7, "markevery": [-1], **POINT}
        ax.plot(np.arange(1, len(drawn) + 1), drawn, color=one.color, ls=one.line, lw=2, **mark)
        ends.append((f"{name} ({held})", one, float(len(drawn)), float(drawn[-1])))
        said.append(f"{name} gives weight to {held} of {len(weights)} keys, at most {percent(drawn[0])}")
    dress(ax, "Rank of the key (in brackets: keys with weight)", "Attention weight")
    for axis in (ax.xaxis, ax.yaxis):
        log_axis(axis, lambda value: f"{value:g}".replace("e-0", "e-"), ticks=8)
    name_lines(ax, ends)
    ax.set_label(f"Attention weights of one query against their rank: {'; '.join(said)}.")
    return ax


@styled
def forecast_panels(frame: pd.DataFrame, *, hue: str = "arm", columns: int = 3) -> np.ndarray:
    """Draw forecast and measured recall against length, a panel a `hue`: a dashed line, and dots with 95 % intervals.

    `frame` has the columns seed, length, predicted, asked (forecast: predicted right of asked), correct, total, chance
    (measured; NaN where it was not). Both are pooled over seeds, with the intervals of `stats.recall`; each panel tells
    their mean absolute difference in points over the lengths measured. Returns the axes in use, flat. Raises
    ValueError for missing columns, no rows, mixed probes, counts out of range, or fewer columns than one.
    """
    require_columns(frame, (hue, "seed", "length", *FORECAST, "chance"))
    at_least(1, columns=columns)
    right, came = _recalls(frame, [hue, "length"])
    look, panels = looks(list(frame[hue].unique())), facets(frame, hue, columns=columns, height=2.1)
    columns = min(columns, len(panels))
    for value, ax in panels.items():
        first, second, rows_of = (t[t[hue] == value].sort_values("length") for t in (right, came, frame))
        said = _forecast_panel(ax, first, second, rows_of, look[value])
        title = "\n".join(textwrap.wrap(called(hue, value), 66 // columns))
        ax.set_title(title, fontsize=SMALL, loc="left", color=look[value].ink)
        ax.set_label(f"Recall against length, {called(hue, value)}: {said}.")
    token_axis(ax, frame["length"].unique(), ticks=4)
    percent_axis(ax.yaxis, (0, 0.5, 1))
    kinds = (("forecast", "", DASHED), ("measured", "o", "none"), ("chance", "", ":"))
    legend(ax, [(name, Look(GREY, marker, line)) for name, marker, line in kinds])
    return np.array(list(panels.values()))


def _forecast_panel(ax: Axes, right: pd.DataFrame, came: pd.DataFrame, all_: pd.DataFrame, look: Look) -> str:
    """Draw one forecast, the recalls that came and chance; return the forecast's ends and the difference in words."""
    dress(ax, "Length (tokens)", "Recall")
    ax.plot(right["length"], right["recall"], color=look.color, ls=DASHED, lw=2, zorder=2)
    told = [f"{percent(right['recall'].iloc[i])} at {tokens(right['length'].iloc[i])}" for i in (0, -1)]
    words, more = "not measured", ", not measured"
    if len(came):
        ax.vlines(came["length"], came["low"], came["high"], color=look.color, lw=1.8)
        ax.plot(came["length"], came["recall"], look.marker, color=look.color, ms=6.5, **POINT)
        off = came.merge(right, on="length").eval("abs(recall_x - recall_y)").mean()
        words, end = f"off by\n{100 * off:.1f} points", came.iloc[-1]
        more = f", came {percent(end['recall'])} at {tokens(end['length'])}, {100 * off:.1f} points off on average"
    known = all_[(all_["total"] > 0) & all_["chance"].notna()]
    if len(known):
        ax.axhline(pooled_chance(known), color=GREY, lw=1.2, ls=":", zorder=1.5)
    early = right[right["length"] <= math.sqrt(right["length"].iloc[0] * right["length"].iloc[-1])]
    place: dict[str, Any] = {"x": 0.05, "y": 0.14}
    if early["recall"].min() < 0.5:  # low early, so there is room above
        place = {"x": 0.96, "y": 0.95, "ha": "right", "va": "top"}
    ax.text(s=words, transform=ax.transAxes, fontsize=SMALL, path_effects=halo(), zorder=5, **place)
    return f"forecast {' and '.join(told)} tokens{more}"


@styled
def calibration(frame: pd.DataFrame, *, hue: str = "group", ax: Axes | None = None) -> Axes:
    """Draw measured against forecast recall in percent, a dot for each `hue`, arm, seed and length.

    `frame` has the columns arm, seed, length, predicted, asked, correct and total; rows that were not measured are left
    out. On the line they agree, and the pale band is 10 points wide to either side. Raises ValueError for missing
    columns, no rows, no measured row, mixed probes, or counts out of range.
    """
    keys = list(dict.fromkeys((hue, "arm", "seed", "length")))
    require_columns(frame, (*keys, *FORECAST))
    right, came = _recalls(frame[frame["total"] > 0], keys)
    x, y = 100 * right["recall"], 100 * came["recall"]
    shown = came.assign(x=x, y=y, off=(x - y).abs())
    ax, look = new((6.4, 5.4)) if ax is None else ax, looks(list(came[hue].unique()))
    ends = np.array([-3, 103])
    ax.fill_between(ends, ends - NEAR, ends + NEAR, color=PALE, lw=0, alpha=0.7, zorder=0.5)
    ax.plot(ends, ends, color=GREY, lw=1.2, zorder=1.5)
    colors, markers = ({v: one.color for v, one in look.items()}, {v: one.marker for v, one in look.items()})
    sns.scatterplot(shown, x="x", y="y", hue=hue, palette=colors, style=hue, markers=markers, s=42, alpha=0.75,
                    legend=False, ax=ax)  # fmt: skip
    off = shown.groupby(hue)["off"].agg(["mean", "size"])
    said = [f"{called(hue, v)} {off['mean'][v]:.1f} points in {off['size'][v]} dots" for v in look]
    dress(ax, "Forecast recall", "Measured recall", grid="")
    ticks = range(0, 101, 25)
    ax.set(xlim=ends, ylim=ends, aspect="equal", xticks=ticks, yticks=ticks)
    for axis in (ax.xaxis, ax.yaxis):
        axis.set_major_formatter(FuncFormatter(lambda value, _: f"{value:.0f} %"))
    ax.text(3, 4 + NEAR, f"±{NEAR} points", color=GREY, fontsize=SMALL, rotation=45, rotation_mode="anchor")
    legend(ax, [(called(hue, value), Look(one.color, one.marker, "none")) for value, one in look.items()])
    ax.set_label(f"Measured against forecast recall, mean absolute difference: {'; '.join(said)}.")
    return ax


def _recalls(frame: pd.DataFrame, by: list[str]) -> tuple[pd.DataFrame, pd.DataFrame]:
    """Return `stats.recall` of what was forecast and of the rows that were measured, in the same order of groups."""
    done = frame[frame["total"] > 0]
    if not len(frame):
        raise ValueError("total is NaN or 0 in every row; allowed is a frame with a measured row.")
    right = stats.recall(frame.assign(correct=frame["predicted"], total=frame["asked"]), by)
    return right, stats.recall(done, by) if len(done) else right[:0]


@styled
def escape_and_reach(table: pd.DataFrame, *, hue: str = "arm", ax: Panels | None = None) -> np.ndarray:
    """Draw, a row a `hue`, the share of seeds that solved the task and, of these seeds alone, n50 (tokens, log2).

    `table` has the columns seed, solved, length, correct, total and chance; train.length, if there, is marked. Shares
    have Wilson's 95 % interval, n50 that of `stats.n50_table`; an arrow says that the truth may lie beyond the lengths
    tested. Returns the two axes; `ax` gives them. Raises ValueError for missing columns, no rows, mixed probes, a
    single length, or another number of axes.
    """
    require_columns(table, (hue, "solved", "length", *COUNTS))
    lengths = sorted({float(n) for n in table["length"]})
    shares = {value: part.groupby("seed")["solved"].all() for value, part in table.groupby(hue, sort=False)}
    past = table[table.groupby([hue, "seed"])["solved"].transform("all").astype(bool)]
    found = stats.n50_table(past if len(past) else table, hue).set_index(hue)
    ratios = {"width_ratios": (1, 1.7)}
    axes = pair(ax, "the share and n50", (6.4, 1.3 + 0.5 * len(shares)), ncols=2, gridspec_kw=ratios)
    for one, label in zip(axes, ("Seeds that solved", "n50 of those (tokens)"), strict=True):
        dress(one, label, grid="x")
        one.set_ylim(len(shares) - 0.5, -0.7)
        one.tick_params(axis="y", length=0)
    left, right = axes
    left.set_xlim(-0.04, 1.04)
    left.set_xticks([0, 0.5, 1], ["0 %", "50 %", "100 %"])
    names = ["\n".join(textwrap.wrap(called(hue, value), 18)) for value in shares]
    left.set_yticks(range(len(shares)), names)
    token_axis(right, lengths, ticks=5)
    right.set(xlim=(lengths[0] / 2.0, lengths[-1] * 2.0), yticks=[])
    look, solvers, reaches = looks(list(shares)), [], []
    for at, (value, solved) in enumerate(shares.items()):
        share, count, one = stats.p_solve(solved), f"{solved.sum()} of {len(solved)}", look[value]
        draw_estimate(left, at, asdict(share), "value", one)
        side = "left" if share.value < 0.2 else "right" if share.value > 0.8 else "center"
        note(left, count, (share.value, at), (0, 6), one.ink, ha=side)
        solvers.append(f"{called(hue, value)} {count}")
        told = "none solved"
        if solved.any():
            row = found.loc[value].to_dict()
            text, told = draw_estimate(right, at, row, "n50", one)
            note(right, text, (row["n50"], at), (0, 6), one.ink, ha="center")
        else:
            note(right, told, (math.sqrt(lengths[0] * lengths[-1]), at), (0, -4), ha="center")
        reaches.append(f"{called(hue, value)} {told}")
    mark_training(right, table, None)
    left.set_label(f"Seeds that solved the task: {'; '.join(solvers)}.")
    right.set_label(f"n50 in tokens of the seeds that solved it, with 95 % intervals: {'; '.join(reaches)}.")
    return axes


@styled
def seconds_and_memory(frame: pd.DataFrame) -> np.ndarray:
    """Draw seconds a text (left, log) and peak memory (right, log) against its length; return the two axes.

    `frame` has the columns length, seed (the round), seconds and peak_bytes. Bands are 95 % intervals of the mean over
    rounds on a log scale. Raises ValueError for missing columns or no rows.
    """
    require_columns(frame, ("length", "seed", "seconds", "peak_bytes"))
    axes, frame = np.ravel(new((6.4, 3.2), ncols=2)), frame.assign(line="all")
    lengths = sorted(frame["length"].unique())
    for ax, column, label, write in zip(
        axes, ("seconds", "peak_bytes"), ("Seconds a text", "Peak memory"), (duration, memory), strict=True
    ):
        table = geometric_means(frame, ["line", "length"], column)
        draw_lines(ax, table, "length", "y", "line", looks(["all"]))
        dress(ax, "Length (tokens)", label)
        token_axis(ax, lengths, ticks=4)
        middle = table.set_index("length")["y"]
        ax.set_ylim(middle.min() / 3, middle.max() * 3)
        log_axis(ax.yaxis, write, base=2 if column == "peak_bytes" else 10, ticks=5)
        ends = (f"{write(middle[n])} at {tokens(n)} tokens" for n in (lengths[0], lengths[-1]))
        ax.set_label(f"{label} against length: {', '.join(ends)}.")
    return axes
