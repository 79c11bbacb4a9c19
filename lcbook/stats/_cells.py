"""Statistics of the cells of a frame, on arrays: for claims, whose statistic the bootstrap asks a thousand times."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import pandas as pd

from lcbook.stats.bootstrap import _require, _table
from lcbook.stats.estimate import require_columns
from lcbook.stats.n50 import n50_point


def matching(frame: pd.DataFrame, where: Mapping[str, Any]) -> np.ndarray:
    """Return in which rows [rows] every column that `where` names has its value, bool.

    Raises ValueError for a column that is not there.
    """
    missing = [name for name in where if name not in frame.columns]
    if missing:
        raise ValueError(
            f"where names {missing}; allowed are columns of the frame: {', '.join(frame.columns)}."
        )
    rows = np.ones(len(frame), bool)
    for name, value in where.items():
        rows &= frame[name].to_numpy() == value
    return rows


def _by_depth(frame: pd.DataFrame, where: Mapping[str, Any]) -> np.ndarray:
    """Return the recall in per cent at each depth, in ascending order, of the rows that match."""
    rows = matching(frame, where)
    depths, cell = np.unique(frame["depth"].to_numpy()[rows], return_inverse=True)
    correct, total = (
        np.bincount(cell, frame[name].to_numpy(float)[rows], len(depths)) for name in ("correct", "total")
    )
    return 100 * correct / total


def tilt(frame: pd.DataFrame, **where: Any) -> float:
    """Return the recall in the last tenth of the depth minus that in the first, in points.

    Of the rows whose columns `where` have these values; NaN unless all ten tenths are there. A model that forgets the
    beginning is positive. Raises ValueError for a column that is not there.
    """
    found = _by_depth(frame, where)
    return float(found[-1] - found[0]) if len(found) == 10 else math.nan


def bend(frame: pd.DataFrame, **where: Any) -> float:
    """Return the mean recall in both outer tenths of the depth minus that in the two middle ones, in points.

    NaN and `where` as in `tilt`. A model that forgets the middle is positive.
    """
    found = _by_depth(frame, where)
    return float(found[[0, -1]].mean() - found[[4, 5]].mean()) if len(found) == 10 else math.nan


def _means(
    frame: pd.DataFrame, value: str, by: Sequence[str], logs: bool
) -> tuple[list[np.ndarray], np.ndarray]:
    """Return the values of each column `by`, and the mean of `value` (or its log2) in each cell [*by], or NaN."""
    require_columns(frame, [*by, value])
    levels, codes = zip(*(np.unique(frame[name].to_numpy(), return_inverse=True) for name in by), strict=True)
    shape = [len(found) for found in levels]
    numbers = frame[value].to_numpy(float)
    cell = np.ravel_multi_index(codes, shape)
    sums = np.bincount(cell, np.log2(numbers) if logs else numbers, math.prod(shape))
    rows = np.bincount(cell, minlength=math.prod(shape))
    means = np.divide(sums, rows, out=np.full(len(sums), math.nan), where=rows > 0)
    return list(levels), means.reshape(shape)


def geometric_ratio(frame: pd.DataFrame, value: str, over: Mapping[str, tuple[Any, Any]], by: str) -> float:
    """Return how many times as large a column is in one arm as in another: geometric means, first over rows.

    `over` names a column and two of its values, the one and the other: {"rule": ("delta rule", "additive")}. The ratios
    at the values of `by` where both were measured count alike; NaN if there are none. Raises ValueError for missing
    columns or no rows.
    """
    ((column, (one, other)),) = over.items()
    (names, _), means = _means(frame, value, [column, by], logs=True)
    found = dict(zip(names, means, strict=True))
    if one not in found or other not in found:
        return math.nan
    octaves = found[one] - found[other]
    there = np.isfinite(octaves)
    return float(2 ** octaves[there].mean()) if there.any() else math.nan


def recalls(frame: pd.DataFrame, by: str = "arm") -> dict[Any, float]:
    """Return the recall in per cent of each arm, or value of another column: its rows pooled, as they come.

    Raises KeyError for a missing column (`by`, correct, total).
    """
    at, names = pd.factorize(frame[by].to_numpy())
    correct, total = (np.bincount(at, frame[name].to_numpy(float)) for name in ("correct", "total"))
    return dict(zip(names.tolist(), (100 * correct / total).tolist(), strict=True))


def crossings(frame: pd.DataFrame, x: str, by: str) -> pd.Series:
    """Return where recall, corrected for chance, crosses one half as column `x` grows, for each value of `by`.

    Fitted as n50, and clipped to the least and greatest `x`. Raises ValueError for missing columns (also chance,
    correct, total), mixed probes unless by probe, or a single `x`.
    """
    _require(frame, [x, by, "correct", "total", "chance"])
    at, chance, correct, total = _table(frame, x, by)
    found = n50_point(at, correct, total, chance=chance).clip(at[0], at[-1])
    return pd.Series(found, index=pd.Index(np.unique(frame[by].to_numpy()), name=by), name=x)


def used_reach(frame: pd.DataFrame) -> float:
    """Return which share of its reach one arm uses: the gap up to which more than half is recalled, over the reach.

    The gap is the median over seeds, and the largest even gap within column `reach` counts as all of it. Raises
    ValueError for missing columns (seed, gap, reach, correct, total, chance), no rows, or mixed probes.
    """
    _require(frame, ["seed", "gap", "reach", "correct", "total", "chance"])
    gaps, _, correct, total = _table(frame, "gap")
    held = np.logical_and.accumulate((correct > total / 2) | (total == 0), axis=1) & (total > 0)
    return float(np.median((gaps * held).max(1)) / (frame["reach"].iloc[0] // 2 * 2))


def selection_miss(frame: pd.DataFrame) -> float:
    """Return the largest difference between recall and what the kept needles predict, in points.

    Over arms and lengths; predicted is that every kept needle is answered and every lost one guessed. Columns arm,
    length, right, selected, asked (counts of the same questions) and chance; raises ValueError without them or rows.
    """
    require_columns(frame, ["arm", "length", "right", "selected", "asked", "chance"])
    arm, length = (pd.factorize(frame[name].to_numpy())[0] for name in ("arm", "length"))
    cell = np.unique(arm * (length.max() + 1) + length, return_inverse=True)[1]
    right, kept, asked = (
        np.bincount(cell, frame[name].to_numpy(float)) for name in ("right", "selected", "asked")
    )
    predicted = kept + frame["chance"].iloc[0] * (asked - kept)
    return float(100 * np.abs((right - predicted) / asked).max())
