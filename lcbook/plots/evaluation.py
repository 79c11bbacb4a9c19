"""Figures of evaluation: recall grids with intervals, effective lengths, samples needed, rankings, variance."""

from __future__ import annotations

import itertools
import math
import textwrap
from collections.abc import Sequence
from typing import Any

import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.patches import Rectangle
from matplotlib.ticker import FixedLocator

from lcbook import stats
from lcbook.formats import Number, percent, short, spelled, tokens
from lcbook.plots._lines import (
    COUNTS,
    POINT,
    draw_estimate,
    draw_heat,
    legend,
    log_axis,
    mark_training,
    mark_x,
    note,
    require_one_probe,
    select,
    spread,
    trained_lengths,
)
from lcbook.plots._style import (
    DASHED,
    GREY,
    OTHERS,
    PALE,
    SMALL,
    TEXT,
    Look,
    dress,
    looks,
    new,
    recall_axis,
    styled,
    token_axis,
)
from lcbook.plots.recall import draw_recall
from lcbook.stats.effective import HALF, NOLIMA, RULER, RULES, effective_table, lower_bound
from lcbook.stats.estimate import pooled_chance, require_columns
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
    recall, total, low, high = _cells(frame, y)
    levels, columns = list(recall.index), recall.shape[1]
    ax = new((6.4, 1.5 + (0.52 if columns <= WIDE else 0.34) * max(len(levels), 3))) if ax is None else ax
    words = (100 * recall).map("{:.0f} %".format)
    if columns <= WIDE:
        to = " to " if columns <= ROOMY else "–"
        words += "\n" + (100 * low).map("{:.0f}".format) + to + (100 * high).map("{:.0f}".format)
    share = y == "depth" and max(levels) <= 1
    written = [f"{100 * v:.0f} %" if share else v if isinstance(v, str) else short(v) for v in levels]
    cells = recall.set_axis(written, axis=0).set_axis([tokens(n) for n in recall], axis=1)
    labels = ("Length (tokens)", spelled(y))
    draw_heat(ax, cells, words, labels, {0: "0 %", 0.5: "50 %", 1: "100 %"})
    if train_length is not None:
        mark_x(ax, sum(n <= train_length for n in recall), f"trained to {tokens(train_length)}")
    pad = 20 if train_length else 6
    ax.set_title(title or "Recall, with 95 % interval", fontsize=TEXT, loc="left", pad=pad)
    worst, asked = recall.stack().idxmin(), total.stack()
    counts = dict.fromkeys(str(int(n)) for n in (asked.min(), asked.max()))
    said = f"from {percent(recall.loc[worst])} (interval {percent(low.loc[worst])} to {percent(high.loc[worst])})"
    ax.set_label(
        f"{title + ': r' if title else 'R'}ecall by length and {y}, {said} to {percent(recall.max(axis=None))}, "
        f"{' to '.join(counts)} queries a cell."
    )
    return ax


@styled
def heat_map(
    frame: pd.DataFrame,
    *,
    arm: str | None = None,
    y: str = "gap",
    train_length: Number | None = None,
    ax: Axes | None = None,
) -> Axes:
    """Draw recall of one arm by length and `y` ("gap", or a column such as "depth"), chance the darkest.

    A cell holds the percentage, seeds pooled, and where it fits half the width of its Wilson interval: the
    noise of the queries alone, not that between seeds. `arm` may be left out where the frame has one.
    """
    require_columns(frame, ("arm", "length", y, "correct", "total", "chance"))
    arms = list(frame["arm"].unique())
    if arm is None and len(arms) > 1:
        raise ValueError(f"arm is None; allowed is one of {', '.join(map(repr, arms))}.")
    arm = arms[0] if arm is None else arm
    frame = select(frame, "arm", arm)
    recall, _, low, high = (one[::-1] for one in _cells(frame, y))
    chance = pooled_chance(frame)
    ax = new((6.4, 1.6 + 0.34 * max(len(recall), 5))) if ax is None else ax
    words = (100 * recall).map("{:.0f}".format)
    if recall.shape[1] <= 8:
        words += " ±" + (50 * (high - low)).map("{:.0f}".format)
    number = tokens if y == "gap" else short
    cells = recall.set_axis([number(v) for v in recall.index], axis=0)
    cells = cells.set_axis([tokens(n) for n in recall], axis=1)
    labels = ("Length (tokens)", "Gap (tokens, by octave)" if y == "gap" else spelled(y))
    draw_heat(
        ax, cells, words, labels, {min(chance, 0.99): f"chance\n{percent(chance)}", 1: "100 %"}, size=9.5
    )
    for length in trained_lengths(frame, train_length):
        mark_x(ax, sum(n <= length for n in recall), f"trained to {tokens(length)}")
    ax.set_title(f"{arm}: recall in %", fontsize=TEXT, loc="left", pad=20)
    span = f"from {percent(recall.min(axis=None))} to {percent(recall.max(axis=None))}"
    ax.set_label(f"{arm}: heat map of recall by length and {y}, {span}, chance {percent(chance)}.")
    return ax


