"""Do benchmarks rank models alike? Kendall's tau with its interval, and the pairs of models that swap their order.

A tidy frame has a row or more for each model and benchmark: correct and total are pooled; where total is 0 or NaN the
mean of the column `score` (the higher the better, such as minus the loss) is taken instead, and is not redrawn.
"""

from __future__ import annotations

import itertools
import math
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np
import pandas as pd

from lcbook.stats.bootstrap import difference_of_shares, resampled_interval
from lcbook.stats.estimate import Estimate, Number, Values, require_columns, require_counts, require_share
from lcbook.stats.variance import variance_shares

__all__ = [
    "agreement", "benchmark_scores", "families", "kendall", "rank_table", "reversals", "tau_between_seeds",
    "tau_interval", "tau_table", "variance_shares",
]  # fmt: skip


Family = Mapping[Any, Any] | pd.Series | None  # that of each model; None: each is its own
Pooled = tuple[pd.DataFrame, pd.DataFrame, pd.DataFrame]  # scores, correct and total, models x benchmarks


def benchmark_scores(frame: pd.DataFrame, benchmarks: Mapping[str, str]) -> pd.DataFrame:
    """Return the tidy frame of this module from the table of a run: each arm is a model, each probe a benchmark.

    `benchmarks` names each probe, in the order of the benchmarks. Where a probe measured text_loss, that is the
    benchmark "text loss" as well, whose score is minus the loss. Raises ValueError for a probe without a name.
    """
    unnamed = sorted(set(frame["probe"]) - set(benchmarks))
    if unnamed:
        raise ValueError(f"benchmarks lacks {unnamed}; allowed is a name for each probe of the frame.")
    order = list(benchmarks.values())
    asked = frame.assign(model=frame["arm"], benchmark=frame["probe"].map(benchmarks), score=math.nan)
    told = asked[asked["text_loss"].notna()]
    told = told.assign(benchmark="text loss", correct=math.nan, total=0.0, score=-told["text_loss"])
    ranked = asked.sort_values("benchmark", key=lambda names: names.map(order.index), kind="stable")
    return pd.concat([ranked, told])


def kendall(a: Values, b: Values) -> float:
    """Return Kendall's tau-b between two lists of scores: 1 in the same order, -1 reversed, NaN where one is all ties.

    (agreeing - differing pairs) / sqrt(pairs untied in a x pairs untied in b). Source: Kendall 1945. Raises ValueError
    unless both are finite, of one length, and hold two values or more.
    """
    x, y = np.asarray(a, float), np.asarray(b, float)
    if x.shape != y.shape or x.ndim != 1 or len(x) < 2 or not (np.isfinite(x) & np.isfinite(y)).all():
        raise ValueError(
            f"a has shape {x.shape} and b {y.shape}; allowed are two finite lists of one length, 2 or more."
        )
    return float(_tau(x[None], y[None], np.ones((1, len(x))))[0])


def families(frame: pd.DataFrame, by: Sequence[str], kinds: Mapping[str, str]) -> pd.Series:
    """Return the family of each arm of a run: the arms that are alike in the columns `by`, in words.

    `kinds` says of what kind a value is, where several values count as one: {"delta rule": "recurrence"}. Raises
    ValueError for missing columns, no rows, or an arm of two families.
    """
    require_columns(frame, ["arm", *by])
    alike = frame[list(by)].astype(str).replace(dict(kinds)).agg(", ".join, axis=1)
    found = alike.groupby(frame["arm"], sort=False)
    if (several := found.nunique() > 1).any():
        arm = several.idxmax()
        raise ValueError(
            f"arm {arm!r} is of the families {list(found.get_group(arm).unique())}; allowed is one."
        )
    return found.first().rename("family")


def agreement(table: pd.DataFrame, a: str, b: str) -> pd.Series:
    """Return for each model how alike benchmarks `a` and `b` order it among the others: the tau-b of its own pairs.

    NaN where a benchmark tells it from no other model. `table` and errors as for `tau_interval`.
    """
    scores, _, _ = _pooled(table, (a, b))
    up, along = (np.sign(np.subtract.outer(x, x)) for x in (scores[a].to_numpy(), scores[b].to_numpy()))
    untied = (up**2).sum(1) * (along**2).sum(1)
    agreed = (up * along).sum(1) / np.sqrt(np.where(untied > 0, untied, math.nan))
    return pd.Series(agreed, scores.index, name="tau")


