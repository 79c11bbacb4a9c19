"""Timings: how seconds and bytes grow with the length, and how much faster one form is; intervals over rounds."""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np
import pandas as pd
from scipy import stats as distributions
from scipy.stats import mstats

from lcbook.stats.bootstrap import slope
from lcbook.stats.estimate import Estimate, Number, require_columns

TRIM = 0.2  # of the rounds, at either end, leaves a mean
Y = ("seconds", "peak_bytes")


def _slope_range(x: np.ndarray, y: np.ndarray) -> tuple[float, float, float]:
    """Return the least-squares slope, and the least and largest slope between neighbouring points."""
    between = np.diff(y) / np.diff(x)
    return slope(x, y), float(between.min()), float(between.max())


def _mean_interval(values: Sequence[float]) -> tuple[float, float, float]:
    """Return the mean without the fifth of the values at either end, and its 95 % interval, NaN below five values.

    A round that something else on the machine disturbed is left out, but widens the interval.
    Source: Tukey and McLaughlin 1963, Sankhya A 25, 331-352.
    """
    mean = float(distributions.trim_mean(values, TRIM))
    if len(values) < 1 / TRIM:
        return mean, math.nan, math.nan
    low, high = mstats.trimmed_mean_ci(np.asarray(values), limits=(TRIM, TRIM), alpha=0.05)
    return mean, float(low), float(high)


def exponents(frame: pd.DataFrame, y: str = "seconds", *, from_length: Number = 1) -> pd.DataFrame:
    """Return how each arm grows: columns arm, exponent, low, high, so that y is about length to the exponent.

    The exponent is the least-squares slope of log y on log length over the lengths from `from_length` on. Of seconds
    it is fitted in each round, and the interval is that of the trimmed mean over rounds (NaN below five); peak_bytes
    are the same in every round, and the interval runs from the least to the largest slope between neighbouring
    lengths. An arm with fewer than two such lengths has NaN. Raises ValueError for another y, missing columns, or if
    no arm has two such lengths.
    """
    if y not in Y:
        raise ValueError(f"y is {y!r}; allowed are {', '.join(map(repr, Y))}.")
    require_columns(frame, ("arm", "length", "seed", y))
    rows, upper = [], frame[frame["length"] >= from_length]
    for arm in frame["arm"].unique():
        part = upper[upper["arm"] == arm].sort_values(["seed", "length"])
        if part["length"].nunique() < 2:
            rows.append((arm, math.nan, math.nan, math.nan))
            continue
        logs = part.assign(x=np.log2(part["length"].to_numpy(float)), y=np.log2(part[y].to_numpy(float)))
        if y == "seconds":
            found = _mean_interval([slope(one["x"], one["y"]) for _, one in logs.groupby("seed")])
        else:
            once = logs.drop_duplicates("length")
            found = _slope_range(once["x"].to_numpy(), once["y"].to_numpy())
        rows.append((arm, *found))
    if all(math.isnan(row[1]) for row in rows):
        raise ValueError(f"from_length is {from_length}; allowed is a length that leaves an arm two lengths.")
    return pd.DataFrame(rows, columns=["arm", "exponent", "low", "high"])


def exponent(frame: pd.DataFrame, arm: str, y: str = "seconds", *, from_length: Number = 1) -> Estimate:
    """Return how one arm grows with its interval, as `exponents`; NaN where it has fewer than two such lengths.

    Raises ValueError as `exponents` for another y or missing columns.
    """
    rows = frame[(frame["arm"] == arm) & (frame["length"] >= from_length)]
    if rows["length"].nunique() < 2:
        return Estimate(math.nan, math.nan, math.nan)
    return Estimate(*exponents(rows, y)[["exponent", "low", "high"]].to_numpy()[0])


def speedup(frame: pd.DataFrame, arm: str, over: str, length: int) -> Estimate:
    """Return how many times as long `over` takes as `arm` at `length`: above 1, `arm` is the faster.

    The ratio is paired by round; the value is the geometric mean over rounds, without the fifth of them at either end,
    with the 95 % interval of its logarithm (NaN below five rounds). Raises ValueError for missing columns, or if an
    arm was not timed at `length`.
    """
    require_columns(frame, ("arm", "length", "seed", "seconds"))
    here = frame[frame["length"] == length].set_index("seed")
    one, other = (here["seconds"][here["arm"] == name] for name in (arm, over))
    for name, found in ((arm, one), (over, other)):
        if not len(found):
            timed = sorted(frame["length"][frame["arm"] == name].unique().tolist())
            raise ValueError(f"{name!r} was not timed at length {length}; allowed are its lengths {timed}.")
    ratios = (other / one).dropna().to_numpy(float)
    value, low, high = (math.exp(x) for x in _mean_interval(np.log(ratios).tolist()))
    return Estimate(value, low, high)
