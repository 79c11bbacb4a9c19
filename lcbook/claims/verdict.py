"""Verdicts: what one run says about a frozen claim, from its interval alone, and what is stored of that."""

from __future__ import annotations

import math
import re
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field
from datetime import UTC, datetime
from typing import Any

from lcbook import runtime, store
from lcbook.claims.claim import UNITS_NEEDED, Claim, find
from lcbook.claims.effects import Effect
from lcbook.stats import intervals
from lcbook.stats.estimate import Estimate, wilson

# Verdict -> symbol and colour (readable on white and on black, and apart for colour-blind eyes).
LOOKS = {
    "supported": ("✓", "#0067a3"),
    "refuted": ("✗", "#a84300"),
    "inconclusive": ("?", "#5f5f5f"),
    "not judged": ("–", "#5f5f5f"),
}


@dataclass(frozen=True)
class Verdict:
    """What one run says about a claim: the verdict, the effect that decided it, and where that was measured.

    `claim` is its id and `frozen` the digest of what was frozen; `designs` those of what made its tables. `dots` holds
    the value of each unit of evidence, `seeds` those of the rows, `learned` in how many units, of how many, every arm
    learned; `p` is the two-sided p of the claimed side or of the other (1: neither). `why` says why it is not judged.
    Raises ValueError for another verdict or date.
    """

    claim: str
    frozen: str
    verdict: str
    effect: Estimate
    dots: Mapping[str, float]
    seeds: Sequence[int]
    learned: Sequence[int] | None
    p: float
    why: str
    designs: Mapping[str, str]
    scale: str
    device: str
    date: str
    compute_version: int = field(default=store.COMPUTE_VERSION)

    def __post_init__(self) -> None:
        if self.verdict not in LOOKS:
            raise ValueError(f"verdict is {self.verdict!r}; allowed are {', '.join(LOOKS)}.")
        if not re.fullmatch(r"\d{4}-\d\d-\d\d", self.date):
            raise ValueError(f"date is {self.date!r}; allowed is an ISO date such as 2025-01-31.")

    def __repr__(self) -> str:
        """Return id and verdict alone: the line that a rerun must reproduce."""
        return f"{self.claim} {self.verdict}"

    @property
    def measured(self) -> str:
        """The effect with its interval and unit, such as "20 [17, 23] tokens"."""
        return f"{self.effect} {find(self.claim).unit}".strip()

    @property
    def beyond(self) -> int:
        """In how many units of evidence the value lies on the claimed side of the threshold."""
        return sum(_claimed(find(self.claim), value, value) for value in self.dots.values())

    @property
    def learned_interval(self) -> str:
        """Wilson's interval of the share of units that learned, in per cent; "" where nothing can fail."""
        if not self.learned:
            return ""
        low, high = wilson(*self.learned)
        return f"[{100 * low:.0f} %, {100 * high:.0f} %]"

    @property
    def where(self) -> str:
        """How many units were measured, and on which device, at which scale and when."""
        unit = find(self.claim).units
        counted = (
            unit if unit == "one run" else f"{len(self.dots)} {unit}{'' if len(self.dots) == 1 else 's'}"
        )
        return f"{counted}, {self.device}, {self.scale} scale, {self.date}"

    def to_dict(self) -> dict[str, Any]:
        """Return a flat-typed dict that strict JSON can hold; infinite numbers become strings."""
        record = asdict(self)
        record["effect"] |= {name: _strict(record["effect"][name]) for name in ("value", "low", "high")}
        record["p"] = None if math.isnan(self.p) else self.p
        return record | {"dots": {str(unit): _strict(value) for unit, value in self.dots.items()}}

    @classmethod
    def from_dict(cls, record: Mapping[str, Any]) -> Verdict:
        """Return the verdict that `to_dict` stored; other keys are ignored. ValueError names a missing field."""
        try:
            effect = record["effect"]
            value, low, high = (float(effect[name]) for name in ("value", "low", "high"))
            found = {name: record[name] for name in cls.__dataclass_fields__}
            return cls(
                **{
                    **found,
                    "effect": Estimate(value, low, high, effect["censored"]),
                    "p": math.nan if record["p"] is None else float(record["p"]),
                    "dots": {unit: float(dot) for unit, dot in record["dots"].items()},
                }
            )
        except (KeyError, TypeError, AttributeError, OverflowError) as problem:
            raise ValueError(
                f"record is no stored verdict ({problem!r}); allowed is what to_dict returns."
            ) from problem


def _strict(number: float) -> float | str:
    return float(number) if math.isfinite(number) else str(float(number))


def refusal(verdict: Verdict) -> str:
    """Return why a stored verdict may not stand on a page, as one sentence; "" where it may."""
    try:
        frozen = find(verdict.claim)
    except ValueError as error:
        return str(error)
    if verdict.frozen != frozen.digest:
        return f"This verdict on {verdict.claim} judged other words or another test than the frozen claim."
    if verdict.compute_version != store.COMPUTE_VERSION:
        return f"This verdict on {verdict.claim} comes from version {verdict.compute_version} of the computation."
    return ""


def _claimed(claim: Claim, lower: float, upper: float) -> bool:
    if claim.at_least is not None:
        return lower >= claim.at_least
    assert claim.at_most is not None
    return upper <= claim.at_most


def _otherwise(claim: Claim, lower: float, upper: float) -> bool:
    if claim.at_least is not None:
        return upper < claim.at_least
    assert claim.at_most is not None
    return lower > claim.at_most


def decide(
    claim: Claim, effect: Effect, *, seeds: Sequence[int], designs: Mapping[str, str], why: str = ""
) -> Verdict:
    """Return the verdict on `effect`, from its interval alone, stamped with scale, device and date.

    "supported" if the whole interval lies on the claimed side, "refuted" if on the other, else "inconclusive". A
    censored end counts as unbounded. Fewer than six units of evidence (a range of one run aside), smoke scale, an
    effect that could not be measured, or a reason `why` give "not judged".
    """
    found, units = effect.interval(0.95), len(effect.dots)
    why = why or effect.missing or ("" if runtime.scale() != "smoke" else "nothing is judged at smoke scale")
    if not why and math.isnan(found.value):
        why = "the effect cannot be computed from these rows"
    if not why and units < UNITS_NEEDED and not effect.is_range:
        counted = f"{units} {claim.units} is" if units == 1 else f"{units} {claim.units}s are"
        why = f"{counted} fewer than the {UNITS_NEEDED} that an interval of 95 % needs"
    word, p = "not judged", 1.0
    if not why:
        for side, test in (("supported", _claimed), ("refuted", _otherwise)):
            if test(claim, found.lower, found.upper):
                word = side
                p = math.nan if effect.is_range else _p(claim, effect, test)
        word = "inconclusive" if word == "not judged" else word
    return Verdict(
        claim=claim.id,
        frozen=claim.digest,
        verdict=word,
        effect=found,
        dots={str(unit): float(value) for unit, value in effect.dots.items()},
        seeds=list(seeds),
        learned=None if effect.learned is None else list(effect.learned),
        p=p,
        why=why,
        designs=dict(designs),
        scale=runtime.scale(),
        device=runtime.device_name(),
        date=datetime.now(UTC).date().isoformat(),
    )


def _p(claim: Claim, effect: Effect, test: Any) -> float:
    return intervals.pvalue(effect.interval, lambda found: test(claim, found.lower, found.upper))
