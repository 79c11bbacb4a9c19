"""Statistics of softmax dilution: the slope of log odds, reach and plateaus of maps, what a forecast misses."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import replace
from typing import Any

import numpy as np
import pandas as pd
from scipy import stats as distributions

from lcbook.claims.effects import Effect
from lcbook.claims.rows import NoRowsError, n50, select
from lcbook.claims.training import past_gate
from lcbook.stats import intervals
from lcbook.stats.bootstrap import slope
from lcbook.stats.estimate import Estimate, Number
from lcbook.stats.intervals import Sample

RESAMPLES = 10_000  # of the seeds


def odds_slope(rows: pd.DataFrame) -> Sample:
    """Return the slope of the needle's log odds on log n of each seed, in nats per nat; one arm.

    Raises NoRowsError for a single length.
    """
    table = rows.pivot_table(index="seed", columns="length", values="log_odds").dropna()
    if table.shape[1] < 2:
        raise NoRowsError("there are fewer than two lengths")
    logs = np.log(table.columns.to_numpy(float))
    return intervals.sample([slope(logs, one) for one in table.to_numpy(float)], table.index.tolist())


def least_reach(rows: pd.DataFrame, *, arms: Sequence[str], over: str) -> Effect:
    """Return how many times further than `over` each of `arms` reaches, the least: a ratio of the medians of n50.

    Of the seeds that solved their task, each arm judged by itself. Where recall stays above one half the longest length
    counts. The dots are those of the arm that fewest seeds learned, of these the one that reaches least: the ratio at
    each seed that learned both.
    """
    solved = select(rows, {"solved": True})
    base = n50(select(solved, {"arm": over}))
    reached = {arm: n50(select(solved, {"arm": arm})) for arm in arms}

    def interval(confidence: float) -> Estimate:
        return intervals.smallest(
            reached, lambda one, c: intervals.ratio_of_medians(one, base, c), confidence
        )

    fewest = min(reached, key=lambda arm: (len(reached[arm].units), np.median(reached[arm].values)))
    a, b = (dict(zip(one.units, one.values, strict=True)) for one in (reached[fewest], base))
    tried = rows.loc[rows["arm"] == fewest, "seed"].nunique()
    return Effect(interval, {seed: a[seed] / b[seed] for seed in a if seed in b}, (len(a), tried))


def less_often(rows: pd.DataFrame, *, arms: Sequence[str], than: str) -> Effect:
    """Return by how much the share of seeds past the gate is smaller in `arms` than in `than`: the least difference.

    Each arm is judged by itself, as `training.past_gate`; the dots are those of the arm with the least.
    """
    each = {arm: past_gate(rows, arm=than, other=arm) for arm in arms}
    least = min(each.values(), key=lambda one: one.interval(0.95).value)
    return replace(
        least,
        interval=lambda confidence: intervals.smallest(each, lambda one, c: one.interval(c), confidence),
    )


def forecast_miss(rows: pd.DataFrame) -> Effect:
    """Return the mean absolute difference of predicted and measured recall in points, their seeds pooled.

    Over arms, tasks and lengths, each of which asked every seed equally often; seeds that lack one are left out. It is
    no mean over seeds, since a difference is pooled before its sign is dropped. By the triangle inequality it errs by
    no more than the mean absolute error of those pooled differences, whose quantile, from resampled seeds and widened
    from the normal to Student's t, is half the width of the interval. The dots are what each seed misses by itself.
    """
    missed = 100 * (rows["predicted"] / rows["asked"] - rows["correct"] / rows["total"])
    cells = [rows[name] for name in ("arm", "task", "length")]
    table = missed.groupby([rows["seed"], *cells]).mean().unstack(["arm", "task", "length"]).dropna()
    if table.empty:
        raise NoRowsError("no seed was measured everywhere")
    each, n = table.to_numpy(float), len(table)
    pooled = each.mean(0)
    value = float(np.abs(pooled).mean())
    drawn = np.random.default_rng(0).multinomial(n, np.full(n, 1 / n), size=RESAMPLES) / n
    errors = np.abs(drawn @ (each - pooled)).mean(1)

    def interval(confidence: Number) -> Estimate:
        if n == 1:
            return Estimate(value, 0.0, math.inf)
        end = 0.5 + float(confidence) / 2
        wider = distributions.t.ppf(end, n - 1) / distributions.norm.ppf(end) * math.sqrt(n / (n - 1))
        half = float(np.quantile(errors, float(confidence)) * wider)
        return Estimate(value, max(value - half, 0.0), value + half)

    return Effect(interval, dict(zip(table.index, np.abs(each).mean(1).tolist(), strict=True)))


NAMED: dict[str, Callable[..., Any]] = {
    one.__name__: one for one in (odds_slope, least_reach, less_often, forecast_miss)
}
