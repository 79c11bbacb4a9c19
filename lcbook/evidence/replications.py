"""Replications: claims that readers repeated on seeds of their own, each a file that anyone can judge again."""

from __future__ import annotations

import math
import warnings
from collections.abc import Mapping
from dataclasses import dataclass, replace
from functools import lru_cache
from pathlib import Path
from typing import Any

from lcbook import claims, references, runtime, store
from lcbook.claims import Claim, Verdict
from lcbook.claims.claim import CONFIRMED_BY, UNITS_NEEDED, seeds_of
from lcbook.claims.verdict import refusal

EXPLORED, CONFIRMED = range(100), seeds_of(CONFIRMED_BY)
FIRST = 2000  # of the seeds that a replication takes where none are named


@dataclass(frozen=True)
class Replication:
    """One claim repeated once: its verdict, and the machine in words."""

    verdict: Verdict
    machine: str


def fresh_seeds(claim: Claim, text: str = "") -> tuple[int, ...]:
    """Return the seeds that `text` names, such as "2000:2012" ("": as many as confirm the claim, from FIRST).

    Raises ValueError for seeds that were looked at before, or fewer than six (or than confirm a claim whose units of
    evidence are not seeds).
    """
    confirmed = seeds_of(claim.confirmed_by)
    seeds = seeds_of(text) if text else tuple(range(FIRST, FIRST + len(confirmed)))
    known = sorted(set(seeds) & {*EXPLORED, *CONFIRMED, *confirmed})
    if known:
        raise ValueError(
            f"seeds has {', '.join(map(str, known))}; allowed are seeds that were neither explored (0 to "
            f"{EXPLORED[-1]}) nor confirmed ({CONFIRMED[0]} to {CONFIRMED[-1]})."
        )
    if seeds != tuple(range(seeds[0], seeds[-1] + 1)):
        raise ValueError(
            f"seeds is {text!r}; allowed is a whole range such as '2000:2012', so that none is picked."
        )
    needed = min(UNITS_NEEDED, len(confirmed))
    if len(seeds) < needed:
        raise ValueError(f"seeds names {len(seeds)} of them; allowed are {needed} or more.")
    return seeds


def save(session: runtime.Session, verdict: Verdict, seconds: float) -> Path:
    """Write a verdict and the tables that it was judged on to results/replications/, named by what it holds."""
    body = {
        "verdict": verdict.to_dict(),
        "provenance": references.provenance(seconds),
        "tables": {
            name: references.packed(table)
            for name, table in session.tables.items()
            if name.removesuffix(", choice") in verdict.designs
        },
    }
    path = _folder() / f"{_name(body, verdict)}.json"
    store.save_json(path, body)
    return path


def _folder() -> Path:
    return references.folder() / references.REPLICATIONS


def _name(body: dict[str, Any], verdict: Verdict) -> str:
    seeds = sorted(verdict.seeds) or [0]
    return f"{verdict.claim}-{seeds[0]}-{seeds[-1]}-{store.checksum(body)[:12]}"


def read(path: Path) -> Replication:
    """Return a stored replication, judged again from its rows.

    Raises OSError for a file that cannot be read, DamagedFileError for one that was edited or is no replication, and
    ValueError for one on another claim than the frozen one, or on seeds that are not fresh.
    """
    body = store.load_json(path)
    try:
        stored = Verdict.from_dict(body["verdict"])
        machine = str(body["provenance"]["machine"])
        tables = {name: references.unpacked(table) for name, table in body["tables"].items()}
    except (KeyError, TypeError, ValueError, AttributeError) as error:
        raise store.DamagedFileError(f"{path} is no replication ({error}).") from error
    if path.stem != _name(body, stored):
        raise store.DamagedFileError(f"{path} does not hold what its name says.")
    if why := refusal(stored):
        raise ValueError(why)
    claim = claims.find(stored.claim)
    seeds = fresh_seeds(claim, ",".join(map(str, stored.seeds)))
    if stored.scale != "full":
        raise ValueError(
            f"scale of {path.stem} is {stored.scale!r}; allowed is 'full', which claims are about."
        )
    with runtime.at_scale(stored.scale):
        again = claims.judge(claim, tables, designs=stored.designs, seeds=seeds)
    if not same(stored, replace(again, device=stored.device, date=stored.date)):
        raise store.DamagedFileError(
            f"{path} was edited: its rows say {again!r}, {again.effect}, and not {stored!r}, {stored.effect}."
        )
    return Replication(stored, machine)


TO_ROUNDING = ("effect", "dots", "p")  # fields of a verdict that another machine may round otherwise


def same(one: Verdict, other: Verdict) -> bool:
    """Return whether two verdicts say the same in every field, numbers to rounding."""
    a, b = one.to_dict(), other.to_dict()
    plain = [{name: value for name, value in c.items() if name not in TO_ROUNDING} for c in (a, b)]
    words = [(c["effect"]["censored"], tuple(c["dots"])) for c in (a, b)]
    numbers = [(v.effect.value, v.effect.low, v.effect.high, v.p, *v.dots.values()) for v in (one, other)]
    return (
        plain[0] == plain[1]
        and words[0] == words[1]
        and all(
            math.isclose(x, y, rel_tol=1e-6, abs_tol=1e-9) or (math.isnan(x) and math.isnan(y))
            for x, y in zip(*numbers, strict=True)
        )
    )


@lru_cache(maxsize=1024)
def _read(path: Path, stamp: tuple[int, ...]) -> Replication | str:
    """Return a replication, or why it does not count; read once, while the file's stamp is the same."""
    try:
        return read(path)
    except (OSError, ValueError) as problem:
        return str(problem)


def repeats(verdicts: Mapping[str, str]) -> dict[str, tuple[int, int]]:
    """Return by claim on how many machines it was repeated, and on how many of them each time with its verdict.

    `verdicts` are those that count, by claim. A file that does not count is named in a warning, with the reason.
    """
    found: dict[str, dict[str, bool]] = {}
    for path in sorted(_folder().glob("*.json")):
        one = _read(path, references.stamp(path))
        if isinstance(one, str):
            warnings.warn(f"Skipped a replication: {one}", stacklevel=2)
            continue
        name = one.verdict.claim
        same = one.verdict.verdict == verdicts.get(name)
        on = found.setdefault(name, {})
        on[one.machine] = on.get(one.machine, True) and same
    return {name: (len(on), sum(on.values())) for name, on in found.items()}
