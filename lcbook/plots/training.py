"""Figures of training: when seeds leave the plateau, and what lengths in training do to n50."""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict

import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.ticker import FuncFormatter, LogLocator, MaxNLocator, NullLocator

from lcbook import stats
from lcbook.formats import Number, at_least, called, percent, short, tokens
from lcbook.plots._lines import (
    COUNTS,
    POINT,
    Panels,
    draw_estimate,
    draw_seeds,
    facets,
    legend,
    mark_training,
    name_lines,
    note,
    pair,
)
from lcbook.plots._style import GREY, SMALL, Look, dress, looks, new, recall_axis, styled, token_axis
from lcbook.stats import survival
from lcbook.stats.estimate import require_columns

ESCAPE = ("seed", "updates", "updates_to_gate")  # the columns that survival is computed from
BANDS = 3  # lines whose bands can be told apart


# ---- leaving the plateau


@styled
def escape_curves(table: pd.DataFrame, *, hue: str = "arm", ax: Axes | None = None) -> Axes:
    """Draw the share of seeds past the gate against updates: 1 - Kaplan-Meier in steps, a line a `hue`.

    `table` has the columns seed, updates and updates_to_gate (NaN: never). A tick on the line is a seed whose training
    ended before it escaped. Up to three lines have 95 % bands; more have the interval at the end, as a bar.
    Raises ValueError for missing columns, no rows, or a seed whose rows differ.
    """
    require_columns(table, (hue, *ESCAPE))
    groups = survival.times(table, hue)
    ax, look, ends, said = new() if ax is None else ax, looks(list(groups)), [], []
    dress(ax, "Updates", "Seeds past the gate")
    last = max(float(updates.max()) for updates, _ in groups.values())
    for i, (value, (updates, escaped)) in enumerate(groups.items()):
        curve, one = survival.kaplan_meier(updates, escaped), look[value]
        if escaped.all():  # nobody is left to watch: it stays at 100 %
            curve = pd.concat([curve, curve.tail(1).assign(update=last)])
        at, past = curve["update"], 1 - curve["survival"]
        low, high = 1 - curve["high"], 1 - curve["low"]
        ax.step(at, past, where="post", color=one.color, linestyle=one.line, lw=2)
        if len(groups) <= BANDS:
            ax.fill_between(at, low, high, step="post", color=one.color, alpha=0.13, lw=0)
        else:
            ax.vlines(last * (1.03 + 0.025 * i), low.iloc[-1], high.iloc[-1], color=one.color, lw=2)
        left = sorted(set(updates[~escaped]))
        heights = [float(past[at <= update].iloc[-1]) for update in left]
        ax.plot(left, heights, "|", color=one.color, ms=9, mew=1.6, zorder=3)
        ends.append(
            (called(hue, value), Look(one.color, "", one.line), float(at.iloc[-1]), float(past.iloc[-1]))
        )
        said.append(f"{called(hue, value)} {escaped.sum()} of {len(escaped)}{_median(curve)}")
    recall_axis(ax)
    ax.set_xlim(0, last * (1.02 if len(groups) <= BANDS else 1.03 + 0.025 * len(groups)))
    _update_axis(ax)
    name_lines(ax, ends)
    ax.set_label(f"Seeds past the gate against updates: {'; '.join(said)}.")
    return ax


@styled
def learning_curves(
    recalls: Mapping[str, Sequence[Sequence[Number]]],
    *,
    window: int = 20,
    gate: Number = 0.99,
    chance: Number | None = None,
) -> np.ndarray:
    """Draw recall on fresh training batches, a panel an arm and a thin line a seed, the mean of `window` updates.

    `recalls` has, for each arm, one sequence a seed with one recall an update (`Trained.recalls`). The share of seeds
    whose line came to `gate` stands in each title. Returns the panels as a flat array. Raises ValueError for no arm, an
    arm without seeds, a seed without recalls, or a window below 1.
    """
    if not recalls or not all(len(seeds) and all(map(len, seeds)) for seeds in recalls.values()):
        raise ValueError("recalls has no arm, or a seed without recalls; allowed is one or more of each.")
    at_least(1, window=window)
    table = pd.concat(
        pd.DataFrame({"arm": arm, "seed": i, "update": range(1, len(seed) + 1),
                      "recall": pd.Series(seed, dtype=float).rolling(window, min_periods=1).mean()})
        for arm, seeds in recalls.items() for i, seed in enumerate(seeds)
    )  # fmt: skip
    look, longest = looks(list(recalls)), table["update"].max()
    panels = facets(table, "arm", columns=2, height=2.4)
    for arm, ax in panels.items():
        part = table[table["arm"] == arm]
        draw_seeds(ax, part, "update", "recall", "arm", {arm: look[arm]}, lw=1.1, alpha=0.75)
        lines = part.groupby("seed")["recall"]
        solved, seeds = (lines.max() >= gate).sum(), len(lines)
        dress(ax, "Update", "Recall in training")
        recall_axis(ax, {"chance": chance} if chance is not None else {})
        if chance is not None:  # a panel is low: fewer ticks
            ax.set_yticks([chance, 0.5, 1], ["chance", "50 %", "100 %"])
        ax.axhline(float(gate), color=GREY, lw=1.2, ls="--", zorder=1.5)
        ax.set_xlim(0, longest)
        _update_axis(ax, 4)
        ax.set_title(f"{arm}: {solved} of {seeds}", fontsize=SMALL, loc="left", color=look[arm].ink)
        ax.set_label(
            f"Recall in training, {arm}: {solved} of {seeds} seeds came to {percent(gate)} within "
            f"{short(longest)} updates; at the end they recall {percent(lines.last().mean())} on average."
        )
    return np.array(list(panels.values()))


