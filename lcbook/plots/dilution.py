"""Figures of softmax dilution: the needle's log odds, weights by rank, forecasts, and solving apart from reach."""

from __future__ import annotations

import math
import textwrap
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.ticker import FuncFormatter, LogLocator, MaxNLocator, NullLocator
from scipy import stats as distributions

from lcbook import stats
from lcbook.formats import called, percent, tokens
from lcbook.plots._marks import COUNTS, POINT, draw_line, halo, legend, mark_training, name_lines
from lcbook.plots._style import (
    DASHED,
    GREY,
    PALE,
    SMALL,
    Look,
    dress,
    looks,
    new,
    recall_axis,
    styled,
    token_axis,
)
from lcbook.plots.costs import duration, memory
from lcbook.stats.estimate import require_columns

FORECAST = ("predicted", "asked", "correct", "total")  # the columns that forecasts are compared in
LEAST = 1e-7  # the smallest weight drawn
NEAR = 10  # points between forecast and recall that the pale band of `calibration` allows
DOTTED = (0, (1.0, 1.5))
Panels = Sequence[Axes] | np.ndarray


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
    look, ends, said = looks(list(frame[hue].unique())), [], []
    beside = len(look) <= 8 and max(len(called(hue, value)) for value in look) <= 22  # else below
    ax = new((6.4, 4.0 if beside else 4.0 + 0.2 * len(look))) if ax is None else ax
    for value, part in frame.groupby(hue, sort=False):
        by = part.groupby("length")
        mean, n = by[columns].mean(), by.size().to_numpy()
        t = distributions.t.ppf(0.975, np.maximum(n - 1, 1))
        half = (t * by["log_odds"].std() / np.sqrt(n)).fillna(0)  # one seed has no width
        theory = mean["margin"] - np.log(mean.index - 1) - mean["variance"] / 2
        ax.plot(theory.index, theory, color=look[value].color, ls=DOTTED, lw=1.4, zorder=2.5)
        shown = mean.assign(low=mean["log_odds"] - half, high=mean["log_odds"] + half).reset_index()
        draw_line(ax, shown, "length", "log_odds", look[value])
        ends.append((called(hue, value), look[value], *shown[["length", "log_odds"]].iloc[-1].tolist()))
        both = shown.assign(theory=theory.to_numpy()).iloc[[0, -1]].round(1) + 0.0  # no -0.0
        told = [f"{y:.1f} at {tokens(n)} tokens (theory {t:.1f})"
                for n, y, t in both[["length", "log_odds", "theory"]].to_numpy()]  # fmt: skip
        said.append(f"{called(hue, value)} {' and '.join(told)}")
    dress(ax, "Length (tokens)", "Needle's log odds (nats)")
    token_axis(ax, frame["length"].unique())
    ax.yaxis.set_major_locator(MaxNLocator(6, integer=True))
    ax.axhline(0, color=GREY, lw=1.2, zorder=1.5)
    mark_training(ax, frame, None)
    named = [] if beside else [(name, one) for name, one, *_ in ends]
    dotted, solid = Look(GREY, "", DOTTED), Look(GREY, "")
    legend(ax, [*named, ("margin − log n − variance/2", dotted), ("half of the weight", solid)])
    name_lines(ax, ends if beside else [])
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
    ax.set(xscale="log", yscale="log")
    for axis in (ax.xaxis, ax.yaxis):
        axis.set_major_locator(LogLocator(numticks=8))
        axis.set_minor_locator(NullLocator())
        axis.set_major_formatter(FuncFormatter(lambda value, _: f"{value:g}".replace("e-0", "e-")))
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
    if columns < 1:
        raise ValueError(f"columns is {columns}; allowed is 1 or more.")
    right, came = _recalls(frame, [hue, "length"])
    look, count = looks(list(frame[hue].unique())), frame[hue].nunique()
    columns = min(columns, count)
    rows = -(-count // columns)
    grid = {"nrows": rows, "ncols": columns, "squeeze": False, "sharex": True, "sharey": True}
    axes = np.ravel(new((6.4, 0.9 + 1.9 * rows), **grid))
    for i, (ax, (value, one)) in enumerate(zip(axes, look.items(), strict=False)):
        first, second, rows_of = (t[t[hue] == value].sort_values("length") for t in (right, came, frame))
        said = _forecast_panel(ax, first, second, rows_of, one)
        title = "\n".join(textwrap.wrap(called(hue, value), 66 // columns))
        ax.set_title(title, fontsize=SMALL, loc="left", color=one.ink)
        lowest = i + columns >= count
        ax.set(xlabel="Length (tokens)" if lowest else "", ylabel="" if i % columns else "Recall")
        ax.tick_params(labelbottom=lowest, labelleft=i % columns == 0)
        ax.set_label(f"Recall against length, {called(hue, value)}: {said}.")
    token_axis(axes[0], frame["length"].unique(), ticks=4)
    recall_axis(axes[0])
    axes[0].set_yticks([0, 0.5, 1], ["0 %", "50 %", "100 %"])
    for extra in axes[count:]:
        extra.set_axis_off()
    kinds = (("forecast", "", DASHED), ("measured", "o", "none"), ("chance", "", ":"))
    legend(axes[0], [(name, Look(GREY, marker, line)) for name, marker, line in kinds])
    return axes[:count]


def _forecast_panel(ax: Axes, right: pd.DataFrame, came: pd.DataFrame, all_: pd.DataFrame, look: Look) -> str:
    """Draw one forecast, the recalls that came and chance; return the forecast's ends and the difference in words."""
    dress(ax)
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
        chance = np.average(known["chance"], weights=known["total"])
        ax.axhline(float(chance), color=GREY, lw=1.2, ls=":", zorder=1.5)
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
    ax, look, said = new((6.4, 5.4)) if ax is None else ax, looks(list(came[hue].unique())), []
    ends = np.array([-3, 103])
    ax.fill_between(ends, ends - NEAR, ends + NEAR, color=PALE, lw=0, alpha=0.7, zorder=0.5)
    ax.plot(ends, ends, color=GREY, lw=1.2, zorder=1.5)
    for value, one in look.items():
        mine = came[hue] == value
        ax.plot(x[mine], y[mine], one.marker, color=one.color, ms=6.5, alpha=0.75, **POINT)
        said.append(f"{called(hue, value)} {(x - y)[mine].abs().mean():.1f} points in {mine.sum()} dots")
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
    made = new((6.4, 1.3 + 0.5 * len(shares)), ncols=2, gridspec_kw=ratios) if ax is None else ax
    axes = np.ravel(np.asarray(made, dtype=object))
    if len(axes) != 2:
        raise ValueError(f"ax has {len(axes)} axes; allowed are two, for the share and n50.")
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
        share, count = stats.p_solve(solved), f"{solved.sum()} of {len(solved)}"
        left.hlines(at, share.low, share.high, color=look[value].color, lw=5, alpha=0.35)
        left.plot([share.value], [at], look[value].marker, color=look[value].color, ms=9, **POINT)
        side = "left" if share.value < 0.2 else "right" if share.value > 0.8 else "center"
        _note(left, count, (share.value, at), look[value], side)
        solvers.append(f"{called(hue, value)} {count}")
        told = _reach(right, found.loc[value], at, look[value]) if solved.any() else "none solved"
        if not solved.any():
            _note(right, told, (math.sqrt(lengths[0] * lengths[-1]), at), Look(GREY, ""), "center", -4)
        reaches.append(f"{called(hue, value)} {told}")
    mark_training(right, table, None)
    left.set_label(f"Seeds that solved the task: {'; '.join(solvers)}.")
    right.set_label(f"n50 in tokens of the seeds that solved it, with 95 % intervals: {'; '.join(reaches)}.")
    return axes


def _reach(ax: Axes, row: pd.Series, at: int, look: Look) -> str:
    """Draw one n50 in row `at`, with arrows where it is censored as in `plots_dose.n50_bars`; return it in words."""
    value, low, high = float(row["n50"]), float(row["low"]), float(row["high"])
    above, under = row["censored"] in ("above", "both"), row["censored"] in ("below", "both")
    ax.hlines(at, low, high, color=look.color, lw=5, alpha=0.35)
    for end, factor in [(high, 1.8)] * above + [(low, 1 / 1.8)] * under:
        arrow = {"arrowstyle": "-|>", "color": look.color, "lw": 2, "shrinkA": 0, "shrinkB": 0}
        ax.annotate("", (end * factor, at), (end, at), arrowprops=arrow)
    most, least = above and value >= high, under and value <= low
    ax.plot([value], [at], ">" if most else "<" if least else look.marker, color=look.color, ms=9, **POINT)
    text = ("≥ " if most else "≤ " if least else "") + tokens(value)
    _note(ax, text, (value, at), look, "center")
    return text if low == high else f"{text} [{tokens(low)}, {tokens(high)}]"


def _note(ax: Axes, text: str, at: Any, look: Look, side: str, up: int = 6) -> None:
    style: dict[str, Any] = {"color": look.ink, "fontsize": SMALL, "path_effects": halo(), "zorder": 5}
    ax.annotate(text, at, (0, up), textcoords="offset points", ha=side, **style)


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
