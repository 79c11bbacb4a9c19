"""Figures of what is left of recall: arm by arm, under two conditions, and with one head silenced at a time."""

from __future__ import annotations

import textwrap

import numpy as np
import pandas as pd
from matplotlib.axes import Axes

from lcbook import stats
from lcbook.formats import Number, called, percent, spelled
from lcbook.plots._lines import (
    COUNTS,
    POINT,
    by_seed,
    draw_seed_points,
    facets,
    mark_x,
    name_lines,
    require_one_probe,
)
from lcbook.plots._style import GREY, OTHERS, SMALL, dress, looks, new, recall_axis, styled
from lcbook.stats.estimate import pooled_chance, require_columns

NAME = 22  # characters of an arm's name in a line
WEIGHTS = {"previous": "Weight on the token before", "lookup": "Weight on the needle's value"}


@styled
def recall_by_arm(
    table: pd.DataFrame, *, mark: tuple[Number, str] | None = None, ax: Axes | None = None
) -> Axes:
    """Draw recall of each arm in a row, the first on top: a faint dot a seed, the mean and its 95 % interval.

    `table` has the columns arm, seed, correct, total and chance. Chance is dotted, row by row where arms differ in it.
    `mark` is a recall and words, such as (0.5, "either value"), drawn as a dashed line. Raises ValueError for missing
    columns, no rows, mixed probes, or a mark outside [0, 1].
    """
    require_columns(table, ("arm", *COUNTS))
    if mark is not None and not 0 <= mark[0] <= 1:
        raise ValueError(f"mark is {mark}; allowed is a recall from 0 to 1 with its words.")
    found = stats.recall(table, by="arm")
    names = {arm: textwrap.fill(called("arm", arm), NAME) for arm in found["arm"]}
    tall = 0.4 + 0.1 * max(name.count("\n") for name in names.values())  # inches a row
    ax = new((6.4, 1.0 + tall * len(found))) if ax is None else ax
    chances = [pooled_chance(table[table["arm"] == arm]) for arm in found["arm"]]
    look, rows = looks(list(names)), {arm: at for at, arm in enumerate(names)}
    seeds = by_seed(table, ["arm"])
    draw_seed_points(ax, seeds.assign(at=seeds["arm"].map(rows).astype(float)), "arm", look, upright=False)
    for row in found.to_dict(orient="records"):
        height, one = rows[row["arm"]], look[row["arm"]]
        ax.hlines(height, row["low"], row["high"], color=one.color, lw=2)
        ax.plot([row["recall"]], [height], one.marker, color=one.color, ms=8, **POINT)
    dress(ax, "Recall", grid="x" if np.ptp(chances) < 1e-9 else "")
    ax.set_ylim(len(found) - 0.4, -0.6)
    ax.set_yticks(range(len(found)), list(names.values()))
    ax.tick_params(axis="y", length=0)
    ax.set_xlim(-0.03, 1.03)
    ticks = [tick for tick in (0, 0.25, 0.5, 0.75, 1) if abs(tick - chances[-1]) >= 0.12]
    ax.set_xticks([*ticks, chances[-1]], [*(f"{100 * tick:.0f} %" for tick in ticks), "chance"])
    if np.ptp(chances) < 1e-9:
        ax.axvline(chances[0], color=GREY, lw=1.2, ls=":", zorder=1.5)
    else:
        at = np.arange(len(chances))
        ax.vlines(chances, at - 0.4, at + 0.4, color=GREY, lw=1.2, ls=":", zorder=1.5)
    if mark is not None:
        mark_x(ax, mark[0], mark[1])
    said = "; ".join(
        f"{called('arm', arm)} {percent(rate)}" for arm, rate in found[["arm", "recall"]].to_numpy()
    )
    guess = " to ".join(dict.fromkeys(percent(one) for one in (min(chances), max(chances))))
    line = "" if mark is None else f"; {mark[1]} {percent(mark[0])}"
    ax.set_label(f"Recall by arm, with 95 % intervals: {said}; chance {guess}{line}.")
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
    found, seeds = stats.recall(table, by=[hue, x]), by_seed(table, [hue, x])
    ax, look, ends, said = new() if ax is None else ax, looks(list(table[hue].unique())), [], []
    dress(ax, spelled(x), "Recall")
    for i, (value, one) in enumerate(look.items()):
        part = found[found[hue] == value].set_index(x).reindex(sides)
        at = np.array([0.0, 1.0]) + 0.03 * (i - (len(look) - 1) / 2)
        rates = seeds[seeds[hue] == value].pivot(index=x, columns="seed", values="recall").reindex(sides)
        ax.plot(at, rates, color=one.color, lw=0.7, alpha=0.35, zorder=2)
        ax.plot(at, part["recall"], color=one.color, marker=one.marker, ls=one.line, lw=2, ms=8, **POINT)
        ax.vlines(at, part["low"], part["high"], color=one.color, lw=1.8)
        before, after = part["recall"]
        ends.append((called(hue, value), one, float(at[1]), float(after)))
        said.append(f"{called(hue, value)} {percent(before)} and {percent(after)}")
    chance = pooled_chance(table)
    recall_axis(ax, {"chance": chance})
    ax.set_xlim(-0.2, 1.12)
    named = [called(x, side) for side in sides]
    ax.set_xticks([0, 1], named)
    name_lines(ax, ends)
    ax.set_label(f"Recall with {' and '.join(named)}: {'; '.join(said)}; chance {percent(chance)}.")
    return ax


