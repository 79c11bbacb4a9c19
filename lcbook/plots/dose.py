"""Figures of thresholds and doses: n50 by arm, and a quantity against what sets it."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.ticker import FuncFormatter, LogLocator, NullLocator
from scipy import stats as distributions

from lcbook import stats
from lcbook.formats import Number, called, short, spelled, tokens
from lcbook.plots._marks import COUNTS, POINT, draw_line, halo, mark_training, mark_x, name_lines
from lcbook.plots._style import GREY, SMALL, Look, dress, looks, new, recall_axis, styled, token_axis
from lcbook.stats.estimate import require_columns


@styled
def n50_bars(
    frame: pd.DataFrame, *, hue: str = "arm", train_length: Number | None = None, ax: Axes | None = None
) -> Axes:
    """Draw n50 (tokens, log2) of each `hue` with its interval over seeds; the longest on top.

    A triangle at the end of what was measured means "at least" (≥) or "at most" (≤) and carries an arrow; so
    does an interval that runs out of the tested lengths. Arms that not every seed solved say so.
    """
    require_columns(frame, (hue, "length", *COUNTS))
    table = stats.n50_table(frame, by=hue).sort_values("n50", kind="stable").reset_index(drop=True)
    look = looks(list(frame[hue].unique()))
    ax = new((6.4, 1.3 + 0.5 * len(table))) if ax is None else ax
    dress(ax, "n50: length that halves recall above chance (tokens)", grid="x")
    lengths = sorted({float(n) for n in frame["length"]})
    token_axis(ax, lengths)
    ax.set_xlim(lengths[0] / 1.5, lengths[-1] * 1.5)
    ax.set_ylim(-0.6, len(table) - 0.4)
    said = []
    for at, row in enumerate(table.to_dict(orient="records")):
        censored = row["censored"] if isinstance(row["censored"], str) else None
        found = stats.Estimate(row["n50"], row["low"], row["high"], censored)
        said.append(f"{called(hue, row[hue])} {_draw_n50(ax, found, at, look[row[hue]], lengths)}")
    named = [called(hue, row[hue]) + _unsolved(row) for row in table.to_dict(orient="records")]
    ax.set_yticks(range(len(table)), named)
    mark_training(ax, frame, train_length)
    ax.set_label(f"n50 in tokens, with 95 % intervals: {'; '.join(said[::-1])}.")
    return ax


@styled
def dose(
    frame: pd.DataFrame,
    *,
    x: str,
    y: str,
    hue: str | None = None,
    fit: bool = True,
    expected: Number | None = None,
    bound: Number | None = None,
    bound_label: str = "bound",
    log_y: bool = True,
    xlabel: str = "",
    ylabel: str = "",
    ax: Axes | None = None,
) -> Axes:
    """Draw `y` against a positive dose `x` on log axes, with the power law that fits and its 95 % band.

    `y` is a column, with columns low, high and censored used where they are there; or "recall" or "n50",
    computed from a tidy frame. The fit takes rows as independent and leaves out those that are mere bounds,
    which are arrows; its slope is written into the figure. `expected` draws the slope that theory predicts
    through the middle of the points, `bound` a vertical line. Recall has a linear axis and no fit.
    """
    table = _dose_table(frame, x, y, hue)
    recall, groups = y == "recall", [(None, table)] if hue is None else list(table.groupby(hue, sort=False))
    ax = new() if ax is None else ax
    dress(ax, xlabel or spelled(x), ylabel or ("n50 (tokens)" if y == "n50" else spelled(y)))
    look = looks([value for value, _ in groups])
    ends, said = [], []
    for value, part in groups:
        part, one = part.sort_values("x"), look[value]
        if recall:
            draw_line(ax, part, "x", "y", one)
        else:
            _dose_points(ax, part, one)
        last = part.groupby("x")["y"].mean()
        label = "" if hue is None else called(hue, value)
        ends.append((label, one, float(last.index[-1]), float(last.iloc[-1])))
        if fit and not recall:
            slope = _fit(ax, part[_bounds(part) == 0], one)
            said.append(f"{label}: slope {slope}" if label else f"slope {slope}")
    _dose_scales(ax, frame, table, y, log_y and not recall)
    if expected is not None:
        lx, ly = np.log(table["x"]), np.log(table["y"])
        across = np.array([lx.min(), lx.max()])
        theory = ly.mean() + float(expected) * (across - lx.mean())
        ax.plot(np.exp(across), np.exp(theory), "--", color=GREY, lw=1.2, zorder=1)
        said.append(f"expected (dashed): {short(expected)}")
    if bound is not None:
        mark_x(ax, bound, bound_label)
    if said:
        rising = table["y"][table["x"].idxmax()] > table["y"][table["x"].idxmin()]
        corner: dict[str, Any] = {"x": 0.03, "ha": "left"} if rising else {"x": 0.97, "ha": "right"}
        look_on_top: dict[str, Any] = {"transform": ax.transAxes, "path_effects": halo(), "zorder": 5}
        ax.text(y=0.96, s="\n".join(said), va="top", fontsize=SMALL, **corner, **look_on_top)
    name_lines(ax, ends)
    span = f"from {short(table['y'].min())} to {short(table['y'].max())}"
    shown = f"{ax.get_ylabel()} against {ax.get_xlabel()}"
    ax.set_label(f"{shown}, {span}{''.join(f'; {one}' for one in said)}.")
    return ax


def _draw_n50(ax: Axes, found: stats.Estimate, at: int, look: Look, lengths: Sequence[float]) -> str:
    """Draw one n50 at height `at`: marker, interval and arrows where it is censored; return it in words."""
    value, low, high = float(found.value), float(found.low), float(found.high)
    least = found.lower == -math.inf and value <= lengths[0]
    most = found.upper == math.inf and value >= lengths[-1]
    ax.plot([low, high], [at, at], color=look.color, lw=5, alpha=0.35, solid_capstyle="butt")
    arrow = {"arrowstyle": "-|>", "color": look.color, "lw": 2, "shrinkA": 0, "shrinkB": 0}
    if found.upper == math.inf:
        ax.annotate("", (high * 1.35, at), (high, at), arrowprops=arrow)
    if found.lower == -math.inf:
        ax.annotate("", (low / 1.35, at), (low, at), arrowprops=arrow)
    marker = ">" if most else "<" if least else look.marker
    ax.plot([value], [at], marker, color=look.color, ms=9, **POINT)
    text = ("≥ " if most else "≤ " if least else "") + tokens(value)
    _note(ax, text, (value, at), (0, 7), look, ha="center")
    return text if low == high else f"{text} [{tokens(low)}, {tokens(high)}]"


def _note(ax: Axes, text: str, at: Any, offset: tuple[int, int], look: Look, **align: str) -> None:
    ax.annotate(text, at, offset, textcoords="offset points", color=look.ink, fontsize=SMALL,
                path_effects=halo(), **align)  # fmt: skip


def _unsolved(row: dict[Any, Any]) -> str:
    if not row["p_solve"] < 1:
        return ""
    return f"\n({round(row['p_solve'] * row['seeds'])} of {row['seeds']} seeds solved)"


def _dose_table(frame: pd.DataFrame, x: str, y: str, hue: str | None) -> pd.DataFrame:
    """Return the columns x, y, low, high, censored (and hue) that `dose` draws."""
    by = [x] if hue is None else [hue, x]
    if y in ("recall", "n50") and y not in frame.columns:
        require_columns(frame, [*by, "length", *COUNTS])
        table = stats.recall(frame, by) if y == "recall" else stats.n50_table(frame, by)
    else:
        require_columns(frame, [*by, y])
        table = frame[[*by, y, *(c for c in ("low", "high", "censored") if c in frame.columns)]]
    table = table.reset_index(drop=True).rename(columns={x: "x", y: "y"})
    table = table.assign(**{c: math.nan for c in ("low", "high", "censored") if c not in table.columns})
    if not (table["x"] > 0).all():
        raise ValueError(f"{x} has {table['x'].min()}; allowed on a log axis are positive numbers.")
    if y != "recall" and not (table["y"] > 0).all():
        raise ValueError(f"{y} has {table['y'].min()}; allowed on a log axis are positive numbers.")
    return table


def _bounds(part: pd.DataFrame) -> np.ndarray:
    """Return for each row 1 where y is a mere lower bound of the truth, -1 where a mere upper one, else 0."""
    above = part["censored"].isin(["above", "both"]) & ~(part["y"] < part["high"])
    under = part["censored"].isin(["below", "both"]) & ~(part["y"] > part["low"])
    return np.where(above, 1, np.where(under, -1, 0))


def _dose_points(ax: Axes, part: pd.DataFrame, look: Look) -> None:
    """Draw points with their intervals; one that is only a bound is a triangle with an arrow."""
    ax.vlines(part["x"], part["low"], part["high"], color=look.color, lw=1.5, alpha=0.6)
    for up, marker in ((0, look.marker), (1, "^"), (-1, "v")):
        chosen = part[_bounds(part) == up]
        ax.plot(chosen["x"], chosen["y"], marker, color=look.color, ms=7, **POINT)
        for x, y in zip(chosen["x"], chosen["y"], strict=True) if up else ():
            arrow = {"arrowstyle": "<|-", "color": look.color, "lw": 2, "shrinkA": 0, "shrinkB": 3}
            ax.annotate("", (x, y), (0, 22 * up), textcoords="offset points", arrowprops=arrow)
            text = f"≥ {short(y)}" if up > 0 else f"≤ {short(y)}"
            _note(ax, text, (x, y), (-9, 0), look, ha="right", va="center")


def _fit(ax: Axes, part: pd.DataFrame, look: Look) -> stats.Estimate:
    """Draw the least-squares line through log y on log x and its 95 % band for the mean; return the slope."""
    lx, ly = np.log(part["x"].to_numpy(float)), np.log(part["y"].to_numpy(float))
    if len(lx) < 3 or len(np.unique(lx)) < 2:
        raise ValueError(
            f"fit has {len(lx)} points; allowed are three measured ones or more, at different x."
        )
    middle, spread_x = lx.mean(), ((lx - lx.mean()) ** 2).sum()
    slope = stats.slope(lx, ly)
    error = math.sqrt(((ly - ly.mean() - slope * (lx - middle)) ** 2).sum() / (len(lx) - 2))
    t = float(distributions.t.ppf(0.975, len(lx) - 2))
    at = np.linspace(lx.min(), lx.max(), 41)
    line = ly.mean() + slope * (at - middle)
    half = t * error * np.sqrt(1 / len(lx) + (at - middle) ** 2 / spread_x)
    ax.plot(np.exp(at), np.exp(line), color=look.color, lw=1.6, zorder=2)
    low, high = np.exp(line - half), np.exp(line + half)
    ax.fill_between(np.exp(at), low, high, color=look.color, alpha=0.16, linewidth=0)
    width = t * error / math.sqrt(spread_x)
    return stats.Estimate(slope, slope - width, slope + width)


def _dose_scales(ax: Axes, frame: pd.DataFrame, table: pd.DataFrame, y: str, log_y: bool) -> None:
    if y == "recall":
        chance = {"chance": float(frame["chance"].mean())} if "chance" in frame.columns else {}
        recall_axis(ax, chance)
    elif y == "n50":
        lengths = frame["length"].unique() if "length" in frame.columns else [4.0**i for i in range(1, 11)]
        token_axis(ax, lengths, which="y")
        ax.margins(y=0.15)
    elif log_y:
        _log_ticks(ax, "y", table["y"])
    _log_ticks(ax, "x", table["x"])


def _log_ticks(ax: Axes, which: str, values: pd.Series) -> None:
    (ax.set_xscale if which == "x" else ax.set_yscale)("log")
    axis = ax.xaxis if which == "x" else ax.yaxis
    few = values.max() / values.min() < 150
    axis.set_major_locator(LogLocator(subs=(1.0, 2.0, 5.0) if few else (1.0,), numticks=7))
    axis.set_minor_locator(NullLocator())
    axis.set_major_formatter(FuncFormatter(lambda value, _: short(value)))
