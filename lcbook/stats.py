"""Estimates and their intervals: Wilson, n50, the bootstrap over seeds, and the tests that the claims use.

Counts are queries answered; a seed is one trained model and the unit of evidence. Intervals are two-sided.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import pandas as pd
from scipy import special
from scipy import stats as distributions

CENSORINGS = (None, "above", "below", "both")
# Slopes b that n50 considers: the shallowest in nats an octave; the steepest, from one tested length to the
# next, for the point estimate (beyond it the lengths cannot tell two slopes apart) and for the interval.
SHALLOWEST, RESOLVED, STEEPEST = 1e-4, 16.0, 256.0
MARGIN = 0.02  # octaves by which an end may pass the tested lengths before it counts as censored

Number = float | int | np.number
Values = np.ndarray | Sequence[Any] | pd.Series


@dataclass(frozen=True)
class Estimate:
    """A number with its interval, both in the unit of the quantity.

    `censored` says which end lies outside what was measured: "above" (the truth may be larger than `high`,
    and is at least `value` where `value` equals `high`), "below", "both", or None. Raises ValueError for
    another word, or if `value` lies outside its interval.
    """

    value: Number
    low: Number
    high: Number
    censored: str | None = None

    def __post_init__(self) -> None:
        if self.censored not in CENSORINGS:
            raise ValueError(f"censored is {self.censored!r}; allowed are None, 'above', 'below' and 'both'.")
        if self.low > self.value or self.value > self.high:
            interval = f"[{self.low}, {self.high}]"
            raise ValueError(f"value is {self.value} in {interval}; allowed is low <= value <= high.")

    @property
    def lower(self) -> float:
        """The end that a verdict may rely on: `low`, or minus infinity where it is censored."""
        return -math.inf if self.censored in ("below", "both") else float(self.low)

    @property
    def upper(self) -> float:
        """The end that a verdict may rely on: `high`, or infinity where it is censored."""
        return math.inf if self.censored in ("above", "both") else float(self.high)

    def __str__(self) -> str:
        """Return "12.3 [10.1, 15.0]": two digits of the interval's width, and ≥ or ≤ at a censored end."""
        finite = [float(x) for x in (self.low, self.value, self.high) if math.isfinite(x)]
        spread = max(finite) - min(finite) if finite else 0.0
        scale = spread or abs(finite[0] if finite else 0.0) / 10 or 1.0
        whole = all(x == round(x) for x in finite)
        decimals = 0 if whole else min(max(1 - math.floor(math.log10(scale)), 0), 6)
        low, value, high = (_number(float(x), decimals) for x in (self.low, self.value, self.high))
        at_most = "≤ " if self.lower == -math.inf < self.low else ""
        at_least = "≥ " if self.upper == math.inf > self.high else ""
        sign = at_least if self.value >= self.high else at_most if self.value <= self.low else ""
        if self.censored and self.low == self.high:
            return f"{sign or at_most}{value}"
        return f"{sign}{value} [{at_most}{low}, {at_least}{high}]"


def _number(x: float, decimals: int) -> str:
    """Return x in plain digits; whole numbers from 1000 up, grouped by a narrow space from 10 000 up."""
    if not math.isfinite(x):
        return "undefined" if math.isnan(x) else "∞" if x > 0 else "-∞"
    text = f"{x:,.0f}" if abs(x) >= 1000 else f"{x:.{decimals}f}"
    text = text[1:] if text.startswith("-") and not text.strip("-0.") else text
    return text.replace(",", "" if abs(x) < 9999.5 else "\u202f")


def _share(name: str, value: Number) -> None:
    if not 0 < value < 1:
        raise ValueError(f"{name} is {value}; allowed is a share between 0 and 1.")


def _counts(correct: Any, total: Any) -> tuple[np.ndarray, np.ndarray]:
    """Return both as float arrays of one shape; ValueError unless 0 <= correct <= total everywhere."""
    c, t = np.broadcast_arrays(np.asarray(correct, float), np.asarray(total, float))
    bad = np.flatnonzero(~((c >= 0) & (c <= t)))
    if len(bad):
        raise ValueError(
            f"correct is {c.flat[bad[0]]:g} of {t.flat[bad[0]]:g}; allowed is 0 <= correct <= total."
        )
    return c, t


