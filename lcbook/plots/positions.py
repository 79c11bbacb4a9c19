"""Figures of mechanisms: the angles of RoPE."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.patches import Patch
from matplotlib.ticker import MaxNLocator

from lcbook.formats import Number, at_least, short, tokens
from lcbook.models.positions import Scaling, rope_frequencies
from lcbook.plots._lines import below, log_axis, mark_x
from lcbook.plots._style import dress, new, styled


def phase_table(
    head_dim: int, base: Number, train_length: int, test_length: int, scaling: Scaling | None = None
) -> pd.DataFrame:
    """Return the turns that each of RoPE's pairs of channels makes: columns pair, trained, tested and unseen.

    `trained` and `tested` are the turns made over `train_length` and `test_length` tokens, `scaling` applied
    at test alone, and `unseen` is the share of the circle first met at test. Raises ValueError as
    `rope_frequencies`.
    """
    at_least(1, train_length=train_length, test_length=test_length)
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
    log_axis(ax.xaxis, lambda value: short(value) if value < 1e4 else f"{value:.0e}", ticks=6)
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
