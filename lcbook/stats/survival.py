"""Survival analysis of training: after how many updates a seed leaves the plateau, with those that never did in it.

A seed that has not escaped when its budget ends is censored: it would have escaped later, or never. Dropping it would
make a slow arm look quick, and so would counting its budget as its time; a survival curve does neither. Here survival
is the share of seeds still on the plateau. Intervals are two-sided, and a seed is the unit of evidence.
"""

from __future__ import annotations

import math
import warnings
from collections.abc import Mapping
from typing import Any

import numpy as np
import pandas as pd
from scipy import stats as distributions

from lcbook.stats.estimate import Estimate, Number, Values, require_columns, require_share

COLUMNS = ["update", "at_risk", "escaped", "survival", "low", "high"]


def times(table: pd.DataFrame, by: str = "arm") -> dict[Any, tuple[np.ndarray, np.ndarray]]:
    """Return for each value of `by` the updates watched [seeds] and whether each seed escaped, bool [seeds].

    `table` is a tidy frame with the columns seed, updates and updates_to_gate (NaN: never); its many rows of a seed
    tell the same. Raises ValueError for missing columns, no rows, or a seed whose rows differ.
    """
    needed = [by, "seed", "updates", "updates_to_gate"]
    require_columns(table, needed)
    seeds = table[needed].drop_duplicates()
    twice = seeds[seeds.duplicated([by, "seed"])]
    if len(twice):
        value, seed = twice.iloc[0][[by, "seed"]]
        raise ValueError(
            f"updates has several values for seed {seed} of {by} {value!r}; allowed is one training a seed."
        )
    found = {}
    for value, part in seeds.groupby(by, sort=False):
        gate = part["updates_to_gate"].to_numpy(float)
        found[value] = np.where(np.isnan(gate), part["updates"].to_numpy(float), gate), ~np.isnan(gate)
    return found


def kaplan_meier(updates: Values, escaped: Values, *, confidence: Number = 0.95) -> pd.DataFrame:
    """Return the Kaplan-Meier estimate: a row at update 0 and at each update at which a seed escaped or was left.

    `updates` [seeds] is the update of the escape, or the last one watched where `escaped` [seeds] is False. Columns:
    update, at_risk (seeds on the plateau just before), escaped (of these, at that update), survival (share that stays
    on the plateau beyond it), low and high. The interval is pointwise: Greenwood's variance on the scale of
    log(-log(survival)), which stays in [0, 1] (Kalbfleisch & Prentice 1980, section 1.3). It is undefined at a survival
    of 1 or 0; there it is Clopper and Pearson's for none of the seeds at risk, or for all that have escaped. Raises
    ValueError for no seeds, unequal numbers of them, updates below 1, or a confidence outside (0, 1).
    """
    require_share("confidence", confidence)
    at, gone = _checked(updates, escaped)
    curve = distributions.ecdf(distributions.CensoredData(at[gone], right=at[~gone])).sf
    with warnings.catch_warnings(
        category=RuntimeWarning, action="ignore"
    ):  # undefined at a survival of 0 or 1
        ends = curve.confidence_interval(confidence, method="log-log")
    update, survival = curve.quantiles, curve.probabilities
    risk = (at[:, None] >= update).sum(0)
    events = ((at[:, None] == update) & gone[:, None]).sum(0)
    tail = (1 - confidence) / 2
    low = np.where(survival == 1, tail ** (1 / risk), ends.low.probabilities)
    high = np.where(survival == 1, 1.0, ends.high.probabilities)
    low = np.where(survival == 0, 0.0, low)
    high = np.where(survival == 0, 1 - tail ** (1 / max(events.sum(), 1)), high)
    start = (0.0, len(at), 0, 1.0, tail ** (1 / len(at)), 1.0)
    columns = zip(COLUMNS, start, (update, risk, events, survival, low, high), strict=True)
    return pd.DataFrame({name: np.append(first, rest) for name, first, rest in columns})


def horizon(groups: Mapping[Any, tuple[Values, Values]]) -> float:
    """Return the last update up to which every group's survival is known: to compare their restricted means.

    That is the shortest budget among the groups whose last seed was censored, or the last escape where none was.
    Raises ValueError for no groups, and as `kaplan_meier`.
    """
    if not groups:
        raise ValueError("groups is empty; allowed is one or more.")
    found = [_checked(*group) for group in groups.values()]
    budgets = [at.max() for at, gone in found if not gone[at == at.max()].all()]
    return float(min(budgets) if budgets else max(at.max() for at, _ in found))