def wilson(successes: Any, trials: Any, confidence: Number = 0.95) -> tuple[Any, Any]:
    """Return Wilson's score interval (low, high) of a rate, for scalars or elementwise for arrays.

    10 out of 10 gives [0.72, 1]. No trials give [0, 1]. Source: Wilson 1927. Raises ValueError unless
    0 <= successes <= trials and 0 < confidence < 1.
    """
    _share("confidence", confidence)
    k, n = _counts(successes, trials)
    z2 = distributions.norm.ppf(0.5 + confidence / 2) ** 2
    center = (k + z2 / 2) / (n + z2)
    half = np.sqrt(z2 * (np.where(n > 0, k * (n - k) / np.maximum(n, 1), 0) + z2 / 4)) / (n + z2)
    low = np.maximum(center - half, 0.0)
    high = np.where(k == n, 1.0, np.minimum(center + half, 1.0))
    return (low, high) if low.ndim else (float(low), float(high))


def p_solve(solved: Values) -> Estimate:
    """Return the share of seeds that passed the gate, with its Wilson interval.

    ValueError if there is no seed.
    """
    flags = np.asarray(solved, bool)
    if not flags.size:
        raise ValueError("solved is empty; allowed is one truth value per seed, at least one.")
    low, high = wilson(int(flags.sum()), flags.size)
    return Estimate(float(flags.mean()), low, high)


# n50: correct ~ Binomial(total, chance + (1 - chance) sigmoid(b (m - log2 n))), b >= 0, n50 = 2^m


def _log_likelihood(eta: np.ndarray, chance: np.ndarray, c: np.ndarray, t: np.ndarray) -> np.ndarray:
    """Return the binomial log-likelihood, summed over the last axis (lengths). Shapes broadcast."""
    with np.errstate(divide="ignore"):
        log_hit = np.logaddexp(np.log(chance), np.log1p(-chance) + special.log_expit(eta))
    log_miss = np.log1p(-chance) + special.log_expit(-eta)
    return (c * log_hit + (t - c) * log_miss).sum(-1)


def _start(
    x: np.ndarray, chance: np.ndarray, c: np.ndarray, t: np.ndarray, steepest: float
) -> tuple[Any, Any]:
    """Return the best (m, b) of a coarse grid for each replicate; c, t (replicates, lengths)."""
    span = x[-1] - x[0]
    beyond = span * np.geomspace(0.05, 50, 9)
    middles = np.concatenate([x[0] - beyond[::-1], np.linspace(x[0], x[-1], 4 * len(x) + 1), x[-1] + beyond])
    m, b = (g.ravel() for g in np.meshgrid(middles, np.geomspace(0.01 / span, steepest, 14)))
    eta = b[:, None] * (m[:, None] - x)
    with np.errstate(divide="ignore"):
        hit = np.logaddexp(np.log(chance), np.log1p(-chance) + special.log_expit(eta))
    miss = np.log1p(-chance) + special.log_expit(-eta)
    miss_t, gain = miss.T, (hit - miss).T
    parts = (slice(i, i + 2000) for i in range(0, len(c), 2000))
    best = np.concatenate([np.argmax(c[part] @ gain + t[part] @ miss_t, axis=-1) for part in parts])
    return m[best], b[best]


def _fit(x: np.ndarray, chance: np.ndarray, c: np.ndarray, t: np.ndarray, rounds: int = 40) -> np.ndarray:
    """Return the maximum-likelihood m of each replicate: damped Fisher scoring from the grid's best."""
    steepest = RESOLVED / np.diff(x).min()
    center, b = _start(x, chance, c, t, steepest)
    u, beta = np.zeros(len(c)), np.log(b)
    limits = math.log(SHALLOWEST), math.log(steepest)

    def eta_at(u: np.ndarray, beta: np.ndarray) -> np.ndarray:
        return u[:, None] + np.exp(beta)[:, None] * (center[:, None] - x)

    damping, best = np.full(len(c), 1e-3), _log_likelihood(eta_at(u, beta), chance, c, t)
    for _ in range(rounds):
        eta = eta_at(u, beta)
        rise = (1 - chance) * special.expit(eta) * special.expit(-eta)
        p, q = chance + (1 - chance) * special.expit(eta), (1 - chance) * special.expit(-eta)
        slope = (c * q - (t - c) * p) * rise / np.maximum(p * q, 1e-300)
        weight = t * rise**2 / np.maximum(p * q, 1e-300)
        tilt = eta - u[:, None]  # d eta / d beta
        gu, gb = slope.sum(-1), (slope * tilt).sum(-1)
        huu, hub, hbb = weight.sum(-1), (weight * tilt).sum(-1), (weight * tilt**2).sum(-1)
        stuck = ((beta >= limits[1]) & (gb > 0)) | ((beta <= limits[0]) & (gb < 0))
        gb, hub = np.where(stuck, 0, gb), np.where(stuck, 0, hub)
        huu, hbb = huu * (1 + damping) + 1e-9, hbb * (1 + damping) + 1e-9
        det = huu * hbb - hub**2
        du, db = (hbb * gu - hub * gb) / det, (huu * gb - hub * gu) / det
        trial_u, trial_beta = u + np.clip(du, -8, 8), np.clip(beta + np.clip(db, -2, 2), *limits)
        reached = _log_likelihood(eta_at(trial_u, trial_beta), chance, c, t)
        better = reached >= best
        u, beta = np.where(better, trial_u, u), np.where(better, trial_beta, beta)
        best = np.maximum(reached, best)
        damping = np.where(better, damping / 5, damping * 8).clip(1e-9, 1e9)
        if (np.abs(du) + np.abs(db)).max() < 1e-8:
            break
    return center + u / np.exp(beta)


