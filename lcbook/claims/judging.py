"""Judging: a frozen claim and the rows of its table in, a verdict out; nothing else decides."""

from __future__ import annotations

import itertools
import math
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import pandas as pd

from lcbook import runtime
from lcbook.claims import effects
from lcbook.claims.claim import Claim, seeds_of
from lcbook.claims.effects import Effect
from lcbook.claims.rows import NoRowsError, select
from lcbook.claims.statistics import NAMED
from lcbook.claims.verdict import Verdict, decide

RESAMPLES, LIKELY = 2000, 0.01  # of the seeds; how often another choice must win for it to count
MOST_COMBINED = 64  # combinations of choices that are all tried


def judge(
    claim: Claim,
    tables: Mapping[str, pd.DataFrame],
    *,
    designs: Mapping[str, str],
    seeds: Sequence[int] | None = None,
) -> Verdict:
    """Return the verdict on a claim from the raw rows of its tables, by name; `designs` says how each was made.

    `seeds` are those that count, all of them and no others (None: what the claim says for the exploratory run; at live
    scale, some of those). A claim is not judged, with the reason, where its rows or what it requires are not there, or
    where they are of other seeds. Raises ValueError for an unknown statistic or a withdrawn claim.
    """
    if claim.withdrawn:
        raise ValueError(f"claim {claim.id} is withdrawn; allowed are claims that stand.")
    if claim.statistic not in NAMED:
        raise ValueError(
            f"statistic of claim {claim.id} is {claim.statistic!r}; allowed are {', '.join(sorted(NAMED))}."
        )
    live = runtime.scale() in ("live", "smoke")
    where, using = ({**one, **(claim.live.get(name, {}) if live else {})} for name, one in _said(claim))
    try:
        table = _joined(claim, tables)
        rows = select(table, where)
        found = _seeds(rows)
        allowed = seeds_of(claim.seeds) if seeds is None else seeds
        other = (
            "claims are about the sizes of full scale, not those of a GPU" if runtime.scale() == "gpu" else ""
        )
        unmet = [_unmet(claim, table, need) for need in claim.requires]
        seeds_differ = _other_seeds(claim, table, rows, where, allowed, some=live)
        why = next((one for one in (other, seeds_differ, *unmet) if one), "")
        effect = _effect(claim, rows, using)
    except NoRowsError as error:
        found, why, effect = [], str(error), effects.unmeasured(str(error))
    made = {name: designs.get(name, "") for name in claim.tables}
    return decide(claim, effect, seeds=found, designs=made, why=why)


def _joined(claim: Claim, tables: Mapping[str, pd.DataFrame]) -> pd.DataFrame:
    """Return the rows of a claim's tables as one. Raises NoRowsError where one is missing or has no rows."""
    for name in claim.tables:
        if name not in tables or tables[name].empty:
            raise NoRowsError(f"the table {name!r} was not made, or has no rows")
    if len(claim.tables) == 1:
        return tables[claim.tables[0]]
    return pd.concat([tables[name].assign(table=name) for name in claim.tables], ignore_index=True)


def _said(claim: Claim) -> tuple[tuple[str, Mapping[str, Any]], ...]:
    return ("where", claim.where), ("using", claim.using)


def _seeds(rows: pd.DataFrame) -> list[int]:
    return sorted(int(seed) for seed in rows["seed"].unique()) if "seed" in rows.columns else []


# What was asked of a model, beside its arm: rows of one value of these are one cell of a table.
ASKED = (
    "table", "probe", "length", "depth", "asked.pairs", "asked.asked", "haystack", "group", "task",
    "ablate.layer", "ablate.head", "reposition.position.slope", "tune.train.updates",
)  # fmt: skip


def _other_seeds(
    claim: Claim,
    table: pd.DataFrame,
    rows: pd.DataFrame,
    where: Mapping[str, Any],
    allowed: Sequence[int],
    *,
    some: bool,
) -> str:
    """Return why the seeds of the rows are not those that count, or "".

    Every arm has all of them and no others, at every value that was chosen from and in every cell that was asked, and
    each was asked as much; at live scale, some of them. Where the claim itself leaves out models that did not learn,
    its arms together have them.
    """
    if "seed" not in rows.columns:
        return ""
    by = [name for name in ("arm", claim.choose) if name in rows.columns and "solved" not in where]
    asked = [name for name in ASKED if name in rows.columns] if by and not some else []
    parts = [part for _, part in rows.groupby([*by, *asked], dropna=False)] if by else [rows]
    for part in parts:
        found = _seeds(part)
        if set(found) - set(allowed) or (not some and set(found) != set(allowed)):
            arm = f"{part['arm'].iloc[0]} has " if by else ""
            return (
                f"{arm}rows of the seeds {_short(found)}; allowed are all of {_short(allowed)} and no others"
            )
    return "" if some else _asked_less(claim, table, rows)


