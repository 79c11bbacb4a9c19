"""Estimates: a number with its interval, Wilson's interval of a rate, and the share of seeds that solve a task."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import pandas as pd
from scipy import stats as distributions

CENSORINGS = (None, "above", "below", "both")

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


def require_share(name: str, value: Number) -> None:
    """Raise ValueError, naming `name`, unless `value` lies strictly between 0 and 1."""
    if not 0 < value < 1:
        raise ValueError(f"{name} is {value}; allowed is a share between 0 and 1.")


def require_counts(correct: Any, total: Any) -> tuple[np.ndarray, np.ndarray]:
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
    require_share("confidence", confidence)
    k, n = require_counts(successes, trials)
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


def pooled_chance(frame: pd.DataFrame) -> float:
    """Return the recall of a guesser over all rows of `frame`: the mean of `chance` weighted by `total`."""
    return float(np.average(frame["chance"], weights=frame["total"]))


def require_columns(frame: pd.DataFrame, columns: Sequence[str]) -> None:
    """Raise ValueError unless `frame` has these columns and a row."""
    missing = [name for name in dict.fromkeys(columns) if name not in frame.columns]
    if missing:
        raise ValueError(
            f"frame lacks the columns {missing}; allowed is a frame with {list(dict.fromkeys(columns))}."
        )
    if frame.empty:
        raise ValueError("frame has no rows; allowed is a frame with at least one.")
