"""Statistics of states and hops: pairs held, heads that are missed, segments."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import replace
from typing import Any

import numpy as np
import pandas as pd

from lcbook.claims import effects
from lcbook.claims.effects import Effect
from lcbook.claims.rows import NoRowsError
from lcbook.stats.bootstrap import slope
from lcbook.stats.estimate import Number, require_columns
from lcbook.stats.intervals import Sample, sample
from lcbook.stats.n50 import n50_point


def pairs_held(rows: pd.DataFrame, rules: Sequence[str]) -> pd.DataFrame:
    """Return K50 [seed, (rule, state)]: the number of pairs of which half are recalled, corrected for chance.

    An arm is named by its rule and its keys, "additive, keys of 8"; its state has width x keys numbers. K50 lies
    between 1 and the largest load. Seeds that lack an arm are left out. Raises ValueError for missing columns, and
    NoRowsError where a rule of `rules`, or any seed with all arms, is missing.
    """
    load, key_dim = "asked.pairs", "model.mixer.key_dim"
    require_columns(rows, ["arm", "seed", "model.width", key_dim, load, "correct", "total", "chance"])
    named = rows.assign(rule=rows["arm"].str.split(", ").str[0], state=rows["model.width"] * rows[key_dim])
    table = named.groupby(["seed", "rule", "state", load])[["correct", "total"]].sum().unstack()
    loads = table["total"].columns.to_numpy(float)
    counts = (table[name].to_numpy(float) for name in ("correct", "total"))
    found = n50_point(loads, *counts, chance=rows["chance"].mean()).clip(1, loads[-1])
    held = pd.Series(found, table.index).unstack(["rule", "state"]).dropna()
    for rule in rules:
        if rule not in held.columns.get_level_values("rule"):
            raise NoRowsError(f"no rows of the rule {rule!r}")
    if held.empty:
        raise NoRowsError("no seed has every state")
    return held


def state_exponents(rows: pd.DataFrame, *, rules: Sequence[str]) -> dict[str, Sample]:
    """Return for each rule the exponent a of K50 ~ state^a of each seed: the slope of the logarithms.

    Columns and errors as `pairs_held`.
    """
    held = pairs_held(rows, rules)
    return {rule: _per_seed(held[rule], _exponents(held[rule])) for rule in rules}


def _exponents(held: pd.DataFrame) -> np.ndarray:
    logs = np.log(held.columns.to_numpy(float))
    return np.array([slope(logs, np.log(row)) for row in held.to_numpy(float)])


def state_ratio(rows: pd.DataFrame, *, rules: Sequence[str]) -> Sample:
    """Return K50 under the first of two rules over that under the second: the geometric mean over states, by seed.

    Columns and errors as `pairs_held`; only states that both rules have count.
    """
    held = pairs_held(rows, rules)
    octaves = np.log2(held[rules[0]]) - np.log2(held[rules[1]])
    return _per_seed(held, 2 ** octaves.mean(axis=1))


def state_filled(rows: pd.DataFrame, *, rules: Sequence[str], values: int, bits: Number) -> dict[Any, Sample]:
    """Return for each rule and state K50 in per cent of the pairs that its bits could tell apart, by seed.

    These are n with n log2(values) = numbers x bits. Columns and errors as `pairs_held`.
    """
    held = pairs_held(rows, rules)
    return {
        (rule, state): _per_seed(held, 100 * k50 * np.log2(values) / (state * bits))
        for (rule, state), k50 in held.items()
        if rule in rules
    }


def _per_seed(held: pd.DataFrame, numbers: Any) -> Sample:
    return sample(numbers, held.index.tolist())


def lost_without_head(rows: pd.DataFrame) -> Effect:
    """Return the recall lost without the head that is missed most, in points, in the layer where that is less.

    The mean over the seeds that `solved` the task, for what was not learned cannot be lost. A row holds the recall of a
    model without one head, `ablate.layer` naming its layer, or, where that is NaN, of the whole model. Raises
    ValueError for missing columns, and NoRowsError where no seed solved the task.
    """
    require_columns(rows, ["ablate.layer", "seed", "solved", "correct", "total"])
    able = rows.assign(recall=100 * rows["correct"] / rows["total"])[rows["solved"]]
    if able.empty:
        raise NoRowsError("no model solved the task")
    whole, silent = (able[able["ablate.layer"].isna() == one] for one in (True, False))
    least = silent.groupby(["seed", "ablate.layer"])["recall"].min().groupby("seed").max()
    lost = (whole.groupby("seed")["recall"].mean() - least).dropna()
    found = sample(lost, lost.index.tolist(), limits=(-100.0, 100.0))
    return replace(effects.effect("mean", [found]), learned=(len(lost), rows["seed"].nunique()))


NAMED: dict[str, Callable[..., Any]] = {
    one.__name__: one for one in (state_exponents, state_ratio, state_filled, lost_without_head)
}
