"""Figures of mechanisms: RoPE's angles and scores, attention weights, the course of training."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.patches import Patch
from matplotlib.ticker import FuncFormatter, LogLocator, MaxNLocator, NullLocator

from lcbook.formats import Number, percent, short, tokens
from lcbook.models.positions import Scaling, rope_frequencies
from lcbook.plots._marks import below, mark_x, name_lines
from lcbook.plots._style import GREY, Look, color_bar, dress, looks, new, recall_axis, styled, token_axis


def phase_table(
    head_dim: int, base: Number, train_length: int, test_length: int, scaling: Scaling | None = None
) -> pd.DataFrame:
    """Return the turns that each of RoPE's pairs of channels makes: columns pair, trained, tested and unseen.

    `trained` and `tested` are the turns made over `train_length` and `test_length` tokens, `scaling` applied
    at test alone, and `unseen` is the share of the circle first met at test. Raises ValueError as
    `rope_frequencies`.
    """
    for name, length in (("train_length", train_length), ("test_length", test_length)):
        if length < 1:
            raise ValueError(f"{name} is {length}; allowed is 1 or more.")
    plain, _ = rope_frequencies(head_dim, float(base))
    scaled, _ = rope_frequencies(head_dim, float(base), scaling, length=test_length)
    trained = plain.double().numpy() * train_length / (2 * math.pi)
    tested = scaled.double().numpy() * test_length / (2 * math.pi)
    unseen = np.clip(np.minimum(tested, 1) - trained, 0, None)
    pair = np.arange(len(plain))
    return pd.DataFrame({"pair": pair, "trained": trained, "tested": tested, "unseen": unseen})


@styled
def phases(
    head_dim: int,
    base: Number,
    train_length: int,
    test_length: int,
    *,
    scaling: Scaling | None = None,
    ax: Axes | None = None,
) -> Axes:
    """Draw the angles each pair of RoPE's channels meets in training (solid) and first at test (hatched).

    Beyond one full turn the circle repeats (pale). Arguments and errors as for `phase_table`.
    """
    table = phase_table(head_dim, base, train_length, test_length, scaling)
    ax = new((6.4, 4.4)) if ax is None else ax
    dress(ax, "Angle (turns)", "Pair of channels, fast to slow", grid="x")
    left = 10.0 ** math.floor(math.log10(table["trained"].min()) - 0.3)
    ax.set_xscale("log")
    ax.set_xlim(left, 2 * max(table["tested"].max(), table["trained"].max(), 1.0))
    ax.set_ylim(len(table) - 0.4, -0.6)
    solid, again = "#0072b2", "#cfdde8"
    new_angle: dict[str, Any] = {"facecolor": "white", "edgecolor": "#d55e00", "hatch": "////"}
    first = np.minimum(table["trained"], 1)
    ax.barh(table["pair"], first - left, left=left, color=solid, height=0.8)
    reach = np.maximum(table["trained"], table["tested"])
    ax.barh(table["pair"], np.clip(reach - 1, 0, None), left=1, color=again, height=0.8)
    fresh = table[table["unseen"] > 0]
    ax.barh(fresh["pair"], fresh["unseen"], left=fresh["trained"], height=0.8, linewidth=0.6, **new_angle)
    mark_x(ax, 1, "one full turn")
    ax.xaxis.set_major_locator(LogLocator(numticks=6))
    ax.xaxis.set_minor_locator(NullLocator())
    ax.xaxis.set_major_formatter(
        FuncFormatter(lambda value, _: short(value) if value < 1e4 else f"{value:.0e}")
    )
    ax.yaxis.set_major_locator(MaxNLocator(6, integer=True))
    trained, tested = tokens(train_length), tokens(test_length)
    met = Patch(color=solid, label=f"met in {trained} tokens")
    unmet = Patch(label=f"first met by {tested}", **new_angle)
    below(ax, [met, unmet, Patch(color=again, label="circle repeats")])
    ax.set_label(
        f"{len(fresh)} of {len(table)} pairs of RoPE's channels (base {short(base)}) meet angles at "
        f"{tested} tokens that {trained} tokens of training never showed."
    )
    return ax


@styled
def attention_map(weights: Any, tokens: Sequence[str] | None = None, *, ax: Axes | None = None) -> Axes:
    """Draw attention weights [t, s], query down and key across, white for 0.

    `tokens` names the s keys; the t queries are the last t of them. ValueError for another shape or number of
    names.
    """
    w = np.asarray(weights.detach().cpu() if hasattr(weights, "detach") else weights, float)
    if w.ndim != 2 or not w.size:
        raise ValueError(f"weights has shape {w.shape}; allowed is [t, s] with at least one query and key.")
    if tokens is not None and len(tokens) != w.shape[1]:
        raise ValueError(f"tokens has {len(tokens)} names; allowed are {w.shape[1]}, one for each key.")
    ax = new((5.2, 4.4)) if ax is None else ax
    dress(ax, "Key", "Query", grid="")
    image = ax.imshow(
        w, cmap="Blues", vmin=0, vmax=max(1e-12, float(w.max())), interpolation="nearest", aspect="auto"
    )
    if tokens is None:
        ax.xaxis.set_major_locator(MaxNLocator(5, integer=True))
        ax.yaxis.set_major_locator(MaxNLocator(5, integer=True))
    else:
        step = -(-w.shape[1] // 24)
        at = np.arange(0, w.shape[1], step)
        ax.set_xticks(at, [tokens[i] for i in at], rotation=90 if max(map(len, tokens)) > 2 else 0)
        first = w.shape[1] - w.shape[0]
        ax.set_yticks(np.arange(0, w.shape[0], step), [tokens[first + i] for i in range(0, w.shape[0], step)])
    color_bar(ax, image, "Attention weight").locator = MaxNLocator(3)
    t, s = np.unravel_index(int(np.nanargmax(w)), w.shape)
    ax.set_label(
        f"Attention weights of {w.shape[0]} queries on {w.shape[1]} keys; "
        f"the largest, {w[t, s]:.2f}, is that of query {t} on key {s}."
    )
    return ax


@styled
def training_curve(
    recalls: Mapping[str, Sequence[Sequence[Number]]],
    *,
    window: int = 20,
    gate: Number = 0.99,
    chance: Number | None = None,
    ax: Axes | None = None,
) -> Axes:
    """Draw recall on fresh training batches, the mean of the last `window` updates, a line a seed.

    `recalls` has, for each arm, one sequence a seed with one recall an update (`Trained.recalls`). `gate` is
    the recall at which training counts as solved.
    """
    if not recalls or not all(len(seeds) and all(map(len, seeds)) for seeds in recalls.values()):
        raise ValueError("recalls has no arm, or a seed without recalls; allowed is one or more of each.")
    if window < 1:
        raise ValueError(f"window is {window}; allowed is 1 or more.")
    ax, look, ends, said = new() if ax is None else ax, looks(list(recalls)), [], []
    recall_axis(ax, {f"gate {percent(gate)}": gate} | ({} if chance is None else {"chance": chance}))
    dress(ax, "Update", "Recall in training")
    for arm, seeds in recalls.items():
        smooth = [pd.Series(s, dtype=float).rolling(window, min_periods=1).mean().to_numpy() for s in seeds]
        for line in smooth:
            updates = np.arange(1, len(line) + 1)
            ax.plot(updates, line, color=look[arm].color, linestyle=look[arm].line, lw=1.5, alpha=0.8)
            ax.plot(len(line), line[-1], look[arm].marker, color=look[arm].color, ms=6)
        longest = max(smooth, key=len)
        ends.append((arm, look[arm], float(len(longest)), float(longest[-1])))
        said.append(f"{arm} {percent(float(np.mean([line[-1] for line in smooth])))}")
    ax.set_xlim(left=0)
    ax.xaxis.set_major_locator(MaxNLocator(5, integer=True))
    name_lines(ax, ends)
    ax.set_label(
        f"Recall in training at the last update, mean over seeds: {', '.join(said)}; "
        f"the gate is {percent(gate)}."
    )
    return ax


@styled
def scores_by_distance(
    bases: Sequence[Number],
    head_dim: int,
    *,
    longest: int = 65_536,
    train_length: Number | None = None,
    ax: Axes | None = None,
) -> Axes:
    """Draw RoPE's score of a query and a key of equal content against their distance (tokens, log2), by base.

    The score is the mean over pairs of channels of cos(distance x angle): 1 at distance 0. Distances up to
    `longest`.
    """
    if not len(bases) or longest < 2:
        raise ValueError(
            f"bases is {bases} and longest is {longest}; allowed is a base or more, and longest >= 2."
        )
    ax, look, said = new() if ax is None else ax, looks(list(bases)), []
    distance = np.unique(np.geomspace(1, longest, 500).round())
    dress(ax, "Distance (tokens)", "Score of equal content")
    token_axis(ax, [2.0**i for i in range(math.floor(math.log2(longest)) + 1)])
    ends = []
    for base in bases:
        angle = rope_frequencies(head_dim, float(base))[0].double().numpy()
        score = np.cos(distance[:, None] * angle).mean(1)
        ax.plot(distance, score, color=look[base].color, lw=1, alpha=0.9)
        tail = score[distance > distance[-1] / 8].mean()
        ends.append((f"base {short(base)}", Look(look[base].color, ""), float(distance[-1]), float(tail)))
        said.append(f"base {short(base)} {tail:.2f}")
    ax.axhline(0, color=GREY, linewidth=0.8, zorder=1)
    if train_length is not None:
        mark_x(ax, train_length, "training length")
    name_lines(ax, ends)
    ax.set_label(
        f"RoPE's mean score of equal content over the longest distances, up to {tokens(longest)} tokens: "
        f"{', '.join(said)}."
    )
    return ax