def _ladder(lengths: Any, correct: Any, total: Any, chance: Any) -> tuple[np.ndarray, ...]:
    """Check the input of n50; return log2 lengths (rising, unique), chance by length, and counts (..., L)."""
    n = np.asarray(lengths, float)
    if n.ndim != 1 or len(np.unique(n)) < 2 or not (np.isfinite(n) & (n > 0)).all():
        raise ValueError(f"lengths is {lengths}; allowed are at least two different positive lengths.")
    c, t = _counts(correct, total)
    if c.shape[-1:] != n.shape or not (t.sum(-1) > 0).all():
        raise ValueError(
            f"total has shape {t.shape}; allowed is a count for each of {len(n)} lengths, not all 0."
        )
    g = np.broadcast_to(np.asarray(chance, float), n.shape)
    if not ((g >= 0) & (g < 1)).all():
        raise ValueError(f"chance is {chance}; allowed is a share in [0, 1).")
    unique, where = np.unique(n, return_inverse=True)
    pool = np.eye(len(unique))[where]
    g = np.array([g[where == i].mean() for i in range(len(unique))])
    return np.log2(unique), g, c @ pool, t @ pool


def n50_point(lengths: Values, correct: Any, total: Any, *, chance: Any) -> Any:
    """Return the maximum-likelihood n50 in tokens: inf if above every tested length, 0 if below every one.

    `correct` and `total` have shape (..., lengths) and the result (...): thousands of resamples in one call.
    Model, arguments and errors as for `n50`.
    """
    x, g, c, t = _ladder(lengths, correct, total, chance)
    m = _fit(x, g, c.reshape(-1, len(x)), t.reshape(-1, len(x)))
    tokens = 2.0 ** np.clip(m, x[0], x[-1])
    tokens = np.where(m > x[-1] + 1e-9, np.inf, np.where(m < x[0] - 1e-9, 0.0, tokens))
    return tokens.reshape(c.shape[:-1]) if c.ndim > 1 else float(tokens[0])


def _profile(m: np.ndarray, x: np.ndarray, g: np.ndarray, c: np.ndarray, t: np.ndarray) -> np.ndarray:
    """Return the log-likelihood at each m, maximized over the slope by zooming in on log b."""
    gap = (m[:, None] - x)[:, None, :]
    steepest = STEEPEST / np.diff(x).min()
    center, half = np.full(len(m), math.log(SHALLOWEST * steepest) / 2), math.log(steepest / SHALLOWEST) / 2
    best = np.full(len(m), -np.inf)
    for points in (49, 9, 9, 9, 9):
        beta = center[:, None] + half * np.linspace(-1, 1, points)
        level = _log_likelihood(np.exp(beta)[:, :, None] * gap, g, c, t)
        top = level.argmax(-1)
        center, best = beta[np.arange(len(m)), top], np.maximum(best, level.max(-1))
        half *= 2 / (points - 1)
    return best


