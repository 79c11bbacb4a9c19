"""Intervals over units of evidence: one value a unit in, an estimate out, at any confidence.

A unit is what a claim generalizes over: a seed, a model, a round of timing, a text. Every interval here has a
simulation of its coverage in the tests, and a longer one on the page "How a verdict is reached".
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import cache, cached_property
from typing import Any

import numpy as np
from scipy import stats as distributions

from lcbook.stats.estimate import Estimate, Number, require_share

DRAWS = 40_000  # of the hurdle: their noise in a 95 % end is a hundredth of its distance from the mean
NEAR, SPREAD = 3.0, 20.0  # deviations: a mean so near a limit has values piled up there; see `_deviation`
UNMEASURED = Estimate(math.nan, math.nan, math.nan)
EVERYTHING = (-math.inf, math.inf)


@dataclass(frozen=True)
class Arm:
    """What one arm adds to the value of each unit.

    `values` [units]; `learned` [units] says which units have left the plateau of training (None where nothing can
    fail), `failed` what the arm adds where it has not, `limits` the least and the most that it can add, and `noise`
    the variance that the finite number of questions gives the value of a unit.
    """

    values: np.ndarray
    learned: np.ndarray | None = None
    failed: float = 0.0
    limits: tuple[float, float] = EVERYTHING
    noise: float = 0.0

    @property
    def some_failed(self) -> bool:
        """Whether some units learned and others did not."""
        return self.learned is not None and bool(self.learned.any()) and not self.learned.all()


@dataclass(frozen=True)
class Sample:
    """One value for each unit of evidence: the sum of what its arms add. `units` names them.

    `ends` [2, units] holds the least and the most that each value can be where the measurement leaves a gap (None where
    it leaves none). Raises ValueError unless every arm has one finite or infinite value a unit (never NaN).
    """

    units: tuple[Any, ...]
    arms: tuple[Arm, ...]
    ends: np.ndarray | None = None

    def __post_init__(self) -> None:
        for arm in self.arms:
            if arm.values.shape != (len(self.units),) or np.isnan(arm.values).any():
                raise ValueError(
                    f"values is {arm.values}; allowed is a number for each of {len(self.units)} units."
                )

    @property
    def values(self) -> np.ndarray:
        """The value of each unit [units]."""
        return np.sum([arm.values for arm in self.arms], axis=0)

    @property
    def limits(self) -> tuple[float, float]:
        """The least and the greatest value that a unit can have."""
        ends = np.sum([arm.limits for arm in self.arms], axis=0)
        return float(ends[0]), float(ends[1])

    @cached_property
    def hurdle(self) -> np.ndarray:
        """What the mean may be with units that do not learn: DRAWS draws for each end [2, draws], ascending."""
        return np.sort([_hurdle(self.arms, end) for end in (0, 1)], axis=1)

    @property
    def learned(self) -> tuple[int, int] | None:
        """In how many of the units every arm has learned that can, and how many there are; None where nothing fails."""
        flags = [arm.learned for arm in self.arms if arm.learned is not None]
        able = [one for one in flags if one.any()] or flags
        return (int(np.logical_and.reduce(able).sum()), len(self.units)) if able else None


def sample(
    values: Any, units: Sequence[Any] | None = None, limits: tuple[float, float] = EVERYTHING
) -> Sample:
    """Return the sample of values that nothing but chance moves: one arm, nothing to learn."""
    numbers = np.asarray(values, float)
    names = range(len(numbers)) if units is None else units
    return Sample(tuple(names), (Arm(numbers, limits=limits),))


# ---- means


def mean(one: Sample, confidence: Number = 0.95) -> Estimate:
    """Return the mean over units: Student's t, and where training can fail, a hurdle.

    The hurdle asks what further seeds may do that do not learn, even if all of these did: for each arm the share that
    learns is drawn from Jeffreys' Beta(k + 1/2, n - k + 1/2), or where some failed, for each end, from Clopper and
    Pearson's Beta on that side, and the means of those that did and did not from Student's t; where none failed the
    others have `failed`. An arm that no unit learned counts as one that cannot: of
    seeds that succeed seldom these say nothing. Where some failed the ends are the hurdle's, else the wider of the
    two. One unit has an infinite interval. Clipped to the limits. Raises ValueError for a confidence outside (0, 1).
    """
    require_share("confidence", confidence)
    values, tail = one.values, (1 - float(confidence)) / 2
    if not len(values) or not np.isfinite(values).all():
        return UNMEASURED
    value = float(values.mean())
    if len(values) == 1:
        return Estimate(value, *one.limits)
    half = -distributions.t.ppf(tail, len(values) - 1) * _deviation(one) / math.sqrt(len(values))
    low, high = value - half, value + half
    if any(arm.learned is not None for arm in one.arms):
        cut = int(tail * DRAWS)
        ends = float(one.hurdle[0][cut]), float(one.hurdle[1][-1 - cut])
        low, high = (
            ends if any(arm.some_failed for arm in one.arms) else (min(low, ends[0]), max(high, ends[1]))
        )
    least, most = one.limits
    return Estimate(value, min(max(low, least), value), max(min(high, most), value))


def _deviation(one: Sample) -> float:
    """Return the standard deviation of the units, at least that of the questions that each was asked.

    Where a limit lies within NEAR deviations of the mean, values pile up at it and few units show how far others fall
    from it: their variance counts as at least a SPREADth of a coin's, m (1 - m), of a mean m half a unit further in.
    """
    found, (least, most), n = float(one.values.std(ddof=1)), one.limits, len(one.units)
    found = max(found, math.sqrt(sum(arm.noise for arm in one.arms)))
    room = min(one.values.mean() - least, most - one.values.mean())
    if not math.isfinite(most - least) or most == least or room > NEAR * found:
        return found
    inner = (n * room / (most - least) + 0.5) / (n + 1)
    return max(found, (most - least) * math.sqrt(inner * (1 - inner) / SPREAD))


def _hurdle(arms: Sequence[Arm], end: int) -> np.ndarray:
    """Return draws of the mean of the sum of `arms` for the lower (0) or upper (1) end of its interval.

    An arm that no unit learned shows nothing that could fail.
    """
    draws = np.zeros(DRAWS)
    for place, arm in enumerate(arms):
        n = len(arm.values)
        can = arm.learned is not None and bool(arm.learned.any())
        learned = arm.learned if can and arm.learned is not None else np.ones(n, bool)
        k = int(learned.sum())
        low, middle, high, yes, no = _noise(place, k, n)
        able = _drawn(arm.values[learned], yes)
        if not can:
            draws += able
            continue
        unable = arm.failed if k == n else _drawn(arm.values[~learned], no)
        more = (end == 1) == (float(np.mean(able)) >= float(np.mean(unable)))
        share = middle if k == n else high if more else low
        draws += share * able + (1 - share) * unable
    return draws


@cache
def _noise(place: int, k: int, n: int) -> tuple[np.ndarray, ...]:
    """Return draws of the share that learns, low, middling and high, and of Student's t for those that did and did not.

    The same every time.
    """
    draw = np.random.default_rng((place, k, n))
    a, b = max(k, 0.5), max(n - k, 0.5)
    shares = (
        draw.beta(a, n - k + 1, DRAWS),
        draw.beta(k + 0.5, n - k + 0.5, DRAWS),
        draw.beta(k + 1, b, DRAWS),
    )
    return *shares, *(draw.standard_t(max(m - 1, 1), DRAWS) for m in (k, n - k))


def _drawn(values: np.ndarray, t: np.ndarray) -> np.ndarray | float:
    if len(values) < 2:
        return float(values.mean())
    return values.mean() + t * values.std(ddof=1) / math.sqrt(len(values))


def geometric_mean(one: Sample, confidence: Number = 0.95) -> Estimate:
    """Return the geometric mean of positive values, with Student's t on their logarithms; else NaN."""
    if not (one.values > 0).all():
        return UNMEASURED
    return _of_logs(mean(sample(np.log(one.values), one.units), confidence))


