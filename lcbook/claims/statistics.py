"""The statistics that claims name: rows of a table in, one value a unit of evidence out.

Each takes the rows that the claim selects, and its arguments by name, and returns a `Sample`, several by name, or an
`Effect` of its own. It raises NoRowsError where an arm is not there: the claim is then not judged.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np
import pandas as pd

from lcbook.claims import costs, dilution, models, states, training
from lcbook.claims import rows as of
from lcbook.stats.bootstrap import slope
from lcbook.stats.intervals import Sample, sample
from lcbook.stats.n50 import n50_point


def contrast(
    rows: pd.DataFrame,
    *,
    terms: Sequence[Mapping[str, Any]] = ({},),
    value: str = "recall",
    scale: float | int = 100,
    less: float | int = 0,
    unit: str = "seed",
) -> Sample:
    """Return a weighted sum of recall, in points, or of the means of a column `value`, less a number, for each unit.

    Each of `terms` holds a weight (1 if none is named) and the columns and values that pick its rows:
    [{"arm": "top 16"}, {"weight": -1, "arm": "full"}]. With `scale` 1 recall is a share.
    """
    parts = [(float(one.get("weight", 1)), {k: v for k, v in one.items() if k != "weight"}) for one in terms]
    size = float(scale) if value == "recall" else 1.0
    return of.contrast(rows, parts, value=value, scale=size, less=float(less), unit=unit)


def contrasts(
    rows: pd.DataFrame, *, each: Mapping[str, Sequence[Mapping[str, Any]]], **settings: Any
) -> dict[str, Sample]:
    """Return several contrasts by name, to be judged each by itself: `each` holds their terms; as `contrast`."""
    return {name: contrast(rows, terms=terms, **settings) for name, terms in each.items()}


def n50s(rows: pd.DataFrame, *, arms: Sequence[str], per: str = "") -> dict[str, Sample]:
    """Return n50 of each seed of several arms, in their order; as `rows.n50`."""
    return {arm: of.n50(of.select(rows, {"arm": arm}), per=per) for arm in arms}


def power_law(rows: pd.DataFrame, *, x: str, by: str, rising: bool = False, inverse: bool = False) -> Sample:
    """Return for each seed the exponent a of c ~ b^a, where recall crosses one half at x = c for each value b of `by`.

    The least-squares slope of log c on log b. `rising`: recall grows with `x`; `inverse`: on log 1 / b instead. Seeds
    that lack a value of `by`, or recall of which rises instead, are left out.
    """
    found = {}
    for (seed, value), part in rows.groupby(["seed", by]):
        sums = part.groupby(x)[["correct", "total"]].sum()
        at = 1 / sums.index.to_numpy(float) if rising else sums.index.to_numpy(float)
        crossing = n50_point(at, sums["correct"], sums["total"], chance=part["chance"].mean())
        crossing = float(np.clip(crossing, at.min(), at.max()))
        found[seed, value] = 1 / crossing if rising else crossing
    table = pd.Series(found).unstack().dropna()
    logs = (-1 if inverse else 1) * np.log(table.columns.to_numpy(float))
    exponents = [slope(logs, np.log(row)) for row in table.to_numpy(float)]
    return sample(exponents, table.index.tolist())


NAMED: dict[str, Callable[..., Any]] = {
    **{one.__name__: one for one in (contrast, contrasts, of.n50, n50s, power_law)},
    **costs.NAMED,
    **states.NAMED,
    **training.NAMED,
    **dilution.NAMED,
    **models.NAMED,
}
