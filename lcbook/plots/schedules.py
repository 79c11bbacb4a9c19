"""Figures of schedules at work: the lengths of the updates, and the loss at each length while training goes on."""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.ticker import MaxNLocator

from lcbook.formats import short, tokens
from lcbook.plots._marks import legend, require_columns
from lcbook.plots._style import GREY, SMALL, dress, looks, new, styled

COLUMNS = ("arm", "seed", "update", "trained_at", "length", "loss", "chance")


@styled
def loss_by_length(
    table: pd.DataFrame, arm: str, *, ax: Sequence[Axes] | np.ndarray | None = None
) -> np.ndarray:
    """Draw one arm of `trace.traces`: above, the length of the updates; below, the loss on answers at each length.

    Lines are means over seeds, in nats; dotted, the loss of a guesser. The axes span all arms of `table`, so that
    pictures of several can be compared. Returns the two axes; `ax` gives them. Raises ValueError for missing columns,
    an arm that is not there, or another number of axes.
    """
    require_columns(table, COLUMNS)
    arms = list(table["arm"].unique())
    if arm not in arms:
        raise ValueError(f"arm is {arm!r}; allowed is one of {arms}.")
    ratios = {"height_ratios": (1, 2.2)}
    made = new((6.4, 4.6), nrows=2, sharex=True, gridspec_kw=ratios) if ax is None else ax
    axes = np.ravel(np.asarray(made, dtype=object))
    if len(axes) != 2:
        raise ValueError(f"ax has {len(axes)} axes; allowed are two, for lengths and loss.")
    top, bottom = axes
    mine, last = table[table["arm"] == arm], table["update"].max()
    guess = -math.log(float(mine["chance"].iloc[0]))
    first = mine[mine["seed"] == mine["seed"].iloc[0]].drop_duplicates("update")
    top.plot(first["update"], first["trained_at"], "o", ms=3.5, color=GREY)
    dress(top, "", "Tokens in a\nsequence")
    top.set_ylim(0, 1.1 * table["trained_at"].max())
    top.set_title(arm, fontsize=SMALL, loc="left")
    look = looks([tokens(n) for n in sorted(table["length"].unique())])
    said = []
    for n, part in mine.groupby("length"):
        line, one = part.groupby("update")["loss"].mean(), look[tokens(n)]
        bottom.plot(line.index, line, color=one.color, ls=one.line, lw=2)
        said.append(f"{line.iloc[-1]:.2f} at {tokens(n)} tokens")
    bottom.axhline(guess, color=GREY, lw=1.2, ls=":")
    bottom.annotate(
        "guessing", (last, guess), (0, 3), textcoords="offset points", ha="right", fontsize=SMALL, color=GREY
    )
    dress(bottom, "Update", "Loss on answers\n(nats)")
    bottom.set_ylim(0, 1.12 * max(guess, float(table["loss"].quantile(0.98))))
    bottom.set_xlim(0, last * 1.01)
    bottom.xaxis.set_major_locator(MaxNLocator(6, integer=True))
    legend(bottom, [(f"{name} tokens", one) for name, one in look.items()])
    trained = f"{short(first['trained_at'].min())} to {short(first['trained_at'].max())} tokens"
    top.set_label(f"Lengths of the updates under {arm}: {trained}.")
    bottom.set_label(
        f"Loss on answers after {short(last)} updates, guessing {guess:.2f} nats: {', '.join(said)}."
    )
    return axes
