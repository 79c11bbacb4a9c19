"""Statistics over seeds: the bootstrap, n50 and recall of a tidy frame, and the tests that the claims use.

Counts are queries answered; a seed is one trained model and the unit of evidence. Intervals are two-sided.
`Estimate`, `wilson`, `p_solve`, `n50` and `n50_point` come from the modules below and are part of this one's names.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Sequence
from dataclasses import replace
from typing import Any

import numpy as np
import pandas as pd
from scipy import stats as distributions

from lcbook.stats.estimate import (
    Estimate,
    Number,
    Values,
    p_solve,
    require_columns,
    require_counts,
    require_share,
    wilson,
)
from lcbook.stats.n50 import is_logistic, n50, n50_ends, n50_point

__all__ = [
    "Estimate", "Number", "Values", "bootstrap", "holm", "median_n50", "n50", "n50_point", "n50_table",
    "p_solve", "recall", "slope", "tost", "wilson",
]  # fmt: skip

MOST_ROWS = 10_000  # of resampled frames made at once: more no longer fit a cache

# Resampling over seeds


def resampled_interval(
    point: Number, values: np.ndarray, units: int, confidence: Number, limits: tuple[Number, Number] | None
) -> Estimate:
    """Return the expanded percentile interval of resampled `values`, clipped and marked at `limits`.

    With few units plain percentiles are too narrow (their spread is that of n, not n - 1, and normal, not t),
    so these are Hesterberg's (arXiv 1411.5279). A resample without a value (NaN) counts against both ends,
    and the interval always holds `point`.
    """
    if math.isnan(point):
        return Estimate(math.nan, math.nan, math.nan)
    tail = (1 - confidence) / 2
    if units > 1:
        tail = distributions.norm.cdf(math.sqrt(units / (units - 1)) * distributions.t.ppf(tail, units - 1))
    low = np.quantile(np.where(np.isnan(values), -np.inf, values), tail, method="lower")
    high = np.quantile(np.where(np.isnan(values), np.inf, values), 1 - tail, method="higher")
    least, most = limits or (-math.inf, math.inf)
    ends = np.clip([min(low, point), point, max(high, point)], least, most)
    word = {(1, 0): "above", (0, 1): "below", (1, 1): "both"}.get(
        (int(ends[2] >= most), int(ends[0] <= least))
    )
    return Estimate(float(ends[1]), float(ends[0]), float(ends[2]), word)


def bootstrap(
    frame: pd.DataFrame,
    statistic: Callable[[pd.DataFrame], Any],
    *,
    unit: str = "seed",
    resamples: int = 1000,
    confidence: Number = 0.95,
    seed: int = 0,
    limits: tuple[Number, Number] | None = None,
) -> Estimate:
    """Return `statistic(frame)` with its interval from a hierarchical bootstrap, seeds first, then sequences.

    Each resample draws seeds with replacement, all rows of a seed together, so that arms stay paired; a seed
    drawn twice comes as two seeds, numbered from 0. Where the frame has `correct` and `total`, each row's
    `correct` is drawn anew as total x rate with the rate from the Jeffreys posterior Beta(correct + 1/2,
    total - correct + 1/2): 100 of 100 keeps its uncertainty. Without counts, resamples of the same seeds are
    one and `statistic`, which must not hang on the order of the seeds, is asked once for all of them.
    `limits` are the least and greatest value that could have been measured, in units of the statistic: an
    interval that reaches one is clipped and censored there, and so is an infinite end. The same `seed` gives
    the same interval. Raises ValueError for missing columns, no rows, or bad settings.
    """
    require_share("confidence", confidence)
    require_columns(frame, [unit])
    if resamples < 1:
        raise ValueError(f"resamples is {resamples}; allowed is 1 or more.")
    rng, groups = np.random.default_rng(seed), list(frame.groupby(unit).indices.values())
    drawn, again = rng.integers(len(groups), size=(resamples, len(groups))), np.arange(resamples)
    if {"correct", "total"} <= set(frame.columns):
        require_counts(frame["correct"], frame["total"])
    else:
        drawn, again = np.unique(np.sort(drawn, axis=1), axis=0, return_inverse=True)
    texts = [name for name, kind in frame.dtypes.items() if isinstance(kind, pd.StringDtype)]
    plain = frame.astype(dict.fromkeys(texts, object))  # in few blocks, which are quick to take rows from
    few = max(1, MOST_ROWS // len(frame))
    chunks = (drawn[i : i + few] for i in range(0, len(drawn), few))
    parts = (part for chunk in chunks for part in _resampled(plain, unit, groups, chunk, rng))
    values = np.array([float(statistic(part)) for part in parts])
    return resampled_interval(float(statistic(frame)), values[again.ravel()], len(groups), confidence, limits)


def _resampled(
    frame: pd.DataFrame, unit: str, groups: Sequence[np.ndarray], drawn: np.ndarray, rng: np.random.Generator
) -> Iterator[pd.DataFrame]:
    """Yield the frame of each resample in `drawn` [resamples, units], all of them cut from one."""
    rows = [np.concatenate([groups[j] for j in one]) for one in drawn]
    numbers = [np.repeat(np.arange(len(one)), [len(groups[j]) for j in one]) for one in drawn]
    everything = frame.take(np.concatenate(rows))
    fresh: dict[str, Any] = {unit: np.concatenate(numbers)}
    if {"correct", "total"} <= set(frame.columns):
        c, t = (everything[name].to_numpy(float) for name in ("correct", "total"))
        fresh["correct"] = t * rng.beta(c + 0.5, t - c + 0.5)
    everything = everything.assign(**fresh).copy()
    for one, end in zip(rows, np.cumsum([len(one) for one in rows]), strict=True):
        part = everything.iloc[end - len(one) : end]
        part.index = pd.RangeIndex(len(one))
        yield part


def _require(frame: pd.DataFrame, columns: Sequence[str]) -> None:
    """Raise ValueError as `require_columns`, or if the frame mixes probes that would be pooled."""
    require_columns(frame, columns)
    if "probe" in frame.columns and "probe" not in columns and frame["probe"].nunique() > 1:
        raise ValueError(
            f"frame mixes the probes {list(frame['probe'].unique())}; select one, or group by probe."
        )


def _table(part: pd.DataFrame, x: str = "length", by: str = "seed") -> tuple[np.ndarray, ...]:
    """Pool all rows of a seed and length: lengths (L,), chance (L,), correct (seeds, L) and total (seeds, L).

    `x` and `by` are other columns in the place of length and seed.
    """
    lengths, column = np.unique(part[x].to_numpy(), return_inverse=True)
    seeds, row = np.unique(part[by].to_numpy(), return_inverse=True)
    cell, shape = row * len(lengths) + column, (len(seeds), len(lengths))

    def pooled(values: np.ndarray) -> np.ndarray:
        return np.bincount(cell, values, minlength=shape[0] * shape[1]).reshape(shape)

    correct, total, chance = (part[name].to_numpy(float) for name in ("correct", "total", "chance"))
    chance = pooled(chance * total).sum(0) / np.maximum(pooled(total).sum(0), 1)
    return lengths.astype(float), chance, pooled(correct), pooled(total)


def _middle(n50s: np.ndarray, lengths: np.ndarray) -> np.ndarray:
    """Return the median over the last axis, in octaves; half below and half above gives the middle length.

    NaN where one is NaN.
    """
    ranked, seeds = np.sort(n50s, axis=-1), n50s.shape[-1]
    one, two = ranked[..., (seeds - 1) // 2], ranked[..., seeds // 2]
    split = (one == 0) & np.isinf(two)
    middle = np.sqrt(np.where(split, 1, one)) * np.sqrt(two)
    middle = np.where(split, math.sqrt(lengths[0] * lengths[-1]), middle)
    return np.where(np.isnan(n50s).any(-1), math.nan, middle)


def median_n50(frame: pd.DataFrame) -> float:
    """Return the median over seeds of n50 in tokens, gaps pooled: a statistic for `bootstrap`.

    inf or 0 where the median seed lies above or below every tested length. Unsolved seeds stay in. Raises
    ValueError for missing columns (seed, length, correct, total, chance), mixed probes, or a single length.
    """
    _require(frame, ["seed", "length", "correct", "total", "chance"])
    lengths, chance, correct, total = _table(frame)
    return float(_middle(n50_point(lengths, correct, total, chance=chance), lengths))


def n50_table(
    frame: pd.DataFrame, by: str | Sequence[str] = "arm", *, resamples: int = 1000, seed: int = 0
) -> pd.DataFrame:
    """Return one row per group: `by`, n50, low, high (tokens), censored, seeds, p_solve.

    n50 is that of each seed (`n50_point`) with the gaps pooled; the value is the median over seeds, unsolved ones
    included. The interval is the hierarchical bootstrap's (see `bootstrap`), joined with the medians of the least and
    the most that each seed's can be between two tested lengths (`n50_ends`). p_solve is NaN without a column `solved`.
    Raises ValueError as `median_n50`.
    """
    keys = [by] if isinstance(by, str) else list(by)
    _require(frame, [*keys, "seed", "length", "correct", "total", "chance"])
    rows = []
    for name, part in frame.groupby(keys, sort=False, dropna=False):
        rng = np.random.default_rng(seed)
        lengths, chance, correct, total = _table(part)
        logistic = is_logistic(lengths, correct, total, chance=chance)
        point = _middle(n50_point(lengths, correct, total, chance=chance, logistic=logistic), lengths)
        pool = min(resamples, 200)  # posterior draws of the counts per seed, from which the resamples choose
        rates = rng.beta(correct + 0.5, total - correct + 0.5, size=(pool, *correct.shape))
        totals = np.broadcast_to(total, rates.shape)
        fits = n50_point(lengths, total * rates, totals, chance=chance, logistic=logistic)
        seeds = len(correct)
        drawn = rng.integers(pool, size=(resamples, seeds)), rng.integers(seeds, size=(resamples, seeds))
        limits = float(lengths[0]), float(lengths[-1])
        found = resampled_interval(float(point), _middle(fits[drawn], lengths), seeds, 0.95, limits)
        ends = _middle(n50_ends(lengths, correct, total, chance=chance), lengths).clip(*limits)
        found = replace(found, low=min(found.low, ends[0]), high=max(found.high, ends[1]))
        solved = part.groupby("seed")["solved"].all().mean() if "solved" in part.columns else math.nan
        rows.append((*name, found.value, found.low, found.high, found.censored, seeds, solved))
    table = pd.DataFrame(rows, columns=[*keys, "n50", "low", "high", "censored", "seeds", "p_solve"])
    words = table["censored"].astype(object)
    return table.assign(censored=words.where(words.notna(), None))


def recall(
    frame: pd.DataFrame, by: str | Sequence[str], *, resamples: int = 1000, seed: int = 0
) -> pd.DataFrame:
    """Return one row per group: `by`, correct, total, recall, low, high, seeds.

    With one seed in a group the interval is Wilson's. With several it is the hierarchical bootstrap's over
    seeds (see `bootstrap`), since queries to one trained model are not independent evidence. Raises
    ValueError for missing columns (seed, correct, total), mixed probes, or a group without queries.
    """
    keys = [by] if isinstance(by, str) else list(by)
    _require(frame, [*keys, "seed", "correct", "total"])
    rows = []
    for name, part in frame.groupby(keys, sort=False, dropna=False):
        pooled = part.groupby("seed")[["correct", "total"]].sum()
        c, t = require_counts(pooled["correct"], pooled["total"])
        if not t.sum():
            raise ValueError(f"total is 0 for {name}; allowed is at least one query in each group.")
        value = c.sum() / t.sum()
        low, high = wilson(c.sum(), t.sum())
        if len(c) > 1:
            rng = np.random.default_rng(seed)
            drawn = rng.integers(len(c), size=(resamples, len(c)))
            hits = t[drawn] * rng.beta(c[drawn] + 0.5, t[drawn] - c[drawn] + 0.5)
            found = resampled_interval(value, hits.sum(-1) / t[drawn].sum(-1), len(c), 0.95, None)
            low, high = found.low, found.high
        rows.append((*name, c.sum(), t.sum(), value, low, high, len(c)))
    return pd.DataFrame(rows, columns=[*keys, "correct", "total", "recall", "low", "high", "seeds"])


# Tests


def slope(x: Values, y: Values) -> float:
    """Return the least-squares slope of y on x.

    ValueError unless there are two different x. A statistic: bootstrap it.
    """
    a, b = np.asarray(x, float), np.asarray(y, float)
    if a.shape != b.shape or a.ndim != 1 or len(np.unique(a)) < 2:
        raise ValueError(
            f"x has shape {a.shape}, y {b.shape}; allowed are equal shapes (n,), two different x."
        )
    return float(((a - a.mean()) * (b - b.mean())).sum() / ((a - a.mean()) ** 2).sum())


def difference_of_shares(
    successes_a: Number, n_a: Number, successes_b: Number, n_b: Number, *, confidence: Number = 0.95
) -> Estimate:
    """Return share a minus share b with its interval, from Wilson's of each: 8/8 against 0/8 is 1 [0.54, 1] at 95 %.

    Source: Newcombe 1998, method 10. ValueError as `wilson`, and for no trials.
    """
    require_counts([successes_a, successes_b], [n_a, n_b])
    if not n_a or not n_b:
        raise ValueError(f"n_a is {n_a} and n_b {n_b}; allowed is 1 or more each.")
    a, b = successes_a / n_a, successes_b / n_b
    (low_a, high_a), (low_b, high_b) = (
        wilson(k, n, confidence) for k, n in ((successes_a, n_a), (successes_b, n_b))
    )
    return Estimate(
        a - b, a - b - math.hypot(a - low_a, high_b - b), a - b + math.hypot(high_a - a, b - low_b)
    )


def holm(pvalues: Values) -> np.ndarray:
    """Return p-values adjusted for multiple tests by Holm 1979, in the given order.

    ValueError outside [0, 1].
    """
    p = np.asarray(pvalues, float)
    if not ((p >= 0) & (p <= 1)).all():
        raise ValueError(f"pvalues is {pvalues}; allowed are values in [0, 1].")
    order = np.argsort(p)
    adjusted = np.empty_like(p)
    adjusted[order] = np.minimum(np.maximum.accumulate(p[order] * np.arange(len(p), 0, -1)), 1.0)
    return adjusted


def tost(differences: Values, margin: Number) -> float:
    """Return the p of two one-sided t tests that the mean paired difference lies within +- margin.

    A small p says "no difference that matters". `differences` holds one value per seed, in the unit of
    `margin`. Source: Schuirmann 1987. Raises ValueError for fewer than two differences or a margin <= 0.
    """
    d = np.asarray(differences, float)
    if d.ndim != 1 or len(d) < 2 or not np.isfinite(d).all() or not margin > 0:
        given = f"{len(np.atleast_1d(d))} differences with margin {margin}"
        raise ValueError(
            f"differences is {given}; allowed are two or more finite values and a margin above 0."
        )
    error = d.std(ddof=1) / math.sqrt(len(d))
    nearest = margin - abs(d.mean())
    if error == 0:
        return 0.0 if nearest > 0 else 1.0
    return float(distributions.t.sf(nearest / error, len(d) - 1))
