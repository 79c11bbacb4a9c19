"""Figures of what is left of recall: arm by arm, and with one head silenced at a time."""

from __future__ import annotations

import textwrap
from collections.abc import Sequence

import numpy as np
import pandas as pd
from matplotlib.axes import Axes

from lcbook import stats
from lcbook.formats import Number, called, percent
from lcbook.plots._marks import COUNTS, POINT, mark_x, require_one_probe
from lcbook.plots._style import GREY, OTHERS, SMALL, Look, dress, looks, new, recall_axis, styled
from lcbook.stats.estimate import require_columns

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
    named = [textwrap.wrap(called("arm", arm), NAME) for arm in found["arm"]]
    tall = 0.4 + 0.1 * (max(map(len, named)) - 1)  # inches a row
    ax = new((6.4, 1.0 + tall * len(found))) if ax is None else ax
    chances = [_chance(table[table["arm"] == arm]) for arm in found["arm"]]
    dress(ax, "Recall", grid="x" if np.ptp(chances) < 1e-9 else "")
    ax.set_ylim(len(found) - 0.4, -0.6)
    ax.set_yticks(range(len(found)), ["\n".join(lines) for lines in named])
    ax.tick_params(axis="y", length=0)
    _recall_across(ax, chances)
    look = looks(list(found["arm"]))
    for at, row in enumerate(found.to_dict(orient="records")):
        _arm(
            ax,
            at,
            table[table["arm"] == row["arm"]],
            (row["low"], row["recall"], row["high"]),
            look[row["arm"]],
        )
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
def ablations(table: pd.DataFrame, *, ax: Sequence[Axes] | np.ndarray | None = None) -> np.ndarray:
    """Draw recall without one head against where that head looks: a panel a layer, a dot a head and seed.

    `table` has the columns layer (from 1), head, seed, correct, total, chance, previous (mean weight on the token
    before) and lookup (mean weight of a question on the needle's value). In the last layer x is lookup, in those below
    it previous. Returns the panels as a flat array, layer by layer; `ax` gives
    them. Raises ValueError for missing columns, no rows, mixed probes, a head of several weights or of one outside
    [0, 1], or another number of axes.
    """
    require_columns(table, ("layer", "head", *COUNTS, *WEIGHTS))
    require_one_probe(table)
    layers = sorted(table["layer"].unique())
    sides = ["lookup" if layer == layers[-1] else "previous" for layer in layers]
    parts = [_heads(table[table["layer"] == layer], x) for layer, x in zip(layers, sides, strict=True)]
    columns = min(len(layers), 2 if len(layers) == 4 else 3)
    rows = -(-len(layers) // columns)
    grid = {"nrows": rows, "ncols": columns, "squeeze": False}
    axes = np.ravel(new((6.4, 0.5 + 2.9 * rows), **grid) if ax is None else np.asarray(ax, dtype=object))
    if ax is not None and len(axes) != len(layers):
        raise ValueError(f"ax has {len(axes)} axes; allowed are {len(layers)}, one a layer.")
    for i, (one, layer, x, part) in enumerate(zip(axes, layers, sides, parts, strict=False)):
        chance = _chance(table[table["layer"] == layer])
        _head_panel(one, part, x, chance)
        one.set_title(f"layer {layer}", fontsize=SMALL, loc="left")
        one.set_ylabel("" if i % columns else "Recall without the head")
        alike = list(one.get_yticks()) == list(axes[i - i % columns].get_yticks())
        one.tick_params(labelleft=not (i % columns and alike))
        one.set_label(f"Layer {layer}: {_missed(part, x)}; chance {percent(chance)}.")
    for extra in axes[len(layers) :]:
        extra.set_axis_off()
    return axes[: len(layers)]


def _chance(table: pd.DataFrame) -> float:
    return float(np.average(table["chance"], weights=table["total"]))


def _recall_across(ax: Axes, chances: Sequence[float]) -> None:
    """Make x a recall from 0 to 100 %; dotted chance, one line or one a row, is a tick and ousts those close by."""
    ax.set_xlim(-0.03, 1.03)
    ticks = [tick for tick in (0, 0.25, 0.5, 0.75, 1) if abs(tick - chances[-1]) >= 0.12]
    ax.set_xticks([*ticks, chances[-1]], [*(f"{100 * tick:.0f} %" for tick in ticks), "chance"])
    if np.ptp(chances) < 1e-9:
        ax.axvline(chances[0], color=GREY, lw=1.2, ls=":", zorder=1.5)
    else:
        rows = np.arange(len(chances))
        ax.vlines(chances, rows - 0.4, rows + 0.4, color=GREY, lw=1.2, ls=":", zorder=1.5)


def _arm(ax: Axes, at: int, part: pd.DataFrame, found: tuple[float, float, float], look: Look) -> None:
    """Draw one arm in row `at`: the dots of its seeds one below the other, and the mean with its interval."""
    seeds = part.groupby("seed")[["correct", "total"]].sum()
    aside = np.linspace(-0.24, 0.24, len(seeds)) if len(seeds) > 1 else np.zeros(1)
    ax.plot(
        seeds["correct"] / seeds["total"],
        at + aside,
        "o",
        color=look.color,
        ms=5,
        mew=0,
        alpha=0.45,
        zorder=2,
    )
    low, mean, high = found
    ax.hlines(at, low, high, color=look.color, lw=2)
    ax.plot([mean], [at], look.marker, color=look.color, ms=8, **POINT)


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
    return pd.DataFrame({x: weight, "recall": counts["correct"] / counts["total"]}).reset_index()


def _head_panel(ax: Axes, part: pd.DataFrame, x: str, chance: float) -> None:
    """Draw a dot a seed and head: the recall that is left without it, against its weight."""
    dress(ax, WEIGHTS[x])
    ax.plot(part[x], part["recall"], "o", color=OTHERS[0].color, ms=7, alpha=0.7, **POINT)
    recall_axis(ax, {"chance": chance})
    ax.set_xlim(-0.04, 1.04)
    ax.set_xticks([0, 0.5, 1], ["0", "0.5", "1"])


def _missed(part: pd.DataFrame, x: str) -> str:
    """Return the mean recall without the head of most weight in each seed, and without any other, in words."""
    most = part.groupby("seed")[x].idxmax()
    first, others = part.loc[most], part.drop(index=most)
    what = WEIGHTS[x].removeprefix("Weight ")
    said = f"recall without the head of most weight {what} ({first[x].mean():.2f}) is {percent(first['recall'].mean())}"
    if len(others):
        said += f", without another ({others[x].mean():.2f}) {percent(others['recall'].mean())}"
    return said
