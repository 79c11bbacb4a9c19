"""Figures of evaluation: recall grids with intervals, effective lengths, samples needed, rankings, variance."""

from __future__ import annotations

import itertools
import math
import textwrap
from collections.abc import Sequence
from typing import Any

import matplotlib as mpl
import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.patches import Rectangle
from matplotlib.ticker import FixedLocator, FuncFormatter, NullLocator

from lcbook import stats
from lcbook.formats import Number, percent, short, spelled, tokens
from lcbook.plots._marks import (
    COUNTS,
    POINT,
    draw_line,
    halo,
    legend,
    mark_training,
    mark_x,
    require_one_probe,
    spread,
)
from lcbook.plots._style import (
    DASHED,
    GREY,
    OTHERS,
    PALE,
    SMALL,
    TEXT,
    Look,
    color_bar,
    dress,
    looks,
    luminance,
    new,
    recall_axis,
    styled,
    token_axis,
)
from lcbook.stats.effective import HALF, NOLIMA, RULER, RULES, effective_table, lower_bound
from lcbook.stats.estimate import require_columns
from lcbook.stats.rankings import rank_table

COMMON = (1, 10, 20, 100, 500)  # samples a cell in published tests
MEANING = {
    "RULER": f"RULER ({100 * RULER:.1f} %)",
    "first failure": f"first failure ({100 * RULER:.1f} %)",
    "NoLiMa": f"NoLiMa ({100 * NOLIMA:.0f} % of base)",
    HALF: "half recall (n50)",
}
ROOMY, WIDE = 5, 7  # columns of a grid up to which a cell has room for "84 to 100", and for "84–100"
SLANTED: dict[str, Any] = {"rotation": 30, "ha": "right", "rotation_mode": "anchor"}


@styled
def recall_grid(
    frame: pd.DataFrame,
    *,
    y: str = "depth",
    title: str = "",
    train_length: Number | None = None,
    ax: Axes | None = None,
) -> Axes:
    """Draw recall of one model by length and `y`, a cell each: percent, and below it the ends of its 95 % interval.

    `frame` has the columns length, `y`, correct and total; rows of a cell are pooled and the interval is Wilson's.
    Beyond seven lengths the cells have the percent alone. Raises ValueError for missing columns, no rows, mixed probes
    or counts out of range.
    """
    require_columns(frame, ("length", y, "correct", "total"))
    require_one_probe(frame)
    cells = frame.groupby([y, "length"])[["correct", "total"]].sum().unstack("length", fill_value=0)
    correct, total = cells["correct"].to_numpy(float), cells["total"].to_numpy(float)
    low, high = stats.wilson(correct, total)
    recall = np.where(total > 0, correct / np.maximum(total, 1), math.nan)
    lengths, levels = list(cells["correct"].columns), list(cells.index)
    ax = (
        new((6.4, 1.5 + (0.52 if len(lengths) <= WIDE else 0.34) * max(len(levels), 3))) if ax is None else ax
    )
    dress(ax, "Length (tokens)", spelled(y), grid="")
    mesh = ax.pcolormesh(
        np.ma.masked_invalid(recall), cmap="cividis", vmin=0, vmax=1, edgecolor="white", lw=1
    )
    for i, j in np.argwhere(total > 0):
        text = f"{100 * recall[i, j]:.0f} %"
        if len(lengths) <= WIDE:
            to = " to " if len(lengths) <= ROOMY else "–"
            text += f"\n{100 * low[i, j]:.0f}{to}{100 * high[i, j]:.0f}"
        dark = luminance(mesh.cmap(mesh.norm(recall[i, j]))) < 0.18
        place: dict[str, Any] = {"ha": "center", "va": "center", "fontsize": SMALL, "linespacing": 1.1}
        ax.text(j + 0.5, i + 0.5, text, color="white" if dark else "black", **place)
    ax.set_xticks(np.arange(len(lengths)) + 0.5, [tokens(n) for n in lengths])
    share = y == "depth" and max(levels) <= 1
    written = [f"{100 * v:.0f} %" if share else v if isinstance(v, str) else short(v) for v in levels]
    ax.set_yticks(np.arange(len(levels)) + 0.5, written)
    ax.tick_params(length=0)
    ax.invert_yaxis()
    if train_length is not None:
        mark_x(ax, sum(n <= train_length for n in lengths), f"trained to {tokens(train_length)}")
    color_bar(ax, mesh).set_ticks([0, 0.5, 1], labels=["0 %", "50 %", "100 %"])
    ax.set_title(
        title or "Recall, with 95 % interval", fontsize=TEXT, loc="left", pad=20 if train_length else 6
    )
    worst = np.unravel_index(np.nanargmin(recall), recall.shape)
    said = f"from {percent(np.nanmin(recall))} (interval {percent(low[worst])} to {percent(high[worst])})"
    ax.set_label(
        f"{title + ': r' if title else 'R'}ecall by length and {y}, {said} to {percent(np.nanmax(recall))}, "
        f"{_counts(total[total > 0])} queries a cell."
    )
    return ax