@styled
def ablation_forest(
    table: pd.DataFrame,
    baseline: str,
    *,
    hue: str = "arm",
    until: Number | None = None,
    ax: Axes | None = None,
) -> Axes:
    """Draw updates to the gate relative to `baseline`, a row a `hue`: ratios of restricted means with 95 % intervals.

    A seed that never escaped counts `until`, by default as far as every arm was watched (`survival.horizon`); an arm of
    such seeds alone is open, with an arrow. The share of seeds that escaped by then stands right of each row. Raises
    ValueError for missing columns, no rows, a `baseline` that is not there or the only one, and as
    `survival.ratio_of_means`.
    """
    require_columns(table, (hue, *ESCAPE))
    groups = survival.times(table, hue)
    if baseline not in groups or len(groups) < 2:
        raise ValueError(f"baseline is {baseline!r}; allowed is one of {list(groups)}, beside others.")
    until = survival.horizon(groups) if until is None else until
    rows = [baseline, *(value for value in groups if value != baseline)]
    ratios = {value: survival.ratio_of_means(groups[value], groups[baseline], until) for value in rows[1:]}
    ax, look, said = new((6.4, 1.4 + 0.42 * len(rows))) if ax is None else ax, looks(list(groups)), []
    dress(ax, f"Updates to the gate, relative to {called(hue, baseline)}", grid="x")
    ax.set_ylim(len(rows) - 0.4, -0.6)
    ax.set_yticks(range(len(rows)), [called(hue, value) for value in rows])
    ax.tick_params(axis="y", length=0)
    ax.axvline(1, color=GREY, lw=1.2, ls="--", zorder=1.5)
    _ratio_axis(ax, ratios.values())
    for at, value in enumerate(rows):
        updates, escaped = groups[value]
        count = f"{(escaped & (updates <= until)).sum()} of {len(escaped)}"
        ax.text(1.03, at, count, transform=ax.get_yaxis_transform(), va="center", fontsize=SMALL)
        if value == baseline:
            ax.plot([1], [at], look[value].marker, color=look[value].color, ms=8, **POINT)
        else:
            one, (least, most) = ratios[value], ax.get_xlim()
            ax.hlines(at, max(one.low, least), min(one.high, most), color=look[value].color, lw=2)
            alone = asdict(one) | {"low": one.value, "high": one.value}  # open where it is a mere bound
            draw_estimate(ax, at, alone, "value", look[value])
        told = "" if value == baseline else f" {ratios[value]} times,"
        said.append(f"{called(hue, value)}{told} {count} escaped")
    ax.text(1.03, -0.75, "past the gate", transform=ax.get_yaxis_transform(), fontsize=SMALL, color=GREY)
    ax.set_label(
        f"Mean updates to the gate, up to {short(until)}, relative to {called(hue, baseline)}: {'; '.join(said)}."
    )
    return ax


# ---- lengths in training


@styled
def length_interaction(
    table: pd.DataFrame,
    *,
    rows: str = "position",
    hue: str = "lengths",
    train_length: Number | None = None,
    ax: Axes | None = None,
) -> Axes:
    """Draw n50 (tokens, log2) by encoding and by training lengths: a row a value of `rows`, a marker a `hue`.

    A line joins the markers of a row, and each has its 95 % interval over seeds (`stats.n50_table`). A marker at the
    end of what was measured is open with an arrow: the truth may lie beyond. Raises ValueError for missing columns, no
    rows, mixed probes or a single length.
    """
    require_columns(table, (rows, hue, "length", *COUNTS))
    found = stats.n50_table(table, [rows, hue])
    names, look = list(table[rows].unique()), looks(list(table[hue].unique()))
    ax = new((6.4, 1.5 + 0.22 * len(names) * (1 + len(look)))) if ax is None else ax
    lengths = sorted({float(n) for n in table["length"]})
    dress(ax, "n50: length that halves recall above chance (tokens)", grid="x")
    token_axis(ax, lengths)
    ax.set_xlim(lengths[0] / 1.5, lengths[-1] * 1.5)
    ax.set_ylim(len(names) - 0.5, -0.6)
    ax.set_yticks(range(len(names)), [called(rows, name) for name in names])
    ax.tick_params(axis="y", length=0)
    said = []
    for at, name in enumerate(names):
        part = found[found[rows] == name]
        places = [at + 0.2 * (list(look).index(value) - (len(look) - 1) / 2) for value in part[hue]]
        ax.plot(part["n50"], places, color=GREY, lw=1, zorder=1)
        told = [
            f"{called(hue, row[hue])} {draw_estimate(ax, place, row, 'n50', look[row[hue]])[1]}"
            for place, row in zip(places, part.to_dict(orient="records"), strict=True)
        ]
        said.append(f"{called(rows, name)}: {', '.join(told)}")
    mark_training(ax, table, train_length)
    legend(ax, [(called(hue, value), Look(one.color, one.marker, "none")) for value, one in look.items()])
    ax.set_label(f"n50 in tokens. {'; '.join(said)}.")
    return ax


