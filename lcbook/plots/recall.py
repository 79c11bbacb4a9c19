"""Figures of recall against a number: length, load, segments, a share, a dose, the gap; and the text loss beside it.

Recall and its intervals come from `stats`, so a figure shows what a claim judges.
"""

from __future__ import annotations

import math
import textwrap
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.ticker import FuncFormatter
from scipy import stats as distributions

from lcbook import stats
from lcbook.formats import Number, called, percent, short, spelled, tokens
from lcbook.plots._lines import (
    COUNTS,
    End,
    Panels,
    by_seed,
    draw_lines,
    draw_seeds,
    legend,
    line_ends,
    log_axis,
    mark_training,
    name_lines,
    note,
    pair,
    require_one_probe,
    require_positive,
    require_shares,
)
from lcbook.plots._style import (
    DOTS,
    GREY,
    PALE,
    SIZE,
    SMALL,
    Look,
    dress,
    looks,
    new,
    percent_axis,
    recall_axis,
    styled,
    token_axis,
)
from lcbook.stats.estimate import pooled_chance, require_columns


def alt(ax: Axes | Panels) -> str:
    """Return what one axes of this room, or several, show: a sentence each, for use as alt text."""
    axes = [ax] if isinstance(ax, Axes) else list(np.ravel(np.asarray(ax, dtype=object)))
    return " ".join(text for one in axes if (text := str(one.get_label())))


def draw_recall(
    ax: Axes | None,
    frame: pd.DataFrame,
    x: str,
    hue: str,
    *,
    look: Mapping[Any, Look] | None = None,
    seeds: bool = True,
    write: Callable[[Number], str] = short,
    size: tuple[float, float] = SIZE,
) -> tuple[Axes, list[End]]:
    """Draw recall against a column `x` on `ax`, or on a new figure: a line and a 95 % band a `hue`, and chance.

    Each seed is drawn faintly, if wanted. Chance is a tick, or a dotted curve where it changes with `x`. Returns the
    axes, whose label says what is seen, and the ends of the lines.
    """
    require_columns(frame, (hue, x, *COUNTS))
    found = stats.recall(frame, by=[hue, x]).sort_values(x, kind="stable")
    look = looks(list(frame[hue].unique())) if look is None else look
    ax = new(size) if ax is None else ax
    if seeds:
        draw_seeds(ax, by_seed(frame, [hue, x]), x, "recall", hue, look)
    here = {value: one for value, one in look.items() if (found[hue] == value).any()}
    draw_lines(ax, found, x, "recall", hue, here)
    mark_chance(ax, frame, x)
    said = (f"{called(hue, v)} {_course(found[found[hue] == v], x, 'recall', percent, write)}" for v in here)
    ax.set_label(
        f"Recall against {spelled(x).lower()}: {'; '.join(said)}; chance {percent(pooled_chance(frame))}."
    )
    return ax, line_ends(found, x, "recall", hue, here)


def mark_chance(ax: Axes, frame: pd.DataFrame, x: str) -> None:
    """Make y a recall and mark chance: a level, or a dotted curve where it changes with `x`."""
    sums = frame.assign(guessed=frame["chance"] * frame["total"]).groupby(x)[["guessed", "total"]].sum()
    chance = sums["guessed"] / sums["total"]
    if np.ptp(chance) < 1e-9:
        recall_axis(ax, {"chance": float(chance.iloc[0])})
        return
    recall_axis(ax)
    ax.plot(chance.index, chance, ":", color=GREY, lw=1.2, zorder=1.5)
    note(ax, "chance", (chance.index[0], chance.iloc[0]), (4, 3))


def _course(
    part: pd.DataFrame, x: str, y: str, write_y: Callable[[Number], str], write: Callable[[Number], str]
) -> str:
    """Return the first and the last value of a line in words, and the least where it lies between them."""
    points = dict.fromkeys((0, len(part) - 1))
    said = [f"{write_y(part[y].iloc[i])} at {write(part[x].iloc[i])}" for i in points]
    least = int(part[y].to_numpy().argmin())
    if part[y].iloc[least] < part[y].iloc[list(points)].min():
        said.append(f"least {write_y(part[y].iloc[least])} at {write(part[x].iloc[least])}")
    return ", ".join(said)


