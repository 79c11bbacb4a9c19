"""Which rows of a table a claim is about, and recall, or any column, of its units in them."""

from __future__ import annotations

import operator
from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

import numpy as np
import pandas as pd

from lcbook.stats.intervals import EVERYTHING, Arm, Sample
from lcbook.stats.n50 import n50_ends, n50_point

TESTS = {"at_least": operator.ge, "at_most": operator.le, "above": operator.gt, "below": operator.lt}
ENDS = {"smallest": "min", "largest": "max"}
HALF, TENTH = 0.5, 0.1  # of what the best recalls above chance, and of all: less is the plateau of training


class NoRowsError(ValueError):
    """What a claim is about is not in the table: the claim is then not judged."""


def select(rows: pd.DataFrame, where: Mapping[str, Any]) -> pd.DataFrame:
    """Return the rows in which every column that `where` names has the value it names.

    A value is one value; a list of them; a table of bounds, {"at_least": 1024}, whose keys are TESTS and whose value
    may be the name of another column; {"not": value}; or {"is": "largest"} or "smallest", of the rows that are left by
    then. Raises ValueError for a column that is not there or another test, and NoRowsError where no row matches.
    """
    found = rows
    for name, wanted in where.items():
        if name not in rows.columns:
            raise ValueError(
                f"where names {name!r}; allowed are columns of the table: {', '.join(rows.columns)}."
            )
        found = found[_matches(found, name, wanted)]
        if found.empty:
            raise NoRowsError(f"no rows where {name} is {_said(wanted)}")
    return found


def _matches(rows: pd.DataFrame, name: str, wanted: Any) -> np.ndarray:
    values = rows[name]
    if isinstance(wanted, list):
        return values.isin(wanted).to_numpy()
    if not isinstance(wanted, Mapping):
        return (values == wanted).to_numpy()
    match = np.ones(len(rows), bool)
    for test, bound in wanted.items():
        if test == "not":
            match &= (values != bound).to_numpy()
        elif test == "is" and bound in ENDS:
            match &= (values == getattr(values, ENDS[bound])()).to_numpy()
        elif test in TESTS:
            against = rows[bound] if isinstance(bound, str) else bound
            match &= TESTS[test](values, against).to_numpy()
        else:
            raise ValueError(
                f"where tests {name!r} by {{{test!r}: {bound!r}}}; allowed are is, not, {', '.join(TESTS)}."
            )
    return match


def _said(wanted: Any) -> str:
    if isinstance(wanted, Mapping):
        return ", ".join(f"{test.replace('_', ' ')} {bound}" for test, bound in wanted.items())
    return repr(wanted)


def learned(rows: pd.DataFrame, unit: str = "seed") -> pd.Series | None:
    """Return for each unit whether its model left the plateau of training; None where the table does not tell.

    It did if, in its own training distribution, it recalls more above chance than half of what the best of its arm
    does. Where even the best is within a tenth of chance, none did. The gate of training, 99 %, would not do: an arm
    that cannot reach it has learned what it can.
    """
    if "in_distribution" not in rows.columns:
        return None
    chance = rows["chance"] if "chance" in rows.columns else 0.0
    above = (rows["in_distribution"] - chance).groupby(rows[unit]).min()
    return above > max(HALF * above.max(), TENTH)


def recall(rows: pd.DataFrame, unit: str = "seed") -> pd.Series:
    """Return the recall of each unit as a share, its rows pooled. Raises NoRowsError where nothing was asked."""
    sums = rows.groupby(unit)[["correct", "total"]].sum()
    sums = sums[sums["total"] > 0]
    if sums.empty:
        raise NoRowsError("nothing was asked")
    return sums["correct"] / sums["total"]