# ---- shared


def _median(curve: pd.DataFrame) -> str:
    """Return in words when half of the seeds had escaped."""
    half = curve[curve["survival"] <= 0.5]
    return f", half of them by {short(half['update'].iloc[0])}" if len(half) else ""


def _update_axis(ax: Axes, ticks: int = 6) -> None:
    ax.xaxis.set_major_locator(MaxNLocator(ticks, integer=True))
    ax.xaxis.set_major_formatter(FuncFormatter(lambda value, _: short(value)))


def _ratio_axis(ax: Axes, ratios: Iterable[stats.Estimate]) -> None:
    """Make x a ratio, logarithmic with 1 inside and ticks such as 1/2 and 2."""
    finite = [float(e) for one in ratios for e in (one.low, one.value, one.high) if 0 < e < math.inf]
    low, high = min([0.8, *finite]), max([1.25, *finite])
    low, high = max(low, 1 / 64), min(high, 64)
    ax.set_xscale("log", base=2)
    ax.set_xlim(low / 1.15, high * 1.15)
    steps = (1.0,) if high / low > 6 else (1.0, 1.25, 1.5, 1.75) if high / low < 1.8 else (1.0, 1.5)
    ax.xaxis.set_major_locator(LogLocator(base=2, subs=steps, numticks=9))
    ax.xaxis.set_minor_locator(NullLocator())
    ax.xaxis.set_major_formatter(FuncFormatter(lambda value, _: f"{value:.3g} ×"))


COLUMNS = ("arm", "seed", "update", "trained_at", "length", "loss", "chance")


@styled
def loss_by_length(table: pd.DataFrame, arm: str, *, ax: Panels | None = None) -> np.ndarray:
    """Draw one arm of `trace.traces`: above, the length of the updates; below, the loss on answers at each length.

    Lines are means over seeds, in nats; dotted, the loss of a guesser. The axes span all arms of `table`, so that
    pictures of several can be compared. Returns the two axes; `ax` gives them. Raises ValueError for missing columns,
    an arm that is not there, or another number of axes.
    """
    require_columns(table, COLUMNS)
    arms = list(table["arm"].unique())
    if arm not in arms:
        raise ValueError(f"arm is {arm!r}; allowed is one of {arms}.")
    ratios = {"height_ratios": (1, 2.2)}
    top, bottom = axes = pair(ax, "lengths and loss", (6.4, 4.6), nrows=2, sharex=True, gridspec_kw=ratios)
    mine, last = table[table["arm"] == arm], table["update"].max()
    guess = -math.log(float(mine["chance"].iloc[0]))
    first = mine[mine["seed"] == mine["seed"].iloc[0]].drop_duplicates("update")
    top.plot(first["update"], first["trained_at"], "o", ms=3.5, color=GREY)
    dress(top, "", "Tokens in a\nsequence")
    top.set_ylim(0, 1.1 * table["trained_at"].max())
    top.set_title(arm, fontsize=SMALL, loc="left")
    look, said = looks([tokens(n) for n in sorted(table["length"].unique())]), []
    means = mine.groupby(["length", "update"])["loss"].mean().reset_index()
    for n, line in means.groupby("length"):
        one = look[tokens(n)]
        bottom.plot(line["update"], line["loss"], color=one.color, ls=one.line, lw=2)
        said.append(f"{line['loss'].iloc[-1]:.2f} at {tokens(n)} tokens")
    bottom.axhline(guess, color=GREY, lw=1.2, ls=":")
    note(bottom, "guessing", (last, guess), (0, 3), ha="right")
    dress(bottom, "Update", "Loss on answers\n(nats)")
    bottom.set_ylim(0, 1.12 * max(guess, float(table["loss"].quantile(0.98))))
    bottom.set_xlim(0, last * 1.01)
    _update_axis(bottom)
    legend(bottom, [(f"{name} tokens", one) for name, one in look.items()])
    trained = f"{short(first['trained_at'].min())} to {short(first['trained_at'].max())} tokens"
    top.set_label(f"Lengths of the updates under {arm}: {trained}.")
    bottom.set_label(
        f"Loss on answers after {short(last)} updates, guessing {guess:.2f} nats: {', '.join(said)}."
    )
    return axes
