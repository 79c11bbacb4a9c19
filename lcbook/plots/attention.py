"""Figures of how a model gets at what it holds: recall by layers and by learning rate, and the maps of its heads."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.ticker import FixedLocator, FuncFormatter, MaxNLocator, NullLocator

from lcbook import stats
from lcbook.formats import called, percent, short
from lcbook.plots._marks import COUNTS, POINT, name_lines
from lcbook.plots._style import OTHERS, SMALL, dress, looks, new, recall_axis, styled
from lcbook.stats.estimate import require_columns

RING = "#d55e00"


@styled
def hops_by_layers(table: pd.DataFrame, *, ax: Sequence[Axes] | np.ndarray | None = None) -> np.ndarray:
    """Draw recall against the number of layers, a panel a hop count: a faint dot a seed, the mean and its interval.

    `table` has the columns model.layers, hops, seed, correct, total and chance. Returns the panels as a flat array, the
    fewest hops first; `ax` gives them. Raises ValueError for missing columns, no rows, mixed probes, several arms of
    the same layers and hops, or another number of axes.
    """
    require_columns(table, ("model.layers", "hops", *COUNTS))
    keys = ["hops", "model.layers"]
    if "arm" in table.columns and (mixed := table.groupby(keys)["arm"].nunique()).max() > 1:
        where = f"{mixed.max()} arms at {mixed.idxmax()[0]} hops and {mixed.idxmax()[1]} layers"
        raise ValueError(f"table has {where}; allowed is one.")
    found, hops = stats.recall(table, by=keys), sorted(table["hops"].unique())
    columns = min(len(hops), 2 if len(hops) == 4 else 3)
    rows = -(-len(hops) // columns)
    grid = {"nrows": rows, "ncols": columns, "squeeze": False}
    axes = np.ravel(new((6.4, 0.7 + 2.4 * rows), **grid) if ax is None else np.asarray(ax, dtype=object))
    if ax is not None and len(axes) != len(hops):
        raise ValueError(f"ax has {len(axes)} axes; allowed are {len(hops)}, one a number of hops.")
    layers = sorted(table["model.layers"].unique())
    for i, hop in enumerate(hops):
        part = found[found["hops"] == hop].sort_values("model.layers")
        chance = _hop_panel(axes[i], table[table["hops"] == hop], part)
        last, named = i + columns >= len(hops), "1 hop" if hop == 1 else f"{short(hop)} hops"
        axes[i].set_title(named, fontsize=SMALL, loc="left")
        axes[i].set(xlabel="Layers" if last else "", ylabel="" if i % columns else "Recall")
        axes[i].set_xlim(layers[0] - 0.5, layers[-1] + 0.5)
        axes[i].set_xticks(layers[:: -(-len(layers) // 6)])
        alike = list(axes[i].get_yticks()) == list(axes[i - i % columns].get_yticks())
        axes[i].tick_params(labelbottom=last, labelleft=not (i % columns and alike))
        said = zip(part["model.layers"], part["recall"], strict=True)
        shown = ", ".join(f"{percent(rate)} with {count}" for count, rate in said)
        axes[i].set_label(f"{named}: recall by the number of layers {shown}; chance {percent(chance)}.")
    for extra in axes[len(hops) :]:
        extra.set_axis_off()
    return axes[: len(hops)]


def _hop_panel(ax: Axes, table: pd.DataFrame, found: pd.DataFrame) -> float:
    """Draw one hop count: the dots of the seeds side by side, the means joined, and chance, which it returns."""
    dress(ax)
    color, chance = OTHERS[0].color, float(np.average(table["chance"], weights=table["total"]))
    seeds = table.groupby(["model.layers", "seed"])[["correct", "total"]].sum()
    rate = (seeds["correct"] / seeds["total"]).unstack("seed")
    aside = np.linspace(-0.22, 0.22, rate.shape[1]) if rate.shape[1] > 1 else np.zeros(1)
    for shift, seed in zip(aside, rate.columns, strict=True):
        ax.plot(rate.index + shift, rate[seed], "o", color=color, ms=4.5, mew=0, alpha=0.45, zorder=2)
    ax.plot(found["model.layers"], found["recall"], color=color, marker="o", lw=1.6, ms=7, **POINT)
    ax.vlines(found["model.layers"], found["low"], found["high"], color=color, lw=2)
    recall_axis(ax, {"chance": chance})
    return chance


@styled
def recall_by_rate(table: pd.DataFrame, *, ax: Axes | None = None) -> Axes:
    """Draw recall in distribution against the learning rate (log): a faint dot a seed, a line through the means an arm.

    `table` has the columns arm, train.lr, seed and in_distribution, which is one number a trained model. Chance is
    marked where there is a column for it. Raises ValueError for missing columns, no rows, a rate that is not above 0,
    or a model with several numbers.
    """
    require_columns(table, ("arm", "train.lr", "seed", "in_distribution"))
    if not (table["train.lr"] > 0).all():
        raise ValueError(
            f"train.lr has {table['train.lr'].min()}; allowed on a log axis are positive numbers."
        )
    models = table.groupby(["arm", "train.lr", "seed"], sort=False)["in_distribution"]
    if (several := models.nunique(dropna=False)).max() > 1:
        arm, lr, seed = several.idxmax()
        raise ValueError(
            f"in_distribution has {several.max()} values for {arm!r}, rate {lr}, seed {seed}; allowed is one a model."
        )
    once = models.first().reset_index()
    ax, look, ends, said = new() if ax is None else ax, looks(list(once["arm"].unique())), [], []
    dress(ax, "Learning rate", "Recall in distribution")
    ax.set_xscale("log")
    for i, (arm, one) in enumerate(look.items()):
        part = once[once["arm"] == arm]
        aside = 1.04 ** (i - (len(look) - 1) / 2)  # arms side by side
        ax.plot(part["train.lr"] * aside, part["in_distribution"], one.marker, color=one.color, ms=5, mew=0,
                alpha=0.4, zorder=2)  # fmt: skip
        mean = part.groupby("train.lr")["in_distribution"].mean()
        mark: dict[str, Any] = {"color": one.color, "marker": one.marker, "linestyle": one.line, **POINT}
        ax.plot(mean.index * aside, mean, lw=2, ms=7, **mark)
        ends.append((called("arm", arm), one, float(mean.index[-1] * aside), float(mean.iloc[-1])))
        said.append(f"{called('arm', arm)} {percent(mean.max())} at {short(mean.idxmax())}")
    recall_axis(ax, {"chance": float(table["chance"].mean())} if "chance" in table.columns else {})
    rates = sorted(once["train.lr"].unique())
    ax.xaxis.set_major_locator(FixedLocator(rates[:: -(-len(rates) // 6)]))
    ax.xaxis.set_minor_locator(NullLocator())
    ax.xaxis.set_major_formatter(FuncFormatter(lambda value, _: short(value)))
    name_lines(ax, ends)
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