@styled
def recall_by_length(
    frame: pd.DataFrame, *, hue: str = "arm", train_length: Number | None = None, ax: Axes | None = None
) -> Axes:
    """Draw recall against length (tokens, log2): a line and a 95 % band per `hue`, and each seed faintly.

    `train_length` is taken from the frame's column train.length where it is not given.
    """
    ax, ends = draw_recall(ax, frame, "length", hue, write=tokens)
    _length_axis(ax, frame, train_length)
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
        require_one_probe(table)
    look = looks([value for table in tables.values() for value in table[hue].unique()])
    rows = -(-len(tables) // 2)
    axes = np.ravel(new((6.4, 0.7 + 3.1 * rows), nrows=rows, ncols=2))
    for ax, (name, table) in zip(axes, tables.items(), strict=False):
        draw_recall(ax, table, "length", hue, look=look, write=tokens)
        _length_axis(ax, table, train_length, ticks=4)
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
def recall_by(
    frame: pd.DataFrame, *, x: str, hue: str = "arm", xlabel: str = "", ax: Axes | None = None
) -> Axes:
    """Draw recall against a positive number `x` (log), such as a dose, lines and bands as `recall_by_length`.

    Raises ValueError for missing columns, no rows, mixed probes, or a number that is not above 0.
    """
    require_columns(frame, (x,))
    require_positive(frame, x)
    ax, ends = draw_recall(ax, frame, x, hue)
    dress(ax, xlabel or spelled(x), "Recall")
    log_axis(ax.xaxis, short)
    name_lines(ax, ends)
    return ax


@styled
def recall_by_load(table: pd.DataFrame, *, hue: str = "arm", ax: Axes | None = None) -> Axes:
    """Draw recall against the pairs stored (column `pairs`, log2), lines and bands as `recall_by_length`.

    Raises ValueError for missing columns, no rows, mixed probes, or fewer than one pair.
    """
    require_columns(table, ("pairs",))
    require_positive(table, "pairs")
    ax, ends = draw_recall(ax, table, "pairs", hue)
    dress(ax, "Pairs stored", "Recall")
    token_axis(ax, table["pairs"].unique())
    name_lines(ax, ends)
    return ax


@styled
def recall_by_segments(table: pd.DataFrame, *, hue: str = "arm", ax: Axes | None = None) -> Axes:
    """Draw recall against the number of segments (column `segments`), lines and bands as `recall_by_length`.

    The axis is logarithmic to base 2 where the largest number is at least eight times the least, else linear. Raises
    ValueError for missing columns, no rows, mixed probes, or negative segments.
    """
    if "segments" in table.columns and not (table["segments"] >= 0).all():
        raise ValueError(f"segments has {table['segments'].min()}; allowed is 0 or more.")
    ax, ends = draw_recall(ax, table, "segments", hue)
    dress(ax, "Segments", "Recall")
    at = sorted(table["segments"].unique())
    if 0 < 8 * at[0] <= at[-1]:
        token_axis(ax, at)
    else:
        ax.set_xticks(at[:: -(-len(at) // 8)])
    name_lines(ax, ends)
    return ax


@styled
def recall_by_share(frame: pd.DataFrame, *, x: str, xlabel: str, ax: Axes | None = None) -> Axes:
    """Draw recall against a share `x` in per cent: a line with its 95 % band over seeds, each seed faintly.

    Raises ValueError for missing columns, no rows, or a share outside [0, 1].
    """
    require_columns(frame, (x,))
    require_shares(frame, x)
    ax, _ = draw_recall(ax, frame.assign(line="all"), x, "line", write=percent)
    dress(ax, xlabel, "Recall")
    percent_axis(ax.xaxis)
    return ax


@styled
def recall_within_reach(
    frame: pd.DataFrame, *, reach: Mapping[Any, Number], hue: str = "arm", ax: Axes | None = None
) -> Axes:
    """Draw recall against the gap in tokens (linear), a line per `hue` and, in its colour, where its `reach` ends.

    `reach` gives for each arm the largest gap that its pattern can bridge; an arm without one is not bounded.
    """
    ax, ends = draw_recall(ax, frame, "gap", hue, seeds=False)
    look, said = looks(list(frame[hue].unique())), []
    table, half = stats.recall(frame, by=[hue, "gap"]), (1 + pooled_chance(frame)) / 2
    for value, one in look.items():
        good = table[(table[hue] == value) & (table["recall"] > half)]["gap"]
        said.append(f"{called(hue, value)}: {f'{good.max():g}' if len(good) else 'none'}")
        if value in reach:
            ax.axvline(float(reach[value]), color=one.color, lw=1.3, ls=DOTS, zorder=1.8)
            said[-1] += f" of a reach of {float(reach[value]):g}"
    dress(ax, "Gap from needle to query (tokens); dotted: end of the reach", "Recall")
    legend(ax, [(name, one) for name, one, *_ in ends])
    ax.set_label(f"Recall against gap; recall is above one half up to a gap of {'; '.join(said)} (tokens).")
    return ax


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
    least, most = int(frame["length"].min()), int(frame["length"].max())
    if not (period > 0 and least <= mark <= most):
        raise ValueError(
            f"period is {period} and mark {mark}; allowed are a period above 0 and a mark from {least} to {most}."
        )
    one_model = frame.assign(seed=0)  # seeds are repeats with one model
    ax, ends = draw_recall(ax, one_model, "length", hue, seeds=False, write=tokens)
    dress(ax, "Length (tokens)", "Recall")
    for step in range(math.ceil((least - mark) / period), math.floor((most - mark) / period) + 1):
        ax.axvline(mark + step * period, color=PALE, lw=1, zorder=1)
    ax.set_title(f"grey: every {period:.2f} tokens from {tokens(mark)}", loc="left")
    legend(ax, [(name, look) for name, look, *_ in ends])
    return ax


def text_loss_table(frame: pd.DataFrame, hue: str = "arm") -> pd.DataFrame:
    """Return perplexity by `hue` and length: exp of the mean text loss over seeds and of its 95 % t interval.

    With one seed low and high are NaN. Raises ValueError where no text loss was measured.
    """
    require_columns(frame, (hue, "seed", "length", "text_loss"))
    if hue != "probe":
        require_one_probe(frame)
    table = mean_losses(frame, [hue, "length"], "text_loss").rename(columns={"loss": "perplexity"})
    shown = ["perplexity", "low", "high"]
    return table.assign(**np.exp(table[shown]))


def mean_losses(table: pd.DataFrame, by: Sequence[str], loss: str) -> pd.DataFrame:
    """Return the mean loss over seeds with Student's 95 % interval, columns `by`, loss, low, high and seeds.

    One seed has no interval. Raises ValueError where no loss was measured.
    """
    if table[loss].isna().all():
        raise ValueError(f"{loss} is NaN in every row; allowed is a frame in which it was measured.")
    groups = (
        table.groupby([*by, "seed"], sort=False)[loss].mean().dropna().groupby(level=list(by), sort=False)
    )
    mean, n = groups.mean(), groups.count()
    half = distributions.t.ppf(0.975, (n - 1).clip(lower=1)) * groups.std() / np.sqrt(n)
    return pd.DataFrame({"loss": mean, "low": mean - half, "high": mean + half, "seeds": n}).reset_index()


@styled
def text_loss_and_recall(
    frame: pd.DataFrame, *, hue: str = "arm", train_length: Number | None = None, ax: Panels | None = None
) -> np.ndarray:
    """Draw perplexity on the text (above) and recall (below) against length: fluent, but forgetful?

    Returns the two axes; `ax` gives them. Bands as in `text_loss_table` and `recall_by_length`.
    """
    require_columns(frame, (hue, "length", "text_loss", *COUNTS))
    table, look = text_loss_table(frame, hue), looks(list(frame[hue].unique()))
    top, bottom = axes = pair(ax, "perplexity and recall", (6.4, 5.0), nrows=2, sharex=True)
    draw_lines(top, table, "length", "perplexity", hue, look)
    dress(top, "", "Perplexity")
    top.yaxis.set_major_formatter(FuncFormatter(lambda value, _: short(value)))
    if table["perplexity"].max() > 5 * table["perplexity"].min():
        log_axis(top.yaxis, short)
    draw_recall(bottom, frame, "length", hue, look=look, write=tokens)
    _length_axis(bottom, frame, train_length, named=False)
    token_axis(top, frame["length"].unique())
    mark_training(top, frame, train_length)
    legend(bottom, [(called(hue, value), one) for value, one in look.items()])
    last = table[table["length"] == table["length"].max()]
    shown = zip(last[hue], last["perplexity"], strict=True)
    said = ", ".join(f"{called(hue, value)} {short(perplexity)}" for value, perplexity in shown)
    top.set_label(f"Perplexity on the text at {tokens(float(table['length'].max()))} tokens: {said}.")
    return axes


def _length_axis(
    ax: Axes, frame: pd.DataFrame, train_length: Number | None, *, ticks: int = 6, named: bool = True
) -> None:
    """Make x a length in tokens and mark the training length."""
    dress(ax, "Length (tokens)", "Recall")
    token_axis(ax, frame["length"].unique(), ticks=ticks)
    mark_training(ax, frame, train_length, named=named)