def n50(lengths: Values, correct: Any, total: Any, *, chance: Any, confidence: Number = 0.95) -> Estimate:
    """Return the length in tokens at which recall, corrected for chance, crosses one half.

    Maximum likelihood of correct ~ Binomial(total, chance + (1 - chance) sigmoid(a - b log2 n)), b >= 0, with
    the profile-likelihood interval. Beyond the tested lengths nothing is said: n50 is then censored "above"
    at the longest or "below" at the shortest. A step from all to nothing gives the (geometric) middle of the
    two lengths with the whole gap as interval. The interval holds the noise of the sequences in one run; for
    the noise between seeds use `n50_table`. `chance` is a share, for all lengths or one per length. Raises
    ValueError for fewer than two lengths, for counts that do not fit, or for a chance outside [0, 1).
    """
    _share("confidence", confidence)
    x, g, c, t = _ladder(lengths, correct, total, chance)
    if c.ndim != 1:
        raise ValueError(f"correct has shape {c.shape}; allowed is one row of counts (n50_point takes many).")
    raw = float(_fit(x, g, c[None], t[None])[0])
    point, reach = float(np.clip(raw, x[0], x[-1])), distributions.chi2.ppf(confidence, 1) / 2
    steps = np.geomspace(1e-4, 1e3, 36)
    grid = np.concatenate([point - steps[::-1], [point], point + steps])
    if x[0] < raw < x[-1]:
        grid = np.sort(np.concatenate([grid, (x[1:] + x[:-1]) / 2]))
    level = _profile(grid, x, g, c, t)
    peak, ends = level.max(), []
    inside = np.flatnonzero(level >= peak - reach)
    for edge, step in ((inside[0], -1), (inside[-1], 1)):
        near, far = edge, edge + step
        if not 0 <= far < len(grid):
            ends.append(step * math.inf)
            continue
        low, high = grid[near], grid[far]
        for _ in range(2):  # the deviance may jump between grid points: zoom into the bracket
            line = np.linspace(low, high, 14)
            out = int(np.argmax(_profile(line, x, g, c, t) < peak - reach))
            low, high = (line[out - 1], line[out]) if out else (line[-2], line[-1])
        ends.append(float(low + high) / 2)
    above, below = max(ends[1], raw) > x[-1] + MARGIN, min(ends[0], raw) < x[0] - MARGIN
    low, high = (2.0 ** float(np.clip(end, x[0], x[-1])) for end in ends)
    value, word = 2.0**point, {(1, 0): "above", (0, 1): "below", (1, 1): "both"}.get((int(above), int(below)))
    return Estimate(value, min(low, value), max(high, value), word)


# Resampling over seeds


