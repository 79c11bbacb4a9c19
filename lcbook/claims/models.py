"""Statistics over trained models: orders by benchmark, effective lengths, shares of variance, nearby lengths."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from typing import Any

import pandas as pd

from lcbook.claims.claim import UNITS_NEEDED
from lcbook.claims.effects import Effect, unmeasured
from lcbook.claims.rows import NoRowsError
from lcbook.stats import effective, intervals, rankings, variance
from lcbook.stats.estimate import Estimate
from lcbook.stats.intervals import Sample, sample

RESAMPLES = 10_000  # of the families


def tau(
    rows: pd.DataFrame, *, a: str, b: str, families: Sequence[str], kinds: Mapping[str, str] | None = None
) -> Effect:
    """Return Kendall's tau between two benchmarks over the models: probes, or "text loss", the less the better.

    The interval resamples families, `rankings.families` by the columns `families` and the `kinds` of their values:
    models of one family are alike for a reason that further models need not share. Fewer than six are not judged. The
    dot of a model is the tau of its own pairs.
    """
    scores = rankings.benchmark_scores(rows, {name: name for name in rows["probe"].unique()})
    missing = [name for name in (a, b) if not (scores["benchmark"] == name).any()]
    if missing:
        raise NoRowsError(f"the models were not asked for {missing[0]!r}")
    family = rankings.families(rows, families, kinds or {})
    if family.nunique() < UNITS_NEEDED:
        return unmeasured(
            f"the models are of {family.nunique()} families, fewer than the {UNITS_NEEDED} "
            "that an interval of 95 % needs"
        )
    dots = rankings.agreement(scores, a, b).dropna().to_dict()
    return Effect(rankings.tau_interval(scores, a, b, family=family, resamples=RESAMPLES), dots)


def octaves_apart(rows: pd.DataFrame) -> Sample:
    """Return for each model how many octaves lie between its shortest and longest effective length by four rules."""
    found = effective.octaves_apart(rows, "arm")
    longest = math.log2(rows["length"].max() / rows["length"].min())
    return sample(found, found.index.tolist(), limits=(0.0, longest))


def flips(rows: pd.DataFrame, *, rule: str, samples: int, count: int = 1000) -> Sample:
    """Return for each model the share of pairs of simulated repeats that give another effective length.

    By a rule of `effective.RULES`, from `samples` questions a length; `count` repeats of each measured curve.
    """
    found = effective.over_curves(
        rows, effective.flip_share, by="arm", rule=rule, samples=samples, count=count
    )
    return sample(found, found.index.tolist(), limits=(0.0, 1.0))


def variance_share(rows: pd.DataFrame, *, source: str, factors: Sequence[str]) -> Effect:
    """Return the share of the variance between cells that the factor `source` explains, mean over models.

    Its interval is open above, where it would cover 74 to 90 % for small shares: it can support, and never refute.
    """
    each = variance.shares_by_model(rows, factors, "arm")[source]
    found = sample(each, each.index.tolist(), limits=(0.0, 1.0))

    def interval(confidence: float) -> Estimate:
        return replace(intervals.mean(found, confidence), high=1.0)

    return Effect(interval, each.to_dict())


NAMED: dict[str, Callable[..., Any]] = {
    one.__name__: one for one in (tau, octaves_apart, flips, variance_share)
}
