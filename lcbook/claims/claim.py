"""Claims as they were frozen: `claims.toml` holds each before its experiment runs, `claims.frozen` its digest.

A claim says what is measured and how, so that anyone can judge it again from the rows of its table alone.
"""

from __future__ import annotations

import json
import math
import re
import tomllib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, fields
from functools import cache
from pathlib import Path
from typing import Any

from lcbook import store

FILE, LOCK = (Path(__file__).with_name(name) for name in ("claims.toml", "claims.frozen"))
# What a unit of evidence is called on the page -> the column that names it.
UNITS = {"seed": "seed", "model": "arm", "round": "seed", "text": "sample", "one run": ""}
UNITS_NEEDED = 6  # with five, even the range is only a 93.75 % interval of the median
CONFIRMED_BY = "1000:1012"
NOT_FROZEN = ("note", "withdrawn")  # said after the run, of the claim
WITHDRAWN = ":withdrawn"


@dataclass(frozen=True)
class Claim:
    """A frozen hypothesis that an interval can decide: the effect is `at_least` or `at_most` a threshold, in `unit`.

    `chapter` is the notebook that shows it, `factor` its factor, `test` says in words how the effect is computed. The
    effect is the estimand `of` ("mean", "median", ...: `effects.OF`) over `units` of evidence of what `statistic`
    (a name in `claims.statistics.NAMED`) finds with the arguments `using` in those rows of `tables` that match `where`
    (the column `table` says which one a row is of);
    `live` replaces arguments at live scale. With `choose`, a column, they hold several of its values for each
    arm, of which the best in training was chosen on the judged seeds. `seeds` are those of the exploratory run,
    `confirmed_by` those of the confirmatory one. `requires` names what must hold for the claim to be judged. `note` and
    `withdrawn` (why, and the verdict then) are the only fields that may be written after a run.
    Raises ValueError for anything else.
    """

    id: str
    sentence: str
    chapter: str
    factor: str
    test: str
    statistic: str
    tables: Sequence[str]
    seeds: str
    of: str = "mean"
    units: str = "seed"
    at_least: float | int | None = None
    at_most: float | int | None = None
    unit: str = ""
    where: Mapping[str, Any] = field(default_factory=dict)
    using: Mapping[str, Any] = field(default_factory=dict)
    live: Mapping[str, Any] = field(default_factory=dict)
    choose: str = ""
    confirmed_by: str = CONFIRMED_BY
    requires: Sequence[Mapping[str, Any]] = ()
    note: str = ""
    withdrawn: Mapping[str, str] = field(default_factory=dict)

    def __post_init__(self) -> None:
        if not re.fullmatch(r"[A-Za-z][A-Za-z0-9_-]*", self.id):
            raise ValueError(f"id is {self.id!r}; allowed is a letter, then letters, digits, '_' or '-'.")
        for name in ("sentence", "factor", "test", "statistic", "chapter"):
            if not getattr(self, name).strip():
                raise ValueError(f"{name} of claim {self.id} is {getattr(self, name)!r}; allowed is a text.")
        if not self.tables or isinstance(self.tables, str):
            raise ValueError(
                f"tables of claim {self.id} is {self.tables!r}; allowed is a list of names of tables."
            )
        given = [x for x in (self.at_least, self.at_most) if x is not None]
        if len(given) != 1 or not math.isfinite(given[0]):
            both = f"at_least is {self.at_least} and at_most {self.at_most} in claim {self.id}"
            raise ValueError(f"{both}; allowed is exactly one of them, a finite number.")
        if self.units not in UNITS:
            raise ValueError(f"units of claim {self.id} is {self.units!r}; allowed are {', '.join(UNITS)}.")
        for name in ("seeds", "confirmed_by"):
            seeds_of(getattr(self, name))

    @property
    def threshold(self) -> str:
        """The claimed side in words, such as "at least 16 x training length"."""
        side, value = ("at least", self.at_least) if self.at_least is not None else ("at most", self.at_most)
        return f"{side} {value:g} {self.unit}".strip()

    @property
    def about(self) -> str:
        """What the claim is about, such as "median over seeds"."""
        return "range of what was seen" if self.units == "one run" else f"{self.of} over {self.plural}"

    @property
    def plural(self) -> str:
        """What several units of evidence are called."""
        return "values" if self.units == "one run" else f"{self.units}s"

    @property
    def digest(self) -> str:
        """SHA-256 of everything that was frozen."""
        frozen = {one.name: getattr(self, one.name) for one in fields(self) if one.name not in NOT_FROZEN}
        return store.digest("claim", json.dumps(frozen, sort_keys=True, ensure_ascii=False))

    @property
    def withdrawal(self) -> str:
        """SHA-256 of what was said when the claim was withdrawn, of nothing where it stands."""
        return store.digest("withdrawn", json.dumps(dict(self.withdrawn), sort_keys=True, ensure_ascii=False))


