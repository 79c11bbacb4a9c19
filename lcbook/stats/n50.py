"""n50: the length at which recall, corrected for chance, crosses one half. One fit, or thousands in one call."""

from __future__ import annotations

import math
from functools import lru_cache
from typing import Any

import numpy as np
from scipy import special
from scipy import stats as distributions

from lcbook.stats.estimate import Estimate, Number, Values, require_counts, require_share

# Slopes b that n50 considers: the shallowest in nats an octave; the steepest, from one tested length to the
# next, for the point estimate (beyond it the lengths cannot tell two slopes apart) and for the interval.
SHALLOWEST, RESOLVED, STEEPEST = 1e-4, 16.0, 256.0
MISFIT, DOUBT = 0.05, 0.5  # p of the deviance below which no logistic fits, and below which it may well not
DRAWS = 2000  # of curves, for an interval without a logistic
MARGIN = 0.02  # octaves by which an end may pass the tested lengths before it counts as censored

# n50: correct ~ Binomial(total, chance + (1 - chance) sigmoid(b (m - log2 n))), b >= 0, n50 = 2^m


def _log_likelihood(eta: np.ndarray, chance: np.ndarray, c: np.ndarray, t: np.ndarray) -> np.ndarray:
    """Return the binomial log-likelihood, summed over the last axis (lengths). Shapes broadcast."""
    with np.errstate(divide="ignore"):
        log_hit = np.logaddexp(np.log(chance), np.log1p(-chance) + special.log_expit(eta))
    log_miss = np.log1p(-chance) + special.log_expit(-eta)
    return (c * log_hit + (t - c) * log_miss).sum(-1)


@lru_cache(maxsize=64)
def _grid(x: tuple[float, ...], chance: tuple[float, ...], steepest: float) -> tuple[np.ndarray, ...]:
    """Return m and b of a coarse grid (points,), and log hit - log miss and log miss at each, (lengths, points)."""
    n, g, span = np.array(x), np.array(chance), x[-1] - x[0]
    beyond = span * np.geomspace(0.05, 50, 9)
    middles = np.concatenate([n[0] - beyond[::-1], np.linspace(n[0], n[-1], 4 * len(n) + 1), n[-1] + beyond])
    m, b = (axis.ravel() for axis in np.meshgrid(middles, np.geomspace(0.01 / span, steepest, 14)))
    eta = b[:, None] * (m[:, None] - n)
    with np.errstate(divide="ignore"):
        hit = np.logaddexp(np.log(g), np.log1p(-g) + special.log_expit(eta))
    miss = np.log1p(-g) + special.log_expit(-eta)
    return m, b, (hit - miss).T, miss.T


def _start(
    x: np.ndarray, chance: np.ndarray, c: np.ndarray, t: np.ndarray, steepest: float
) -> tuple[Any, Any]:
    """Return the best (m, b) of a coarse grid for each replicate; c, t (replicates, lengths)."""
    m, b, gain, miss = _grid(tuple(x), tuple(chance), steepest)
    parts = (slice(i, i + 2000) for i in range(0, len(c), 2000))
    best = np.concatenate([np.argmax(c[part] @ gain + t[part] @ miss, axis=-1) for part in parts])
    return m[best], b[best]


def _fit(
    x: np.ndarray, chance: np.ndarray, c: np.ndarray, t: np.ndarray, rounds: int = 40
) -> tuple[np.ndarray, np.ndarray]:
    """Return the maximum-likelihood m of each replicate, and its log-likelihood: damped Fisher scoring from the grid's
    best.
    """
    steepest = RESOLVED / np.diff(x).min()
    center, b = _start(x, chance, c, t, steepest)
    u, beta = np.zeros(len(c)), np.log(b)
    limits = math.log(SHALLOWEST), math.log(steepest)

    def eta_at(u: np.ndarray, beta: np.ndarray) -> np.ndarray:
        return u[:, None] + np.exp(beta)[:, None] * (center[:, None] - x)

    damping, best = np.full(len(c), 1e-3), _log_likelihood(eta_at(u, beta), chance, c, t)
    for _ in range(rounds):
        eta = eta_at(u, beta)
        right, wrong = special.expit(eta), special.expit(-eta)
        rise = (1 - chance) * right * wrong
        p, q = chance + (1 - chance) * right, (1 - chance) * wrong
        spread = np.maximum(p * q, 1e-300)
        slope = (c * q - (t - c) * p) * rise / spread
        weight = t * rise**2 / spread
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
    return center + u / np.exp(beta), best


