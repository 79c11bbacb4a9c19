"""Claims on seeds of their own: the tables that this takes are made anew, all others stand as they are committed."""

from __future__ import annotations

import time
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import replace
from pathlib import Path

import pandas as pd

from lcbook import claims, notebooks, progress, references, runtime
from lcbook.claims import Claim, Verdict
from lcbook.claims.cards import check
from lcbook.claims.claim import seeds_of
from lcbook.evidence import replications
from lcbook.experiments.run import CHOOSING

OnSeeds = Sequence[tuple[Claim, tuple[int, ...]]]  # claims, each with the seeds that it is judged on
COMMITTED = "committed"  # names, in place of seeds, those of the exploratory run
# Tables that cells put together of others: these are then made anew, too.
MADE_OF = {
    "caps": ("headline", "caps, new arms"),
    "scored": (
        "forecast", "measured", "measured, alike", "measured, distance", "measured, deep",
    ),
}  # fmt: skip


def confirm(path: Path) -> tuple[Path, list[Verdict]]:
    """Judge every claim of a chapter's notebook on the seeds that confirm it; return where that was written, and them.

    Raises ValueError for a chapter without claims or a committed run, and as `anew`.
    """
    judged = _standing(path.stem, "confirmatory")
    started = time.perf_counter()
    session = anew(path, judged)
    verdicts = _judged(judged, session.tables, session.designs)
    stored = [verdict.to_dict() for verdict in verdicts]
    seconds = time.perf_counter() - started
    return references.save_reference(session, stored, seconds, "confirmatory"), verdicts


def rejudge(path: Path) -> list[tuple[Path, list[Verdict]]]:
    """Judge the claims of a chapter anew on the rows of its committed runs, and write the verdicts there.

    Raises ValueError as `judged_anew`.
    """
    found = []
    for run in references.references(path.stem):
        verdicts = judged_anew(run)
        found.append((references.save_claims(run, [one.to_dict() for one in verdicts]), verdicts))
    return found


def judged_anew(run: references.Reference) -> list[Verdict]:
    """Return what the rows of a committed run say of its chapter's claims, with the run's device and date.

    Raises ValueError for a chapter without claims, a run that is stale or damaged, and as `claims.judge`.
    """
    if run.status != "current":
        raise ValueError(f"the {run.kind} run on {run.device} is {run.status}; allowed is a current one.")
    at, date = run.provenance["scale"], run.provenance["date"]
    with runtime.at_scale(at):
        judged = _judged(_standing(run.chapter, run.kind), run.tables, run.designs.get(at, {}))
    return [replace(one, device=run.device, date=date) for one in judged]


def replicate(name: str, text: str = "") -> tuple[Verdict, Path | None]:
    """Repeat one claim on fresh seeds (see `replications.fresh_seeds`); return the verdict, and where it was written.

    "committed" in place of seeds repeats the exploratory run, which is no new evidence and not written. Raises
    ValueError for an unknown or withdrawn claim, seeds that are not fresh, and as `anew`.
    """
    claim = claims.find(name)
    if claim.withdrawn:
        raise ValueError(f"claim {name} is withdrawn; allowed are claims that stand.")
    same = text == COMMITTED
    seeds = seeds_of(claim.seeds) if same else replications.fresh_seeds(claim, text)
    started = time.perf_counter()
    # In the exploratory run every value was tried on the seeds that are judged.
    session = anew(notebooks.find(claim.chapter), [(replace(claim, choose="") if same else claim, seeds)])
    (verdict,) = _judged([(claim, seeds)], session.tables, session.designs)
    return verdict, None if same else replications.save(session, verdict, time.perf_counter() - started)


def in_words(card: claims.Card) -> str:
    """Return what a repeated claim says, what was found, and what the book found, as lines of text."""
    claim, live = card.claim, card.live
    assert live is not None
    lines = [
        f"{claim.id}: {claim.sentence}",
        f"claimed: {claim.threshold} ({claim.about})",
        f"found:   {live.verdict}, {live.why or live.measured}",
        f"units:   {live.beyond} of {len(live.dots)} {claim.plural} beyond the threshold",
    ]
    if card.counts is live or card.counts is None:
        return "\n".join([*lines, "book:    no verdict yet"])
    agrees = check(card.counts, live)
    return "\n".join([*lines, f"book:    {card.counts.verdict} ({card.kind} run): this machine {agrees}"])


def _standing(chapter: str, kind: str) -> OnSeeds:
    """Return the claims of a chapter that stand, each with its seeds in a run of this kind."""
    there = [claims.find(name) for name, one in claims.claims().items() if one.chapter == chapter]
    if not there:
        raise ValueError(f"chapter is {chapter!r}; allowed is one with claims.")
    return [
        (one, seeds_of(one.confirmed_by if kind == "confirmatory" else one.seeds))
        for one in there
        if not one.withdrawn
    ]