def tau_interval(
    table: pd.DataFrame,
    a: str,
    b: str,
    *,
    family: Family = None,
    resamples: int = 2000,
    seed: int = 0,
) -> Callable[[Number], Estimate]:
    """Return Kendall's tau-b between the rankings of the models by benchmarks `a` and `b`, at any confidence.

    `table` is a tidy frame (see the module) with the columns model, benchmark, and correct and total or score. The
    interval is the bootstrap's, as in `stats.bootstrap`: over families, all models of one together (`family` names
    that of each model; None: each is its own). A model drawn twice makes no pair with itself, and each resample draws
    every model's recall anew from its Jeffreys posterior. Noise in the scores draws tau towards 0, in the value and
    once more in the resamples. Raises ValueError for missing columns, fewer than three models, a model without a score
    or a family, an unknown benchmark, or bad settings.
    """
    return _tau_interval(_pooled(table, (a, b)), a, b, family, resamples, seed)


def _tau_interval(
    pooled: Pooled, a: str, b: str, family: Family, resamples: int, seed: int
) -> Callable[[Number], Estimate]:
    if resamples < 1:
        raise ValueError(f"resamples is {resamples}; allowed is 1 or more.")
    scores, correct, total = pooled
    if len(scores) < 3:
        raise ValueError(f"table has {len(scores)} models; allowed are 3 or more.")
    names = list(scores.index) if family is None else [family.get(model) for model in scores.index]
    if None in names:
        raise ValueError(f"family lacks {scores.index[names.index(None)]!r}; allowed is one for each model.")
    kin, found = pd.factorize(np.array(names, dtype=object))
    rng, units = np.random.default_rng(seed), len(found)
    drawn = rng.integers(units, size=(resamples, units))
    weight = np.stack([np.bincount(one, minlength=units) for one in drawn]).astype(float)[:, kin]
    x, y = (_redrawn(scores[one], correct[one], total[one], resamples, rng) for one in (a, b))
    taus = np.concatenate(
        [_tau(x[i : i + 500], y[i : i + 500], weight[i : i + 500]) for i in range(0, resamples, 500)]
    )
    point = kendall(scores[a], scores[b])

    def interval(confidence: Number = 0.95) -> Estimate:
        require_share("confidence", confidence)
        got = resampled_interval(point, taus, units, confidence, None)
        return got if math.isnan(point) else Estimate(point, max(got.low, -1.0), min(got.high, 1.0))

    return interval


def tau_table(
    table: pd.DataFrame,
    *,
    family: Family = None,
    resamples: int = 2000,
    seed: int = 0,
) -> pd.DataFrame:
    """Return a row for each pair of benchmarks: a, b, tau, low, high, models. Arguments as `tau_interval`."""
    _require(table)
    names = table["benchmark"].unique().tolist()
    if len(names) < 2:
        raise ValueError(f"table has the benchmarks {names}; allowed are two or more.")
    rows, pooled = [], _pooled(table, names)
    for a, b in itertools.combinations(names, 2):
        found = _tau_interval(pooled, a, b, family, resamples, seed)(0.95)
        rows.append((a, b, found.value, found.low, found.high, table["model"].nunique()))
    return pd.DataFrame(rows, columns=["a", "b", "tau", "low", "high", "models"])


def tau_between_seeds(frame: pd.DataFrame, benchmark: str) -> float:
    """Return Kendall's tau-b of a benchmark with itself, between the first two seeds of the models; NaN for one seed.

    `frame` is a tidy frame (see the module) with a column seed. Raises ValueError for an unknown benchmark or a model
    without a score.
    """
    seeds = np.sort(frame["seed"].unique())[:2]
    scores = [_pooled(frame[frame["seed"] == seed], (benchmark,))[0][benchmark] for seed in seeds]
    return kendall(scores[0], scores[1][scores[0].index]) if len(seeds) == 2 else math.nan


def rank_table(frame: pd.DataFrame) -> pd.DataFrame:
    """Return the rank of each model (rows) on each benchmark (columns), 1 the best; ties share the mean of their ranks.

    `frame` is a tidy frame (see the module). Raises ValueError for missing columns or a model without a score.
    """
    _require(frame)
    scores, _, _ = _pooled(frame, tuple(frame["benchmark"].unique()))
    return scores.rank(ascending=False, method="average")


