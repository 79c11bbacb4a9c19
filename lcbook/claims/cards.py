"""Claims on the page: the table that states them, a card for each verdict, and the ledger of all."""

from __future__ import annotations

import math
import warnings
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import jinja2
import pandas as pd

from lcbook import runtime, store
from lcbook.claims.claim import Claim, claims, find
from lcbook.claims.verdict import LOOKS, Verdict, refusal
from lcbook.stats.bootstrap import holm

DECIDED = ("supported", "refuted")
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
    if verdict.verdict not in DECIDED or live.verdict not in DECIDED:
        return "cannot say"
    return "agrees" if live.verdict == verdict.verdict else "disagrees"


@dataclass(frozen=True)
class Card:
    """A claim with the verdict that counts on top: the confirmatory one, else the exploratory, else the live one.

    `live` is this run's; `refused` are sentences, one for each stored verdict that may not stand here; `survives` says
    whether the decision stands after Holm's correction within the chapter ("yes", "no", "" where nothing was decided).
    """

    claim: Claim
    live: Verdict | None = None
    exploratory: Verdict | None = None
    confirmatory: Verdict | None = None
    refused: tuple[str, ...] = ()
    survives: str = ""

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
    def runs(self) -> list[tuple[str, Verdict]]:
        """Every verdict with the kind of its run, the one that counts first."""
        kinds = (
            ("confirmatory", self.confirmatory),
            ("exploratory", self.exploratory),
            ("this run", self.live),
        )
        return [(name, one) for name, one in kinds if one]

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


def ledger(stored: Iterable[tuple[str, Verdict]] = (), chapter: str = "") -> list[Card]:
    """Return the card of every claim that stands (of one chapter, if named), with its live and stored verdicts.

    In the order of claims.toml; decisions are corrected for their number within each chapter.
    """
    live = recorded()
    by_claim: dict[str, list[tuple[str, Verdict]]] = {}
    for kind, verdict in stored:
        by_claim.setdefault(verdict.claim, []).append((kind, verdict))
    cards = [
        card(name, live.get(name), by_claim.get(name, ()))
        for name, one in claims().items()
        if not one.withdrawn and chapter in ("", one.chapter)
    ]
    return survived(cards)


def survived(cards: Sequence[Card], level: float = 0.05) -> list[Card]:
    """Return the cards with `survives`: whether each decision stands at `level` after Holm's correction by chapter.

    Every claim that was judged by an interval counts, the undecided ones too.
    """
    judged: dict[str, list[tuple[int, float]]] = {}
    for place, one in enumerate(cards):
        shown = one.counts
        if shown and shown.verdict != "not judged" and not math.isnan(shown.p):
            judged.setdefault(one.claim.chapter, []).append((place, shown.p))
    found = list(cards)
    for part in judged.values():
        for (place, _), p in zip(part, holm([p for _, p in part]), strict=True):
            shown = cards[place].counts
            if shown and shown.verdict in DECIDED:
                found[place] = replace(cards[place], survives="yes" if p <= level else "no")
    return found


STRIP = 280, 34  # of dots: width and height in pixels


def strip(verdict: Verdict, claim: Claim) -> str:
    """Return a strip of dots as SVG, one a unit of evidence, with interval and threshold; "" where there are none."""
    values = [value for value in verdict.dots.values() if math.isfinite(value)]
    if not values:
        return ""
    threshold = claim.at_least if claim.at_least is not None else claim.at_most
    assert threshold is not None
    ends = [end for end in (verdict.effect.low, verdict.effect.high) if math.isfinite(end)]
    low, high = min(*values, threshold, *ends), max(*values, threshold, *ends)
    width, height = STRIP
    at = {
        value: round(10 + (width - 20) * (float(value) - low) / ((high - low) or 1.0), 1)
        for value in (*values, threshold, *ends)
    }
    bar = [at[end] for end in ends] if len(ends) == 2 else []
    return drawn(
        "strip", [at[value] for value in values], at[threshold], bar, f"{threshold:g}", width, height
    )


PAGES.globals["dots"] = strip


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


@dataclass(frozen=True)
class Ledger:
    """The ledger on the page; its plain form is one line a claim: id and the verdict that counts.

    `repeats` says how often a claim was repeated elsewhere: by id, on how many machines, and on how many of them the
    verdict was the same.
    """

    cards: tuple[Card, ...]
    repeats: Mapping[str, tuple[int, int]] = field(default_factory=dict)

    @property
    def frame(self) -> pd.DataFrame:
        """One row a claim: where it stands, what it says, the verdict that counts, and what this machine says."""
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
                    "survives Holm": one.survives,
                    "this machine": check(shown, one.live) if shown and one.kind != "this run" else "",
                    "date": shown.date if shown else "",
                }
            )
        return pd.DataFrame(rows)

    @property
    def calibration(self) -> str:
        """How far verdicts of one run foretell those of another, in words."""
        frame = self.frame
        said = frame["this machine"].value_counts()
        live, wrong = int(said.get("agrees", 0) + said.get("disagrees", 0)), int(said.get("disagrees", 0))
        pairs = [
            (one.exploratory.verdict, one.confirmatory.verdict)
            for one in self.cards
            if one.exploratory and one.confirmatory and one.exploratory.verdict in DECIDED
        ]
        turned = sum(after in DECIDED and after != before for before, after in pairs)
        lost = sum(after not in DECIDED for _, after in pairs)
        alone = int((frame["survives Holm"] == "no").sum())
        said_live = (
            f"Of {live} claims that this machine's short run decides, the stored run contradicts {wrong}. "
        )
        tried = (
            f"Of {len(pairs)} exploratory decisions that were tried again on fresh seeds, {turned} turned around "
            f"and {lost} came out undecided. "
        )
        last = f"{alone} decisions do not survive a correction for the number of claims in their chapter. "
        gone = f"{len(self.withdrawn)} claims were withdrawn after their result was known; they stand at the end."
        return (
            (said_live if live else "") + (tried if pairs else "") + last + (gone if self.withdrawn else "")
        )

    @property
    def factors(self) -> list[str]:
        """The factors that the claims are about, in their order."""
        return list(dict.fromkeys(one.claim.factor for one in self.cards))

    @property
    def withdrawn(self) -> list[Claim]:
        """The claims that were withdrawn, with what came out and why they went."""
        return [one for one in claims().values() if one.withdrawn]

    def __repr__(self) -> str:
        return "\n".join(
            f"{one.claim.id} {one.counts.verdict if one.counts else 'not run'}" for one in self.cards
        )

    def _repr_html_(self) -> str:
        return drawn("ledger", self)
