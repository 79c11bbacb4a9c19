"""The figures of the book: tidy frame in, axes out, with intervals, chance and training length.

Each function draws on `ax`, or on a new figure, and returns the axes; `alt` turns them into a sentence.
Recall and n50 with their intervals come from `stats`, so a figure shows what a claim judges. Bad input (an
empty frame, a missing column) raises ValueError.
"""

from __future__ import annotations

import math
import textwrap
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.ticker import FuncFormatter, LogLocator, NullLocator
from scipy import stats as distributions

from lcbook import stats
from lcbook.formats import Number, called, percent, short, spelled, tokens
from lcbook.plots._marks import (
    COUNTS,
    draw_line,
    legend,
    mark_training,
    mark_x,
    name_lines,
    require_one_probe,
    select,
    trained_lengths,
)
from lcbook.plots._style import (
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
from lcbook.stats.estimate import require_columns


def alt(ax: Axes | Sequence[Axes] | np.ndarray) -> str:
    """Return what one axes of this module, or several, show: a sentence each, for use as alt text."""
    axes = [ax] if isinstance(ax, Axes) else list(np.ravel(np.asarray(ax, dtype=object)))
    return " ".join(text for one in axes if (text := str(one.get_label())))


@styled
def recall_by_length(
    frame: pd.DataFrame, *, hue: str = "arm", train_length: Number | None = None, ax: Axes | None = None
) -> Axes:
    """Draw recall against length (tokens, log2): a line and a 95 % band per `hue`, and each seed faintly.

    `train_length` is taken from the frame's column train.length where it is not given.
    """
    require_columns(frame, (hue, "length", *COUNTS))
    ax = new() if ax is None else ax
    ends = _recall_lines(ax, frame, "length", hue, looks(list(frame[hue].unique())))
    _recall_frame(ax, frame, "length", "Length (tokens)", train_length)
    name_lines(ax, ends)
    return ax


@styled
def recall_by_gap(
    frame: pd.DataFrame,
    *,
    hue: str = "arm",
    length: Number | None = None,
    train_length: Number | None = None,
    ax: Axes | None = None,
) -> Axes:
    """Draw recall against the gap from needle to query (tokens, log2), a point an octave, at its lower edge.

    Pools all lengths, or takes `length` alone. A gap is shorter than its text, so far gaps come from long
    texts only.
    """
    require_columns(frame, (hue, "gap", "length", *COUNTS))
    if length is not None:
        frame = select(frame, "length", length)
    ax = new() if ax is None else ax
    ends = _recall_lines(ax, frame, "gap", hue, looks(list(frame[hue].unique())))
    _recall_frame(ax, frame, "gap", "Gap from needle to query (tokens, by octave)", train_length)
    name_lines(ax, ends)
    return ax


@styled
def recall_beside(
    tables: Mapping[str, pd.DataFrame], *, hue: str = "arm", train_length: Number | None = None
) -> np.ndarray:
    """Draw `recall_by_length` of several tables of one experiment, a panel each, by the name it is given.

    Returns the panels as a flat array. Raises ValueError for no table, missing columns, no rows or mixed probes.
    """
    if not tables:
        raise ValueError("tables is empty; allowed is one table or more.")
    for table in tables.values():
        require_columns(table, (hue, "length", *COUNTS))
    look = looks([value for table in tables.values() for value in table[hue].unique()])
    rows = -(-len(tables) // 2)
    axes = np.ravel(new((6.4, 0.7 + 3.1 * rows), nrows=rows, ncols=2))
    for ax, (name, table) in zip(axes, tables.items(), strict=False):
        _recall_lines(ax, table, "length", hue, look)
        _recall_frame(ax, table, "length", "Length (tokens)", train_length, ticks=4)
        ax.set_label(f"{name}. {alt(ax)}")
        ax.set_title(textwrap.fill(name, 36), fontsize=SMALL, pad=20, loc="left")
    for ax in axes[len(tables) :]:
        ax.set_axis_off()
    for left, right in zip(axes[::2], axes[1::2], strict=True):
        right.set_ylabel("")
        if list(left.get_yticks()) == list(right.get_yticks()):
            right.tick_params(labelleft=False)
    legend(axes[0], [(called(hue, value), one) for value, one in look.items()])
    return axes[: len(tables)]


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
    require_one_probe(frame)
    cells = frame.groupby([y, "length"])[["correct", "total"]].sum().unstack("length", fill_value=0)
    correct, total = cells["correct"].to_numpy(float), cells["total"].to_numpy(float)
    chance, recall = _chance(frame), np.where(total > 0, correct / np.maximum(total, 1), math.nan)
    lengths, levels = list(cells["correct"].columns), list(cells.index)
    ax = new((6.4, 1.6 + 0.34 * max(len(levels), 5))) if ax is None else ax
    dress(ax, "Length (tokens)", "Gap (tokens, by octave)" if y == "gap" else spelled(y), grid="")
    mesh = ax.pcolormesh(
        np.ma.masked_invalid(recall), cmap="cividis", vmin=min(chance, 0.99), vmax=1, edgecolor="white", lw=1
    )
    for i, j in np.argwhere(total > 0):
        low, high = stats.wilson(correct[i, j], total[i, j])
        text = f"{100 * recall[i, j]:.0f}" + (f" ±{50 * (high - low):.0f}" if len(lengths) <= 8 else "")
        dark = luminance(mesh.cmap(mesh.norm(recall[i, j]))) < 0.18
        ink = "white" if dark else "black"
        ax.text(j + 0.5, i + 0.5, text, ha="center", va="center", size=9.5, color=ink)
    number = tokens if y == "gap" else short
    ax.set_xticks(np.arange(len(lengths)) + 0.5, [tokens(n) for n in lengths])
    ax.set_yticks(np.arange(len(levels)) + 0.5, [number(v) for v in levels])
    ax.tick_params(length=0)
    for length in trained_lengths(frame, train_length):
        mark_x(ax, sum(n <= length for n in lengths), f"trained to {tokens(length)}")
    color_bar(ax, mesh).set_ticks([min(chance, 0.99), 1], labels=[f"chance\n{percent(chance)}", "100 %"])
    ax.set_title(f"{arm}: recall in %", fontsize=TEXT, loc="left", pad=20)
    span = f"from {percent(np.nanmin(recall))} to {percent(np.nanmax(recall))}"
    ax.set_label(f"{arm}: heat map of recall by length and {y}, {span}, {_by_chance(frame)}.")
    return ax


def text_loss_table(frame: pd.DataFrame, hue: str = "arm") -> pd.DataFrame:
    """Return perplexity by `hue` and length: exp of the mean text loss over seeds and of its 95 % t interval.

    With one seed low and high are NaN. Raises ValueError where no text loss was measured.
    """
    require_columns(frame, (hue, "seed", "length", "text_loss"))
    if hue != "probe":
        require_one_probe(frame)
    if frame["text_loss"].isna().all():
        raise ValueError("text_loss is NaN in every row; allowed is a frame measured with text=True.")
    once = frame.groupby([hue, "length", "seed"], sort=False)["text_loss"].mean().dropna()
    rows = []
    for (value, length), losses in once.groupby(level=[0, 1], sort=False):
        n, mean = len(losses), losses.mean()
        half = distributions.t.ppf(0.975, n - 1) * losses.std() / math.sqrt(n) if n > 1 else math.nan
        rows.append((value, length, math.exp(mean), math.exp(mean - half), math.exp(mean + half), n))
    return pd.DataFrame(rows, columns=[hue, "length", "perplexity", "low", "high", "seeds"])


@styled
def text_loss_and_recall(
    frame: pd.DataFrame,
    *,
    hue: str = "arm",
    train_length: Number | None = None,
    ax: Sequence[Axes] | np.ndarray | None = None,
) -> np.ndarray:
    """Draw perplexity on the text (above) and recall (below) against length: fluent, but forgetful?

    Returns the two axes; `ax` gives them. Bands as in `text_loss_table` and `recall_by_length`.
    """
    require_columns(frame, (hue, "length", "text_loss", *COUNTS))
    table, look = text_loss_table(frame, hue), looks(list(frame[hue].unique()))
    axes = np.ravel(new((6.4, 5.0), nrows=2, sharex=True) if ax is None else np.asarray(ax, dtype=object))
    if len(axes) != 2:
        raise ValueError(f"ax has {len(axes)} axes; allowed are two, for perplexity and recall.")
    top, bottom = axes
    for value, part in table.groupby(hue, sort=False):
        draw_line(top, part.sort_values("length"), "length", "perplexity", look[value])
    dress(top, "", "Perplexity")
    if table["perplexity"].max() > 5 * table["perplexity"].min():
        top.set_yscale("log")
        top.yaxis.set_major_locator(LogLocator(subs=(1.0, 2.0, 5.0), numticks=6))
        top.yaxis.set_minor_locator(NullLocator())
    top.yaxis.set_major_formatter(FuncFormatter(lambda value, _: short(value)))
    _recall_lines(bottom, frame, "length", hue, look)
    _recall_frame(bottom, frame, "length", "Length (tokens)", train_length, named=False)
    token_axis(top, frame["length"].unique())
    mark_training(top, frame, train_length)
    legend(bottom, [(called(hue, value), one) for value, one in look.items()])
    last = table[table["length"] == table["length"].max()]
    shown = zip(last[hue], last["perplexity"], strict=True)
    said = ", ".join(f"{called(hue, value)} {short(perplexity)}" for value, perplexity in shown)
    top.set_label(f"Perplexity on the text at {tokens(float(table['length'].max()))} tokens: {said}.")
    return axes


# Shared by the figures


def _chance(frame: pd.DataFrame) -> float:
    return float(np.average(frame["chance"], weights=frame["total"]))


def _by_chance(frame: pd.DataFrame) -> str:
    return f"chance {percent(_chance(frame))}"


def _recall_lines(
    ax: Axes, frame: pd.DataFrame, x: str, hue: str, look: Mapping[Any, Look]
) -> list[tuple[str, Look, float, float]]:
    """Draw the recall of each hue and of its seeds; return name, look and end of each line."""
    table, ends = stats.recall(frame, by=[hue, x]), []
    for value, part in frame.groupby(hue, sort=False, dropna=False):
        for _, seed in part.groupby("seed"):
            counts = seed.groupby(x)[["correct", "total"]].sum()
            rate = counts["correct"] / counts["total"]
            ax.plot(counts.index, rate, color=look[value].color, lw=0.7, alpha=0.35, zorder=2)
    for value, part in table.groupby(hue, sort=False, dropna=False):
        part = part.sort_values(x)
        draw_line(ax, part, x, "recall", look[value])
        end = part.iloc[-1]
        ends.append((called(hue, value), look[value], float(end[x]), float(end["recall"])))
    at = tokens(max(end[2] for end in ends))
    said = ", ".join(f"{name} {percent(y)}" for name, _, _, y in ends)
    ax.set_label(f"Recall against {x}; at the largest tested ({at} tokens): {said}; {_by_chance(frame)}.")
    return ends


def _recall_frame(
    ax: Axes,
    frame: pd.DataFrame,
    x: str,
    xlabel: str,
    train_length: Number | None,
    *,
    ticks: int = 6,
    named: bool = True,
) -> None:
    dress(ax, xlabel, "Recall")
    token_axis(ax, frame[x].unique(), ticks=ticks)
    recall_axis(ax, {"chance": _chance(frame)})
    mark_training(ax, frame, train_length, named=named)


@styled
def recall_at_each_length(
    frame: pd.DataFrame, *, hue: str = "arm", mark: Number, period: Number, ax: Axes | None = None
) -> Axes:
    """Draw recall against length on a linear axis of tokens, a line for each value of `hue`, with 95 % Wilson bands.

    `mark` is a length to be named, and a faint line stands every `period` tokens from it. `frame` has the columns
    length, `hue`, correct, total and chance. Raises ValueError for missing columns, no rows, mixed probes, a period
    that is not positive, or a mark outside the lengths.
    """
    require_columns(frame, ("length", hue, *COUNTS))
    require_one_probe(frame)
    least, most = int(frame["length"].min()), int(frame["length"].max())
    if not (period > 0 and least <= mark <= most):
        raise ValueError(
            f"period is {period} and mark {mark}; allowed are a period above 0 and a mark from {least} to {most}."
        )
    ax = new() if ax is None else ax
    dress(ax, "Length (tokens)", "Recall")
    for at in mark + period * np.arange(
        np.ceil((least - mark) / period), np.floor((most - mark) / period) + 1
    ):
        ax.axvline(at, color=PALE, lw=1, zorder=1)
    look, said = looks(list(frame[hue].unique())), []
    for value, part in frame.groupby(hue, sort=False):
        table = part.groupby("length")[["correct", "total"]].sum().reset_index()
        table["recall"] = table["correct"] / table["total"]
        table["low"], table["high"] = stats.wilson(table["correct"].to_numpy(), table["total"].to_numpy())
        draw_line(ax, table, "length", "recall", look[value])
        ends = f"{percent(table['recall'].min())} to {percent(table['recall'].max())}"
        said.append(f"{called(hue, value)} from {ends}")
    recall_axis(ax, {"chance": float(np.average(frame["chance"], weights=frame["total"]))})
    ax.set_title(f"grey: every {period:.2f} tokens from {tokens(mark)}", loc="left")
    legend(ax, [(called(hue, value), one) for value, one in look.items()])
    ax.set_label(f"Recall by exact length from {least} to {most} tokens: {'; '.join(said)}.")
    return ax