def reversals(frame: pd.DataFrame, a: str, b: str) -> pd.DataFrame:
    """Return the pairs of models that swap their order: `first` is better on benchmark `a`, `second` on `b`.

    Columns first, second, then the difference first - second with its 95 % interval on each: difference_a, low_a,
    high_a, difference_b, low_b, high_b. A pair is listed only where neither interval holds 0; intervals are those of
    `stats.difference_of_shares`, for these models and the noise of their queries, not corrected for the number of
    pairs. A column `score` has no noise. Raises ValueError as `tau_interval`.
    """
    scores, correct, total = _pooled(frame, (a, b))
    rows = []
    for first, second in itertools.permutations(scores.index, 2):
        found = []
        for one in (a, b):
            ends = [(correct.loc[model, one], total.loc[model, one]) for model in (first, second)]
            if all(t > 0 for _, t in ends):
                got = difference_of_shares(*ends[0], *ends[1])
            else:
                gap = float(scores.loc[first, one] - scores.loc[second, one])
                got = Estimate(gap, gap, gap)
            found.append(got)
        if found[0].low > 0 > found[1].high:
            rows.append((first, second, *(x for e in found for x in (e.value, e.low, e.high))))
    columns = [f"{name}_{one}" for one in "ab" for name in ("difference", "low", "high")]
    return pd.DataFrame(rows, columns=["first", "second", *columns])


def _tau(x: np.ndarray, y: np.ndarray, weight: np.ndarray) -> np.ndarray:
    """Return tau-b of each row of scores; weight [rows, models] counts how often a model is there."""
    i, j = np.triu_indices(x.shape[-1], 1)
    pairs = weight[:, i] * weight[:, j]
    up, along = np.sign(x[:, i] - x[:, j]), np.sign(y[:, i] - y[:, j])
    untied = (pairs * up**2).sum(-1) * (pairs * along**2).sum(-1)
    return np.where(
        untied > 0, (pairs * up * along).sum(-1) / np.sqrt(np.where(untied > 0, untied, 1)), math.nan
    )


def _redrawn(scores: Any, correct: Any, total: Any, draws: int, rng: np.random.Generator) -> np.ndarray:
    """Return scores [draws, models]: a recall from its Jeffreys posterior, a score without counts as it is."""
    c, t = np.nan_to_num(correct.to_numpy(float)), np.nan_to_num(total.to_numpy(float))
    rates = rng.beta(c + 0.5, t - c + 0.5, size=(draws, len(t)))
    return np.where(t > 0, rates, scores.to_numpy(float))


def _require(frame: pd.DataFrame) -> None:
    require_columns(frame, ["model", "benchmark"])
    if "score" not in frame.columns and not {"correct", "total"} <= set(frame.columns):
        raise ValueError(
            f"frame has the columns {list(frame.columns)}; allowed is a frame with correct and total or score."
        )


def _pooled(frame: pd.DataFrame, benchmarks: Sequence[str]) -> Pooled:
    """Return scores, correct and total, models x benchmarks, in the order in which they first come."""
    _require(frame)
    for name in benchmarks:
        if not (frame["benchmark"] == name).any():
            known = ", ".join(map(repr, frame["benchmark"].unique()))
            raise ValueError(f"benchmark is {name!r}; allowed is one of {known}.")
    empty = {name: math.nan for name in ("correct", "total", "score") if name not in frame.columns}
    frame = frame.assign(**empty)
    counted = frame["total"] > 0
    require_counts(frame.loc[counted, "correct"], frame.loc[counted, "total"])
    by = frame.groupby(["model", "benchmark"], sort=False)
    order = {"index": frame["model"].unique(), "columns": list(dict.fromkeys(benchmarks))}
    correct, total, score = (by[name].sum(min_count=1).unstack() for name in ("correct", "total", "score"))
    score = by["score"].mean().unstack()
    correct, total, score = (one.reindex(**order) for one in (correct, total, score))
    mixed = (total > 0).any() & ~(total > 0).all()
    scores = (correct / total.where(total > 0)).fillna(score)
    for name in scores.columns:
        if scores[name].isna().any() or mixed[name]:
            kind = (
                "has counts for some models only"
                if mixed[name] and not scores[name].isna().any()
                else "lacks a score"
            )
            model = scores.index[scores[name].isna() if scores[name].isna().any() else ~(total[name] > 0)][0]
            raise ValueError(
                f"benchmark {name!r} {kind}: see model {model!r}; allowed is a score of one kind for each model."
            )
    return scores, correct, total