def _cells(frame: pd.DataFrame, y: str) -> tuple[pd.DataFrame, ...]:
    """Return recall, queries, and the ends of Wilson's interval by `y` and length; NaN where nothing was asked."""
    require_one_probe(frame)
    counts = frame.groupby([y, "length"])[["correct", "total"]].sum()
    counts = counts[counts["total"] > 0]
    low, high = stats.wilson(counts["correct"].to_numpy(float), counts["total"].to_numpy(float))
    table = counts.assign(recall=counts["correct"] / counts["total"], low=low, high=high)
    return tuple(table[name].unstack("length") for name in ("recall", "total", "low", "high"))


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
    one_model = frame.assign(arm="", seed=0)
    curve = stats.recall(one_model, by="length").sort_values("length")
    lengths, step = curve["length"].to_numpy(float), 0.16
    size = (6.4, 3.2 + 0.42 * len(table))
    ax, _ = draw_recall(
        ax, one_model, "length", "arm", look={"": Look("#4d4d4d", "o")}, seeds=False, size=size
    )
    dress(ax, "Length (tokens)", "Recall")
    token_axis(ax, lengths)
    ax.axhline(-0.06, color=GREY, lw=1)
    ax.set(xlim=(lengths[0] / 1.7, lengths[-1] * 1.7), ylim=(-0.12 - step * len(table), 1.04))
    ax.spines["left"].set_bounds(0, 1)
    ax.yaxis.set_label_coords(-0.13, 1 - 0.5 / (1.16 + step * len(table)))
    said = []
    for k, row in enumerate(table.to_dict(orient="records")):
        at, look = -0.12 - step * (k + 0.5), OTHERS[k % len(OTHERS)]
        text, whole = draw_estimate(ax, at, row, "length", look)
        words: dict[str, Any] = {
            "color": look.ink,
            "va": "center",
            "annotation_clip": False,
            "linespacing": 1.05,
        }
        note(ax, f"{MEANING.get(row['rule'], row['rule'])}:\n{text}", (1.02, at), (0, 0),
             xycoords=("axes fraction", "data"), **words)  # fmt: skip
        said.append(f"{row['rule']} {whole}")
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
        last = k * 3 > most
        note(
            ax,
            percent(low),
            (k, low),
            (0, -9) if last else (2, -7),
            one.ink,
            va="top",
            ha="center" if last else "left",
        )
        said.append(f"{k} of {k} {percent(low)}")
    recall_axis(ax)
    log_axis(ax.xaxis, short)
    ax.set_xlim(0.9, most * 1.12)
    ax.xaxis.set_major_locator(FixedLocator(sorted({*(int(k) for k in marks), most})))
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
        color = "#8c8c8c" if rest else OTHERS[at % len(OTHERS)].color
        ax.barh(at, row["share"], height=0.62, color=color, alpha=0.75, zorder=2)
        ax.hlines(at, row["low"], row["high"], color="black", lw=1.8, zorder=3)
        text = f"{100 * row['share']:.0f} % [{100 * row['low']:.0f}, {100 * row['high']:.0f}]"
        note(ax, text, (max(row["high"], row["share"]), at), (6, 0), "black", va="center")
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
    values, told = pd.DataFrame(math.nan, rows, columns), []
    words = values.astype(object)
    for row in table[np.isfinite(table["tau"])].to_dict(orient="records"):
        along, down = sorted((row["a"], row["b"]), key=names.index)
        values.loc[down, along] = row["tau"]
        words.loc[down, along] = (
            f"{_signed(row['tau'])}\n{_signed(row['low'], 1)}{to}{_signed(row['high'], 1)}"
        )
        if row["low"] > 0 or row["high"] < 0:
            corner = (columns.index(along) + 0.03, rows.index(down) + 0.04)
            ax.add_patch(Rectangle(corner, 0.94, 0.92, fill=False, ec="black", lw=2.5, zorder=3))
        told.append(
            f"{along} and {down} {_signed(row['tau'])} [{_signed(row['low'])}, {_signed(row['high'])}]"
        )
    draw_heat(ax, values, words, ("", ""), {-1: "−1", 0: "0", 1: "1"}, cmap="PuOr")
    wide, slant = (max(8, 52 // max(len(columns), 1)), {}) if len(columns) <= 4 else (16, SLANTED)
    ax.set_xticks(ax.get_xticks(), [textwrap.fill(str(name), wide) for name in columns], **slant)
    ax.set_yticks(ax.get_yticks(), [textwrap.fill(str(name), 16) for name in rows])
    ax.spines[:].set_visible(False)
    ax.set_title("Kendall's tau, with 95 % interval", fontsize=TEXT, loc="left")
    ax.set_label(f"Kendall's tau between benchmarks, with 95 % intervals: {'; '.join(told)}.")
    return ax


# Shared by the figures


def _crossings(a: np.ndarray, b: np.ndarray) -> int:
    i, j = np.triu_indices(len(a), 1)
    return int((((a[i] - a[j]) * (b[i] - b[j])) < 0).sum())


def _signed(value: float, digits: int = 2) -> str:
    if not math.isfinite(value):
        return "none"
    text = f"{value:.{digits}f}"
    return text.replace("-", "−") if float(text) else text.lstrip("-")
