"""Statistics of training: who passes the gate, and how much further random lengths carry recall."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
import pandas as pd

from lcbook.claims import rows as of
from lcbook.claims.effects import Effect
from lcbook.stats import intervals, survival
from lcbook.stats.intervals import Arm, Sample
from lcbook.stats.n50 import n50_point

ENOUGH = 8  # seeds for the interval of a difference of shares, by simulation


def past_gate(rows: pd.DataFrame, *, arm: str, other: str) -> Effect:
    """Return the share of seeds past the gate in `arm` minus that in `other`, with the exact intervals of both joined.

    A dot is the difference in one seed. With fewer than ENOUGH seeds that interval falls short, and nothing is judged
    by it. Raises NoRowsError where an arm is missing, and ValueError as `survival.times`.
    """
    a, b = (_waits(rows, name)["past"] for name in (arm, other))
    few = min(len(a), len(b))
    short = f"with {few} seeds the interval of a difference of shares falls short of 95 %; it takes {ENOUGH}"
    dots = (a.astype(float) - b).dropna()
    return Effect(
        lambda confidence: intervals.share_difference(a, b, confidence),
        dots.to_dict(),
        missing=short if few < ENOUGH else "",
    )


def _waits(rows: pd.DataFrame, arm: str) -> pd.DataFrame:
    """Return for each seed of an arm the updates watched, and whether it is past the gate."""
    part = of.select(rows, {"arm": arm})
    updates, past = survival.times(part)[arm]
    return pd.DataFrame({"updates": updates, "past": past}, index=part["seed"].unique())


def n50_gain(rows: pd.DataFrame, *, encodings: Sequence[str], lengths: str, over: str) -> Sample:
    """Return for each seed n50 trained at `lengths` over n50 trained at others: the geometric mean over encodings.

    An arm is named by both, "RoPE, uniform". n50 lies within the tested lengths: a seed that did not learn has the
    shortest. Seeds that lack an arm are left out. Raises NoRowsError where an arm, or any seed with all arms, is
    missing.
    """
    pairs = [(f"{encoding}, {lengths}", f"{encoding}, {over}") for encoding in encodings]
    part = pd.concat([of.select(rows, {"arm": arm}) for pair in pairs for arm in pair])
    sums = part.groupby(["seed", "arm", "length"])[["correct", "total"]].sum().unstack(fill_value=0)
    at = sums["total"].columns.to_numpy(float)
    counts = (sums[name].to_numpy(float) for name in ("correct", "total"))
    found = n50_point(at, *counts, chance=part.groupby("length")["chance"].mean().to_numpy())
    octaves = pd.Series(np.log2(np.clip(found, at[0], at[-1])), sums.index).unstack().dropna()
    if octaves.empty:
        raise of.NoRowsError("no seed has all that is compared")
    gains = np.mean([octaves[one] - octaves[other] for one, other in pairs], axis=0)
    flags, most = of.learned(part), float(at[-1] / at[0])
    past = None if flags is None else flags.loc[octaves.index].to_numpy(bool)
    return Sample(tuple(octaves.index), (Arm(2.0**gains, past, 1.0, (1 / most, most)),))


NAMED: dict[str, Callable[..., Any]] = {one.__name__: one for one in (past_gate, n50_gain)}