def n50(rows: pd.DataFrame, *, per: str = "", x: str = "length") -> Sample:
    """Return n50 of each seed in units of column `per` (tokens if none), its gaps pooled; one arm.

    Where recall stays above, or below, one half at every tested length the value is that end, a limit of the sample;
    the ends of each value are those that the gap between two tested lengths leaves. Raises NoRowsError where recall
    rises.
    """
    arms = rows["arm"].unique()
    if len(arms) != 1:
        raise ValueError(f"rows hold the arms {list(arms)}; allowed is one.")
    table = rows.groupby(["seed", x])[["correct", "total"]].sum().unstack()
    lengths = table["total"].columns.to_numpy(float)
    chance = rows.groupby(x)["chance"].mean().to_numpy(float)
    counts = table["correct"].to_numpy(float), table["total"].to_numpy(float)
    found, between = (one(lengths, *counts, chance=chance) for one in (n50_point, n50_ends))
    if np.isnan(found).any():
        raise NoRowsError("recall rises with the length, so that nothing crosses one half")
    size = float(rows[per].iloc[0]) if per else 1.0
    limits = lengths[0] / size, lengths[-1] / size
    least, most = np.fmin(between[0], found), np.fmax(between[1], found)
    found, least, most = (np.clip(one / size, *limits) for one in (found, least, most))
    return Sample(tuple(table.index), (Arm(found, limits=limits),), np.stack([least, most]))


def contrast(
    rows: pd.DataFrame,
    terms: Sequence[tuple[float, Mapping[str, Any]]],
    *,
    value: str = "recall",
    scale: float = 1.0,
    less: float = 0.0,
    unit: str = "seed",
) -> Sample:
    """Return for each unit a weighted sum of its means in parts of a table: for each term its weight and its rows.

    `value` is "recall" (correct over total, pooled) or a column, of which the mean is taken; times `scale`; `less` is
    taken off the sum. Terms of one arm stand or fall together: a model that did not learn adds 0 to each. Units
    that lack a term are left out.
    Raises ValueError as `select`, and NoRowsError where no unit has all terms.
    """
    found: dict[Any, list[_Term]] = {}
    for weight, where in terms:
        part = select(rows, where)
        models = [name for name in ("arm", "table") if name in part.columns and unit != "arm"]
        names = part[models].drop_duplicates().to_numpy().tolist() if models else []
        arm = tuple(names[0]) if len(names) == 1 else None
        found.setdefault(arm, []).append(_term(part, value, unit, weight * scale, arm is not None))
    every = [one for terms_ in found.values() for one in terms_]
    units = every[0].values.index
    for one in every[1:]:
        units = units.intersection(one.values.index)
    if not len(units):
        raise NoRowsError("no unit has all that is compared")
    arms = [_arm(terms_, units) for terms_ in found.values()]
    if less:
        arms.append(Arm(np.full(len(units), -less), limits=(-less, -less)))
    return Sample(tuple(units), tuple(arms))


class _Term(NamedTuple):
    """One term of a contrast: values and whether it learned of each unit, its limits, and its noise (a variance)."""

    values: pd.Series
    learned: pd.Series | None
    limits: tuple[float, float]
    noise: float


def _term(part: pd.DataFrame, value: str, unit: str, size: float, is_arm: bool) -> _Term:
    if value == "recall":
        sums = part.groupby(unit)[["correct", "total"]].sum()
        share = (sums["correct"] + 0.5) / (sums["total"] + 1)
        noise = size**2 * float((share * (1 - share) / sums["total"].clip(lower=1)).mean())
        flags = learned(part, unit) if is_arm else None
        return _Term(size * recall(part, unit), flags, (min(0.0, size), max(0.0, size)), noise)
    if value not in part.columns:
        raise ValueError(f"value is {value!r}; allowed are 'recall' and columns: {', '.join(part.columns)}.")
    return _Term(size * part.groupby(unit)[value].mean().dropna(), None, EVERYTHING, 0.0)


def _arm(terms: Sequence[_Term], units: pd.Index) -> Arm:
    """Return what the terms of one arm add together; a model that did not learn adds chance or less: 0 is least."""
    flags = [one.learned.loc[units].to_numpy(bool) for one in terms if one.learned is not None]
    least, most = np.sum([one.limits for one in terms], axis=0)
    return Arm(
        np.sum([one.values.loc[units].to_numpy(float) for one in terms], axis=0),
        np.logical_and.reduce(flags) if flags else None,
        limits=(float(least), float(most)),
        noise=sum(one.noise for one in terms),
    )
