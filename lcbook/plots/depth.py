"""Figures of what the training data asked for: recall by depth, and by the share of long documents."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.ticker import MaxNLocator

from lcbook.formats import Number, called, percent, spelled
from lcbook.plots._lines import (
    COUNTS,
    Panels,
    draw_lines,
    draw_seeds,
    name_lines,
    pair,
    require_one_probe,
    require_shares,
)
from lcbook.plots._style import dress, looks, percent_axis, styled
from lcbook.plots.recall import draw_recall, mean_losses
from lcbook.stats.estimate import require_columns

# ---- recall by depth


def bin_middles(depths: pd.Series) -> pd.Series:
    """Return depths to draw at: where they are 0, 1/n, ... (n - 1)/n, the middles of n equal bins, else as they are."""
    at = np.sort(depths.unique())
    edges = len(at) > 1 and np.allclose(at, np.arange(len(at)) / len(at))
    return depths + 0.5 / len(at) if edges else depths


@styled
def recall_by_depth(table: pd.DataFrame, *, hue: str = "arm", ax: Axes | None = None) -> Axes:
    """Draw recall against the needle's depth (column `depth`, 0 the start), a line and a 95 % band over seeds a `hue`.

    Depths 0, 1/n, ... (n - 1)/n are lower edges of n equal bins, and their points stand in the middle of each. Raises
    ValueError for missing columns, no rows, mixed probes, or depths outside [0, 1].
    """
    require_columns(table, (hue, "depth", *COUNTS))
    require_shares(table, "depth")
    middles = table.assign(depth=bin_middles(table["depth"]))
    ax, ends = draw_recall(ax, middles, "depth", hue, seeds=False, write=percent)
    dress(ax, "Depth of the needle (0 % is the start)", "Recall")
    percent_axis(ax.xaxis)
    name_lines(ax, ends)
    return ax


@styled
def depth_panels(
    table: pd.DataFrame,
    training: Mapping[Any, Sequence[Number]],
    *,
    hue: str = "arm",
    ax: Panels | None = None,
) -> np.ndarray:
    """Draw `recall_by_depth` and, below it, where asked needles lay in training, in multiples of the uniform share.

    `training` has for each `hue` the weights of equal bins of the context, () for uniform. Returns the two axes; `ax`
    gives them. Raises ValueError for weights that are negative or sum to 0, an arm without them, another number of
    axes, and as `recall_by_depth`.
    """
    require_columns(table, (hue, "depth", *COUNTS))
    arms = list(table[hue].unique())
    weights = {arm: np.asarray(training.get(arm, [-1.0]) or [1.0], float) for arm in arms}
    bad = [arm for arm, part in weights.items() if not ((part >= 0).all() and part.sum() > 0)]
    if bad:
        given = training.get(bad[0], "missing")
        raise ValueError(
            f"training of {bad[0]!r} is {given}; allowed are weights of 0 or more, some above 0."
        )
    ratios = {"height_ratios": (2.2, 1)}
    top, bottom = axes = pair(ax, "recall and training", (6.4, 5.2), nrows=2, sharex=True, gridspec_kw=ratios)
    look, said, most = looks(arms), [], 1.0
    for arm, part in weights.items():
        density = part / part.sum() * len(part)
        edges = np.linspace(0, 1, len(part) + 1)
        bottom.stairs(density, edges, color=look[arm].color, lw=2, baseline=None, ls=look[arm].line)
        most = max(most, float(density.max()))
        said.append(f"{called(hue, arm)} {density[0]:.2g} at the start and {density[-1]:.2g} at the end")
    dress(bottom, "Depth of the needle (0 % is the start)", "Asked for\n(uniform = 1)")
    bottom.set_ylim(0, 1.1 * most)
    bottom.yaxis.set_major_locator(MaxNLocator(3, integer=most >= 2))
    recall_by_depth(table, hue=hue, ax=top)
    top.set_xlabel("")
    bottom.set_label(
        f"Where asked needles lay in training, in multiples of the uniform share: {'; '.join(said)}."
    )
    return axes


# ---- the share of long documents


@styled
def share_curve(
    table: pd.DataFrame, *, x: str = "share", xlabel: str = "", ax: Panels | None = None
) -> np.ndarray:
    """Draw recall (above) and the short-context text_loss in nats a token (below) against a share `x` in [0, 1].

    Recall has the 95 % band of `stats.recall`, the loss Student's over seeds; each seed is drawn faintly. Returns the
    two axes; `ax` gives them. Raises ValueError for missing columns, no rows, mixed probes, a share outside [0, 1], no
    loss measured, or another number of axes.
    """
    require_columns(table, (x, "text_loss", *COUNTS))
    require_shares(table, x)
    table = table.assign(line="all")
    by, look = ["line", x], looks(["all"])
    lost = mean_losses(table, by, "text_loss")
    require_one_probe(table)
    top, bottom = axes = pair(ax, "recall and the loss", (6.4, 5.2), nrows=2, sharex=True)
    draw_recall(top, table, x, "line", write=percent)
    dress(top, "", "Recall")
    draw_seeds(
        bottom, table.groupby([*by, "seed"])["text_loss"].mean().reset_index(), x, "text_loss", "line", look
    )
    draw_lines(bottom, lost, x, "loss", "line", look)
    dress(bottom, xlabel or spelled(x), "Short-context loss\n(nats a token)")
    percent_axis(bottom.xaxis)
    bottom.yaxis.set_major_locator(MaxNLocator(4))
    lost = lost.sort_values(x)
    said = ", ".join(f"{lost['loss'].iloc[i]:.3f} at {percent(lost[x].iloc[i])}" for i in (0, -1))
    bottom.set_label(f"Short-context loss in nats a token against {(xlabel or spelled(x)).lower()}: {said}.")
    return axes
