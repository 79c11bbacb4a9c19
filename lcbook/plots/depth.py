"""Figures of what the training data asked for: recall by depth, and by the share of long documents."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.ticker import MaxNLocator
from scipy import stats as distributions

from lcbook import stats
from lcbook.formats import Number, called, percent, spelled
from lcbook.plots._marks import COUNTS, draw_line, legend, name_lines
from lcbook.plots._style import dress, looks, new, recall_axis, styled
from lcbook.stats.estimate import require_columns

# ---- recall by depth


def bin_middles(depths: pd.Series) -> pd.Series:
    """Return depths to draw at: where they are 0, 1/n, ... (n - 1)/n, the middles of n equal bins, else as they are."""
    at = np.sort(depths.unique())
    edges = len(at) > 1 and np.allclose(at, np.arange(len(at)) / len(at))
    return depths + 0.5 / len(at) if edges else depths


@styled
def recall_by_depth(table: pd.DataFrame, *, hue: str = "arm", ax: Axes | None = None) -> Axes:
    """Draw recall against the needle's depth (column `depth`, 0 the start), a line and a 95 % band over seeds a `hue`.

    Depths 0, 1/n, ... (n - 1)/n are lower edges of n equal bins, and their points stand in the middle of each. Raises
    ValueError for missing columns, no rows, mixed probes, or depths outside [0, 1].
    """
    found = _by_depth(table, hue)
    ax, look, ends, said = new() if ax is None else ax, looks(list(table[hue].unique())), [], []
    for value, part in found.groupby(hue, sort=False):
        draw_line(ax, part, "depth", "recall", look[value])
        last = part.iloc[-1]
        ends.append((called(hue, value), look[value], float(last["depth"]), float(last["recall"])))
        least = part.loc[part["recall"].idxmin()]
        said.append(
            f"{called(hue, value)} {percent(part['recall'].iloc[0])} at the start, {percent(last['recall'])} at the "
            f"end, least {percent(least['recall'])} at {percent(least['depth'])}"
        )
    dress(ax, "Depth of the needle (0 % is the start)", "Recall")
    chance = float(np.average(table["chance"], weights=table["total"]))
    recall_axis(ax, {"chance": chance})
    _depth_axis(ax)
    name_lines(ax, ends)
    ax.set_label(f"Recall by depth: {'; '.join(said)}; chance {percent(chance)}.")
    return ax


@styled
def depth_panels(
    table: pd.DataFrame,
    training: Mapping[Any, Sequence[Number]],
    *,
    hue: str = "arm",
    ax: Sequence[Axes] | np.ndarray | None = None,
) -> np.ndarray:
    """Draw `recall_by_depth` and, below it, where asked needles lay in training, in multiples of the uniform share.

    `training` has for each `hue` the weights of equal bins of the context, () for uniform. Returns the two axes; `ax`
    gives them. Raises ValueError for weights that are negative or sum to 0, an arm without them, another number of
    axes, and as `recall_by_depth`.
    """
    _by_depth(table, hue)
    arms = list(table[hue].unique())
    weights = {arm: np.asarray(training.get(arm, [-1.0]) or [1.0], float) for arm in arms}
    bad = [arm for arm, part in weights.items() if not ((part >= 0).all() and part.sum() > 0)]
    if bad:
        given = training.get(bad[0], "missing")
        raise ValueError(
            f"training of {bad[0]!r} is {given}; allowed are weights of 0 or more, some above 0."
        )
    ratios = {"height_ratios": (2.2, 1)}
    made = new((6.4, 5.2), nrows=2, sharex=True, gridspec_kw=ratios) if ax is None else ax
    axes = np.ravel(np.asarray(made, dtype=object))
    if len(axes) != 2:
        raise ValueError(f"ax has {len(axes)} axes; allowed are two, for recall and training.")
    top, bottom = axes
    look, said, most = looks(arms), [], 1.0
    for arm, part in weights.items():
        density = part / part.sum() * len(part)
        edges = np.linspace(0, 1, len(part) + 1)
        bottom.stairs(density, edges, color=look[arm].color, lw=2, baseline=None, ls=look[arm].line)
        most = max(most, float(density.max()))
        said.append(f"{called(hue, arm)} {density[0]:.2g} at the start and {density[-1]:.2g} at the end")
    dress(bottom, "Depth of the needle (0 % is the start)", "Asked for\n(uniform = 1)")
    bottom.set_ylim(0, 1.1 * most)
    bottom.yaxis.set_major_locator(MaxNLocator(3, integer=most >= 2))
    recall_by_depth(table, hue=hue, ax=top)
    top.set_xlabel("")
    bottom.set_label(
        f"Where asked needles lay in training, in multiples of the uniform share: {'; '.join(said)}."
    )
    return axes


# ---- the share of long documents


@styled
def share_curve(
    table: pd.DataFrame,
    *,
    x: str = "share",
    loss: str = "text_loss",
    hue: str | None = None,
    xlabel: str = "",
    ax: Sequence[Axes] | np.ndarray | None = None,
) -> np.ndarray:
    """Draw recall (above) and the short-context `loss` in nats a token (below) against a share `x` in [0, 1].

    Recall has the 95 % band of `stats.recall`, the loss Student's over seeds; each seed is drawn faintly. Returns the
    two axes; `ax` gives them. Raises ValueError for missing columns, no rows, mixed probes, a share outside [0, 1], no
    loss measured, or another number of axes.
    """
    by = [x] if hue is None else [hue, x]
    require_columns(table, (*by, loss, *COUNTS))
    _shares(table, x)
    lost = _means(table, by, loss)
    found = stats.recall(table, by)
    made = new((6.4, 5.2), nrows=2, sharex=True) if ax is None else ax
    axes = np.ravel(np.asarray(made, dtype=object))
    if len(axes) != 2:
        raise ValueError(f"ax has {len(axes)} axes; allowed are two, for recall and the loss.")
    top, bottom = axes
    look = looks(["" if hue is None else value for value in (table[hue].unique() if hue else [""])])
    seeds = table.groupby([*by, "seed"], sort=False)
    counts = seeds[["correct", "total"]].sum()
    each = pd.DataFrame(
        {"recall": counts["correct"] / counts["total"], "loss": seeds[loss].mean()}
    ).reset_index()
    for side, frame, y in ((top, found, "recall"), (bottom, lost, "loss")):
        for value, one in look.items():
            mine = [part if hue is None else part[part[hue] == value] for part in (frame, each)]
            draw_line(side, mine[0].sort_values(x), x, y, one)
            for _, line in mine[1].sort_values(x).groupby("seed"):
                side.plot(line[x], line[y], color=one.color, lw=0.7, alpha=0.35, zorder=2)
    dress(top, "", "Recall")
    dress(bottom, xlabel or spelled(x), "Short-context loss\n(nats a token)")
    chance = float(np.average(table["chance"], weights=table["total"]))
    recall_axis(top, {"chance": chance})
    _depth_axis(bottom)
    bottom.yaxis.set_major_locator(MaxNLocator(4))
    if hue is not None:
        legend(bottom, [(called(hue, value), one) for value, one in look.items()])
    against = (xlabel or spelled(x)).lower()
    told = f"with 95 % intervals, {_ends(found, x, 'recall', hue, percent)}"
    top.set_label(f"Recall against {against}, {told}; chance {percent(chance)}.")
    bottom.set_label(
        f"Short-context loss in nats a token against {against}: "
        f"{_ends(lost, x, 'loss', hue, lambda value: f'{float(value):.3f}')}."
    )
    return axes


# ---- shared


def _by_depth(table: pd.DataFrame, hue: str) -> pd.DataFrame:
    """Return recall by `hue` and depth, the lower edges of equal bins moved to the middles."""
    require_columns(table, (hue, "depth", *COUNTS))
    _shares(table, "depth")
    found = stats.recall(table, [hue, "depth"]).sort_values("depth", kind="stable")
    found["depth"] = bin_middles(found["depth"])
    order = {value: i for i, value in enumerate(table[hue].unique())}
    return found.sort_values(
        [hue, "depth"], key=lambda c: c.map(order) if c.name == hue else c, kind="stable"
    )


def _depth_axis(ax: Axes) -> None:
    ax.set_xlim(-0.02, 1.02)
    ax.set_xticks([0, 0.25, 0.5, 0.75, 1], ["0 %", "25 %", "50 %", "75 %", "100 %"])


def _shares(table: pd.DataFrame, column: str) -> None:
    bad = table[column][~table[column].between(0, 1)]
    if len(bad):
        raise ValueError(f"{column} has {bad.iloc[0]}; allowed is a share from 0 to 1.")


def _means(table: pd.DataFrame, by: list[str], loss: str) -> pd.DataFrame:
    """Return the mean loss over seeds with Student's interval, columns `by`, loss, low, high; one seed has no width."""
    if table[loss].isna().all():
        raise ValueError(f"{loss} is NaN in every row; allowed is a table in which it was measured.")
    once, rows = table.groupby([*by, "seed"], sort=False)[loss].mean().dropna(), []
    for name, part in once.groupby(level=by, sort=False):
        n, mean = len(part), float(part.mean())
        half = float(distributions.t.ppf(0.975, n - 1) * part.std() / math.sqrt(n)) if n > 1 else 0.0
        rows.append((*(name if isinstance(name, tuple) else (name,)), mean, mean - half, mean + half))
    return pd.DataFrame(rows, columns=[*by, "loss", "low", "high"])


def _ends(table: pd.DataFrame, x: str, y: str, hue: str | None, write: Any) -> str:
    """Return the first and last value of each line in words."""
    said = []
    for value, part in [(None, table)] if hue is None else table.groupby(hue, sort=False):
        part = part.sort_values(x)
        first, last = part.iloc[0], part.iloc[-1]
        name = "" if hue is None else f"{called(hue, value)} "
        said.append(f"{name}{write(first[y])} at {percent(first[x])}, {write(last[y])} at {percent(last[x])}")
    return "; ".join(said)
