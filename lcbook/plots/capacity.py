"""Figures of what a model can hold: recall against load, segments and what is asked first, K50 against state size."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any

import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.ticker import FuncFormatter, LogLocator, NullLocator
from matplotlib.transforms import offset_copy

from lcbook import stats
from lcbook.formats import called, percent, short, spelled
from lcbook.plots._marks import COUNTS, POINT, draw_line, halo, name_lines
from lcbook.plots._style import GREY, SMALL, Look, dress, looks, new, recall_axis, styled, token_axis
from lcbook.stats.estimate import require_columns

WORDS = ("above", "below", "both")  # which end of an interval was not measured, see `stats.Estimate`


@styled
def recall_by_load(table: pd.DataFrame, *, hue: str = "arm", ax: Axes | None = None) -> Axes:
    """Draw recall against the pairs stored (column `pairs`, log2): a line and a 95 % band over seeds a `hue`.

    Each seed is drawn faintly. Chance is dotted, as a curve where it changes with the load. Raises ValueError for
    missing columns, no rows, mixed probes, or fewer than one pair.
    """
    if "pairs" in table.columns and not (table["pairs"] >= 1).all():
        raise ValueError(f"pairs has {table['pairs'].min()}; allowed is 1 or more.")
    ax, ends, said = _recall_lines(ax, table, "pairs", hue)
    dress(ax, "Pairs stored", "Recall")
    token_axis(ax, table["pairs"].unique())
    _chance_level(ax, table, "pairs")
    name_lines(ax, ends)
    ax.set_label(f"Recall against the pairs stored: {said}.")
    return ax


@styled
def recall_by_segments(table: pd.DataFrame, *, hue: str = "arm", ax: Axes | None = None) -> Axes:
    """Draw recall against the number of segments (column `segments`), lines, bands and chance as `recall_by_load`.

    The axis is logarithmic to base 2 where the largest number is at least eight times the least, else linear. Raises
    ValueError for missing columns, no rows, mixed probes, or negative segments.
    """
    if "segments" in table.columns and not (table["segments"] >= 0).all():
        raise ValueError(f"segments has {table['segments'].min()}; allowed is 0 or more.")
    ax, ends, said = _recall_lines(ax, table, "segments", hue)
    dress(ax, "Segments", "Recall")
    at = sorted(table["segments"].unique())
    if 0 < 8 * at[0] <= at[-1]:
        token_axis(ax, at)
    else:
        ax.set_xticks(at[:: -(-len(at) // 8)])
    _chance_level(ax, table, "segments")
    name_lines(ax, ends)
    ax.set_label(f"Recall against the number of segments: {said}.")
    return ax


@styled
def interaction(table: pd.DataFrame, *, x: str, hue: str = "arm", ax: Axes | None = None) -> Axes:
    """Draw recall against a column `x` of two values, in the order they come: a line a `hue`, 95 % bars over seeds.

    Each seed is drawn faintly. Raises ValueError for missing columns, no rows, mixed probes, another number of values,
    or a `hue` that lacks one of them.
    """
    require_columns(table, (hue, x, *COUNTS))
    sides = table[x].unique().tolist()
    if len(sides) != 2:
        raise ValueError(f"{x} has the values {sides}; allowed are two.")
    for value, part in table.groupby(hue, sort=False):
        if part[x].nunique() != 2:
            has = part[x].unique().tolist()
            raise ValueError(f"{called(hue, value)} has {x} {has} only; allowed is to have both {sides}.")
    found = stats.recall(table, by=[hue, x])
    ax, look, ends, said = new() if ax is None else ax, looks(list(table[hue].unique())), [], []
    dress(ax, spelled(x), "Recall")
    for i, (value, one) in enumerate(look.items()):
        part = found[found[hue] == value].set_index(x).reindex(sides)
        at = np.array([0.0, 1.0]) + 0.03 * (i - (len(look) - 1) / 2)
        seeds = table[table[hue] == value].groupby(["seed", x])[["correct", "total"]].sum()
        for _, rate in (seeds["correct"] / seeds["total"]).unstack(x).reindex(columns=sides).iterrows():
            ax.plot(at, rate, color=one.color, lw=0.7, alpha=0.35, zorder=2)
        mark: dict[str, Any] = {"color": one.color, "marker": one.marker, "linestyle": one.line, **POINT}
        ax.plot(at, part["recall"], lw=2, ms=8, **mark)
        ax.vlines(at, part["low"], part["high"], color=one.color, lw=1.8)
        before, after = part["recall"]
        ends.append((called(hue, value), one, float(at[1]), float(after)))
        said.append(f"{called(hue, value)} {percent(before)} and {percent(after)}")
    recall_axis(ax, {"chance": _chance(table)})
    ax.set_xlim(-0.2, 1.12)
    named = [called(x, side) for side in sides]
    ax.set_xticks([0, 1], named)
    name_lines(ax, ends)
    ax.set_label(f"Recall with {' and '.join(named)}: {'; '.join(said)}; chance {percent(_chance(table))}.")
    return ax


@styled
def capacity_by_state(
    fits: pd.DataFrame, *, bounds: Mapping[str, pd.DataFrame] | None = None, ax: Axes | None = None
) -> Axes:
    """Draw K50 (pairs) against state size (scalars), both logarithmic, with the power law fitted to each rule.

    `fits` has the columns rule, state, k50, low, high and censored: True (the truth is k50 or more), False, or a word
    of `stats.Estimate`, so that a table of `stats.n50_table` over pairs can be drawn. A K50 that is a mere bound is
    open with an arrow; an end of an interval that was not measured has an arrow. The line is least squares through
    log k50 on log state of what was measured, and its slope stands in the name as an exponent; a rule measured at
    fewer than two sizes has none. `bounds` names lines to draw beside, with the columns state and pairs.
    Raises ValueError for missing columns, no rows, other words in censored, or numbers that a log axis cannot show.
    """
    require_columns(fits, ("rule", "state", "k50", "low", "high", "censored"))
    _positive(fits, "state", "k50")
    for line in (bounds or {}).values():
        require_columns(line, ("state", "pairs"))
        _positive(line, "state", "pairs")
    table = _with_bounds(fits)
    ax, look, ends, said = new((6.4, 4.4)) if ax is None else ax, looks(list(fits["rule"].unique())), [], []
    dress(ax, "State size S (scalars a layer)", "K50 (pairs)")
    _log2_axes(ax, fits["state"])
    for rule, part in table.groupby("rule", sort=False):
        part = part.sort_values("state", kind="stable")
        _points(ax, part, look[rule])
        exponent = _power_law(ax, part[~(part["up"] | part["down"])], look[rule])
        name = called("rule", rule) + ("" if exponent is None else f": S^{exponent:.2f}")
        last = part.iloc[-1]
        ends.append((name, look[rule], float(last["at"]), float(last["k50"])))
        sign = "at least " if last["up"] else "at most " if last["down"] else ""
        said.append(f"{name}, {sign}{short(last['k50'])} pairs at {last['state']:,.0f} scalars")
    said += [_bound(ax, name, line) for name, line in (bounds or {}).items()]
    ax.margins(y=0.12)
    name_lines(ax, ends)
    ax.set_label(f"K50 in pairs against state size, with 95 % intervals: {'; '.join(said)}.")
    return ax


def _recall_lines(
    ax: Axes | None, table: pd.DataFrame, x: str, hue: str
) -> tuple[Axes, list[tuple[str, Look, float, float]], str]:
    """Draw recall against `x`, a line a `hue` and each seed faintly.

    Returns the axes, the name, look and end of each line, and all in words.
    """
    require_columns(table, (hue, x, *COUNTS))
    found = stats.recall(table, by=[hue, x])
    ax, look, ends, said = new() if ax is None else ax, looks(list(table[hue].unique())), [], []
    for (value, _), part in table.groupby([hue, "seed"], sort=False):
        counts = part.groupby(x)[["correct", "total"]].sum()
        rate = counts["correct"] / counts["total"]
        ax.plot(counts.index, rate, color=look[value].color, lw=0.7, alpha=0.35, zorder=2)
    for value, part in found.groupby(hue, sort=False):
        part = part.sort_values(x)
        draw_line(ax, part, x, "recall", look[value])
        first, last = part.iloc[0], part.iloc[-1]
        ends.append((called(hue, value), look[value], float(last[x]), float(last["recall"])))
        span = f"{percent(first['recall'])} at {short(first[x])}"
        if len(part) > 1:
            span += f", {percent(last['recall'])} at {short(last[x])}"
        said.append(f"{called(hue, value)} {span}")
    return ax, ends, f"{'; '.join(said)}; chance {percent(_chance(table))}"


def _chance(table: pd.DataFrame) -> float:
    return float(np.average(table["chance"], weights=table["total"]))


def _chance_level(ax: Axes, table: pd.DataFrame, x: str) -> None:
    """Make y a recall and mark chance: a level, or a dotted curve where it changes with `x`."""
    weighted = table.assign(guessed=table["chance"] * table["total"]).groupby(x)[["guessed", "total"]].sum()
    chance = weighted["guessed"] / weighted["total"]
    if np.ptp(chance) < 1e-9:
        recall_axis(ax, {"chance": float(chance.iloc[0])})
        return
    recall_axis(ax)
    ax.plot(chance.index, chance, ":", color=GREY, lw=1.2, zorder=1.5)
    ax.annotate(
        "chance", (chance.index[0], chance.iloc[0]), (4, 3), textcoords="offset points", va="bottom",
        color=GREY, fontsize=SMALL, path_effects=halo(), zorder=5,
    )  # fmt: skip


def _positive(frame: pd.DataFrame, *columns: str) -> None:
    for column in columns:
        values = frame[column].to_numpy(float)
        bad = values[~((values > 0) & np.isfinite(values))]
        if len(bad):
            raise ValueError(f"{column} has {bad[0]:g}; allowed on a log axis are finite numbers above 0.")


def _with_bounds(fits: pd.DataFrame) -> pd.DataFrame:
    """Return `fits` with finite intervals, four columns of truth values, and the state `at` which to draw.

    up, down: k50 is a mere lower or upper bound; top, foot: the interval's upper or lower end was not measured.
    """
    words = [False if value is None or value != value else value for value in fits["censored"]]
    flags = np.array([isinstance(word, bool | np.bool_) for word in words])
    strange = [word for word, flag in zip(words, flags, strict=True) if not flag and word not in WORDS]
    if strange:
        raise ValueError(
            f"censored has {strange[0]!r}; allowed are True, False, None, {', '.join(map(repr, WORDS))}."
        )
    k50, low, high = (fits[column].to_numpy(float) for column in ("k50", "low", "high"))
    certain = flags & np.array([word is not False and bool(word) for word in words])
    top = certain | np.array([str(word) in ("above", "both") for word in words])
    foot = np.array([str(word) in ("below", "both") for word in words])
    table = fits.reset_index(drop=True).assign(
        up=certain | (top & ~(k50 < high)),
        down=foot & ~(k50 > low),
        top=top | np.isposinf(high),
        foot=foot | (low <= 0),
        low=np.where(low > 0, low, k50),
        high=np.where(np.isfinite(high), high, k50),
    )
    return table.assign(at=_apart(table))


def _apart(table: pd.DataFrame) -> pd.Series:
    """Return the states to draw at: those of equal bounds at one state are moved a little apart."""
    bare, wide = table["up"] | table["down"], np.log(table["state"].max() / table["state"].min()) or 1.0
    same = table[bare].groupby(["state", "k50"])["k50"]
    step = (same.cumcount() - (same.transform("size") - 1) / 2).reindex(table.index, fill_value=0)
    return table["state"] * np.exp(0.035 * wide * step)


def _points(ax: Axes, part: pd.DataFrame, look: Look) -> None:
    """Draw each K50 with its interval, open where it is a mere bound, and arrows where there is no end."""
    bare = part["up"] | part["down"]
    ax.vlines(part["at"], part["low"], part["high"], color=look.color, lw=1.8, alpha=0.6)
    mark: dict[str, Any] = {"color": look.color, "ms": 8, "ls": "", "marker": look.marker}
    ax.plot(part["at"][~bare], part["k50"][~bare], **mark, **POINT)
    ax.plot(part["at"][bare], part["k50"][bare], **mark, mfc="white", mew=1.8, zorder=3)
    arrow = {"arrowstyle": "<|-", "color": look.color, "lw": 1.8, "shrinkA": 0, "shrinkB": 4}
    for end, from_, way in (("top", "high", 22), ("foot", "low", -22)):
        for x, y in part[part[end]][["at", from_]].itertuples(index=False):
            ax.annotate("", (x, y), (0, way), textcoords="offset points", arrowprops=arrow)


def _power_law(ax: Axes, part: pd.DataFrame, look: Look) -> float | None:
    """Draw the least-squares line through log k50 on log state and return its slope; None below two sizes."""
    x, y = np.log(part["state"].to_numpy(float)), np.log(part["k50"].to_numpy(float))
    if len(np.unique(x)) < 2:
        return None
    slope = stats.slope(x, y)
    at = np.array([x.min(), x.max()])
    ax.plot(np.exp(at), np.exp(y.mean() + slope * (at - x.mean())), color=look.color, lw=1.6, zorder=2)
    return slope


def _bound(ax: Axes, name: str, bound: pd.DataFrame) -> str:
    """Draw a bound dashed, named where it begins, and return it in words."""
    line = bound.sort_values("state")
    ax.plot(line["state"], line["pairs"], "--", color=GREY, lw=1.4, zorder=1.5)
    start, end = line.iloc[0], line.iloc[-1]
    middle = [start[column] ** 0.7 * end[column] ** 0.3 for column in ("state", "pairs")]
    steep = np.log(end["pairs"] / start["pairs"]) / max(np.log(end["state"] / start["state"]), 1e-12)
    above = offset_copy(ax.transData, ax.get_figure(root=True), y=5, units="points")
    ax.text(
        *middle, name, rotation=math.degrees(math.atan2(steep * middle[1], middle[0])), rotation_mode="anchor",
        transform=above, transform_rotates_text=True, ha="center", va="bottom", color=GREY, fontsize=SMALL,
        path_effects=halo(), zorder=5,
    )  # fmt: skip
    return f"{name} {short(end['pairs'])} at {end['state']:,.0f}"


def _log2_axes(ax: Axes, states: pd.Series) -> None:
    """Make both axes logarithmic to base 2: ticks at the states, and at powers of two of pairs."""
    token_axis(ax, states.unique(), ticks=5)
    ax.xaxis.set_major_formatter(FuncFormatter(lambda value, _: f"{value:,.0f}"))
    ax.set_yscale("log", base=2)
    ax.yaxis.set_major_locator(LogLocator(base=2, numticks=8))
    ax.yaxis.set_minor_locator(NullLocator())
    ax.yaxis.set_major_formatter(
        FuncFormatter(lambda value, _: f"{value:,.0f}" if value >= 1 else short(value))
    )
