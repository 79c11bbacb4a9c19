"""Figures of what a model can hold: K50, the load that halves recall, against the size of its state."""

from __future__ import annotations

import math
from collections.abc import Mapping

import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.ticker import FuncFormatter
from matplotlib.transforms import offset_copy

from lcbook import stats
from lcbook.formats import called, short
from lcbook.plots._lines import draw_estimate, halo, log_axis, name_lines, require_positive
from lcbook.plots._style import GREY, SMALL, Look, dress, looks, new, styled, token_axis
from lcbook.stats.estimate import require_columns


@styled
def capacity_by_state(
    fits: pd.DataFrame, *, bounds: Mapping[str, pd.DataFrame] | None = None, ax: Axes | None = None
) -> Axes:
    """Draw K50 (pairs) against state size (scalars), both logarithmic, with the power law fitted to each rule.

    `fits` has the columns rule, state, k50, low, high and censored, as `stats.n50_table` over pairs has them. A K50
    that is a mere bound is open; an end of an interval that was not measured has an arrow. The line is least squares
    through log k50 on log state of what was measured, and its slope stands in the name as an exponent; a rule measured
    at fewer than two sizes has none. `bounds` names lines to draw beside, with the columns state and pairs. Raises
    ValueError for missing columns, no rows, or numbers that a log axis cannot show.
    """
    require_columns(fits, ("rule", "state", "k50", "low", "high", "censored"))
    require_positive(fits, "state", "k50")
    for line in (bounds or {}).values():
        require_columns(line, ("state", "pairs"))
        require_positive(line, "state", "pairs")
    above = fits["censored"].isin(["above", "both"]) & ~(fits["k50"] < fits["high"])
    below = fits["censored"].isin(["below", "both"]) & ~(fits["k50"] > fits["low"])
    table = _apart(fits.reset_index(drop=True), (above | below).to_numpy())
    ax, look, ends, said = new((6.4, 4.4)) if ax is None else ax, looks(list(fits["rule"].unique())), [], []
    dress(ax, "State size S (scalars a layer)", "K50 (pairs)")
    token_axis(ax, fits["state"].unique(), ticks=5)
    ax.xaxis.set_major_formatter(FuncFormatter(lambda value, _: f"{value:,.0f}"))
    for rule, part in table.groupby("rule", sort=False):
        part = part.sort_values("state", kind="stable")
        exponent = _power_law(ax, part[~part["bare"]], look[rule])
        name = called("rule", rule) + ("" if exponent is None else f": S^{exponent:.2f}")
        for row in part.to_dict(orient="records"):
            shown, _ = draw_estimate(ax, row["at"], row, "k50", look[rule], upright=True, write=short)
        ends.append((name, look[rule], float(row["at"]), float(row["k50"])))
        said.append(f"{name}, {shown} pairs at {row['state']:,.0f} scalars")
    said += [_bound(ax, name, line) for name, line in (bounds or {}).items()]
    ax.margins(y=0.12)
    log_axis(ax.yaxis, lambda value: f"{value:,.0f}" if value >= 1 else short(value), base=2, ticks=8)
    name_lines(ax, ends)
    ax.set_label(f"K50 in pairs against state size, with 95 % intervals: {'; '.join(said)}.")
    return ax


def _apart(table: pd.DataFrame, bare: np.ndarray) -> pd.DataFrame:
    """Return the table with the states to draw `at`: those of equal mere bounds at one state a little apart."""
    wide = np.log(table["state"].max() / table["state"].min()) or 1.0
    same = table[bare].groupby(["state", "k50"])["k50"]
    step = (same.cumcount() - (same.transform("size") - 1) / 2).reindex(table.index, fill_value=0)
    return table.assign(at=table["state"] * np.exp(0.035 * wide * step), bare=bare)


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