def _interval(
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
    total - correct + 1/2): 100 of 100 keeps its uncertainty. `limits` are the least and greatest value that
    could have been measured, in units of the statistic: an interval that reaches one is clipped and censored
    there, and so is an infinite end. The same `seed` gives the same interval. Raises ValueError for missing
    columns, no rows, or bad settings.
    """
    _share("confidence", confidence)
    _need(frame, [unit])
    if resamples < 1:
        raise ValueError(f"resamples is {resamples}; allowed is 1 or more.")
    rng, groups = np.random.default_rng(seed), list(frame.groupby(unit).indices.values())
    counted = {"correct", "total"} <= set(frame.columns)
    c, t = _counts(frame["correct"], frame["total"]) if counted else (np.zeros(0), np.zeros(0))
    values = np.empty(resamples)
    for i, drawn in enumerate(rng.integers(len(groups), size=(resamples, len(groups)))):
        parts = [groups[j] for j in drawn]
        rows = np.concatenate(parts)
        fresh: dict[str, Any] = {unit: np.repeat(np.arange(len(parts)), [len(part) for part in parts])}
        if counted:
            fresh["correct"] = t[rows] * rng.beta(c[rows] + 0.5, t[rows] - c[rows] + 0.5)
        values[i] = statistic(frame.take(rows).reset_index(drop=True).assign(**fresh))
    return _interval(float(statistic(frame)), values, len(groups), confidence, limits)


def _need(frame: pd.DataFrame, columns: Iterable[str]) -> None:
    """Raise ValueError unless the frame has rows and `columns`, and mixes no probes that they would pool."""
    columns = list(columns)
    missing = [name for name in columns if name not in frame.columns]
    if missing or not len(frame):
        raise ValueError(
            f"frame has {len(frame)} rows and lacks {missing}; allowed is a row or more with {columns}."
        )
    pooled = "total" in columns and "probe" in frame.columns and "probe" not in columns
    if pooled and frame["probe"].nunique() > 1:
        raise ValueError(
            f"frame mixes the probes {list(frame['probe'].unique())}; select one, or group by probe."
        )


def _table(part: pd.DataFrame) -> tuple[np.ndarray, ...]:
    """Pool the gaps: lengths (L,), chance (L,), correct (seeds, L) and total (seeds, L)."""
    lengths, column = np.unique(part["length"].to_numpy(), return_inverse=True)
    seeds, row = np.unique(part["seed"].to_numpy(), return_inverse=True)
    cell, shape = row * len(lengths) + column, (len(seeds), len(lengths))

    def pooled(values: np.ndarray) -> np.ndarray:
        return np.bincount(cell, values, minlength=shape[0] * shape[1]).reshape(shape)

    correct, total, chance = (part[name].to_numpy(float) for name in ("correct", "total", "chance"))
    chance = pooled(chance * total).sum(0) / np.maximum(pooled(total).sum(0), 1)
    return lengths.astype(float), chance, pooled(correct), pooled(total)


def _middle(n50s: np.ndarray, lengths: np.ndarray) -> np.ndarray:
    """Return the median over the last axis, in octaves; half below and half above gives the middle length."""
    ranked, seeds = np.sort(n50s, axis=-1), n50s.shape[-1]
    one, two = ranked[..., (seeds - 1) // 2], ranked[..., seeds // 2]
    split = (one == 0) & np.isinf(two)
    middle = np.sqrt(np.where(split, 1, one)) * np.sqrt(two)
    return np.where(split, math.sqrt(lengths[0] * lengths[-1]), middle)


def median_n50(frame: pd.DataFrame) -> float:
    """Return the median over seeds of n50 in tokens, gaps pooled: a statistic for `bootstrap`.

    inf or 0 where the median seed lies above or below every tested length. Unsolved seeds stay in. Raises
    ValueError for missing columns (seed, length, correct, total, chance), mixed probes, or a single length.
    """
    _need(frame, ["seed", "length", "correct", "total", "chance"])
    lengths, chance, correct, total = _table(frame)
    return float(_middle(n50_point(lengths, correct, total, chance=chance), lengths))


def n50_table(
    frame: pd.DataFrame, by: str | Sequence[str] = "arm", *, resamples: int = 1000, seed: int = 0
) -> pd.DataFrame:
    """Return one row per group: `by`, n50, low, high (tokens), censored, seeds, p_solve.

    n50 is fitted for each seed with the gaps pooled; the value is the median over seeds, unsolved ones
    included, and the interval is the hierarchical bootstrap's (see `bootstrap`). p_solve is NaN without a
    column `solved`. Raises ValueError as `median_n50`.
    """
    keys = [by] if isinstance(by, str) else list(by)
    _need(frame, [*keys, "seed", "length", "correct", "total", "chance"])
    rows = []
    for name, part in frame.groupby(keys, sort=False, dropna=False):
        rng = np.random.default_rng(seed)
        lengths, chance, correct, total = _table(part)
        point = _middle(n50_point(lengths, correct, total, chance=chance), lengths)
        pool = min(resamples, 200)  # posterior draws of the counts per seed, from which the resamples choose
        rates = rng.beta(correct + 0.5, total - correct + 0.5, size=(pool, *correct.shape))
        fits = n50_point(lengths, total * rates, np.broadcast_to(total, rates.shape), chance=chance)
        seeds = len(correct)
        drawn = rng.integers(pool, size=(resamples, seeds)), rng.integers(seeds, size=(resamples, seeds))
        limits = float(lengths[0]), float(lengths[-1])
        found = _interval(float(point), _middle(fits[drawn], lengths), seeds, 0.95, limits)
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
    _need(frame, [*keys, "seed", "correct", "total"])
    rows = []
    for name, part in frame.groupby(keys, sort=False, dropna=False):
        pooled = part.groupby("seed")[["correct", "total"]].sum()
        c, t = _counts(pooled["correct"], pooled["total"])
        if not t.sum():
            raise ValueError(f"total is 0 for {name}; allowed is at least one query in each group.")
        value = c.sum() / t.sum()
        low, high = wilson(c.sum(), t.sum())
        if len(c) > 1:
            rng = np.random.default_rng(seed)
            drawn = rng.integers(len(c), size=(resamples, len(c)))
            hits = t[drawn] * rng.beta(c[drawn] + 0.5, t[drawn] - c[drawn] + 0.5)
            found = _interval(value, hits.sum(-1) / t[drawn].sum(-1), len(c), 0.95, None)
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


def fisher_exact(successes_a: Number, n_a: Number, successes_b: Number, n_b: Number) -> float:
    """Return the two-sided p of Fisher's exact test for two rates: 5/5 against 0/5 gives .008.

    ValueError as `wilson`.
    """
    _counts([successes_a, successes_b], [n_a, n_b])
    table = [[successes_a, n_a - successes_a], [successes_b, n_b - successes_b]]
    return float(distributions.fisher_exact(table).pvalue)


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
