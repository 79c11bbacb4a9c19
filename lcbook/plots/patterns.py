"""Figures of patterns: masks and what more layers reach through them, and recall beside what a selector keeps."""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.colors import ListedColormap
from matplotlib.patches import Patch

from lcbook import stats
from lcbook.attention.costs import visible_pairs
from lcbook.attention.patterns import Content, Full, Pattern, Static, pattern_mask, reach, span
from lcbook.formats import called, percent, tokens
from lcbook.plots._lines import POINT, below, log_axis, name_lines, note, require_one_probe
from lcbook.plots._style import GREY, SMALL, dress, looks, new, percent_axis, recall_axis, styled
from lcbook.stats.estimate import pooled_chance, require_columns

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
    chance = pooled_chance(frame)
    ax, look, ends, said = new((6.4, 4.6)) if ax is None else ax, looks(list(frame[hue].unique())), [], []
    recall_axis(ax, {"chance": chance})
    dress(ax, "Recall of the selector: the needle is among the keys kept", "Recall")
    percent_axis(ax.xaxis)
    ax.plot([0, 1], [chance, 1], "--", color=GREY, lw=1.2, zorder=1.5)
    for value in look:
        x, y = (table[table[hue] == value].sort_values("length") for table in (kept, right))
        one = look[value]
        ax.plot(
            x["recall"], y["recall"], color=one.color, ls=one.line, marker=one.marker, lw=1, ms=7, **POINT
        )
        ax.hlines(y["recall"], x["low"], x["high"], color=one.color, lw=1.5, alpha=0.5)
        ax.vlines(x["recall"], y["low"], y["high"], color=one.color, lw=1.5, alpha=0.5)
        first = int(x["recall"].to_numpy().argmax())
        ends.append((called(hue, value), one, float(x["recall"].iloc[first]), float(y["recall"].iloc[first])))
        end = (x["recall"].iloc[-1], y["recall"].iloc[-1])
        note(ax, tokens(x["length"].iloc[-1]), end, (5, -5), one.ink, va="top")
        said.append(f"{called(hue, value)} {_split(frame[frame[hue] == value])}")
    name_lines(ax, ends)
    note(ax, "kept: answered, lost: guessed", (0.25, chance + (1 - chance) / 4), (-3, 4),
         rotation=math.degrees(math.atan(1 - chance)), rotation_mode="anchor", transform_rotates_text=True,
         ha="center", va="bottom")  # fmt: skip
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
    chance = pooled_chance(frame)
    ax = new((6.4, 4.4)) if ax is None else ax
    look, ends, said = looks(list(frame[hue].unique())), [], []
    line = np.geomspace(frame[keys].min() / 2, length, 200)
    ax.plot(line, chance + (1 - chance) * line / length, "--", color=GREY, lw=1.2, zorder=1.5)
    middle = float(np.sqrt(frame[keys].min() * length))
    note(ax, "keys chosen blindly", (middle, chance + (1 - chance) * middle / length), ha="right")
    for value, part in frame.groupby(hue, sort=False):
        found, at = stats.recall(part, by=hue).iloc[0], float(part[keys].mean())
        one = look[value]
        ax.plot([at], [found["recall"]], color=one.color, marker=one.marker, ms=8, **POINT)
        ax.vlines(at, found["low"], found["high"], color=one.color, lw=1.8)
        ends.append((called(hue, value), one, at, float(found["recall"])))
        said.append(f"{called(hue, value)} {percent(found['recall'])} with {at:.0f}")
    dress(ax, "Keys that a query is compared with", "Recall")
    recall_axis(ax, {"chance": chance})
    log_axis(ax.xaxis, "{:,.0f}".format, base=2, ticks=8)
    name_lines(ax, ends, most=12)
    ax.set_label(
        f"Recall at {length:.0f} tokens against keys a query is compared with: {', '.join(said)}; "
        f"chance {percent(chance)}."
    )
    return ax
