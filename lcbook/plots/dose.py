"""Figures of thresholds and doses: n50 by arm, and a quantity against what sets it."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from scipy import stats as distributions

from lcbook import stats
from lcbook.formats import Number, called, short, spelled
from lcbook.plots._lines import (
    COUNTS,
    draw_estimate,
    halo,
    log_axis,
    mark_training,
    name_lines,
    note,
    require_positive,
)
from lcbook.plots._style import GREY, SMALL, dress, looks, new, styled, token_axis
from lcbook.stats.estimate import require_columns


@styled
def n50_bars(
    frame: pd.DataFrame, *, hue: str = "arm", train_length: Number | None = None, ax: Axes | None = None
) -> Axes:
    """Draw n50 (tokens, log2) of each `hue` with its interval over seeds; the longest on top.

    An open marker is a mere bound, at least (≥) or at most (≤), and carries an arrow; so does an interval that runs
    out of the tested lengths. Arms that not every seed solved say so.
    """
    require_columns(frame, (hue, "length", *COUNTS))
    table = stats.n50_table(frame, by=hue).sort_values("n50", kind="stable").reset_index(drop=True)
    look = looks(list(frame[hue].unique()))
    ax = new((6.4, 1.3 + 0.5 * len(table))) if ax is None else ax
    dress(ax, "n50: length that halves recall above chance (tokens)", grid="x")
    lengths = sorted({float(n) for n in frame["length"]})
    token_axis(ax, lengths)
    ax.set(xlim=(lengths[0] / 1.5, lengths[-1] * 2.2), ylim=(-0.6, len(table) - 0.4))
    said, named = [], []
    for at, row in enumerate(table.to_dict(orient="records")):
        one = look[row[hue]]
        text, whole = draw_estimate(ax, at, row, "n50", one)
        note(ax, text, (row["n50"], at), (0, 7), one.ink, ha="center")
        said.append(f"{called(hue, row[hue])} {whole}")
        solved = f"\n({round(row['p_solve'] * row['seeds'])} of {row['seeds']} seeds solved)"
        named.append(called(hue, row[hue]) + (solved if row["p_solve"] < 1 else ""))
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
    expected: Number | None = None,
    xlabel: str = "",
    ylabel: str = "",
    ax: Axes | None = None,
) -> Axes:
    """Draw `y` against a positive dose `x` on log axes: points with 95 % intervals, open where they are mere bounds.

    `y` is a column, with columns low, high and censored used where they are there; or "n50", computed from a tidy
    frame. `expected`, the slope that theory predicts, is drawn dashed through the middle of the points, beside the
    power law that fits and its 95 % band; the fit takes rows as independent and leaves out mere bounds, and its slope
    is written into the figure.
    """
    frame = frame if hue is not None else frame.assign(line=spelled(y))
    by = hue or "line"
    table = _dose_table(frame, x, y, by)
    look, ends, said = looks(list(table[by].unique())), [], []
    ax = new() if ax is None else ax
    for value, one in look.items():
        part = table[table[by] == value].sort_values("x")
        fitted = None if expected is None else _fit(part)
        for row in part.to_dict(orient="records"):
            text, _ = draw_estimate(ax, row["x"], row, "y", one, upright=True, write=short)
            if text[0] in "≤≥":
                note(ax, text, (row["x"], row["y"]), (-9, 0), one.ink, ha="right", va="center")
        last = part.groupby("x")["y"].mean()
        ends.append((called(hue, value), one, float(last.index[-1]), float(last.iloc[-1])))
        if fitted is not None:
            line, slope = fitted
            ax.plot(line["x"], line["y"], color=one.color, lw=1.6, zorder=2)
            ax.fill_between(line["x"], line["low"], line["high"], color=one.color, alpha=0.16, linewidth=0)
            said.append(f"slope {slope}" if hue is None else f"{called(hue, value)}: slope {slope}")
    dress(ax, xlabel or spelled(x), ylabel or ("n50 (tokens)" if y == "n50" else spelled(y)))
    log_axis(ax.xaxis, short)
    log_axis(ax.yaxis, short)
    if y == "n50":
        token_axis(ax, frame["length"].unique() if "length" in frame.columns else table["y"], which="y")
        ax.margins(y=0.15)
    if expected is not None:
        lx, ly = np.log(table["x"]), np.log(table["y"])
        across = np.array([lx.min(), lx.max()])
        theory = ly.mean() + float(expected) * (across - lx.mean())
        ax.plot(np.exp(across), np.exp(theory), "--", color=GREY, lw=1.2, zorder=1)
        said.append(f"expected (dashed): {short(expected)}")
        rising = table["y"][table["x"].idxmax()] > table["y"][table["x"].idxmin()]
        corner: dict[str, Any] = {"x": 0.03, "ha": "left"} if rising else {"x": 0.97, "ha": "right"}
        on_top: dict[str, Any] = {"transform": ax.transAxes, "path_effects": halo(), "zorder": 5}
        ax.text(y=0.96, s="\n".join(said), va="top", fontsize=SMALL, **corner, **on_top)
    if hue is not None:
        name_lines(ax, ends)
    span = f"from {short(table['y'].min())} to {short(table['y'].max())}"
    shown = f"{ax.get_ylabel()} against {ax.get_xlabel()}"
    ax.set_label(f"{shown}, {span}{''.join(f'; {one}' for one in said)}.")
    return ax


def _dose_table(frame: pd.DataFrame, x: str, y: str, hue: str) -> pd.DataFrame:
    """Return the columns hue, x, y, low, high and censored that `dose` draws."""
    if y == "n50" and y not in frame.columns:
        require_columns(frame, [hue, x, "length", *COUNTS])
        frame = stats.n50_table(frame, [hue, x])
    require_columns(frame, [hue, x, y])
    require_positive(frame, x, y)
    known = {c: frame[c] if c in frame.columns else math.nan for c in ("low", "high", "censored")}
    return pd.DataFrame({hue: frame[hue], "x": frame[x], "y": frame[y], **known}).reset_index(drop=True)


def _fit(part: pd.DataFrame) -> tuple[pd.DataFrame, stats.Estimate]:
    """Return the least-squares line through log y on log x with its 95 % band for the mean, and its slope."""
    above = part["censored"].isin(["above", "both"]) & ~(part["y"] < part["high"])
    below = part["censored"].isin(["below", "both"]) & ~(part["y"] > part["low"])
    lx, ly = np.log(part[~(above | below)][["x", "y"]].to_numpy(float)).T
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
    width = t * error / math.sqrt(spread_x)
    band = np.exp(pd.DataFrame({"x": at, "y": line, "low": line - half, "high": line + half}))
    return band, stats.Estimate(slope, slope - width, slope + width)
