"""Recall of requests that come in clusters: one sample asked at several depths is one draw of facts and haystack."""

from __future__ import annotations

import math
import re
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import pandas as pd
from scipy import stats as distributions

from lcbook.formats import percent, tokens
from lcbook.stats.effective import effective_table
from lcbook.stats.estimate import Estimate, require_columns, wilson


def independent(right: np.ndarray, asked: np.ndarray, confidence: float = 0.95) -> float:
    """Return how many independent requests tell as much as these; `right` and `asked` hold a sum for each sample.

    recall (1 - recall) over the variance of the recall between samples, corrected for the degrees of freedom, at
    least the samples and at most the requests. Where all are right or all wrong nothing tells how samples vary, and
    each counts once. Source: Korn and Graubard 1998, Survey Methodology 24, with Wilson's interval as in Dean and
    Pagano 2015, J. Survey Statistics and Methodology 3.
    """
    samples, requests, recall = len(right), float(asked.sum()), float(right.sum() / asked.sum())
    if samples in (1, requests) or not 0 < recall < 1:
        return float(samples)
    deviation = right - recall * asked
    variance = samples / (samples - 1) * float((deviation**2).sum()) / requests**2
    if variance == 0:
        return requests
    tail = (1 + confidence) / 2
    freedom = distributions.t.ppf(tail, requests - 1) / distributions.t.ppf(tail, samples - 1)
    return min(max(recall * (1 - recall) / variance * freedom**2, float(samples)), requests)


def clustered_recall(frame: pd.DataFrame, by: str | Sequence[str]) -> pd.DataFrame:
    """Return a row for each group: `by`, recall, low, high, correct, total, requests, samples, chance.

    A row of `frame` is a request with columns sample, correct, total and chance; its recall is correct / total, so that
    one that asks for four answers counts once. Requests with total 0 have failed and are left out; a group
    of such alone has no recall (NaN). `total` is the number of `independent` requests, `correct` the recall of it, and
    low to high the 95 % Wilson interval of the two: over samples where each was asked once. Raises ValueError for
    missing columns or no rows.
    """
    keys = [by] if isinstance(by, str) else list(by)
    require_columns(frame, [*keys, "sample", "correct", "total", "chance"])
    rows = []
    for name, part in frame.groupby(keys, sort=False, dropna=False):
        heard = part[part["total"] > 0]
        chance = float(part["chance"].astype(float).mean())
        if heard.empty:
            rows.append((*name, math.nan, math.nan, math.nan, 0.0, 0.0, 0, 0, chance))
            continue
        shares = (heard["correct"] / heard["total"]).groupby(heard["sample"])
        right, asked = shares.sum().to_numpy(float), shares.size().to_numpy(float)
        total, recall = independent(right, asked), float(right.sum() / asked.sum())
        low, high = wilson(recall * total, total)
        rows.append((*name, recall, low, high, recall * total, total, len(heard), len(right), chance))
    told = ["recall", "low", "high", "correct", "total", "requests", "samples", "chance"]
    return pd.DataFrame(rows, columns=[*keys, *told])


def summary(frame: pd.DataFrame) -> pd.DataFrame:
    """Return recall by task and length, depths together: the columns of `clustered_recall`, shorter lengths first."""
    return clustered_recall(frame.sort_values("length", kind="stable"), ["task", "length"])


def effective_lengths(found: pd.DataFrame) -> dict[str, Estimate]:
    """Return the effective length of one task by rule from its rows of `summary`; {} where one length was heard."""
    heard = found[found["total"] > 0]
    if len(heard) < 2:
        return {}
    table = effective_table(heard.assign(arm=""))
    return {
        row["rule"]: Estimate(row["length"], row["low"], row["high"], row["censored"])
        for row in table.to_dict(orient="records")
    }


def half_recall(frame: pd.DataFrame) -> Estimate | None:
    """Return the n50 of requests of one task (columns as `clustered_recall`); None where less than two lengths were
    heard.
    """
    found = {} if frame.empty else effective_lengths(clustered_recall(frame, "length"))
    return found.get("half recall")


def interval(row: Mapping[str, Any] | pd.Series) -> str:
    """Return a row's recall and interval, as in "83 % [61, 94]", or that nothing was answered."""
    if not row["requests"]:
        return "no answers"
    return f"{percent(row['recall'])} [{100 * row['low']:.0f}, {100 * row['high']:.0f}]"


def length_of(found: Estimate | None) -> str:
    """Return an effective length in tokens with its interval, as in "5.8K [4K, ≥ 16K]"."""
    if found is None:
        return "needs two lengths"
    least = "≤ " if found.censored in ("below", "both") else ""
    most = "≥ " if found.censored in ("above", "both") else ""
    sign = most if most and found.value >= found.high else least if least and found.value <= found.low else ""
    middle, low, high = float(found.value), float(found.low), float(found.high)
    value = f"{sign}{tokens(middle)}"
    return value if low == high else f"{value} [{least}{tokens(low)}, {most}{tokens(high)}]"


def failure_counts(frame: pd.DataFrame) -> list[tuple[str, int]]:
    """Return why requests failed and how many did so, most first; numbers in a message do not make it another one."""
    errors = frame["error"].dropna()
    alike = errors.groupby(errors.map(lambda text: re.sub(r"\d+", "#", text)))
    return sorted(((str(group.iloc[0]), len(group)) for _, group in alike), key=lambda one: -one[1])
