"""Claims on the page: the table that states them, a card for each verdict, and the ledger of all."""

from __future__ import annotations

import math
import warnings
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import jinja2
import numpy as np
import pandas as pd

from lcbook import runtime, store
from lcbook.claims.claim import Claim, claims, find
from lcbook.claims.verdict import LOOKS, Verdict, refusal
from lcbook.stats.bootstrap import holm

AGREES = {
    "agrees": "this machine agrees",
    "cannot say": "this machine cannot say",
    "disagrees": "this machine disagrees",
}
PAGES = jinja2.Environment(
    loader=jinja2.FileSystemLoader(Path(__file__).parent),
    autoescape=True,
    trim_blocks=True,
    lstrip_blocks=True,
)
PAGES.globals["looks"] = LOOKS


def drawn(macro: str, *values: Any) -> str:
    """Return the HTML that a macro of cards.html makes of `values`."""
    return str(getattr(PAGES.get_template("cards.html").module, macro)(*values))


@dataclass(frozen=True)
class Statement:
    """Claims as they are stated before their experiment: one row each."""

    claims: tuple[Claim, ...]

    def __repr__(self) -> str:
        return "\n".join(f"{one.id} {one.sentence} ({one.threshold})" for one in self.claims)

    def _repr_html_(self) -> str:
        return drawn("statement", self.claims)


def check(verdict: Verdict, live: Verdict | None) -> str:
    """Return what a live run says of the verdict that counts: "agrees", "cannot say" or "disagrees"; "" without one."""
    if live is None:
        return ""
    decided = {"supported", "refuted"}
    if verdict.verdict not in decided or live.verdict not in decided:
        return "cannot say"
    return "agrees" if live.verdict == verdict.verdict else "disagrees"


@dataclass(frozen=True)
class Card:
    """A claim with the verdict that counts on top: the confirmatory one, else the exploratory, else the live one.

    `live` is this run's; `refused` are sentences, one for each stored verdict that may not stand here.
    """

    claim: Claim
    live: Verdict | None = None
    exploratory: Verdict | None = None
    confirmatory: Verdict | None = None
    refused: tuple[str, ...] = ()

    @property
    def counts(self) -> Verdict | None:
        """The verdict that counts."""
        return self.confirmatory or self.exploratory or self.live

    @property
    def kind(self) -> str:
        """What kind of run the verdict that counts comes from: confirmatory, exploratory or this run."""
        kinds = (
            ("confirmatory", self.confirmatory),
            ("exploratory", self.exploratory),
            ("this run", self.live),
        )
        return next((name for name, one in kinds if one), "not run")

    @property
    def agrees(self) -> str:
        """What the live run says of a stored verdict, in words; "" where either is missing."""
        stored = self.confirmatory or self.exploratory
        return AGREES.get(check(stored, self.live), "") if stored else ""

    def __repr__(self) -> str:
        return repr(self.live) if self.live else f"{self.claim.id} not run"

    def _repr_html_(self) -> str:
        return drawn("card", self)


def card(name: str, live: Verdict | None, stored: Iterable[tuple[str, Verdict]]) -> Card:
    """Return the card of a claim with those of its `stored` verdicts that may stand: pairs of kind and verdict.

    Of one kind the latest counts. What is not a verdict on the frozen claim is refused, with a sentence.
    """
    found, refused = {}, []
    for kind, verdict in sorted(stored, key=lambda pair: pair[1].date):
        why = refusal(verdict)
        if why:
            refused.append(why)
        else:
            found[kind] = verdict
    return Card(find(name), live, found.get("exploratory"), found.get("confirmatory"), tuple(refused))


def dots(verdict: Verdict, claim: Claim, width: int = 240, height: int = 26) -> str:
    """Return a strip of dots as SVG, one a unit of evidence, with the threshold; "" where there are none."""
    values = [value for value in verdict.dots.values() if math.isfinite(value)]
    threshold = claim.at_least if claim.at_least is not None else claim.at_most
    assert threshold is not None
    if not values:
        return ""
    low, high = min(*values, threshold), max(*values, threshold)
    span = (high - low) or 1.0

    def x(value: float) -> float:
        return round(8 + (width - 16) * (value - low) / span, 1)

    return drawn("strip", [x(value) for value in values], x(threshold), width, height)