@styled
def rank_lines(frame: pd.DataFrame, *, ax: Axes | None = None) -> Axes:
    """Draw the rank of each model on each benchmark, the best on top: a line a model, named at its ends.

    `frame` is the tidy frame of `ranks.rank_table`, whose errors it raises; benchmarks stand in the order in which they
    come.
    """
    table = rank_table(frame)
    look, models, names = looks(list(table.index)), len(table), list(table.columns)
    if len(names) < 2:
        raise ValueError(f"frame has the benchmarks {names}; allowed are two or more.")
    ax = new((6.4, 1.4 + 0.34 * max(models, 4))) if ax is None else ax
    dress(ax, "", "", grid="")
    across = np.arange(len(names))
    for model, ranks in table.iterrows():
        one = look[model]
        ax.plot(across, ranks, color=one.color, ls=one.line, lw=2.4, marker=one.marker, ms=9, **POINT)
    both = max(len(str(model)) for model in table.index) <= 14
    for end, side in ((-1, 1), (0, -1))[: 1 + both]:
        ranks = table.iloc[:, end]
        heights = spread([float(r) for r in ranks], 0.9, 1, models)
        for model, rank, height in zip(table.index, ranks, heights, strict=True):
            at = (across[end] + 0.12 * side, rank if models == ranks.nunique() else height)
            ax.text(
                *at,
                str(model),
                color=look[model].ink,
                fontsize=SMALL,
                va="center",
                ha="left" if side > 0 else "right",
            )
    ax.set(xlim=(-0.2, len(names) - 0.8), ylim=(models + 0.5, 0.5))
    width = max(8, 50 // len(names))
    labels = ["\n".join(textwrap.wrap(str(name), width, break_long_words=False)) for name in names]
    tilted = max(len(line) for label in labels for line in label.splitlines()) > width
    ax.set_xticks(across, labels, **(SLANTED if tilted else {}))
    ax.set_title("Rank, best on top", fontsize=TEXT, loc="left")
    ax.set_yticks(range(1, models + 1) if not both else [])
    ax.spines[:].set_visible(False)
    ax.tick_params(length=0)
    first = table.idxmin()
    swaps = sum(_crossings(table[a].to_numpy(), table[b].to_numpy()) for a, b in itertools.pairwise(names))
    best = ", ".join(f"{model} on {name}" for name, model in first.items())
    ax.set_label(
        f"Ranks of {models} models on {len(names)} benchmarks; first: {best}; lines cross {swaps} times."
    )
    return ax


@styled
def rules_on_curve(
    frame: pd.DataFrame,
    *,
    rules: Sequence[str] = tuple(RULES),
    train_length: Number | None = None,
    ax: Axes | None = None,
) -> Axes:
    """Draw recall of one model by length (tokens, log2) with its 95 % band, and below it its effective lengths.

    One row a rule of `effective.RULES`: the length and its 95 % interval, with an arrow where the truth may lie beyond
    the lengths tested. `frame` has the columns seed, length, correct, total and chance. Raises ValueError for missing
    columns, no rows, mixed probes, an unknown rule, or as `effective.effective_length`.
    """
    require_columns(frame, ("length", *COUNTS))
    require_one_probe(frame)
    table = effective_table(frame.assign(arm=""), rules=rules)
    curve = stats.recall(frame.assign(seed=0), by="length").sort_values("length")
    lengths = curve["length"].to_numpy(float)
    ax = new((6.4, 3.2 + 0.42 * len(table))) if ax is None else ax
    dress(ax, "Length (tokens)", "Recall")
    step = 0.16
    chance = float(np.average(frame["chance"], weights=frame["total"]))
    recall_axis(ax, {"chance": chance})
    token_axis(ax, lengths)
    draw_line(ax, curve, "length", "recall", Look("#4d4d4d", "o"))
    ax.axhline(-0.06, color=GREY, lw=1)
    ax.set(xlim=(lengths[0] / 1.7, lengths[-1] * 1.7), ylim=(-0.12 - step * len(table), 1.04))
    ax.spines["left"].set_bounds(0, 1)
    ax.yaxis.set_label_coords(-0.13, 1 - 0.5 / (1.16 + step * len(table)))
    said = []
    for k, row in enumerate(table.to_dict(orient="records")):
        said.append(_ruled(ax, row, -0.12 - step * (k + 0.5), OTHERS[k % len(OTHERS)]))
    mark_training(ax, frame, train_length)
    ax.set_label(
        f"Recall against length, {percent(curve['recall'].iloc[0])} at {tokens(lengths[0])} and "
        f"{percent(curve['recall'].iloc[-1])} at {tokens(lengths[-1])} tokens; effective length by rule, with 95 % "
        f"intervals: {'; '.join(said)}."
    )
    return ax


@styled
def samples_needed(marks: Sequence[int] = COMMON, *, most: int = 1000, ax: Axes | None = None) -> Axes:
    """Draw what a number of samples can show: the 95 % interval of a score of half, and the bounds of a perfect one.

    The band is Wilson's interval around one half; the lines are the lower ends for a score with all right, Wilson's
    two-sided and the exact one-sided. `marks` are numbers of samples to be named. Raises ValueError unless they lie
    from 1 to `most`.
    """
    if not marks or most < 2 or not all(1 <= n <= most for n in marks):
        raise ValueError(
            f"marks is {tuple(marks)} and most {most}; allowed are numbers of samples from 1 to most."
        )
    ax = new((6.4, 4.0)) if ax is None else ax
    dress(ax, "Samples a cell", "Recall that the score allows")
    n = np.unique(np.round(np.geomspace(1, most, 241)))
    half, (perfect, _) = stats.wilson(n / 2, n), stats.wilson(n, n)
    exact = np.array([lower_bound(int(k), int(k)) for k in n])
    one, two, three = OTHERS[0], OTHERS[1], Look(GREY, "")
    ax.fill_between(n, *half, color=three.color, alpha=0.2, lw=0)
    ax.plot(n, np.full(len(n), 0.5), color=three.color, lw=1.6)
    ax.plot(n, exact, color=two.color, lw=2, ls=DASHED)
    ax.plot(n, perfect, color=one.color, lw=2.4)
    said = []
    for k in marks:
        low = float(stats.wilson(k, k)[0])
        ax.vlines(k, 0, low, color=PALE, lw=1.2, zorder=1)
        ax.plot([k], [low], one.marker, color=one.color, ms=8, **POINT)
        words: dict[str, Any] = {"path_effects": halo(), "fontsize": SMALL, "zorder": 5, "ha": "left"}
        last = k * 3 > most
        down = (2, -7) if not last else (0, -9)
        if last:
            words["ha"] = "center"
        ax.annotate(
            percent(low), (k, low), down, textcoords="offset points", va="top", color=one.ink, **words
        )
        said.append(f"{k} of {k} {percent(low)}")
    recall_axis(ax)
    ax.set_xscale("log")
    ax.set_xlim(0.9, most * 1.12)
    ax.xaxis.set_major_locator(FixedLocator(sorted({*(int(k) for k in marks), most})))
    ax.xaxis.set_minor_locator(NullLocator())
    ax.xaxis.set_major_formatter(FuncFormatter(lambda value, _: short(value)))
    legend(
        ax,
        [
            ("all right: Wilson's low end", Look(one.color, "")),
            ("all right: exact, one-sided", Look(two.color, "", DASHED)),
            ("half right: Wilson's interval", three),
        ],
    )
    ax.set_label(f"The recall that a perfect score still allows, Wilson's lower end: {'; '.join(said)}.")
    return ax


@styled
def variance_bars(table: pd.DataFrame, *, ax: Axes | None = None) -> Axes:
    """Draw the shares of variance of `ranks.variance_shares`, a bar a source in the order given, with their intervals.

    `table` has the columns source, share, low and high; where all cells are alike, and no share is a number, no bar is
    drawn. Raises ValueError for missing columns, no rows, or a share that is not finite beside others that are.
    """
    require_columns(table, ("source", "share", "low", "high"))
    if table["share"].isna().all():
        table = table.assign(share=0.0, low=0.0, high=0.0)
    if not np.isfinite(table[["share", "low", "high"]].to_numpy(float)).all():
        raise ValueError("share has values that are not finite; allowed are shares of a variance.")
    ax = new((6.4, 1.1 + 0.48 * len(table))) if ax is None else ax
    dress(ax, "Share of the variance between cells", grid="x")
    told = []
    for at, row in enumerate(table.to_dict(orient="records")):
        rest = row["source"] in ("interaction", "sampling")
        look = Look("#8c8c8c", "o") if rest else OTHERS[at % len(OTHERS)]
        ax.barh(at, row["share"], height=0.62, color=look.color, alpha=0.75, zorder=2)
        ax.hlines(at, row["low"], row["high"], color="black", lw=1.8, zorder=3)
        text = f"{100 * row['share']:.0f} % [{100 * row['low']:.0f}, {100 * row['high']:.0f}]"
        ax.annotate(text, (max(row["high"], row["share"]), at), (6, 0), textcoords="offset points", va="center",
                    fontsize=SMALL, path_effects=halo(), zorder=5)  # fmt: skip
        told.append(f"{row['source']} {text}")
    names = [spelled(str(source)) for source in table["source"]]
    ax.set_yticks(range(len(table)), ["\n".join(textwrap.wrap(name, 18)) for name in names])
    ax.set_ylim(len(table) - 0.45, -0.55)
    ax.tick_params(axis="y", length=0)
    ends = float(table["high"].max())
    ax.set_xlim(0, max(0.1, min(1.0, ends)) * 1.42)
    ticks = [t for t in np.arange(0, 1.01, 0.25 if ends > 0.5 else 0.1) if t <= max(ends, 0.1) * 1.3]
    ax.set_xticks(ticks, [f"{100 * t:.0f} %" for t in ticks])
    ax.set_label(f"Shares of the variance of recall between cells, with 95 % intervals: {'; '.join(told)}.")
    return ax


@styled
def tau_matrix(table: pd.DataFrame, *, ax: Axes | None = None) -> Axes:
    """Draw Kendall's tau between benchmarks, a cell a pair, with the ends of its interval below it.

    `table` has a row a pair with the columns a, b, tau, low and high, as `ranks.tau_table` makes it. A frame marks
    an interval that leaves out 0. Raises ValueError for missing columns or no rows.
    """
    require_columns(table, ("a", "b", "tau", "low", "high"))
    names = list(dict.fromkeys([*table["a"], *table["b"]]))
    rows, columns = names[1:], names[:-1]
    to, height = (" to ", 0.6) if len(columns) <= 4 else ("\nto ", 0.75)
    ax = new((6.4, 1.5 + height * len(rows))) if ax is None else ax
    dress(ax, grid="")
    values, told = np.full((len(rows), len(columns)), math.nan), []
    found = {frozenset((row["a"], row["b"])): row for row in table.to_dict(orient="records")}
    for i, down in enumerate(rows):
        for j, along in enumerate(columns):
            if j <= i and frozenset((down, along)) in found:
                values[i, j] = found[frozenset((down, along))]["tau"]
    mesh = ax.pcolormesh(
        np.ma.masked_invalid(values), cmap=mpl.colormaps["PuOr"], vmin=-1, vmax=1, edgecolor="white", lw=1
    )
    for i, j in np.argwhere(np.isfinite(values)):
        row = found[frozenset((rows[i], columns[j]))]
        dark = luminance(mesh.cmap(mesh.norm(values[i, j]))) < 0.18
        if row["low"] > 0 or row["high"] < 0:
            ax.add_patch(Rectangle((j + 0.03, i + 0.04), 0.94, 0.92, fill=False, ec="black", lw=2.5))
        text = f"{_signed(row['tau'])}\n{_signed(row['low'], 1)}{to}{_signed(row['high'], 1)}"
        ax.text(j + 0.5, i + 0.5, text, ha="center", va="center", fontsize=SMALL, linespacing=1.1,
                color="white" if dark else "black")  # fmt: skip
        told.append(
            f"{columns[j]} and {rows[i]} {_signed(row['tau'])} [{_signed(row['low'])}, {_signed(row['high'])}]"
        )
    wide, slant = (max(8, 52 // max(len(columns), 1)), {}) if len(columns) <= 4 else (16, SLANTED)
    wrapped = ["\n".join(textwrap.wrap(str(n), wide)) for n in columns]
    ax.set_xticks(np.arange(len(columns)) + 0.5, wrapped, **slant)
    ax.set_yticks(np.arange(len(rows)) + 0.5, ["\n".join(textwrap.wrap(str(n), 16)) for n in rows])
    ax.tick_params(length=0)
    ax.spines[:].set_visible(False)
    ax.invert_yaxis()
    color_bar(ax, mesh).set_ticks([-1, 0, 1], labels=["−1", "0", "1"])
    ax.set_title("Kendall's tau, with 95 % interval", fontsize=TEXT, loc="left")
    ax.set_label(f"Kendall's tau between benchmarks, with 95 % intervals: {'; '.join(told)}.")
    return ax


# Shared by the figures


def _counts(total: np.ndarray) -> str:
    least, most = int(total.min()), int(total.max())
    return f"{least}" if least == most else f"{least} to {most}"


def _crossings(a: np.ndarray, b: np.ndarray) -> int:
    i, j = np.triu_indices(len(a), 1)
    return int((((a[i] - a[j]) * (b[i] - b[j])) < 0).sum())


def _signed(value: float, digits: int = 2) -> str:
    if not math.isfinite(value):
        return "none"
    text = f"{value:.{digits}f}"
    return text.replace("-", "−") if float(text) else text.lstrip("-")


def _ruled(ax: Axes, row: dict[Any, Any], at: float, look: Look) -> str:
    """Draw one effective length at height `at`, named on the roomier side; return it in words."""
    value, low, high = float(row["length"]), float(row["low"]), float(row["high"])
    above, under = row["censored"] in ("above", "both"), row["censored"] in ("below", "both")
    ax.hlines(at, low, high, color=look.color, lw=6, alpha=0.35)
    for end, factor in [(high, 1.5)] * above + [(low, 1 / 1.5)] * under:
        arrow = {"arrowstyle": "-|>", "color": look.color, "lw": 2, "shrinkA": 0, "shrinkB": 0}
        ax.annotate("", (end * factor, at), (end, at), arrowprops=arrow, annotation_clip=False)
    most, least = above and value >= high, under and value <= low
    ax.plot([value], [at], ">" if most else "<" if least else look.marker, color=look.color, ms=9, **POINT)
    text = ("≥ " if most else "≤ " if least else "") + tokens(value)
    name = MEANING.get(row["rule"], row["rule"])
    words: dict[str, Any] = {"fontsize": SMALL, "color": look.ink, "va": "center", "annotation_clip": False}
    ax.annotate(f"{name}:\n{text}", (1.02, at), xycoords=("axes fraction", "data"), linespacing=1.05, **words)
    shown = text if low == high else f"{text} [{tokens(low)}, {tokens(high)}]"
    return f"{row['rule']} {shown}"
