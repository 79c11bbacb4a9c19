"""What moves the score of one model: shares of the variance of recall by position, distractors, task and sampling."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

import numpy as np
import pandas as pd

from lcbook.stats.bootstrap import resampled_interval
from lcbook.stats.estimate import require_columns, require_counts

INTERACTION, SAMPLING = "interaction", "sampling"


def variance_shares(
    frame: pd.DataFrame,
    factors: Sequence[str],
    *,
    models: str | None = None,
    items: str | None = None,
    resamples: int = 2000,
    seed: int = 0,
) -> pd.DataFrame:
    """Return what shares of the variance of recall between cells come from each factor, interaction and sampling.

    A cell is a combination of values of the `factors`, all of which must be there, rows pooled: an analysis of variance
    of the cells' recalls, each cell with weight 1. Columns source, degrees, squares (sum of squares), eta2 (squares as
    a share of all), share, low, high. `share` has the noise of the queries taken off: with v the mean over cells of
    p (1 - p) / (total - 1) an effect of d degrees of freedom loses d v, and the row "sampling" gets what was taken. A
    share that would fall below 0 is 0. "interaction" is all that is not a main effect. Shares sum to 1.

    The 95 % interval: with `models`, a column that numbers trained models, the shares of each model whose cells differ
    are averaged and the models resampled, as in `stats.bootstrap`; with `items`, a column of items asked in every cell,
    items are resampled; else each cell's recall is redrawn from its Jeffreys posterior. The noise that resampling adds
    is taken off. Raises ValueError for missing columns, a factor with one value, a missing cell, or a cell of fewer
    than two queries.
    """
    if not factors or (models is not None and items is not None):
        raise ValueError(
            f"factors is {list(factors)} with models {models} and items {items}; allowed are one factor or more, and "
            "models or items, not both."
        )
    require_columns(
        frame, [*factors, *(name for name in (models, items) if name is not None), "correct", "total"]
    )
    if resamples < 1:
        raise ValueError(f"resamples is {resamples}; allowed is 1 or more.")
    require_counts(frame["correct"], frame["total"])
    rng = np.random.default_rng(seed)
    if models is not None:
        degrees, sums, noise, points, drawn, units = _over_models(frame, factors, models, resamples, rng)
    else:
        degrees, sums, noise, points, drawn, units = _over_items(frame, factors, items, resamples, rng)
    found = [resampled_interval(float(p), drawn[:, k], units, 0.95, None) for k, p in enumerate(points)]
    parts_of_all = np.append(sums, degrees.sum() * noise)
    return pd.DataFrame(
        {
            "source": [*factors, INTERACTION, SAMPLING],
            "degrees": [*map(int, degrees), int(degrees.sum())],
            "squares": parts_of_all,
            "eta2": parts_of_all / (parts_of_all[:-1].sum() or math.nan),
            "share": [e.value for e in found],
            "low": [max(e.low, 0.0) for e in found],
            "high": [min(e.high, 1.0) for e in found],
        }
    )


def shares_by_model(frame: pd.DataFrame, factors: Sequence[str], models: str) -> pd.DataFrame:
    """Return the shares of variance of each model (rows) by source (columns), as `variance_shares` averages them.

    Models whose cells are all alike have no shares and are left out. Raises ValueError as `variance_shares`.
    """
    require_columns(frame, [*factors, models, "correct", "total"])
    names, _, _, each, _ = _by_model(frame, factors, models)
    found = pd.DataFrame(each, index=names, columns=[*factors, INTERACTION, SAMPLING])
    return found.dropna().rename_axis(models)


# Degrees of freedom, sums of squares, noise, shares (sources,), resampled shares (resamples, sources), units resampled
Parts = tuple[np.ndarray, np.ndarray, float, np.ndarray, np.ndarray, int]


def _by_model(
    frame: pd.DataFrame, factors: Sequence[str], models: str
) -> tuple[list[Any], np.ndarray, np.ndarray, np.ndarray, np.ndarray]:
    """Return the models, and sums of squares, noise and shares of each, with the degrees of freedom (sources,)."""
    names, parts = zip(*((name, _cells(part, factors)) for name, part in frame.groupby(models)), strict=True)
    if len(parts) < 2:
        raise ValueError(f"models is {models!r}, which holds 1 model; allowed are two or more.")
    if len({c.shape for c, _ in parts}) > 1:
        raise ValueError(
            f"models is {models!r}, whose models have other cells; allowed are the same for each."
        )
    squares = np.stack([_squares(c / t, len(factors)) for c, t in parts])
    noise = np.array([_noise(c, t) for c, t in parts])
    degrees = _degrees(parts[0][0].shape)
    each = np.stack([_shares(s, degrees, v) for s, v in zip(squares, noise, strict=True)])
    return list(names), squares, noise, each, degrees


def _over_models(
    frame: pd.DataFrame, factors: Sequence[str], models: str, resamples: int, rng: np.random.Generator
) -> Parts:
    _, squares, noise, each, degrees = _by_model(frame, factors, models)
    told = each[np.isfinite(each).all(1)]  # a model whose cells are all alike has no shares
    each = told if len(told) else each
    drawn = each[rng.integers(len(each), size=(resamples, len(each)))].mean(1)
    return degrees, squares.mean(0), float(noise.mean()), each.mean(0), drawn, len(each)


def _over_items(
    frame: pd.DataFrame, factors: Sequence[str], items: str | None, resamples: int, rng: np.random.Generator
) -> Parts:
    c, t = _cells(frame, factors)
    degrees, sums, noise = _degrees(c.shape), _squares(c / t, len(factors)), _noise(c, t)
    fresh, units = _resampled(frame, factors, items, c, t, resamples, rng)
    again = _squares(fresh, len(factors))
    again -= again.mean(0) - sums  # the noise that resampling adds
    return degrees, sums, noise, _shares(sums, degrees, noise), _shares(again, degrees, noise), units


def _cells(frame: pd.DataFrame, factors: Sequence[str]) -> tuple[np.ndarray, np.ndarray]:
    """Return correct and total as arrays with an axis for each factor."""
    by = frame.groupby(list(factors))[["correct", "total"]].sum()
    levels = [frame[name].unique().tolist() for name in factors]
    for name, values in zip(factors, levels, strict=True):
        if len(values) < 2:
            raise ValueError(
                f"factors has {name!r} with the value {values[0]!r} alone; allowed are two or more values."
            )
    index = (
        pd.MultiIndex.from_product(levels, names=list(factors)) if len(factors) > 1 else pd.Index(levels[0])
    )
    full = by.reindex(index)
    if (short := ~(full["total"] > 1)).any():
        cell = np.atleast_1d(np.array(full.index, dtype=object)[np.argmax(short.to_numpy())])
        named = ", ".join(f"{name} {value}" for name, value in zip(factors, cell, strict=True))
        raise ValueError(
            f"frame has fewer than two queries at {named}; allowed is every combination with two or more."
        )
    shape = [len(values) for values in levels]
    return full["correct"].to_numpy(float).reshape(shape), full["total"].to_numpy(float).reshape(shape)


def _resampled(
    frame: pd.DataFrame,
    factors: Sequence[str],
    items: str | None,
    c: Any,
    t: Any,
    resamples: int,
    rng: np.random.Generator,
) -> tuple[np.ndarray, int]:
    """Return recalls [resamples, *cells] of resampled items or of the posterior, and the number of units."""
    if items is None:
        return rng.beta(c + 0.5, t - c + 0.5, size=(resamples, *c.shape)), 1
    names, where = np.unique(frame[items].to_numpy(), return_inverse=True)
    at = [pd.Categorical(frame[name], frame[name].unique()).codes for name in factors]
    counts = np.zeros((2, len(names), *c.shape))
    for row, column in enumerate(("correct", "total")):
        np.add.at(counts[row], (where, *at), frame[column].to_numpy(float))
    drawn = rng.integers(len(names), size=(resamples, len(names)))
    weight = np.stack([np.bincount(one, minlength=len(names)) for one in drawn])
    k, n = (np.tensordot(weight, one, 1) for one in counts)
    return np.where(n > 0, k / np.maximum(n, 1), c / t), len(names)


def _squares(y: np.ndarray, factors: int) -> np.ndarray:
    """Return the sums of squares (..., factors + 1) of each factor, the last axes of y, and of what remains."""
    axes = tuple(range(-factors, 0))
    y = y - y.mean(axes, keepdims=True)
    cells = math.prod(y.shape[-factors:])
    main = [(y.mean(tuple(o for o in axes if o != k)) ** 2).sum(-1) * (cells / y.shape[k]) for k in axes]
    rest = (y**2).sum(axes) - sum(main)
    return np.stack([*main, np.maximum(rest, 0)], axis=-1)


def _degrees(shape: Sequence[int]) -> np.ndarray:
    main = [n - 1 for n in shape]
    return np.array([*main, math.prod(shape) - 1 - sum(main)])


def _noise(c: np.ndarray, t: np.ndarray) -> float:
    """Return the mean sampling variance of a cell's recall, without bias."""
    return float((c / t * (1 - c / t) / (t - 1)).mean())


def _shares(squares: np.ndarray, degrees: np.ndarray, noise: float) -> np.ndarray:
    """Return the share of each effect, none below 0, and of sampling (last); NaN where all cells are alike."""
    all_ = squares.sum(-1, keepdims=True)
    real = np.maximum(squares - degrees * noise, 0) / np.where(all_ > 1e-12, all_, math.nan)
    real = real / np.maximum(real.sum(-1, keepdims=True), 1)
    return np.concatenate([real, 1 - real.sum(-1, keepdims=True)], axis=-1)
