"""A figure of recall at neighbouring lengths, a token or a few apart."""

from __future__ import annotations

import numpy as np
import pandas as pd
from matplotlib.axes import Axes

from lcbook import stats
from lcbook.formats import Number, called, percent, tokens
from lcbook.plots._marks import COUNTS, draw_line, legend, require_columns, require_one_probe
from lcbook.plots._style import PALE, dress, looks, new, recall_axis, styled


@styled
def recall_at_each_length(
    frame: pd.DataFrame, *, hue: str = "arm", mark: Number, period: Number, ax: Axes | None = None
) -> Axes:
    """Draw recall against length on a linear axis of tokens, a line for each value of `hue`, with 95 % Wilson bands.

    `mark` is a length to be named, and a faint line stands every `period` tokens from it. `frame` has the columns
    length, `hue`, correct, total and chance. Raises ValueError for missing columns, no rows, mixed probes, a period
    that is not positive, or a mark outside the lengths.
    """
    require_columns(frame, ("length", hue, *COUNTS))
    require_one_probe(frame)
    least, most = int(frame["length"].min()), int(frame["length"].max())
    if not (period > 0 and least <= mark <= most):
        raise ValueError(
            f"period is {period} and mark {mark}; allowed are a period above 0 and a mark from {least} to {most}."
        )
    ax = new() if ax is None else ax
    dress(ax, "Length (tokens)", "Recall")
    for at in mark + period * np.arange(
        np.ceil((least - mark) / period), np.floor((most - mark) / period) + 1
    ):
        ax.axvline(at, color=PALE, lw=1, zorder=1)
    look, said = looks(list(frame[hue].unique())), []
    for value, part in frame.groupby(hue, sort=False):
        table = part.groupby("length")[["correct", "total"]].sum().reset_index()
        table["recall"] = table["correct"] / table["total"]
        table["low"], table["high"] = stats.wilson(table["correct"].to_numpy(), table["total"].to_numpy())
        draw_line(ax, table, "length", "recall", look[value])
        ends = f"{percent(table['recall'].min())} to {percent(table['recall'].max())}"
        said.append(f"{called(hue, value)} from {ends}")
    recall_axis(ax, {"chance": float(np.average(frame["chance"], weights=frame["total"]))})
    ax.set_title(f"grey: every {period:.2f} tokens from {tokens(mark)}", loc="left")
    legend(ax, [(called(hue, value), one) for value, one in look.items()])
    ax.set_label(f"Recall by exact length from {least} to {most} tokens: {'; '.join(said)}.")
    return ax