def _of_logs(found: Estimate) -> Estimate:
    """Return what an estimate of a logarithm says of the number itself."""
    low, value, high = (
        math.exp(end) if end < 700 else math.inf for end in (found.low, found.value, found.high)
    )
    return Estimate(value, low, high, found.censored)


# ---- medians


def median(one: Sample, confidence: Number = 0.95) -> Estimate:
    """Return the median over units with the interval of the sign test, which no failed seed can upset.

    Its ends are order statistics, interpolated between the two pairs whose coverage lies about the confidence
    (Hettmansperger and Sheather 1986); with so few units that even the range covers less, it is infinite: six are
    needed at 95 %. An end that is infinite, or at a limit, is one beyond what was measured: censored. Raises
    ValueError for a confidence outside (0, 1).
    """
    require_share("confidence", confidence)
    if not len(one.units):
        return UNMEASURED
    least, most = one.limits
    ranked, n = np.sort(one.values), len(one.units)
    value = _between(float(ranked[(n - 1) // 2]), float(ranked[n // 2]), 0.5)
    lowest, highest = (ranked, ranked) if one.ends is None else np.sort(one.ends)
    low, high = _order_ends(lowest, float(confidence))[0], _order_ends(highest, float(confidence))[1]
    low, high = max(low, least), min(high, most)
    word = {(1, 0): "above", (0, 1): "below", (1, 1): "both"}.get((int(high >= most), int(low <= least)))
    return Estimate(min(max(value, low), high), low, high, word)


def _order_ends(ranked: np.ndarray, confidence: float) -> tuple[float, float]:
    """Return the ends of the interval of the median of `ranked` values, ascending."""
    n = len(ranked)
    covered = [1 - 2 * float(distributions.binom.cdf(d - 1, n, 0.5)) for d in range(1, n // 2 + 1)]
    inside = [d for d, share in enumerate(covered, 1) if share >= confidence]
    if not inside:
        return -math.inf, math.inf
    d = inside[-1]
    wide, narrow = covered[d - 1], covered[d] if d < len(covered) else 0.0
    part = (wide - confidence) / (wide - narrow)
    if d == len(covered):  # within the innermost pair: towards the median itself
        middle = _between(float(ranked[d - 1]), float(ranked[n - d]), 0.5)
        inner, weight = (middle, middle), part
    else:
        inner, weight = (
            (float(ranked[d]), float(ranked[n - 1 - d])),
            (n - d) * part / (d + (n - 2 * d) * part),
        )
    low, high = (
        _between(float(ranked[i]), end, weight) for i, end in zip((d - 1, n - d), inner, strict=True)
    )
    return low, high


def _between(one: float, other: float, weight: float) -> float:
    """Return the point between two values; where one of them is infinite, the first."""
    if math.isinf(one) or math.isinf(other):
        return one
    return one + weight * (other - one)


def ratio_of_medians(one: Sample, other: Sample, confidence: Number = 0.95) -> Estimate:
    """Return the median of one arm over that of another: both intervals joined on a log scale (Zou and Donner 2008).

    The arms count as independent. NaN where a median is not positive and finite.
    """
    a, b = (median(part, confidence) for part in (one, other))
    if not (0 < a.value < math.inf and 0 < b.value < math.inf):
        return UNMEASURED
    up, down = math.log(a.value), math.log(b.value)
    (la, ua), (lb, ub) = ((_log(x.lower), _log(x.upper)) for x in (a, b))
    low, high = up - down - math.hypot(up - la, ub - down), up - down + math.hypot(ua - up, down - lb)
    return _of_logs(Estimate(up - down, low, high))


def _log(x: float) -> float:
    return math.log(x) if x > 0 else -math.inf


# ---- several arms, and shares


def largest(
    samples: Mapping[Any, Any], of: Callable[..., Estimate] = mean, confidence: Number = 0.95
) -> Estimate:
    """Return the largest of several effects, each judged by itself: that of the greatest maximum would be too large.

    It is at most a threshold where each of them is, so its upper end is the largest of theirs; it exceeds one where any
    does, so for its lower end the confidence is shared among them (Bonferroni). NaN for none, or where one is NaN.
    """
    if not samples:
        return UNMEASURED
    shared = 1 - (1 - float(confidence)) / len(samples)
    plain = [of(one, confidence) for one in samples.values()]
    strict = [of(one, shared) for one in samples.values()]
    if any(math.isnan(one.value) for one in plain):
        return UNMEASURED
    value, low, high = max(x.value for x in plain), max(x.lower for x in strict), max(x.upper for x in plain)
    return Estimate(value, min(low, value), high)


def smallest(
    samples: Mapping[Any, Any], of: Callable[..., Estimate] = mean, confidence: Number = 0.95
) -> Estimate:
    """Return the smallest of several effects, by the rule of `largest`: less the largest of their negatives."""
    return _negative(largest(samples, lambda one, level: _negative(of(one, level)), confidence))


def _negative(found: Estimate) -> Estimate:
    return Estimate(-found.value, -found.upper, -found.lower)


def share(flags: Any, confidence: Number = 0.95) -> Estimate:
    """Return the share of true values with Clopper and Pearson's exact interval; NaN for none.

    With a dozen units Wilson's leaves out a true share on one side up to one time in six. Raises ValueError for a
    confidence outside (0, 1).
    """
    require_share("confidence", confidence)
    found, tail = np.asarray(flags, bool), (1 - float(confidence)) / 2
    k, n = int(found.sum()), found.size
    if not n:
        return UNMEASURED
    low = float(distributions.beta.ppf(tail, k, n - k + 1)) if k else 0.0
    high = float(distributions.beta.isf(tail, k + 1, n - k)) if k < n else 1.0
    return Estimate(k / n, low, high)


def share_difference(flags: Any, others: Any, confidence: Number = 0.95) -> Estimate:
    """Return a share less another, of other units: both intervals joined (Newcombe 1998); NaN where one has no unit."""
    a, b = share(flags, confidence), share(others, confidence)
    if math.isnan(a.value) or math.isnan(b.value):
        return UNMEASURED
    low, high = math.hypot(a.value - a.low, b.high - b.value), math.hypot(a.high - a.value, b.value - b.low)
    value = float(a.value - b.value)
    return Estimate(value, value - low, value + high)


def distance(found: Estimate, center: Number) -> Estimate:
    """Return how far a number lies from `center`: its interval begins at 0 where the number's holds the center."""
    low, value, high = (float(x) - float(center) for x in (found.lower, found.value, found.upper))
    nearest = 0.0 if low <= 0 <= high else min(abs(low), abs(high))
    return Estimate(abs(value), nearest, max(abs(low), abs(high)))


def union(found: Sequence[Estimate]) -> Estimate:
    """Return the first estimate with an interval that holds those of all; NaN where one of them is.

    Where a choice on the judged seeds could have fallen otherwise, each choice that is likely enough gives one.
    """
    if not found or any(math.isnan(one.value) for one in found):
        return UNMEASURED
    low, high = min(found, key=lambda one: one.lower), max(found, key=lambda one: one.upper)
    above, below = math.isinf(high.upper), math.isinf(low.lower)
    word = {(1, 0): "above", (0, 1): "below", (1, 1): "both"}.get((int(above), int(below)))
    return Estimate(found[0].value, min(one.low for one in found), max(one.high for one in found), word)


def pvalue(interval: Callable[[float], Estimate], excluded: Callable[[Estimate], bool]) -> float:
    """Return the two-sided p of a claim: one less the confidence at which the interval just excludes its threshold.

    `interval` gives the estimate at any confidence, `excluded` whether an estimate lies on the claimed side; found by
    bisection to a thousandth of itself, 1 where no interval excludes it, never less than 1 / 10,000.
    """
    if not excluded(interval(1e-6)):
        return 1.0
    low, high = math.log(1e-4), 0.0  # of log p: excluded at the upper end
    if excluded(interval(1 - 1e-4)):
        return 1e-4
    while high - low > 1e-3:
        middle = (low + high) / 2
        low, high = (low, middle) if excluded(interval(1 - math.exp(middle))) else (middle, high)
    return math.exp(high)
