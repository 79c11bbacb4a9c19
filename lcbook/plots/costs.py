"""Figures of costs: time and memory against length beside their closed forms, and the roofline."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.lines import Line2D
from matplotlib.ticker import FuncFormatter, LogLocator, NullLocator
from scipy import stats as distributions

from lcbook.attention.backends import Fused
from lcbook.attention.costs import Machine
from lcbook.formats import Number, called, short, tokens
from lcbook.plots._marks import POINT, below, draw_line, halo, name_lines, select
from lcbook.plots._style import GREY, SMALL, Look, dress, looks, new, styled, token_axis
from lcbook.stats.estimate import require_columns
from lcbook.stats.timings import exponents

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
def cost_by_length(
    frame: pd.DataFrame,
    *,
    y: str = "seconds",
    hue: str = "arm",
    from_length: Number | None = None,
    closed_form: bool = True,
    ax: Axes | None = None,
) -> Axes:
    """Draw seconds or peak bytes (log) against length (tokens, log2): a line a form, its 95 % interval over rounds.

    Each name carries the exponent fitted to the lengths from `from_length` on (the longer half of all lengths if it is
    None). The closed form (the roofline of time, the formula of memory) is a thin dashed line in the same colour.
    """
    table, fits, start = _costs(frame, y, hue, from_length)
    ax, look, ends, said = new() if ax is None else ax, looks(list(frame[hue].unique())), [], []
    dress(ax, "Length (tokens)", DRAWN[y][0])
    token_axis(ax, frame["length"].unique())
    for value, part in table.groupby(hue, sort=False):
        name = called(hue, value) + (f": n^{fits[value]:.2f}" if value in fits else "")
        _cost_line(ax, part, look[value], closed_form)
        ends.append((name, look[value], float(part["length"].iloc[-1]), float(part["y"].iloc[-1])))
        said.append(f"{name}, {_written(y)(part['y'].iloc[-1])} at {tokens(part['length'].iloc[-1])} tokens")
    _cost_scale(ax, y)
    if closed_form and table["closed"].notna().any():
        note: dict[str, Any] = {"transform": ax.transAxes, "path_effects": halo(), "zorder": 5}
        ax.text(0.03, 0.97, f"dashed: {DRAWN[y][2]}", va="top", color=GREY, fontsize=SMALL, **note)
    name_lines(ax, ends, most=10)
    ax.set_label(f"{DRAWN[y][0]} against length{_fitted(start)}: {'; '.join(said)}.")
    return ax


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
    """Draw `cost_by_length` one form a panel, two in a row, with the form `reference` in grey in each.

    The reference is torch's fused attention where the frame has it, unless it is named. Returns the panels as a flat
    array. Raises ValueError if the frame lacks the named reference.
    """
    table, fits, start = _costs(frame, y, hue, from_length)
    look = looks(list(frame[hue].unique()))
    if reference is None and Fused.label in look:
        reference = Fused.label
    grey = None if reference is None else select(table, hue, reference)
    rows = -(-len(look) // 2)
    axes = np.ravel(new((6.4, 0.7 + 1.75 * rows), nrows=rows, ncols=2, sharex=True, sharey=True))
    for ax, (value, part) in zip(axes, table.groupby(hue, sort=False), strict=False):
        dress(ax)
        if grey is not None and value != reference:
            ax.plot(grey["length"], grey["y"], color="#b0b0b0", lw=2.5, zorder=1)
        _cost_line(ax, part, look[value], closed_form)
        name, end = called(hue, value), part.iloc[-1]
        grows = f"n^{fits[value]:.2f}" if value in fits else ""
        shown = f"{name}:  $n^{{{fits[value]:.2f}}}$" if grows else name
        ax.set_title(shown, fontsize=SMALL, loc="left", color=look[value].ink)
        said = f"{_written(y)(end['y'])} at {tokens(end['length'])} tokens"
        ax.set_label(f"{name}: {DRAWN[y][0].lower()} {said}{f', growing as {grows}' if grows else ''}.")
    for ax in axes[len(look) :]:
        ax.set_axis_off()
    token_axis(axes[0], frame["length"].unique(), ticks=4)
    _cost_scale(axes[0], y, ticks=4)
    _outer_labels(axes[: len(look)], DRAWN[y][0])
    handles = [] if grey is None else [_sample("#b0b0b0", "-", called(hue, reference))]
    if closed_form and table["closed"].notna().any():
        handles.append(_sample(GREY, "--", DRAWN[y][2]))
    if handles:
        below(axes[0], handles)
    axes[0].set_label(f"{DRAWN[y][0]} against length, a panel a form{_fitted(start)}. {axes[0].get_label()}")
    return axes[: len(look)]


@styled
def roofline(frame: pd.DataFrame, machine: Machine, *, hue: str = "arm", ax: Axes | None = None) -> Axes:
    """Draw the rate each form achieves against its arithmetic intensity, a point a length, under the machine's roof.

    Intensity is operations over bytes of least traffic, both closed forms; the rate is operations over the seconds
    measured. The roof is the smaller of the machine's rate and intensity times its bandwidth. Source: Williams et al.
    2009, CACM 52(4), 65-76.
    """
    require_columns(frame, (hue, "length", "seed", "seconds", "flops", "bytes"))
    keys = [hue, "length"]
    table = _interval(frame.assign(y=frame["flops"] / frame["seconds"]), keys)
    once = frame.drop_duplicates(keys).set_index(keys)
    table["x"] = [
        once["flops"][key] / once["bytes"][key] for key in zip(*(table[k] for k in keys), strict=True)
    ]
    ax, look, ends, said = new() if ax is None else ax, looks(list(frame[hue].unique())), [], []
    dress(ax, "Arithmetic intensity (operations per byte)", "Rate")
    for value, part in table.groupby(hue, sort=False):
        one, end = look[value], part.iloc[-1]
        ax.plot(
            part["x"],
            part["y"],
            color=one.color,
            linestyle=one.line,
            marker=one.marker,
            lw=1.5,
            ms=6,
            **POINT,
        )
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
    ax.set(xscale="log", yscale="log")
    for axis, written in ((ax.xaxis, short), (ax.yaxis, rate)):
        few = np.divide(*axis.get_view_interval()[::-1]) < 150
        axis.set_major_locator(LogLocator(subs=(1.0, 2.0, 5.0) if few else (1.0,), numticks=7))
        axis.set_minor_locator(NullLocator())
        axis.set_major_formatter(FuncFormatter(lambda value, _, written=written: written(value)))
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
    table = _interval(frame.assign(y=frame[y]), [hue, "length"])
    once = frame.groupby([hue, "length"])[closed].first()
    table["closed"] = [once[key] for key in zip(table[hue], table["length"], strict=True)]
    lengths = sorted(frame["length"].unique())
    start = lengths[len(lengths) // 2] if from_length is None else from_length
    if frame[frame["length"] >= start].groupby(hue)["length"].nunique().max() < 2:
        return table, {}, None
    fits = exponents(frame.assign(arm=frame[hue]), y, from_length=float(start)).dropna(subset="exponent")
    return table, dict(zip(fits["arm"], fits["exponent"], strict=True)), start


def _interval(frame: pd.DataFrame, keys: Sequence[str]) -> pd.DataFrame:
    """Return the geometric mean of y over rounds with its 95 % t interval, by `keys`; one round has no interval."""
    rows = []
    for key, values in frame.groupby(list(keys), sort=False)["y"]:
        logs = np.log(values.to_numpy(float))
        n = len(logs)
        half = distributions.t.ppf(0.975, n - 1) * logs.std(ddof=1) / math.sqrt(n) if n > 1 else 0.0
        rows.append((*key, *np.exp([logs.mean(), logs.mean() - half, logs.mean() + half])))
    table = pd.DataFrame(rows, columns=[*keys, "y", "low", "high"])
    order = {value: i for i, value in enumerate(frame[keys[0]].unique())}
    return table.sort_values(list(keys), key=lambda c: c.map(order) if c.name == keys[0] else c)


def _cost_line(ax: Axes, part: pd.DataFrame, look: Look, closed_form: bool) -> None:
    draw_line(ax, part, "length", "y", look)
    if closed_form:
        ax.plot(part["length"], part["closed"], "--", color=look.color, lw=0.9, zorder=1.8)


def _written(y: str) -> Any:
    return duration if y == "seconds" else memory


def _fitted(start: Number | None) -> str:
    return "" if start is None else f" (exponents fitted from {tokens(start)} tokens on)"


def _cost_scale(ax: Axes, y: str, ticks: int = 6) -> None:
    """Make y logarithmic, in powers of ten of a second or in powers of two of a byte."""
    base = 10 if y == "seconds" else 2
    ax.set_yscale("log", base=base)
    ax.yaxis.set_major_locator(LogLocator(base=base, numticks=ticks))
    ax.yaxis.set_minor_locator(NullLocator())
    ax.yaxis.set_major_formatter(FuncFormatter(lambda value, _: _written(y)(value)))


def _outer_labels(axes: np.ndarray, ylabel: str) -> None:
    """Name the axes at the foot of each column, where ticks are written as well, and at the left of each row."""
    for i, ax in enumerate(axes):
        last = i + 2 >= len(axes)
        ax.set_xlabel("Length (tokens)" if last else "", fontsize=SMALL)
        ax.tick_params(labelbottom=last)
        ax.set_ylabel("" if i % 2 else ylabel, fontsize=SMALL)


def _sample(color: str, line: str, text: str) -> Any:
    """Return a line for a legend."""
    return Line2D([], [], color=color, linestyle=line, lw=2 if line == "-" else 1.2, label=text)