def _ladder(lengths: Any, correct: Any, total: Any, chance: Any) -> tuple[np.ndarray, ...]:
    """Check the input of n50; return log2 lengths (rising, unique), chance by length, and counts (..., L)."""
    n = np.asarray(lengths, float)
    if n.ndim != 1 or len(np.unique(n)) < 2 or not (np.isfinite(n) & (n > 0)).all():
        raise ValueError(f"lengths is {lengths}; allowed are at least two different positive lengths.")
    c, t = require_counts(correct, total)
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


# ---- where the curve is no logistic


def _falls(x: np.ndarray, g: np.ndarray, c: np.ndarray, t: np.ndarray) -> np.ndarray:
    """Return what recall, of what is above chance, is at each length if it never rises (isotonic regression)."""
    sums = [np.concatenate([np.zeros((*one.shape[:-1], 1)), one.cumsum(-1)], -1) for one in (c, t)]
    hits, asked = (one[..., None, 1:] - one[..., :-1, None] for one in sums)  # (..., first, last) of a block
    means = np.where(asked > 0, hits / np.maximum(asked, 1e-300), -math.inf)
    tops = [means[..., : i + 1, i:].max(-1) for i in range(len(x))]
    found = np.stack([np.where(top == -math.inf, math.inf, top).min(-1) for top in tops], axis=-1)
    return (found - g) / (1 - g)


def _crossing(x: np.ndarray, g: np.ndarray, c: np.ndarray, t: np.ndarray) -> np.ndarray:
    """Return log2 of the length at which falling recall crosses one half (3, ...): at least, by a line, at most.

    Between the two lengths about it a curve may bend: the ends are those of recall, and of what it lacks, that change
    by a constant factor an octave, so that a step has the whole gap. inf if above one half at the longest length, -inf
    if below it at the shortest.
    """
    falling = _falls(x, g, c, t)
    held = (falling >= 0.5).sum(-1)
    left = np.clip(held - 1, 0, len(x) - 2)[..., None]
    before, after = (np.take_along_axis(falling, left + step, -1)[..., 0].clip(0, 1) for step in (0, 1))
    with np.errstate(divide="ignore", invalid="ignore"):
        least = np.log(2 * before) / np.log(before / after)
        straight = (before - 0.5) / (before - after)
        most = np.log(2 * (1 - before)) / np.log((1 - before) / (1 - after))
    most = np.where(before == 1, 1.0, most)
    part = np.nan_to_num(
        np.stack([least, straight, most]), posinf=0, neginf=0
    )  # finite wherever recall crosses
    found = x[left[..., 0]] + np.diff(x)[left[..., 0]] * part
    return np.where(held == 0, -math.inf, np.where(held == len(x), math.inf, found))


def is_logistic(lengths: Values, correct: Any, total: Any, *, chance: Any) -> bool:
    """Return whether falling logistic curves, one for each row of counts, fit all rows together.

    The test of the deviance at 5 %. Arguments and errors as for `n50`.
    """
    x, g, c, t = _ladder(lengths, correct, total, chance)
    c, t = c.reshape(-1, len(x)), t.reshape(-1, len(x))
    return _fitness(c, t, _fit(x, g, c, t)[1]) >= MISFIT


def _fitness(c: np.ndarray, t: np.ndarray, reached: np.ndarray) -> float:
    """Return the p of the deviance of all rows together; 1 where no length is left to test it."""
    best = special.xlogy(c, c / np.maximum(t, 1)) + special.xlogy(t - c, (t - c) / np.maximum(t, 1))
    freedom = int(np.maximum((t > 0).sum(-1) - 2, 0).sum())
    deviance = float(2 * (best.sum(-1) - reached).sum())
    return float(distributions.chi2.sf(deviance, freedom)) if freedom else 1.0