PAGES.globals["dots"] = dots


def record(verdict: Verdict, chapter: str) -> Path:
    """Write a live verdict to `<cache>/claims/<scale>/<id>.json`, atomically, and return the path."""
    path = runtime.cache_dir() / "claims" / verdict.scale / f"{verdict.claim}.json"
    store.save_json(path, verdict.to_dict() | {"chapter": chapter})
    return path


def recorded() -> dict[str, Verdict]:
    """Return the live verdicts of this scale by claim.

    A file that cannot be read, is damaged, or holds another claim is named in a warning and skipped; one on other
    words, or of another version, is passed over.
    """
    found = {}
    for path in sorted((runtime.cache_dir() / "claims" / runtime.scale()).glob("*.json")):
        try:
            verdict = Verdict.from_dict(store.load_json(path))
            if (verdict.claim, verdict.scale) != (path.stem, runtime.scale()):
                raise ValueError(f"It holds claim {verdict.claim} at {verdict.scale} scale.")
        except (OSError, ValueError) as problem:
            warnings.warn(f"Skipped the damaged ledger file {path}: {problem}", stacklevel=3)
            continue
        if not refusal(verdict):
            found[verdict.claim] = verdict
    return found


def restored(records: Iterable[Mapping[str, Any]]) -> list[Verdict]:
    """Return stored verdicts (`Verdict.to_dict`). A damaged one is named in a warning and skipped."""
    found = []
    for number, stored in enumerate(records):
        try:
            found.append(Verdict.from_dict(stored))
        except ValueError as problem:
            warnings.warn(f"Skipped the damaged reference record {number}: {problem}", stacklevel=3)
    return found


def ledger(stored: Iterable[tuple[str, Verdict]] = ()) -> list[Card]:
    """Return the card of every claim that stands, in the order of claims.toml, with its live and stored verdicts."""
    live = recorded()
    by_claim: dict[str, list[tuple[str, Verdict]]] = {}
    for kind, verdict in stored:
        by_claim.setdefault(verdict.claim, []).append((kind, verdict))
    return [
        card(name, live.get(name), by_claim.get(name, ()))
        for name, one in claims().items()
        if not one.withdrawn
    ]


@dataclass(frozen=True)
class Ledger:
    """The ledger on the page; its plain form is one line a claim: id and the verdict that counts."""

    cards: tuple[Card, ...]

    @property
    def frame(self) -> pd.DataFrame:
        """One row a claim: chapter, id, factor, sentence, verdict, kind, effect, p, date, what this machine says."""
        rows = []
        for one in self.cards:
            shown = one.counts
            rows.append(
                {
                    "chapter": one.claim.chapter,
                    "id": one.claim.id,
                    "factor": one.claim.factor,
                    "sentence": one.claim.sentence,
                    "verdict": shown.verdict if shown else "not run",
                    "kind": one.kind,
                    "effect": shown.measured if shown else "",
                    "p": shown.p if shown else math.nan,
                    "this machine": check(shown, one.live) if shown else "",
                    "date": shown.date if shown else "",
                }
            )
        frame = pd.DataFrame(rows)
        return frame.assign(**{"survives Holm": survives(frame)})

    def __repr__(self) -> str:
        return "\n".join(
            f"{one.claim.id} {one.counts.verdict if one.counts else 'not run'}" for one in self.cards
        )

    def _repr_html_(self) -> str:
        return drawn("ledger", self)


def survives(frame: pd.DataFrame, level: float = 0.05) -> list[str]:
    """Return for each row whether its decision stands at `level` after Holm's correction within its chapter, in words.

    "" where nothing was decided by an interval.
    """
    found = pd.Series("", frame.index)
    decided = frame["verdict"].isin(["supported", "refuted"]) & frame["p"].notna()
    for _, part in frame[decided].groupby("chapter"):
        found[part.index] = np.where(holm(part["p"]) <= level, "yes", "no")
    return found.tolist()