def seeds_of(text: str) -> tuple[int, ...]:
    """Return the seeds that "0:8" names (0 to 7), or "0,2,5". Raises ValueError for another text, or none."""
    if found := re.fullmatch(r"(\d+):(\d+)", text):
        seeds = tuple(range(int(found[1]), int(found[2])))
    else:
        seeds = tuple(int(part) for part in text.split(",")) if re.fullmatch(r"\d+(,\d+)*", text) else ()
    if not seeds or len(set(seeds)) < len(seeds):
        raise ValueError(
            f"seeds is {text!r}; allowed is a range such as '0:8', or different seeds such as '0,2,5'."
        )
    return seeds


def read(text: str) -> dict[str, Claim]:
    """Return the claims of a TOML text by id, in its order: a table [defaults] for each chapter, and one for each
    claim.

    Raises ValueError for what is no claim, an unknown field, or an id used twice (which TOML refuses).
    """
    try:
        body = tomllib.loads(text)
    except tomllib.TOMLDecodeError as error:
        raise ValueError(f"claims.toml is no TOML, or uses an id twice: {error}.") from error
    found: dict[str, Claim] = {}
    for chapter, part in body.items():
        common = {"chapter": chapter} | part.pop("defaults", {})
        for name, said in part.items():
            unknown = sorted(set(said) - {one.name for one in fields(Claim)})
            if unknown:
                raise ValueError(f"claim {name} has the fields {unknown}; allowed are those of Claim.")
            if name in found:
                raise ValueError(f"id {name} is used twice; allowed is one claim for each id, for ever.")
            try:
                found[name] = Claim(id=name, **{**common, **said})
            except TypeError as error:
                raise ValueError(
                    f"claim {name} is incomplete ({error}); allowed is all that Claim needs."
                ) from error
    return found


@cache
def claims() -> dict[str, Claim]:
    """Return every claim of the book by id.

    Raises ValueError if one is not as it was frozen or withdrawn, or if one that was frozen is gone.
    """
    found, locked = read(FILE.read_text(encoding="utf8")), lock()
    gone = [name for name in locked if name.removesuffix(WITHDRAWN) not in found]
    if gone:
        raise ValueError(f"claim {gone[0]} is gone; allowed is to withdraw it, with the reason.")
    for name, one in found.items():
        if locked.get(name, one.digest) != one.digest:
            raise ValueError(f"claim {name} is not as it was frozen; allowed is a new claim with a new id.")
        if locked.get(name + WITHDRAWN, one.withdrawal) != one.withdrawal:
            raise ValueError(f"claim {name} was withdrawn otherwise; allowed is to leave it so.")
    return found


def lock() -> dict[str, str]:
    """Return the digests of all claims that were ever frozen, by id, and of what was withdrawn, by id and WITHDRAWN."""
    return (
        dict(line.split() for line in LOCK.read_text(encoding="utf8").splitlines()) if LOCK.exists() else {}
    )


def freeze() -> list[str]:
    """Lock the claims, and withdrawals, that are not locked yet; return their names. Raises ValueError as `claims`."""
    claims.cache_clear()
    known = lock()
    all_ = {name: one.digest for name, one in claims().items()}
    all_ |= {name + WITHDRAWN: one.withdrawal for name, one in claims().items() if one.withdrawn}
    new = {name: digest for name, digest in all_.items() if name not in known}
    lines = [f"{name} {digest}\n" for name, digest in (known | new).items()]
    store.write_bytes(LOCK, "".join(lines).encode())
    return list(new)


def find(name: str) -> Claim:
    """Return the claim of this id. Raises ValueError for one that is not there, or is not frozen yet."""
    there = claims()
    if name not in there:
        raise ValueError(
            f"id is {name!r}; allowed are the claims of claims.toml, such as {next(iter(there), '')!r}."
        )
    one, locked = there[name], lock()
    if name not in locked or (one.withdrawn and name + WITHDRAWN not in locked):
        raise ValueError(f"claim {name} is not frozen; run python -m lcbook freeze before its experiment.")
    return one