def _asked_less(claim: Claim, table: pd.DataFrame, rows: pd.DataFrame) -> str:
    """Return which arm of the rows has a seed that was asked less than others in the whole table, or ""."""
    if not {"arm", "seed", "total"} <= set(table.columns):
        return ""
    whole = table[table["arm"].isin(rows["arm"].unique())]
    by = [name for name in ("arm", claim.choose, *ASKED) if name in table.columns and name != "depth"]
    asked = whole.groupby([*by, "seed"], dropna=False)["total"].sum().groupby(by, dropna=False).nunique()
    uneven = asked[asked > 1]
    if uneven.empty:
        return ""
    name = uneven.index[0][0] if isinstance(uneven.index[0], tuple) else uneven.index[0]
    return f"{name} has seeds that were asked less than others"


def _short(seeds: Sequence[int]) -> str:
    """Return seeds as text, a whole range of them as such."""
    if len(seeds) > 2 and list(seeds) == list(range(seeds[0], seeds[-1] + 1)):
        return f"{seeds[0]} to {seeds[-1]}"
    return ", ".join(map(str, seeds))


def _unmet(claim: Claim, table: pd.DataFrame, need: Mapping[str, Any]) -> str:
    """Return why what a claim requires does not hold, or ""."""
    rows = select(table, need.get("where", {}))
    value = (
        effects.effect(need.get("of", "mean"), [NAMED[need["statistic"]](rows, **need.get("using", {}))])
        .interval(0.95)
        .value
    )
    least, most = need.get("at_least", -np.inf), need.get("at_most", np.inf)
    return "" if least <= value <= most else f"{need['says']} does not hold: {value:.3g}"


def _effect(claim: Claim, rows: pd.DataFrame, using: Mapping[str, Any]) -> Effect:
    """Return the effect in the rows; where a rate was chosen on them, with the interval of every likely choice."""
    statistic = NAMED[claim.statistic]
    if not claim.choose:
        return effects.effect(claim.of, [statistic(rows, **using)])
    at = rows.groupby(["arm", claim.choose]).indices
    found = []
    for chosen in _combined(choices(rows, claim.choose)):
        kept = np.sort(np.concatenate([at[pair] for pair in chosen.items()]))
        found.append(statistic(rows.iloc[kept], **using))
    return effects.effect(claim.of, found)


def _combined(likely: Mapping[str, Sequence[Any]]) -> list[dict[str, Any]]:
    """Return the choices that other seeds may have made for all arms at once, the one that was made first.

    All combinations, or where these are more than MOST_COMBINED, those that differ from it in one arm.
    """
    chosen = {arm: values[0] for arm, values in likely.items()}
    if math.prod(map(len, likely.values())) <= MOST_COMBINED:
        return [dict(zip(likely, values, strict=True)) for values in itertools.product(*likely.values())]
    return [chosen, *(chosen | {arm: value} for arm, values in likely.items() for value in values[1:])]


def choices(rows: pd.DataFrame, choose: str) -> dict[str, list[Any]]:
    """Return for each arm the values of `choose` that training may have chosen on other seeds, the chosen one first.

    The choice is that of `best` (the share of seeds that solved, then the updates that took, then recall in
    distribution), made again on resampled seeds; a value that wins in fewer than LIKELY of these does not count.
    """
    found = {}
    for arm, part in rows.groupby("arm", sort=False):
        seeds = part.groupby([choose, "seed"])[
            ["solved", "updates_to_gate", "updates", "in_distribution"]
        ].first()
        seeds = seeds.assign(taken=seeds["updates_to_gate"].fillna(seeds["updates"]))
        solved, taken, inside = (
            seeds[name].unstack().to_numpy(float) for name in ("solved", "taken", "in_distribution")
        )
        values = seeds.index.levels[0].tolist()
        n = solved.shape[1]
        drawn = np.random.default_rng(0).integers(n, size=(RESAMPLES, n))
        drawn = np.vstack([np.arange(n), drawn])
        marks = [one[:, drawn].mean(-1).round(12) for one in (solved, taken, inside)]
        order = np.lexsort((-marks[2], marks[1], -marks[0]), axis=0)[0]
        shares = np.bincount(order[1:], minlength=len(values)) / RESAMPLES
        others = [i for i in np.argsort(-shares) if shares[i] >= LIKELY and i != order[0]]
        found[arm] = [values[i] for i in (order[0], *others)]
    return found