def restricted_mean(
    updates: Values, escaped: Values, until: Number, *, confidence: Number = 0.95
) -> Estimate:
    """Return the mean of min(updates to the escape, `until`): the area under the survival curve (Irwin 1949).

    The interval is Student's t with Greenwood's variance of the area (Klein & Moeschberger 2003, section 4.5) times
    n / (n - 1), which without censoring is that of the plain mean; with one seed it is [0, until]. Raises ValueError as
    `kaplan_meier`, and for an `until` that is not above 0 or lies beyond what was watched.
    """
    value, error, freedom = _mean_and_error(updates, escaped, until)
    half = _t(freedom, confidence) * error if freedom else math.inf
    return Estimate(value, max(value - half, 0.0), min(value + half, float(until)))


def ratio_of_means(
    group: tuple[Values, Values],
    baseline: tuple[Values, Values],
    until: Number,
    *,
    confidence: Number = 0.95,
) -> Estimate:
    """Return the restricted mean of `group` over that of `baseline`: below 1 the group escapes sooner.

    Each is (updates, escaped). The interval is Student's t on the logarithms, by the delta method. Waits are skewed, so
    it has the degrees of freedom n - 1 of the smaller group, and is wider by n / (n - 1): both by simulation, without
    them its upper end is missed too often. It is censored "above"
    where no seed of the group escaped by `until`, "below" where none of the baseline did, since then the mean is no
    more than the budget. With one seed in either it is [0, inf], censored at both ends. Raises ValueError as
    `restricted_mean`.
    """
    (a, error_a, free_a), (b, error_b, free_b) = (_mean_and_error(*g, until) for g in (group, baseline))
    over, under = (not (_checked(*g)[1] & (_checked(*g)[0] <= until)).any() for g in (group, baseline))
    word = {(True, False): "above", (False, True): "below", (True, True): "both"}.get((over, under))
    ratio, va, vb = a / b, (error_a / a) ** 2, (error_b / b) ** 2
    if not (free_a and free_b):
        return Estimate(ratio, 0.0, math.inf, "both")
    if va + vb == 0:
        return Estimate(ratio, ratio, ratio, word)
    free = min(free_a, free_b)
    wide = math.exp(_t(free, confidence) * math.sqrt(va + vb) * (free + 1) / free)
    return Estimate(ratio, ratio / wide, ratio * wide, word)


def waits(table: pd.DataFrame) -> pd.DataFrame:
    """Return for each arm (rows) how many seeds passed the gate (passed of seeds) and the mean updates until they did.

    `updates` is the restricted mean up to the horizon of the arms, low and high its 95 % interval. Raises ValueError as
    `times`.
    """
    groups = times(table)
    until = horizon(groups)
    means = [restricted_mean(*group, until) for group in groups.values()]
    rows = [
        (int(past.sum()), len(past), mean.value, mean.low, mean.high)
        for (_, past), mean in zip(groups.values(), means, strict=True)
    ]
    return pd.DataFrame(rows, index=list(groups), columns=["passed", "seeds", "updates", "low", "high"])


def _checked(updates: Values, escaped: Values) -> tuple[np.ndarray, np.ndarray]:
    """Return both as arrays [seeds], float and bool, or raise ValueError."""
    at, flags = np.asarray(updates, float), np.asarray(escaped)
    if at.ndim != 1 or at.shape != flags.shape or not len(at):
        raise ValueError(
            f"updates has shape {at.shape}, escaped {flags.shape}; allowed are equal shapes (n,), n >= 1."
        )
    if (bad := at[~((at >= 1) & np.isfinite(at))]).size:
        raise ValueError(f"updates has {bad[0]:g}; allowed are finite numbers of 1 or more.")
    if not np.isin(flags, (0, 1)).all():
        raise ValueError(f"escaped is {flags.tolist()}; allowed are truth values.")
    return at, flags.astype(bool)


def _mean_and_error(updates: Values, escaped: Values, until: Number) -> tuple[float, float, int]:
    """Return the restricted mean, its standard error, and the degrees of freedom (seeds - 1)."""
    at, gone = _checked(updates, escaped)
    curve = kaplan_meier(at, gone)
    if not 0 < until or (until > at.max() and curve["survival"].iloc[-1] > 0):
        raise ValueError(f"until is {until}; allowed is above 0 up to {at.max():g}, the last update watched.")
    curve = curve[curve["update"] < until]
    areas = curve["survival"].to_numpy() * np.diff([*curve["update"], float(until)])
    after = areas[::-1].cumsum()[::-1]  # from each update on
    risk, events = curve["at_risk"].to_numpy(float), curve["escaped"].to_numpy(float)
    some = (events > 0) & (events < risk)
    variance = float((after[some] ** 2 * events[some] / (risk[some] * (risk[some] - events[some]))).sum())
    seeds = len(at)
    return float(areas.sum()), math.sqrt(variance * seeds / max(seeds - 1, 1)), seeds - 1


def _t(freedom: Number, confidence: Number) -> float:
    require_share("confidence", confidence)
    return float(distributions.t.ppf(0.5 + confidence / 2, freedom))