def n50_point(lengths: Values, correct: Any, total: Any, *, chance: Any, logistic: bool | None = None) -> Any:
    """Return n50 in tokens: inf if above every tested length, 0 if below every one.

    `correct` and `total` have shape (..., lengths) and the result (...): thousands of resamples in one call. Fitted as
    `n50` if the curves are `logistic` (None: if `is_logistic` says so of all rows), else where recall that never rises
    crosses one half on a straight line between two lengths. NaN where curves are not logistic and recall rises, from
    below one half at the shortest length to above it at the longest. Other arguments and errors as for `n50`.
    """
    x, g, c, t = _ladder(lengths, correct, total, chance)
    shape, c, t = c.shape[:-1], c.reshape(-1, len(x)), t.reshape(-1, len(x))
    m, reached = _fit(x, g, c, t)
    if not (_fitness(c, t, reached) >= MISFIT if logistic is None else logistic):
        m = np.where(_rises(g, c, t), math.nan, _crossing(x, g, c, t)[1])
    tokens = 2.0 ** np.clip(m, x[0], x[-1])
    tokens = np.where(m > x[-1] + 1e-9, np.inf, np.where(m < x[0] - 1e-9, 0.0, tokens))
    return tokens.reshape(shape) if shape else float(tokens[0])


def _rises(g: np.ndarray, c: np.ndarray, t: np.ndarray) -> Any:
    """Return whether recall is below one half at the shortest length and above it at the longest."""
    over = c - t * (1 + g) / 2
    return (over[..., 0] < 0) & (over[..., -1] > 0)


def n50_ends(lengths: Values, correct: Any, total: Any, *, chance: Any) -> np.ndarray:
    """Return the least and the most that n50 can be in tokens (2, ...), whatever the curve does between two lengths.

    The ends are those of curves that fall, and of curves that lose what they lack, by a constant factor an octave about
    the crossing; a step has the whole gap. 0, inf and other arguments and errors as for `n50_point`.
    """
    x, g, c, t = _ladder(lengths, correct, total, chance)
    return 2.0 ** _crossing(x, g, c, t)[[0, 2]]


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
    the profile-likelihood interval. Where the deviance says that this does not fit (p < .05), such as for a window's
    min(1, r / n), the crossing of recall that never rises, on a straight line between two lengths, with the percentile
    interval of curves drawn from the counts' Jeffreys posteriors; in doubt (p < 1/2) the interval holds both. NaN where
    no logistic fits and recall rises through one half.
    Beyond the tested lengths nothing is said: n50 is then censored "above" at the longest or "below" at the shortest. A
    step from all to nothing gives the (geometric) middle of the two lengths with the whole gap as interval. The
    interval holds the noise of the sequences in one run; for the noise between seeds use `n50_table`. `chance` is a
    share, for all lengths or one per length. Raises ValueError for fewer than two lengths, for counts that do not fit,
    or for a chance outside [0, 1).
    """
    require_share("confidence", confidence)
    x, g, c, t = _ladder(lengths, correct, total, chance)
    if c.ndim != 1:
        raise ValueError(f"correct has shape {c.shape}; allowed is one row of counts (n50_point takes many).")
    m, reached = _fit(x, g, c[None], t[None])
    raw = float(m[0])
    fitness = _fitness(c[None], t[None], reached)
    if fitness < MISFIT:
        return _crossed(x, g, c, t, float(confidence))
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
    if fitness < DOUBT:
        other = _crossed(x, g, c, t, float(confidence))
        above, below = above or other.upper == math.inf, below or other.lower == -math.inf
        low, high = np.fmin(low, other.low), np.fmax(high, other.high)
    value, word = 2.0**point, {(1, 0): "above", (0, 1): "below", (1, 1): "both"}.get((int(above), int(below)))
    return Estimate(value, min(float(low), value), max(float(high), value), word)


def _crossed(x: np.ndarray, g: np.ndarray, c: np.ndarray, t: np.ndarray, confidence: float) -> Estimate:
    """Return n50 of a curve that is no logistic."""
    if bool(_rises(g, c, t)):
        return Estimate(math.nan, math.nan, math.nan)
    rates = np.random.default_rng(0).beta(c + 0.5, t - c + 0.5, size=(DRAWS, len(x)))
    found = _crossing(x, g, t * rates, np.broadcast_to(t, rates.shape))
    raw, tail = float(_crossing(x, g, c, t)[1]), (1 - confidence) / 2
    low = min(raw, float(np.quantile(found[0], tail, method="lower")))
    high = max(raw, float(np.quantile(found[2], 1 - tail, method="higher")))
    word = {(1, 0): "above", (0, 1): "below", (1, 1): "both"}.get((int(high > x[-1]), int(low < x[0])))
    low, value, high = (2.0 ** float(np.clip(end, x[0], x[-1])) for end in (low, raw, high))
    return Estimate(value, low, high, word)
