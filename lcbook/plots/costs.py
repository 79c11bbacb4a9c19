"""Figures of costs: time and memory against length beside their closed forms, and the roofline."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from scipy import stats as distributions

from lcbook.attention.backends import Fused
from lcbook.attention.costs import Machine
from lcbook.formats import Number, called, short, tokens
from lcbook.plots._lines import POINT, draw_lines, facets, legend, log_axis, name_lines, select
from lcbook.plots._style import DASHED, GREY, SMALL, Look, dress, looks, new, styled, token_axis
from lcbook.stats.estimate import require_columns
from lcbook.stats.timings import exponents

SHADE = "#b0b0b0"
# What can be drawn against length: its axis, and its closed form with the name of that.
DRAWN = {
    "seconds": ("Time of one pass", "roofline_seconds", "roofline"),
    "peak_bytes": ("Peak memory", "model_peak_bytes", "closed form"),
}


def duration(seconds: Number) -> str:
    """Return seconds in short: 0.00012 is 120 µs, 0.5 is 500 ms, 2 is 2 s."""
    value = float(seconds)
    for unit, name in ((1.0, "s"), (1e-3, "ms")):
        if value >= 0.9995 * unit:
            return f"{value / unit:.3g} {name}"
    return f"{value / 1e-6:.3g} µs"


def memory(count: Number) -> str:
    """Return a number of bytes in short: 2048 is 2 KiB, 2^30 is 1 GiB."""
    value = float(count)
    for unit, name in ((2**30, "GiB"), (2**20, "MiB"), (2**10, "KiB")):
        if value >= unit:
            return f"{value / unit:.3g} {name}"
    return f"{value:.3g} B"


def rate(number: Number) -> str:
    """Return operations a second in short: 2e9 is 2 GFLOP/s."""
    value = float(number)
    for unit, name in ((1e12, "T"), (1e9, "G"), (1e6, "M")):
        if value >= 0.9995 * unit:
            return f"{value / unit:.3g} {name}FLOP/s"
    return f"{value:.3g} FLOP/s"


@styled
def cost_panels(
    frame: pd.DataFrame,
    *,
    y: str = "seconds",
    hue: str = "arm",
    from_length: Number | None = None,
    closed_form: bool = True,
    reference: str | None = None,
) -> np.ndarray:
    """Draw seconds or peak bytes (log) against length (tokens, log2), a panel a form, two in a row.

    A line has its 95 % interval over rounds, and the closed form (the roofline of time, the formula of memory) is thin
    and dashed. A title has the exponent fitted to the lengths from `from_length` on (the longer half of all lengths if
    it is None). The form `reference`, torch's fused attention where the frame has it unless it is named, is grey in
    each panel. Returns the panels as a flat array. Raises ValueError if the frame lacks the named reference.
    """
    table, fits, start = _costs(frame, y, hue, from_length)
    look = looks(list(frame[hue].unique()))
    if reference is None and Fused.label in look:
        reference = Fused.label
    grey = None if reference is None else select(table, hue, reference)
    panels = facets(table, hue, columns=2, height=1.75 + 0.35 / len(look))
    for value, ax in panels.items():
        part, name = table[table[hue] == value], called(hue, value)
        if grey is not None and value != reference:
            ax.plot(grey["length"], grey["y"], color=SHADE, lw=2.5, zorder=1)
        draw_lines(ax, part, "length", "y", hue, {value: look[value]})
        if closed_form:
            ax.plot(part["length"], part["closed"], "--", color=look[value].color, lw=0.9, zorder=1.8)
        dress(ax, "Length (tokens)", DRAWN[y][0])
        shown = f"{name}:  $n^{{{fits[value]:.2f}}}$" if value in fits else name
        ax.set_title(shown, fontsize=SMALL, loc="left", color=look[value].ink)
        said = f"{_written(y)(part['y'].iloc[-1])} at {tokens(part['length'].iloc[-1])} tokens"
        grows = f", growing as n^{fits[value]:.2f}" if value in fits else ""
        ax.set_label(f"{name}: {DRAWN[y][0].lower()} {said}{grows}.")
    token_axis(ax, frame["length"].unique(), ticks=4)
    log_axis(ax.yaxis, _written(y), base=10 if y == "seconds" else 2, ticks=4)
    named = [] if grey is None else [(called(hue, reference), Look(SHADE, ""))]
    if closed_form and table["closed"].notna().any():
        named.append((DRAWN[y][2], Look(GREY, "", DASHED)))
    axes = np.array(list(panels.values()))
    if named:
        legend(axes[0], named)
    fitted = "" if start is None else f" (exponents fitted from {tokens(start)} tokens on)"
    axes[0].set_label(f"{DRAWN[y][0]} against length, a panel a form{fitted}. {axes[0].get_label()}")
    return axes


@styled
def roofline(frame: pd.DataFrame, machine: Machine, *, hue: str = "arm", ax: Axes | None = None) -> Axes:
    """Draw the rate each form achieves against its arithmetic intensity, a point a length, under the machine's roof.

    Intensity is operations over bytes of least traffic, both closed forms; the rate is operations over the seconds
    measured. The roof is the smaller of the machine's rate and intensity times its bandwidth. Source: Williams et al.
    2009, CACM 52(4), 65-76.
    """
    require_columns(frame, (hue, "length", "seed", "seconds", "flops", "bytes"))
    keys = [hue, "length"]
    table = geometric_means(frame.assign(rate=frame["flops"] / frame["seconds"]), keys, "rate")
    once = frame.drop_duplicates(keys).set_index(keys)
    table["x"] = [
        once["flops"][key] / once["bytes"][key] for key in zip(*(table[k] for k in keys), strict=True)
    ]
    ax, look, ends, said = new() if ax is None else ax, looks(list(frame[hue].unique())), [], []
    dress(ax, "Arithmetic intensity (operations per byte)", "Rate")
    for value, part in table.groupby(hue, sort=False):
        one, end = look[value], part.iloc[-1]
        ax.plot(part["x"], part["y"], color=one.color, ls=one.line, marker=one.marker, lw=1.5, ms=6, **POINT)
        ax.vlines(part["x"], part["low"], part["high"], color=one.color, lw=1.5, alpha=0.6)
        ends.append((called(hue, value), one, float(end["x"]), float(end["y"])))
        said.append(f"{called(hue, value)} {rate(end['y'])}")
    knee = machine.flops_per_second / machine.bytes_per_second
    at = np.array([min(table["x"].min(), knee) / 2, knee, 2 * max(table["x"].max(), knee)])
    roof = np.minimum(machine.flops_per_second, at * machine.bytes_per_second)
    ax.plot(at, roof, color="black", lw=1.6, zorder=2)
    ax.annotate(
        f"{rate(machine.flops_per_second)}, {machine.bytes_per_second / 1e9:.3g} GB/s",
        (at[-1], roof[-1]), (0, 4), textcoords="offset points", ha="right", va="bottom", fontsize=SMALL,
    )  # fmt: skip
    log_axis(ax.xaxis, short)
    log_axis(ax.yaxis, rate)
    name_lines(ax, ends)
    ax.set_label(
        f"Achieved rate at the longest length under a roof of {rate(machine.flops_per_second)}: {', '.join(said)}."
    )
    return ax


def _costs(
    frame: pd.DataFrame, y: str, hue: str, from_length: Number | None
) -> tuple[pd.DataFrame, dict[Any, float], Number | None]:
    """Return what is drawn (y, low, high, closed by hue and length), the exponents, and the length they start at."""
    if y not in DRAWN:
        raise ValueError(f"y is {y!r}; allowed are {', '.join(map(repr, DRAWN))}.")
    closed = DRAWN[y][1]
    require_columns(frame, (hue, "length", "seed", y, closed))
    if not (frame[y] > 0).all():
        raise ValueError(f"{y} has {frame[y].min()}; allowed on a log axis are positive numbers.")
    table = geometric_means(frame, [hue, "length"], y)
    once = frame.groupby([hue, "length"])[closed].first()
    table["closed"] = [once[key] for key in zip(table[hue], table["length"], strict=True)]
    lengths = sorted(frame["length"].unique())
    start = lengths[len(lengths) // 2] if from_length is None else from_length
    if frame[frame["length"] >= start].groupby(hue)["length"].nunique().max() < 2:
        return table, {}, None
    fits = exponents(frame.assign(arm=frame[hue]), y, from_length=float(start)).dropna(subset="exponent")
    return table, dict(zip(fits["arm"], fits["exponent"], strict=True)), start


def geometric_means(frame: pd.DataFrame, keys: Sequence[str], column: str) -> pd.DataFrame:
    """Return the geometric mean of a column over rounds as `y`, with its 95 % t interval; one round has no interval."""
    groups = np.log(frame[column].astype(float)).groupby([frame[key] for key in keys], sort=False)
    mean, n = groups.mean(), groups.count()
    half = (distributions.t.ppf(0.975, (n - 1).clip(lower=1)) * groups.std() / np.sqrt(n)).fillna(0)
    table = np.exp(pd.DataFrame({"y": mean, "low": mean - half, "high": mean + half}))
    order = {value: i for i, value in enumerate(frame[keys[0]].unique())}
    return table.reset_index().sort_values(list(keys), key=lambda c: c.map(order) if c.name == keys[0] else c)


def _written(y: str) -> Callable[[Number], str]:
    return duration if y == "seconds" else memory