def _judged(judged: OnSeeds, tables: Mapping[str, pd.DataFrame], designs: Mapping[str, str]) -> list[Verdict]:
    return [claims.judge(one, tables, designs=designs, seeds=seeds) for one, seeds in judged]


def anew(path: Path, judged: OnSeeds) -> runtime.Session:
    """Make the tables that claims of one chapter name anew, on their seeds, and return the session that holds them.

    The time that it will take is printed first, as far as the committed run of the chapter tells. Raises ValueError
    where there is no such run, and for a table that no cell of the notebook makes.
    """
    stored = _committed(path.stem)
    renewed = renewals(judged)
    clock = forecast(stored, renewed)
    taken = progress.span(clock.total)
    print(f"{path.stem}: {len(renewed)} tables, about {taken} of training on one core", flush=True)
    seeds = max((one.seeds for one in renewed.values()), key=len)
    session, left_out = notebooks.replay(
        path, runtime.Session(replayed=stored, renewed=renewed, seeds=seeds, clock=clock)
    )
    missing = [name for name in renewed if name not in session.tables]
    if missing:
        raise ValueError(f"no cell of {path.name} made {missing}; left out were {'; '.join(left_out)}.")
    kept = [name for name in session.tables if name.removesuffix(", choice") in renewed]
    return replace(
        session,
        tables={name: session.tables[name] for name in kept},
        designs={name: session.designs[name] for name in kept},
    )


def _committed(chapter: str) -> dict[str, pd.DataFrame]:
    runs = [run for run in references.exploratory(chapter) if run.status == "current"]
    runs.sort(key=lambda run: run.device != runtime.device_name())
    if not runs:
        raise ValueError(f"{chapter} has no committed run; allowed is a chapter after make reference.")
    return runs[0].tables


def renewals(judged: OnSeeds) -> dict[str, runtime.Renewal]:
    """Return how each table that claims name is made anew: for the arms that they name alone, if all name some.

    A value is chosen beforehand where all of a table's claims say so. Raises ValueError where they are judged on
    different seeds.
    """
    found: dict[str, runtime.Renewal] = {}
    made_of = {
        one.id: [*one.tables, *(part for name in one.tables for part in MADE_OF.get(name, ()))]
        for one, _ in judged
    }
    for name in dict.fromkeys(table for tables in made_of.values() for table in tables):
        named = [(one, seeds) for one, seeds in judged if name in made_of[one.id]]
        whole = any(name not in one.tables for one, _ in named)
        (choose, *other), (seeds, *more) = ({one.choose for one, _ in named}, {seeds for _, seeds in named})
        if more:
            raise ValueError(f"table {name!r} is judged on different seeds; allowed is one choice of them.")
        found[name] = runtime.Renewal(
            seeds, None if whole else _arms(one for one, _ in named), "" if other else choose
        )
    return found


def _arms(judged: Iterable[Claim]) -> tuple[str, ...] | None:
    found: list[str] = []
    for one in judged:
        for where in (one.where, *(need.get("where", {}) for need in one.requires)):
            arms = where.get("arm")
            if not isinstance(arms, str | list):
                return None
            found += [arms] if isinstance(arms, str) else arms
    return tuple(dict.fromkeys(found))


def forecast(stored: Mapping[str, pd.DataFrame], renewed: Mapping[str, runtime.Renewal]) -> progress.Clock:
    """Return when each table is likely to be trained on one core, in seconds, from the times in the committed ones.

    A model that an earlier table holds takes no time again; what was not trained, none at all.
    """
    at, taken = {}, 0.0
    known = pd.DataFrame({"seed": [], "seconds": []})
    for name, table in stored.items():
        if name not in renewed or not {"updates", "seconds", "seed"} <= set(table.columns):
            continue
        renewal = renewed[name]
        keys = ["arm", *([renewal.choose] if renewal.choose else [])]
        models = table.drop_duplicates([*keys, "seed", "seconds"])
        new = models.merge(known, on=["seed", "seconds"], how="left", indicator=True)
        known = pd.concat([known, models[["seed", "seconds"]]])
        new = new[new["_merge"] == "left_only"]
        if renewal.arms is not None:
            new = new[new["arm"].isin(renewal.arms)]
        each = new.groupby(keys)["seconds"].mean().groupby("arm").agg(["sum", "mean", "size"])
        taken += len(CHOOSING) * float(each.loc[each["size"] > 1, "sum"].sum())
        at[f"{name}, choice"] = taken
        taken += len(renewal.seeds) * float(each["mean"].sum())
        at[name] = taken
    return progress.Clock(at, max(taken, 1.0), progress.pace(), 1)