@styled
def ablations(table: pd.DataFrame) -> np.ndarray:
    """Draw recall without one head against where that head looks: a panel a layer, a dot a head and seed.

    `table` has the columns layer (from 1), head, seed, correct, total, chance, previous (mean weight on the token
    before) and lookup (mean weight of a question on the needle's value). In the last layer x is lookup, in those below
    it previous. Returns the panels as a flat array, layer by layer. Raises ValueError for missing columns, no rows,
    mixed probes, or a head of several weights or of one outside [0, 1].
    """
    require_columns(table, ("layer", "head", *COUNTS, *WEIGHTS))
    require_one_probe(table)
    table, last = table.sort_values("layer", kind="stable"), table["layer"].max()
    parts = {n: _heads(part, "lookup" if n == last else "previous") for n, part in table.groupby("layer")}
    panels = facets(table, "layer", columns=2 if len(parts) == 4 else 3, height=3.2, sharex=False)
    chance = pooled_chance(table)
    for i, (layer, ax) in enumerate(panels.items()):
        part, x = parts[layer], parts[layer].columns[0]
        dress(ax, WEIGHTS[x], "" if i % 3 else "Recall without the head")
        ax.plot(part[x], part["recall"], "o", color=OTHERS[0].color, ms=7, alpha=0.7, **POINT)
        recall_axis(ax, {"chance": chance})
        ax.set_xlim(-0.04, 1.04)
        ax.set_xticks([0, 0.5, 1], ["0", "0.5", "1"])
        ax.set_title(f"layer {layer}", fontsize=SMALL, loc="left")
        ax.set_label(f"Layer {layer}: {_missed(part, x)}; chance {percent(chance)}.")
    return np.array(list(panels.values()))


def _heads(part: pd.DataFrame, x: str) -> pd.DataFrame:
    """Return a row a seed and head of one layer: its weight `x` and the recall without it."""
    heads = part.groupby(["seed", "head"])
    if (several := heads[x].nunique(dropna=False)).max() > 1:
        seed, head = several.idxmax()
        raise ValueError(
            f"{x} has {several.max()} values for head {head} of seed {seed}; allowed is one a head."
        )
    counts, weight = heads[["correct", "total"]].sum(), heads[x].first()
    if (bad := weight[~weight.between(0, 1)]).size:
        raise ValueError(f"{x} has {bad.iloc[0]}; allowed is a weight from 0 to 1.")
    table = pd.DataFrame({x: weight, "recall": counts["correct"] / counts["total"]})
    return table.reset_index()[[x, "recall", "seed", "head"]]


def _missed(part: pd.DataFrame, x: str) -> str:
    """Return the mean recall without the head of most weight in each seed, and without any other, in words."""
    most = part.groupby("seed")[x].idxmax()
    first, others = part.loc[most], part.drop(index=most)
    what = WEIGHTS[x].removeprefix("Weight ")
    said = f"recall without the head of most weight {what} ({first[x].mean():.2f}) is {percent(first['recall'].mean())}"
    if len(others):
        said += f", without another ({others[x].mean():.2f}) {percent(others['recall'].mean())}"
    return said
