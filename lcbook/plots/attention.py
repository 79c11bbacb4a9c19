"""Figures of how a model gets at what it holds: recall by layers and by learning rate, and the maps of its heads."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

import numpy as np
import pandas as pd
import seaborn as sns
from matplotlib.axes import Axes
from matplotlib.ticker import FixedLocator, MaxNLocator

from lcbook import stats
from lcbook.formats import called, percent, short
from lcbook.plots._lines import (
    COUNTS,
    POINT,
    by_seed,
    draw_lines,
    draw_seed_points,
    facets,
    line_ends,
    log_axis,
    name_lines,
    require_positive,
)
from lcbook.plots._style import OTHERS, SMALL, dress, looks, new, recall_axis, styled
from lcbook.stats.estimate import pooled_chance, require_columns

RING = "#d55e00"


@styled
def hops_by_layers(table: pd.DataFrame) -> np.ndarray:
    """Draw recall against the number of layers, a panel a hop count: a faint dot a seed, the mean and its interval.

    `table` has the columns model.layers, hops, seed, correct, total and chance. Returns the panels as a flat array, the
    fewest hops first. Raises ValueError for missing columns, no rows, mixed probes, or several arms of the same layers
    and hops.
    """
    require_columns(table, ("model.layers", "hops", *COUNTS))
    keys = ["hops", "model.layers"]
    if "arm" in table.columns and (mixed := table.groupby(keys)["arm"].nunique()).max() > 1:
        where = f"{mixed.max()} arms at {mixed.idxmax()[0]} hops and {mixed.idxmax()[1]} layers"
        raise ValueError(f"table has {where}; allowed is one.")
    found = stats.recall(table, by=keys).sort_values(keys)
    seeds = by_seed(table, keys).assign(at=lambda f: f["model.layers"])
    chance, color = pooled_chance(table), OTHERS[0].color
    panels = facets(found, "hops", columns=2 if found["hops"].nunique() == 4 else 3, height=2.9)
    for hop, ax in panels.items():
        part = found[found["hops"] == hop]
        draw_seed_points(ax, seeds[seeds["hops"] == hop], "hops", {hop: OTHERS[0]}, upright=True)
        ax.plot(part["model.layers"], part["recall"], color=color, marker="o", lw=1.6, ms=7, **POINT)
        ax.vlines(part["model.layers"], part["low"], part["high"], color=color, lw=2)
        dress(ax, "Layers", "Recall")
        recall_axis(ax, {"chance": chance})
        named = "1 hop" if hop == 1 else f"{short(hop)} hops"
        ax.set_title(named, fontsize=SMALL, loc="left")
        said = zip(part["model.layers"], part["recall"], strict=True)
        shown = ", ".join(f"{percent(rate)} with {count}" for count, rate in said)
        ax.set_label(f"{named}: recall by the number of layers {shown}; chance {percent(chance)}.")
    layers = sorted(found["model.layers"].unique())
    ax.set_xlim(layers[0] - 0.5, layers[-1] + 0.5)
    ax.set_xticks(layers[:: -(-len(layers) // 6)])
    return np.array(list(panels.values()))


@styled
def recall_by_rate(table: pd.DataFrame, *, ax: Axes | None = None) -> Axes:
    """Draw recall in distribution against the learning rate (log): a faint dot a seed, a line through the means an arm.

    `table` has the columns arm, train.lr, seed and in_distribution, which is one number a trained model. Chance is
    marked where there is a column for it. Raises ValueError for missing columns, no rows, a rate that is not above 0,
    or a model with several numbers.
    """
    require_columns(table, ("arm", "train.lr", "seed", "in_distribution"))
    require_positive(table, "train.lr")
    models = table.groupby(["arm", "train.lr", "seed"], sort=False)["in_distribution"]
    if (several := models.nunique(dropna=False)).max() > 1:
        arm, lr, seed = several.idxmax()
        raise ValueError(
            f"in_distribution has {several.max()} values for {arm!r}, rate {lr}, seed {seed}; allowed is one a model."
        )
    once = models.first().reset_index()
    ax, look = new() if ax is None else ax, looks(list(once["arm"].unique()))
    aside = {arm: 1.04 ** (i - (len(look) - 1) / 2) for i, arm in enumerate(look)}  # arms side by side
    once["rate"] = once["train.lr"] * once["arm"].map(aside).astype(float)
    palette, markers = (
        {arm: one.color for arm, one in look.items()},
        {arm: one.marker for arm, one in look.items()},
    )
    sns.scatterplot(once, x="rate", y="in_distribution", hue="arm", palette=palette, style="arm", markers=markers, s=25,
                    linewidth=0, alpha=0.4, zorder=2, legend=False, ax=ax)  # fmt: skip
    means = once.groupby(["arm", "train.lr", "rate"])["in_distribution"].mean().rename("recall").reset_index()
    draw_lines(ax, means.assign(low=math.nan, high=math.nan), "rate", "recall", "arm", look)
    dress(ax, "Learning rate", "Recall in distribution")
    recall_axis(ax, {"chance": float(table["chance"].mean())} if "chance" in table.columns else {})
    log_axis(ax.xaxis, short)
    rates = sorted(once["train.lr"].unique())
    ax.xaxis.set_major_locator(FixedLocator(rates[:: -(-len(rates) // 6)]))
    best = means.loc[means.groupby("arm")["recall"].idxmax()].set_index("arm").loc[list(look)]
    said = (
        f"{called('arm', arm)} {percent(row['recall'])} at {short(row['train.lr'])}"
        for arm, row in best.iterrows()
    )
    name_lines(ax, line_ends(means, "rate", "recall", "arm", look))
    ax.set_label(f"Recall in distribution by learning rate; the best mean of each: {'; '.join(said)}.")
    return ax


@styled
def map_gallery(
    maps: Sequence[Any], labels: Sequence[str], *, mark: Sequence[tuple[int, int]] | None = None
) -> np.ndarray:
    """Draw the attention maps [layer][head], each [t, s], query down and key across, in one scale from white for 0.

    `labels` names the s tokens; the t queries are the last t of them. Names are written up to 24 tokens, where they
    fit. `mark` lists places (query, key), counted from 0 in the tokens, to ring in every map. Returns the panels as a
    flat array, layer by layer. Raises ValueError for no map, maps of several shapes, another number of labels, or a
    place outside the maps.
    """
    heads = [(layer, head, _array(one)) for layer, row in enumerate(maps) for head, one in enumerate(row)]
    shapes = {one.shape for *_, one in heads}
    if len(shapes) != 1 or len(shape := shapes.pop()) != 2 or not 0 < shape[0] <= shape[1]:
        got = [one.shape for *_, one in heads]
        raise ValueError(f"maps has the shapes {got}; allowed is one shape [t, s] with 0 < t <= s.")
    queries, keys = shape
    first = keys - queries  # the token of the first query
    if len(labels) != keys:
        raise ValueError(f"labels has {len(labels)} names; allowed are {keys}, one a token.")
    places = [(int(query) - first, int(key)) for query, key in mark or ()]
    for row, key in places:
        if not (0 <= row < queries and 0 <= key < keys):
            at = (row + first, key)
            raise ValueError(
                f"mark has {at}; allowed are queries {first} to {keys - 1} and keys 0 to {keys - 1}."
            )
    axes, size, columns = _map_grid(len(heads), max(len(row) for row in maps), labels, queries)
    most = max(1e-12, max(float(np.nanmax(one)) for *_, one in heads))
    for i, (ax, (layer, head, one)) in enumerate(zip(axes, heads, strict=False)):
        dress(ax, grid="")
        image = ax.imshow(one, cmap="Blues", vmin=0, vmax=most, interpolation="nearest")
        ring = {"mfc": "none", "mec": RING, "mew": 1.8, "ms": float(np.clip(1.3 * size, 7, 14))}
        ax.plot([key for _, key in places], [row for row, _ in places], "o", **ring)
        ax.set_title(f"layer {layer + 1}, head {head + 1}", fontsize=SMALL, loc="left")
        last = i + columns >= len(heads)
        _name_tokens(ax, labels, queries, size, below=last, left=not i % columns)
        ax.set_xlabel("Key" if last else "", fontsize=SMALL)
        ax.set_ylabel("" if i % columns else "Query", fontsize=SMALL)
        ax.set_label(f"Layer {layer + 1}, head {head + 1}: {_described(one, first, places)}.")
    for ax in axes[len(heads) :]:
        ax.set_axis_off()
    bar = axes[0].get_figure().colorbar(image, ax=list(axes), fraction=0.04, pad=0.02, aspect=30)
    bar.ax.tick_params(labelsize=SMALL, length=0)
    bar.outline.set_visible(False)
    bar.set_label("Attention weight", fontsize=SMALL)
    bar.locator = MaxNLocator(3)
    return axes[: len(heads)]


def _array(one: Any) -> np.ndarray:
    return np.asarray(one.detach().cpu() if hasattr(one, "detach") else one, float)


def _map_grid(count: int, heads: int, labels: Sequence[str], queries: int) -> tuple[np.ndarray, float, int]:
    """Return the axes, the height of a token in points, and the columns: a row a layer for two to four heads."""
    columns = heads if 2 <= heads <= 4 else min(count, 3)
    rows, letters = -(-count // columns), max(map(len, labels)) if len(labels) <= 24 else 0
    named = 0.085 * letters  # inches beside the maps and below them for the names of the tokens
    width = min(4.2, (5.2 - named) / columns - 0.08)  # of one map
    height = rows * (width * queries / len(labels) + 0.3) + 0.35 + named
    axes = np.ravel(new((6.4, height), nrows=rows, ncols=columns, squeeze=False))
    return axes, 72 * width / len(labels), columns


def _name_tokens(
    ax: Axes, labels: Sequence[str], queries: int, size: float, *, below: bool, left: bool
) -> None:
    """Write the names, where wanted, of tokens `size` points wide, if they are few and the type is legible."""
    ax.tick_params(length=0)
    ax.set(xticks=[], yticks=[])
    type_size = min(SMALL, 0.95 * size)
    if len(labels) > 24 or type_size < 7:
        return
    upright = 0.65 * type_size * max(map(len, labels)) < 0.9 * size
    if below:
        ax.set_xticks(range(len(labels)), labels, rotation=0 if upright else 90, fontsize=type_size)
    if left:
        ax.set_yticks(range(queries), labels[len(labels) - queries :], fontsize=type_size)


def _described(one: np.ndarray, first: int, places: Sequence[tuple[int, int]]) -> str:
    """Return the largest weight of a map whose first query is token `first`, and the mean at `places`, in words."""
    row, key = (int(i) for i in np.unravel_index(int(np.nanargmax(one)), one.shape))
    said = f"the largest weight, {one[row, key]:.2f}, is that of query {row + first} on key {key}"
    if places:
        said += f"; the weight in the rings is {np.mean([one[place] for place in places]):.2f} on average"
    return said
