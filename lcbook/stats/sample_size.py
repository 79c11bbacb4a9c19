"""How many samples a claim about recall needs: a claim of perfection, a width, a difference between two models."""

from __future__ import annotations

import math
from collections.abc import Callable

from scipy import stats as distributions

from lcbook.stats.estimate import Number, require_counts, require_share, wilson

METHODS = ("exact", "Wilson", "rule of three")
MOST = 10**9  # samples


def lower_bound(correct: Number, total: Number, *, method: str = "exact", confidence: Number = 0.95) -> float:
    """Return the lower confidence bound of a recall of `correct` out of `total`.

    "exact" is Clopper and Pearson's one-sided bound: 20 of 20 gives 0.05^(1/20) = 0.861. "Wilson" is the lower end of
    the two-sided interval: 0.839. "rule of three" is 1 + log(1 - confidence) / total, 1 - 3 / total at 95 %, and says
    something only where all are right: 0.850. Raises ValueError for other methods or bad counts.
    """
    require_share("confidence", confidence)
    require_counts(correct, total)
    if method not in METHODS or total < 1 or (method == METHODS[2] and correct < total):
        raise ValueError(
            f"method is {method!r} for {correct} of {total}; allowed are 1 sample or more with 'exact' or 'Wilson', "
            "or 'rule of three' where all are right."
        )
    if method == "Wilson":
        return float(wilson(correct, total, confidence)[0])
    if method == "exact":
        return float(distributions.beta.ppf(1 - confidence, correct, total - correct + 1)) if correct else 0.0
    return max(0.0, 1 + math.log(1 - confidence) / total)


def more_samples(
    correct: Number, total: Number, lower: Number, *, method: str = "exact", confidence: Number = 0.95
) -> int:
    """Return how many more samples, all right, lift the `lower_bound` of `correct` out of `total` to `lower`.

    0 if it is there. Raises ValueError as `lower_bound`, for a `lower` outside (0, 1), or if it takes over 10^9.
    """
    require_share("lower", lower)

    def enough(more: int) -> bool:
        return total + more > 0 and bound(correct + more, total + more) >= lower - 1e-12

    def bound(k: Number, n: Number) -> float:
        return lower_bound(k, n, method=method, confidence=confidence)

    if total:
        bound(correct, total)  # bad input is told even where it would not be asked
    if not enough(MOST):
        raise ValueError(f"lower is {lower}; allowed is a bound that {MOST} samples can reach.")
    return _least(enough, 0)


def samples_for_perfect(lower: Number, confidence: Number = 0.95, *, method: str = "exact") -> int:
    """Return how many samples, all of them right, put the `lower_bound` at `lower` or above.

    For 0.9: 29 by "exact", 35 by "Wilson", 30 by "rule of three". Raises ValueError as `more_samples`.
    """
    return more_samples(0, 0, lower, method=method, confidence=confidence)


def samples_for_width(recall: Number, half_width: Number, confidence: Number = 0.95) -> int:
    """Return the samples at which half of Wilson's interval around `recall` is `half_width` or less.

    Both are shares: 0.5 within 0.05 takes 381. The score is taken to be exactly `recall`, rounded to no whole count.
    Raises ValueError for a recall outside [0, 1], or a half width outside (0, 0.5) or one that takes over 10^9.
    """
    require_share("confidence", confidence)
    if not 0 <= recall <= 1 or not 0 < half_width < 0.5:
        raise ValueError(
            f"recall is {recall} and half_width {half_width}; allowed are [0, 1] and a share between 0 and 0.5."
        )

    def enough(n: int) -> bool:
        low, high = wilson(float(recall) * n, n, confidence)
        return bool(high - low <= 2 * half_width + 1e-12)

    if not enough(MOST):
        raise ValueError(f"half_width is {half_width}; allowed is one that {MOST} samples can reach.")
    return _least(enough, 1)


def samples_to_tell(p1: Number, p2: Number, power: Number = 0.8, *, confidence: Number = 0.95) -> int:
    """Return the samples that each of two models needs for a two-sided test to tell recall `p1` from `p2`.

    The normal approximation with the variance pooled under no difference: 0.9 against 0.8 takes 199 each at a power
    of 0.8. Source: Fleiss, Levin and Paik 2003, section 4.2, without the correction for continuity. Raises ValueError
    for equal recalls, recalls outside [0, 1], or a power outside (0, 1) or below 1 - confidence.
    """
    require_share("power", power)
    require_share("confidence", confidence)
    if not (0 <= p1 <= 1 and 0 <= p2 <= 1) or p1 == p2 or power <= 1 - confidence:
        raise ValueError(
            f"p1 is {p1}, p2 {p2} and power {power}; allowed are two different shares and a power above 1 - confidence."
        )
    middle = (p1 + p2) / 2
    none = distributions.norm.ppf(0.5 + confidence / 2) * math.sqrt(2 * middle * (1 - middle))
    some = distributions.norm.ppf(power) * math.sqrt(p1 * (1 - p1) + p2 * (1 - p2))
    return max(1, math.ceil(((none + some) / (p1 - p2)) ** 2 - 1e-9))


def _least(enough: Callable[[int], bool], start: int) -> int:
    """Return the least number from `start` at which `enough`, which then stays true, becomes true."""
    if enough(start):
        return start
    low, high = start, max(1, 2 * start)
    while not enough(high):
        low, high = high, 2 * high
    while high - low > 1:
        middle = (low + high) // 2
        low, high = (low, middle) if enough(middle) else (middle, high)
    return high
