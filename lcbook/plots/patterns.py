"""Figures of patterns: masks and what more layers reach through them, and recall beside what a selector keeps."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.colors import ListedColormap
from matplotlib.patches import Patch
from matplotlib.ticker import FuncFormatter, LogLocator, NullLocator

from lcbook import stats
from lcbook.attention.costs import visible_pairs
from lcbook.attention.patterns import Content, Full, Pattern, Static, pattern_mask, reach, span
from lcbook.formats import Number, called, percent, tokens
from lcbook.plots._marks import POINT, below, draw_line, halo, name_lines, require_one_probe
from lcbook.plots._style import GREY, SMALL, dress, looks, new, recall_axis, styled
from lcbook.stats.estimate import require_columns

SHADES = ("#08306b", "#2f79b5", "#82badb", "#c3daee")  # visible in one layer, reachable in two, three, four


@styled
def pattern_gallery(patterns: Sequence[Pattern], length: int, *, layers: int = 3) -> np.ndarray:
    """Draw static patterns as masks, query down and key across: what one layer sees, and what more layers reach.

    Dark is visible in one layer, lighter what information can reach in two, three, ... layers. A title gives the share
    of all causal pairs that is visible, and the reach: the largest gap from which the last token can be told something
    through 1, 2, ... layers. Returns the panels as a flat array. Raises ValueError for no pattern, a content pattern,
    or layers other than 1 to 4.
    """
    if not patterns or not 1 <= layers <= len(SHADES):
        raise ValueError(
            f"patterns has {len(patterns)} and layers is {layers}; allowed are one or more, and 1 to {len(SHADES)}."
        )
    static: list[Static] = [pattern for pattern in patterns if not isinstance(pattern, Content)]
    if len(static) < len(patterns):
        raise ValueError(
            f"patterns is {list(patterns)}; allowed are static ones, whose mask needs no scores."
        )
    columns = min(len(patterns), 2 if len(patterns) in (2, 4) else 3)
    rows = -(-len(patterns) // columns)
    axes = np.ravel(new((6.4, 0.6 + rows * (6.2 / columns + 0.65)), nrows=rows, ncols=columns, squeeze=False))
    colors = ListedColormap(["white", *SHADES[:layers]])
    for ax, pattern in zip(axes, static, strict=False):
        mask = pattern_mask(pattern, length)
        needed = np.zeros((length, length))  # layers until the key reaches the query; 0 is never
        for depth in range(layers, 0, -1):
            needed[reach(mask, depth).numpy()] = depth
        dress(ax, grid="")
        ax.imshow(needed, cmap=colors, vmin=0, vmax=layers, interpolation="nearest")
        ax.plot([-0.5, length - 0.5], [-0.5, length - 0.5], color=GREY, lw=0.6)
        ax.set(xticks=[], yticks=[])
        share = percent(visible_pairs(pattern, length) / visible_pairs(Full(), length))
        reaches = ", ".join(str(span(pattern, depth, length)) for depth in range(1, layers + 1))
        ax.set_title(f"{pattern.label}\n{share} of pairs\nreach {reaches}", fontsize=SMALL, loc="left")
        counted = "one layer" if layers == 1 else f"1 to {layers} layers"
        ax.set_label(
            f"{pattern.label} sees {share} of the pairs; its reach in {counted} is {reaches} tokens."
        )
    for ax in axes[len(patterns) :]:
        ax.set_axis_off()
    for i, ax in enumerate(axes[: len(patterns)]):
        ax.set_ylabel("" if i % columns else "Query", fontsize=SMALL)
        ax.set_xlabel("Key" if i + columns >= len(patterns) else "", fontsize=SMALL)
    words = ["visible in 1 layer", *(f"in {depth}" for depth in range(2, layers + 1))]
    below(axes[0], [Patch(color=SHADES[i], label=word) for i, word in enumerate(words)])
    return axes[: len(patterns)]


@styled
def found_and_right(frame: pd.DataFrame, *, hue: str = "arm", ax: Axes | None = None) -> Axes:
    """Draw recall against the recall of the selector, a marker for each arm and length, with 95 % intervals over seeds.

    A line joins the lengths of an arm, and the longest is written beside its marker.
    `selected` counts the queries whose needle was among the keys that were kept, `correct_selected` those of them that
    were answered. On the line from (0, chance) to (1, 1) every kept needle is answered and every other query guessed.
    """
    require_columns(
        frame, (hue, "length", "seed", "total", "correct", "selected", "correct_selected", "chance")
    )
    keys = [hue, "length"]
    right = stats.recall(frame, keys)
    kept = stats.recall(frame.assign(correct=frame["selected"]), keys)
    chance = float(np.average(frame["chance"], weights=frame["total"]))
    ax, look, ends, said = new((6.4, 4.6)) if ax is None else ax, looks(list(frame[hue].unique())), [], []
    recall_axis(ax, {"chance": chance})
    dress(ax, "Recall of the selector: the needle is among the keys kept", "Recall")
    ax.set_xlim(-0.03, 1.04)
    ax.set_xticks([0, 0.25, 0.5, 0.75, 1], ["0 %", "25 %", "50 %", "75 %", "100 %"])
    ax.plot([0, 1], [chance, 1], "--", color=GREY, lw=1.2, zorder=1.5)
    for value in look:
        x, y = (table[table[hue] == value].sort_values("length") for table in (kept, right))
        one = look[value]
        ax.plot(
            x["recall"],
            y["recall"],
            color=one.color,
            linestyle=one.line,
            marker=one.marker,
            lw=1,
            ms=7,
            **POINT,
        )
        ax.hlines(y["recall"], x["low"], x["high"], color=one.color, lw=1.5, alpha=0.5)
        ax.vlines(x["recall"], y["low"], y["high"], color=one.color, lw=1.5, alpha=0.5)
        first = int(x["recall"].to_numpy().argmax())
        ends.append((called(hue, value), one, float(x["recall"].iloc[first]), float(y["recall"].iloc[first])))
        ax.annotate(
            tokens(x["length"].iloc[-1]), (x["recall"].iloc[-1], y["recall"].iloc[-1]), (5, -5), va="top",
            textcoords="offset points", color=one.ink, fontsize=SMALL, path_effects=halo(),
        )  # fmt: skip
        said.append(f"{called(hue, value)} {_split(frame[frame[hue] == value])}")
    name_lines(ax, ends)
    _along(ax, (0.0, chance), (1.0, 1.0), "kept: answered, lost: guessed")
    ax.set_label(
        f"Recall against the selector's recall, {len(right)} points; right where the needle was kept and where it was "
        f"not: {'; '.join(said)}; chance {percent(chance)}."
    )
    return ax


def _split(part: pd.DataFrame) -> str:
    """Return the shares answered where the needle was kept and where it was not, seeds and lengths pooled."""
    kept, total = part["selected"].sum(), part["total"].sum()
    right = part["correct_selected"].sum()
    pairs = ((right, kept), (part["correct"].sum() - right, total - kept))
    return " and ".join(percent(hits / count) if count else "no query" for hits, count in pairs)


def _along(ax: Axes, start: tuple[float, float], end: tuple[float, float], text: str) -> None:
    """Write `text` along the line from `start` to `end`, above it, near its start."""
    across, up = end[0] - start[0], end[1] - start[1]
    ax.annotate(
        text, (start[0] + across / 4, start[1] + up / 4), (-3, 4), textcoords="offset points",
        rotation=math.degrees(math.atan2(up, across)), rotation_mode="anchor", transform_rotates_text=True,
        ha="center", va="bottom", color=GREY, fontsize=SMALL, path_effects=halo(),
    )  # fmt: skip


@styled
def recall_within_reach(
    frame: pd.DataFrame, *, reach: Mapping[Any, Number], hue: str = "arm", ax: Axes | None = None
) -> Axes:
    """Draw recall against the gap in tokens (linear), a line per `hue` and, in its colour, where its `reach` ends.

    `reach` gives for each arm the largest gap that its pattern can bridge; an arm without one is not bounded.
    """
    require_columns(frame, (hue, "gap", "seed", "correct", "total", "chance"))
    require_one_probe(frame)
    ax = new() if ax is None else ax
    look, ends, said = looks(list(frame[hue].unique())), [], []
    table = stats.recall(frame, by=[hue, "gap"])
    chance = float(np.average(frame["chance"], weights=frame["total"]))
    for value, part in table.groupby(hue, sort=False):
        part = part.sort_values("gap")
        draw_line(ax, part, "gap", "recall", look[value])
        within = part[part["gap"] <= reach.get(value, np.inf)]
        ends.append(
            (called(hue, value), look[value], float(within["gap"].iloc[-1]), float(within["recall"].iloc[-1]))
        )
        said.append(f"{called(hue, value)}: {_halves(part, chance)}")
        if value in reach:
            ax.axvline(float(reach[value]), color=look[value].color, lw=1.3, ls=(0, (1.5, 1.5)), zorder=1.8)
            said[-1] += f" of a reach of {float(reach[value]):g}"
    dress(ax, "Gap from needle to query (tokens); dotted: end of the reach", "Recall")
    recall_axis(ax, {"chance": chance})
    _legend(ax, [(name, one) for name, one, *_ in ends])
    ax.set_label(f"Recall against gap; recall is above one half up to a gap of {'; '.join(said)} (tokens).")
    return ax


def _halves(part: pd.DataFrame, chance: float) -> str:
    """Return the largest gap at which recall is above half way from chance to 1."""
    good = part[part["recall"] > (1 + chance) / 2]["gap"]
    return f"{good.max():g}" if len(good) else "none"


def _legend(ax: Axes, named: list[tuple[str, Any]]) -> None:
    handles = [
        ax.plot([], [], color=one.color, marker=one.marker, ls=one.line, label=name, **POINT)[0]
        for name, one in named
    ]
    below(ax, handles)


@styled
def keys_and_recall(
    frame: pd.DataFrame, *, keys: str = "keys", hue: str = "arm", ax: Axes | None = None
) -> Axes:
    """Draw recall against the number of keys a query is compared with (log), a marker per `hue`, intervals over seeds.

    The dashed line is what keys chosen without looking give: a needle at a random place is among k of n with
    probability k / n, and is guessed otherwise. Frame: one length, and a column `keys`.
    """
    require_columns(frame, (hue, keys, "length", "seed", "correct", "total", "chance"))
    require_one_probe(frame)
    if frame["length"].nunique() != 1:
        raise ValueError(
            f"frame has the lengths {sorted(frame['length'].unique().tolist())}; allowed is one."
        )
    length = float(frame["length"].iloc[0])
    chance = float(np.average(frame["chance"], weights=frame["total"]))
    ax = new((6.4, 4.4)) if ax is None else ax
    ax.set_xscale("log", base=2)
    look, ends, said = looks(list(frame[hue].unique())), [], []
    line = np.geomspace(frame[keys].min() / 2, length, 200)
    ax.plot(line, chance + (1 - chance) * line / length, "--", color=GREY, lw=1.2, zorder=1.5)
    middle = float(np.sqrt(frame[keys].min() * length))
    ax.annotate(
        "keys chosen blindly", (middle, chance + (1 - chance) * middle / length), (0, 6), textcoords="offset points",
        ha="right", color=GREY, fontsize=SMALL,
    )  # fmt: skip
    for value, part in frame.groupby(hue, sort=False):
        found, at = stats.recall(part, by=hue).iloc[0], float(part[keys].mean())
        one = look[value]
        ax.plot([at], [found["recall"]], color=one.color, marker=one.marker, ms=8, **POINT)
        ax.vlines(at, found["low"], found["high"], color=one.color, lw=1.8)
        ends.append((called(hue, value), one, at, float(found["recall"])))
        said.append(f"{called(hue, value)} {percent(found['recall'])} with {at:.0f}")
    dress(ax, "Keys that a query is compared with", "Recall")
    recall_axis(ax, {"chance": chance})
    ax.xaxis.set_major_locator(LogLocator(base=2, numticks=8))
    ax.xaxis.set_minor_locator(NullLocator())
    ax.xaxis.set_major_formatter(FuncFormatter(lambda value, _: f"{value:,.0f}"))
    name_lines(ax, ends, most=12)
    ax.set_label(
        f"Recall at {length:.0f} tokens against keys a query is compared with: {', '.join(said)}; "
        f"chance {percent(chance)}."
    )
    return ax
