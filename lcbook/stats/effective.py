"""Effective length by several rules, with its interval, and how often a repeat would give another one.

A rule turns recall by length into one length. Those of the benchmarks answer with a tested length, and a longest
tested length that passes says only that the truth may lie beyond: it is censored "above", and "below" where no length
passes. Recalls are shares, so RULER's 85.6 is 0.856. Intervals hold the noise of the queries to one model. How many
samples a claim needs is counted in `samples`, whose names are part of this module's.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
import pandas as pd

from lcbook.stats.estimate import (
    Estimate,
    Number,
    Values,
    pooled_chance,
    require_columns,
    require_counts,
    require_share,
)
from lcbook.stats.n50 import n50, n50_point
from lcbook.stats.sample_size import (
    METHODS,
    lower_bound,
    more_samples,
    samples_for_perfect,
    samples_for_width,
    samples_to_tell,
)

__all__ = [
    "METHODS", "RULES", "curves", "effective_length", "effective_table", "first_failure", "flip_share", "half_recall",
    "last_success", "lower_bound", "more_samples", "octaves_apart", "over_curves", "repeat_spread", "repeats",
    "samples_for_perfect", "samples_for_width", "samples_to_tell", "share_of_base",
]  # fmt: skip

RULER = 0.856  # Llama 2 7B at 4K tokens: the level that RULER asks for (arXiv 2404.06654)
NOLIMA = 0.85  # the share of the base score that NoLiMa asks for (arXiv 2502.05167)
HALF = "half recall"

Rule = Callable[..., Any]


# ---- rules: lengths (L,) rising and scores (..., L) as shares, to a length (...), 0 where none passes


def last_success(lengths: Values, scores: Any, level: Number = RULER) -> Any:
    """Return the longest length with a score of `level` or more, whatever comes before it: RULER's rule.

    Raises ValueError unless `lengths` rise, each has a score, and scores and level are shares in [0, 1].
    """
    n, passed = _passed(lengths, scores, level)
    return _given((n * passed).max(-1))


def first_failure(lengths: Values, scores: Any, level: Number = RULER) -> Any:
    """Return the longest length before the first one with a score below `level`. ValueError as `last_success`."""
    n, passed = _passed(lengths, scores, level)
    return _given((n * np.logical_and.accumulate(passed, axis=-1)).max(-1))


def share_of_base(lengths: Values, scores: Any, share: Number = NOLIMA) -> Any:
    """Return the longest length with `share` of the score at the shortest length or more: NoLiMa's rule.

    NoLiMa takes as base the best score up to 1K tokens; here it is that at the shortest length, and no length passes
    where it is 0. ValueError as `last_success`.
    """
    base = np.asarray(scores, float)[..., :1]
    n, passed = _passed(lengths, scores, share, of=base)
    return _given((n * (passed & (base > 0))).max(-1))


def half_recall(lengths: Values, scores: Any, *, chance: Any = 0.0) -> Any:
    """Return n50, which interpolates in octaves: inf if above every tested length, 0 if below every one.

    The fit of `stats.n50` with equal weight on every length. ValueError as `last_success` and `stats.n50`.
    """
    _, _ = _passed(lengths, scores, 0)
    y = np.asarray(scores, float)
    return n50_point(lengths, y, np.ones_like(y), chance=chance, logistic=True)


RULES: dict[str, Rule] = {
    "RULER": last_success,
    "first failure": first_failure,
    "NoLiMa": share_of_base,
    HALF: half_recall,
}


def _passed(lengths: Values, scores: Any, level: Any, of: Any = 1.0) -> tuple[np.ndarray, np.ndarray]:
    """Return the lengths and, for each score, whether it is at least `level` of `of`."""
    n, y = np.asarray(lengths, float), np.asarray(scores, float)
    if n.ndim != 1 or not len(n) or not (n > 0).all() or not (np.diff(n) > 0).all():
        raise ValueError(f"lengths is {lengths}; allowed are positive lengths that rise.")
    if y.shape[-1:] != n.shape or not ((y >= 0) & (y <= 1)).all():
        raise ValueError(f"scores is {scores}; allowed is a share in [0, 1] for each of {len(n)} lengths.")
    if not 0 <= level <= 1:
        raise ValueError(f"level is {level}; allowed is a share in [0, 1].")
    return n, y >= level * of - 1e-12


def _given(found: Any) -> Any:
    return found if np.ndim(found) else float(found)


def _named(rule: str) -> Rule:
    if rule not in RULES:
        raise ValueError(f"rule is {rule!r}; allowed is one of {', '.join(RULES)}.")
    return RULES[rule]


# ---- the interval, and what a repeat would give


def effective_length(
    lengths: Values,
    correct: Values,
    total: Values,
    *,
    chance: Any = 0.0,
    rule: str = "RULER",
    confidence: Number = 0.95,
    draws: int = 4000,
    seed: int = 0,
) -> Estimate:
    """Return the effective length in tokens by a rule of RULES, with its interval.

    Counts of equal lengths are pooled. The interval is the percentile interval of the rule over `draws` curves, whose
    recall at each length comes from the Jeffreys posterior Beta(correct + 1/2, total - correct + 1/2); it always holds
    the value. It is censored "above" where it reaches the longest tested length, "below" where it reaches down to
    no length at all; the end is then the longest or the shortest tested. "half recall" is `stats.n50` with its profile
    interval, the only rule that reads `chance`. Raises ValueError for an unknown rule, for lengths or counts as
    `stats.n50`, a length without queries, or bad settings.
    """
    _named(rule)
    require_share("confidence", confidence)
    n, c, t = _pooled(lengths, correct, total)
    if rule == HALF:
        return n50(lengths, correct, total, chance=chance, confidence=confidence)
    if draws < 1:
        raise ValueError(f"draws is {draws}; allowed is 1 or more.")
    value = float(RULES[rule](n, c / t))
    rates = np.random.default_rng(seed).beta(c + 0.5, t - c + 0.5, size=(draws, len(n)))
    found, tail = RULES[rule](n, rates), (1 - confidence) / 2
    low = min(value, float(np.quantile(found, tail, method="lower")))
    high = max(value, float(np.quantile(found, 1 - tail, method="higher")))
    word = {(1, 0): "above", (0, 1): "below", (1, 1): "both"}.get((int(high >= n[-1]), int(low < n[0])))
    value, low, high = (max(x, float(n[0])) for x in (value, low, high))
    return Estimate(value, low, high, word)


def effective_table(
    frame: pd.DataFrame, by: str | Sequence[str] = "arm", *, rules: Sequence[str] = tuple(RULES)
) -> pd.DataFrame:
    """Return a row for each group and rule: `by`, rule, length, low, high (tokens), censored.

    `frame` has the columns length, correct, total and chance; all rows of a group at one length are pooled, so give a
    group for each model. Raises ValueError for missing columns, no rows, or as `effective_length`.
    """
    keys = [by] if isinstance(by, str) else list(by)
    require_columns(frame, [*keys, "length", "correct", "total", "chance"])
    rows = []
    for name, part in frame.groupby(keys, sort=False, dropna=False):
        for rule in rules:
            chance = float(np.average(part["chance"], weights=part["total"])) if part["total"].sum() else 0.0
            found = effective_length(part["length"], part["correct"], part["total"], chance=chance, rule=rule)
            rows.append((*name, rule, found.value, found.low, found.high, found.censored))
    table = pd.DataFrame(rows, columns=[*keys, "rule", "length", "low", "high", "censored"])
    words = table["censored"].astype(object)
    return table.assign(censored=words.where(words.notna(), None))


def repeats(
    lengths: Values,
    recall: Values,
    samples: int,
    *,
    rule: str = "RULER",
    chance: Number = 0.0,
    count: int = 4000,
    seed: int = 0,
) -> np.ndarray:
    """Return the effective lengths [count] that repeats of one evaluation give, `samples` queries at each length.

    `recall` is the true curve. 0 says that no length passed; "half recall" is kept within the tested lengths. Raises
    ValueError for an unknown rule, samples or count below 1, or as the rule.
    """
    made = _named(rule)
    if samples < 1 or count < 1:
        raise ValueError(f"samples is {samples} and count {count}; allowed is 1 or more.")
    n, _ = _passed(lengths, recall, 0)
    scores = (
        np.random.default_rng(seed).binomial(samples, np.asarray(recall, float), size=(count, len(n)))
        / samples
    )
    if rule == HALF:
        different, which = np.unique(scores, axis=0, return_inverse=True)  # few differ: each is fitted once
        return np.clip(made(lengths, different, chance=chance), n[0], n[-1])[which]
    return np.asarray(made(lengths, scores))


def flip_share(
    lengths: Values,
    recall: Values,
    samples: int,
    *,
    rule: str = "RULER",
    chance: Number = 0.0,
    count: int = 4000,
    seed: int = 0,
) -> float:
    """Return the probability that two runs of one evaluation give another effective length.

    Two lengths differ where they lie as far apart, in octaves, as the closest two tested lengths: for the rules that
    answer with a tested length any other one, none included; for "half recall" as large a step. Simulated by
    `repeats`, all pairs of them; its arguments and errors.
    """
    n = np.asarray(lengths, float)
    found = repeats(lengths, recall, samples, rule=rule, chance=chance, count=count, seed=seed)
    if count < 2 or len(n) < 2:
        raise ValueError(f"count is {count} and lengths is {lengths}; allowed are two or more of each.")
    step = float(np.diff(np.log2(n)).min())
    places = np.sort(np.log2(np.where(found > 0, found, n[0] / 2**step)))
    near = (
        np.searchsorted(places, places + step - 1e-9) - np.arange(count) - 1
    )  # later ones closer than a step
    return float(1 - near.sum() / (count * (count - 1) / 2))


def repeat_spread(
    lengths: Values,
    recall: Values,
    samples: int,
    *,
    rule: str = "RULER",
    chance: Number = 0.0,
    count: int = 4000,
    seed: int = 0,
) -> float:
    """Return the standard deviation, in octaves, of the effective lengths that repeats of one evaluation give.

    Beyond the tested lengths the nearest tested one counts. Arguments and errors as `repeats`.
    """
    found = repeats(lengths, recall, samples, rule=rule, chance=chance, count=count, seed=seed)
    return float(np.log2(np.clip(found, min(lengths), max(lengths))).std())


# ---- of each model in a frame


def curves(frame: pd.DataFrame, by: str = "seed") -> pd.DataFrame:
    """Return the recall, as a share, of each value of `by` (rows) at each length (columns), pooled over all else.

    Raises ValueError for missing columns or no rows.
    """
    require_columns(frame, [by, "length", "correct", "total"])
    sums = frame.groupby([by, "length"])[["correct", "total"]].sum()
    return (sums["correct"] / sums["total"]).unstack()


def over_curves(
    frame: pd.DataFrame, statistic: Callable[..., float], *, by: str = "seed", **settings: Any
) -> pd.Series:
    """Return `statistic(lengths, recall, chance=..., **settings)` for each value of `by`, such as `flip_share`.

    No values for no rows. Raises ValueError for missing columns.
    """
    if frame.empty:
        return pd.Series(name="value", dtype=float)
    require_columns(frame, ["chance", "total"])
    settings = {"chance": pooled_chance(frame), **settings}
    found = {
        unit: statistic(list(row.index), row.to_numpy(), **settings)
        for unit, row in curves(frame, by).iterrows()
    }
    return pd.Series(found, name="value").rename_axis(by)


def octaves_apart(frame: pd.DataFrame, by: str = "seed") -> pd.Series:
    """Return how many octaves lie between the shortest and the longest effective length by RULES, for each of `by`.

    Beyond the tested lengths the nearest tested one counts. No values for no rows. Raises ValueError for missing
    columns.
    """

    def apart(lengths: Values, recall: Values, chance: Number) -> float:
        found = [
            rule(lengths, recall, chance=chance) if name == HALF else rule(lengths, recall)
            for name, rule in RULES.items()
        ]
        ends = np.log2(np.clip(found, min(lengths), max(lengths)))
        return float(ends.max() - ends.min())

    return over_curves(frame, apart, by=by).rename("octaves")


def _pooled(lengths: Values, correct: Values, total: Values) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    n = np.asarray(lengths, float)
    c, t = require_counts(correct, total)
    if n.ndim != 1 or c.shape != n.shape or not len(n) or not (np.isfinite(n) & (n > 0)).all():
        raise ValueError(
            f"lengths has shape {n.shape}, counts {c.shape}; allowed are positive lengths with a count each."
        )
    unique, where = np.unique(n, return_inverse=True)
    pool = np.eye(len(unique))[where]
    if not (t @ pool > 0).all():
        raise ValueError(
            f"total is 0 at length {unique[np.argmin(t @ pool)]:g}; allowed is at least one query each."
        )
    return unique, c @ pool, t @ pool
