"""Statistics of costs and patterns: growth with the length, speed, reach, selection, and what exact forms change."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np
import pandas as pd

from lcbook.claims import rows as of
from lcbook.claims.effects import Effect, spread
from lcbook.claims.rows import NoRowsError
from lcbook.stats import intervals
from lcbook.stats.bootstrap import slope
from lcbook.stats.estimate import Estimate
from lcbook.stats.intervals import Sample, sample

MOST = 16.0  # of a ratio that a confidence set is searched in, to either side of 0


def growth(rows: pd.DataFrame, *, y: str = "seconds") -> Sample:
    """Return for each round the exponent a of y ~ length^a: the least-squares slope of log y on log length."""
    found = {}
    for turn, part in rows.groupby("seed"):
        if part["length"].nunique() < 2:
            raise NoRowsError(f"round {turn} has a single length")
        found[turn] = slope(np.log2(part["length"].to_numpy(float)), np.log2(part[y].to_numpy(float)))
    return sample(list(found.values()), list(found))


def growth_range(rows: pd.DataFrame, *, y: str) -> Effect:
    """Return the exponent of what is the same in every round, with the range of slopes between neighbouring lengths."""
    means = rows.groupby("length")[y].mean()
    if len(means) < 2:
        raise NoRowsError("a single length was measured")
    x, z = np.log2(means.index.to_numpy(float)), np.log2(means.to_numpy(float))
    between = np.diff(z) / np.diff(x)
    whole = slope(x, z)
    pairs = [f"{a:,.0f} to {b:,.0f}" for a, b in zip(means.index, means.index[1:], strict=False)]
    return spread(
        Estimate(whole, float(min(*between, whole)), float(max(*between, whole))),
        dict(zip(pairs, between.tolist(), strict=True)),
    )


def ratio(rows: pd.DataFrame, *, one: str, other: str, column: str = "seconds") -> Sample:
    """Return for each round a column of arm `one` over that of arm `other`."""
    table = rows[rows["arm"].isin([one, other])].pivot_table(index="seed", columns="arm", values=column)
    if not {one, other} <= set(table.columns):
        raise NoRowsError(f"one of {one!r} and {other!r} was not measured")
    table = table.dropna()
    return sample((table[one] / table[other]).tolist(), table.index.tolist())


def beyond_reach(rows: pd.DataFrame) -> dict[str, Sample]:
    """Return for each arm the recall, in points above chance, of needles that stacked windows cannot reach.

    Layers l of windows w reach l (w - 1) + 1 tokens back.
    """
    reach = rows["model.layers"] * (rows["model.pattern.window"] - 1) + 1
    beyond = rows[rows["gap"] > reach]
    return {
        str(arm): of.contrast(part, [(1.0, {})], scale=100.0, less=100 * float(part["chance"].iloc[0]))
        for arm, part in beyond.groupby("arm", sort=False)
    }


def used_reach(rows: pd.DataFrame) -> Sample:
    """Return for each seed the gap up to which more than half is recalled, over the largest even one in reach."""
    layers, window = (rows[name].iloc[0] for name in ("model.layers", "model.pattern.window"))
    most = (layers * (window - 1) + 1) // 2 * 2
    sums = rows.groupby(["seed", "gap"])[["correct", "total"]].sum().unstack(fill_value=0)
    correct, total = sums["correct"].to_numpy(float), sums["total"].to_numpy(float)
    gaps = sums["total"].columns.to_numpy(float)
    held = np.logical_and.accumulate((correct > total / 2) | (total == 0), axis=1) & (total > 0)
    return sample((gaps * held).max(1) / most, sums.index.tolist())


def leads(rows: pd.DataFrame, *, one: str, besides: Sequence[str]) -> dict[str, Sample]:
    """Return by how many points arm `one` recalls more than each other arm that is not in `besides`."""
    of.select(rows, {"arm": one})
    others = [arm for arm in rows["arm"].unique() if arm != one and arm not in besides]
    return {
        arm: of.contrast(rows, [(1.0, {"arm": one}), (-1.0, {"arm": arm})], scale=100.0) for arm in others
    }


def selection_miss(rows: pd.DataFrame) -> dict[str, Sample]:
    """Return how far recall lies above, and below, what the kept needles predict, in points, by probe and length.

    Predicted is that every kept needle (column selected) is answered and every lost one guessed.
    """
    guessed = rows["chance"] * (rows["total"] - rows["selected"])
    miss = 100 * (rows["correct"] - rows["selected"] - guessed) / rows["total"]
    found = {}
    for (probe, length), part in miss.groupby([rows["probe"], rows["length"]], sort=False):
        by_seed = part.groupby(rows["seed"]).mean()
        for side, sign in (("above", 1), ("below", -1)):
            found[f"{probe} at {length}, {side}"] = sample((sign * by_seed).tolist(), by_seed.index.tolist())
    return found


def restored(rows: pd.DataFrame, *, some: str, none: str, every: str) -> Effect:
    """Return which share of the difference in recall of arm `every` to arm `none` arm `some` has.

    The interval holds each share r for which recall of `some` less that of `none` is not shown to differ from r times
    the whole difference (Fieller 1954).
    """

    def gap(share: float) -> Sample:
        terms: list[tuple[float, Mapping[str, Any]]] = [
            (1.0, {"arm": some}),
            (share - 1.0, {"arm": none}),
            (-share, {"arm": every}),
        ]
        return of.contrast(rows, terms)

    def interval(confidence: float) -> Estimate:
        here, there = (float(gap(share).values.mean()) for share in (0.0, 1.0))
        if here == there:
            return intervals.UNMEASURED
        value = here / (here - there)
        low = _root(lambda share: intervals.mean(gap(share), confidence).lower, value, -MOST)
        high = _root(lambda share: intervals.mean(gap(share), confidence).upper, value, MOST)
        return Estimate(value, low, high)

    part, whole = (
        of.contrast(rows, [(1.0, {"arm": arm}), (-1.0, {"arm": none})]).values for arm in (some, every)
    )
    units = gap(0.0).units
    shares = {unit: a / b for unit, a, b in zip(units, part, whole, strict=True) if b}
    return Effect(interval, shares, gap(0.5).learned)


def _root(ends: Callable[[float], float], inside: float, outside: float) -> float:
    """Return where an end of an interval crosses 0 between `inside`, where it has not, and `outside`; else infinity."""
    wanted = np.sign(inside - outside)
    if np.sign(ends(outside)) != wanted:
        return float(np.copysign(np.inf, outside))
    for _ in range(30):
        middle = (inside + outside) / 2
        inside, outside = (inside, middle) if np.sign(ends(middle)) == wanted else (middle, outside)
    return inside


def changed_most(rows: pd.DataFrame) -> Sample:
    """Return for each seed the share of answers, in per cent, that the probe which changes most of them changes."""
    sums = rows.groupby(["seed", "probe"])[["changed", "total"]].sum()
    shares = (100 * sums["changed"] / sums["total"]).groupby("seed").max()
    return sample(shares.tolist(), shares.index.tolist(), limits=(0.0, 100.0))


def largest_seen(rows: pd.DataFrame, *, column: str) -> Effect:
    """Return the largest value of a column that was seen, and the largest in each seed; it has no interval."""
    dots = rows.groupby("seed")[column].max()
    most = float(dots.max())
    return spread(Estimate(most, most, most), {seed: float(value) for seed, value in dots.items()})


NAMED: dict[str, Callable[..., Any]] = {
    one.__name__: one
    for one in (
        growth, growth_range, ratio, beyond_reach, used_reach, leads, selection_miss, restored, changed_most,
        largest_seen,
    )
}  # fmt: skip
