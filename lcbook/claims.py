"""Claims: a sentence, its smallest effect of interest, the verdict that the interval decides, and the ledger.

A claim is written down before its experiment runs. Its verdict is never set by hand, and a refuted or
inconclusive claim stays in the ledger.
"""

from __future__ import annotations

import math
import re
import warnings
from collections.abc import Callable, Iterable, Mapping
from dataclasses import KW_ONLY, asdict, dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import jinja2
import pandas as pd

from lcbook import runtime, stats, store
from lcbook.stats.bootstrap import Estimate, Number

SEEDS_NEEDED = 5
UNJUDGED_RESAMPLES = 40  # an interval that decides nothing need not be exact
MOST_RESAMPLES = {"smoke": 20, "live": 400}  # a reader waits for these; the other scales take what is asked
# Verdict -> symbol and colour (readable on white and on black, and apart for colour-blind eyes).
LOOKS = {
    "supported": ("✓", "#0067a3"),
    "refuted": ("✗", "#a84300"),
    "inconclusive": ("?", "#5f5f5f"),
    "not judged": ("–", "#5f5f5f"),
}
WHAT = ("verdict", "effect", "date")  # what the ledger says of each run
PAGES = jinja2.Environment(
    loader=jinja2.FileSystemLoader(Path(__file__).parent),
    autoescape=True,
    trim_blocks=True,
    lstrip_blocks=True,
)
PAGES.globals["looks"] = LOOKS


@dataclass(frozen=True)
class Claim:
    """A hypothesis that an interval can decide: the effect is `at_least` or `at_most` a threshold, in `unit`.

    `factor` is the chapter's factor (such as "position encoding") and `test` says in words how the effect is
    computed. Exactly one of the two thresholds, the smallest effect of interest, is set. Raises ValueError for any
    other input. In a chapter it is called `lc.claim`.
    """

    id: str
    sentence: str
    _: KW_ONLY
    factor: str
    at_least: float | int | None = None
    at_most: float | int | None = None
    unit: str = ""
    test: str

    def __post_init__(self) -> None:
        if not re.fullmatch(r"[A-Za-z][A-Za-z0-9_-]*", self.id):
            raise ValueError(f"id is {self.id!r}; allowed is a letter, then letters, digits, '_' or '-'.")
        for name in ("sentence", "factor", "test"):
            if not getattr(self, name).strip():
                raise ValueError(f"{name} of claim {self.id} is {getattr(self, name)!r}; allowed is a text.")
        given = [x for x in (self.at_least, self.at_most) if x is not None]
        if len(given) != 1 or not math.isfinite(given[0]):
            both = f"at_least is {self.at_least} and at_most {self.at_most} in claim {self.id}"
            raise ValueError(f"{both}; allowed is exactly one of them, a finite number.")

    @property
    def threshold(self) -> str:
        """The claimed side in words, such as "at least 16 x training length"."""
        side, value = ("at least", self.at_least) if self.at_least is not None else ("at most", self.at_most)
        return f"{side} {value:g} {self.unit}".strip()

    def decide(self, effect: Estimate, *, seeds: int) -> Verdict:
        """Return the verdict on `effect`, from its interval alone, stamped with scale, device and date.

        "supported" if the whole interval lies on the claimed side, "refuted" if on the other, else
        "inconclusive". A censored end counts as unbounded, so "≥ 8192" supports a claim of at least 4096 and
        refutes nothing it may exceed. Fewer than five seeds, smoke scale, or an effect that could not be
        measured (NaN) give "not judged". Raises ValueError if seeds < 0.
        """
        if seeds < 0:
            raise ValueError(f"seeds is {seeds}; allowed is 0 or more.")
        scale = runtime.scale()
        if seeds < SEEDS_NEEDED or scale == "smoke" or math.isnan(effect.value):
            word = "not judged"
        elif self.at_least is not None:
            word = _side(effect.lower >= self.at_least, effect.upper < self.at_least)
        else:
            assert self.at_most is not None
            word = _side(effect.upper <= self.at_most, effect.lower > self.at_most)
        today = datetime.now(UTC).date().isoformat()
        return Verdict(self, word, effect, seeds, scale, runtime.device_name(), today)

    def judge(
        self,
        table: pd.DataFrame,
        statistic: Callable[[pd.DataFrame], Any],
        *,
        resamples: int = 1000,
        limits: tuple[Number, Number] | None = None,
    ) -> Verdict:
        """Return the verdict on `statistic(table)`, its interval bootstrapped over seeds.

        `limits` are the least and greatest value of the statistic that could have been measured (see
        `stats.bootstrap`). The seeds counted are those of the arm that has fewest. Raises ValueError if the
        table lacks the column `seed` or has no rows.
        """
        if "seed" not in table.columns or not len(table):
            raise ValueError(
                f"table has the columns {list(table.columns)}; allowed is one with 'seed' and rows."
            )
        arms = table["arm"] if "arm" in table.columns else pd.Series(0, table.index)
        seeds = table["seed"].groupby(arms).nunique().min()
        resamples = min(resamples, MOST_RESAMPLES.get(runtime.scale(), resamples))
        if seeds < SEEDS_NEEDED:
            resamples = min(resamples, UNJUDGED_RESAMPLES)
        effect = stats.bootstrap(table, statistic, resamples=resamples, limits=limits)
        return self.decide(effect, seeds=int(seeds))


def _side(claimed: bool, other: bool) -> str:
    return "supported" if claimed else "refuted" if other else "inconclusive"


claim = Claim


@dataclass(frozen=True)
class Verdict:
    """What one run says about a claim: the verdict, the effect that decided it, and where that was measured.

    `verdict` is "supported", "refuted", "inconclusive" or "not judged"; `date` is ISO. Raises ValueError for
    another verdict or date.
    """

    claim: Claim
    verdict: str
    effect: Estimate
    seeds: int
    scale: str
    device: str
    date: str

    def __post_init__(self) -> None:
        if self.verdict not in LOOKS:
            raise ValueError(f"verdict is {self.verdict!r}; allowed are {', '.join(LOOKS)}.")
        if not re.fullmatch(r"\d{4}-\d\d-\d\d", self.date):
            raise ValueError(f"date is {self.date!r}; allowed is an ISO date such as 2025-01-31.")

    def __repr__(self) -> str:
        """Return id and verdict alone: the line that a rerun must reproduce."""
        return f"{self.claim.id} {self.verdict}"

    @property
    def measured(self) -> str:
        """The effect with its interval and unit, such as "20 [17, 23] tokens"."""
        return f"{self.effect} {self.claim.unit}".strip()

    @property
    def where(self) -> str:
        """How many seeds were measured, and on which device, at which scale and when."""
        plural = "" if self.seeds == 1 else "s"
        return f"{self.seeds} seed{plural}, {self.device}, {self.scale} scale, {self.date}"

    def _repr_html_(self) -> str:
        return Card(self)._repr_html_()

    def beside(self, *references: Verdict) -> Card:
        """Return this verdict's card with those of the reference verdicts beside it that judge the same claim.

        A claim is the same with its sentence, factor, test, threshold and unit: what was said otherwise is stale.
        """
        return Card(self, tuple(one for one in references if one.claim == self.claim))

    def to_dict(self) -> dict[str, Any]:
        """Return a flat-typed dict that strict JSON can hold; infinite ends become strings."""
        record = asdict(self)
        for name in ("value", "low", "high"):
            number = float(record["effect"][name])
            record["effect"][name] = number if math.isfinite(number) else str(number)
        return record

    @classmethod
    def from_dict(cls, record: Mapping[str, Any]) -> Verdict:
        """Return the verdict that `to_dict` stored; other keys are ignored.

        ValueError names a missing field.
        """
        try:
            stored, effect = record["claim"], record["effect"]
            made = Claim(**{name: stored[name] for name in Claim.__dataclass_fields__})
            value, low, high = (float(effect[name]) for name in ("value", "low", "high"))
            found = Estimate(value, low, high, effect["censored"])
            text = {name: str(record[name]) for name in ("verdict", "scale", "device", "date")}
            return cls(claim=made, effect=found, seeds=int(record["seeds"]), **text)
        except (KeyError, TypeError, AttributeError, OverflowError) as problem:
            raise ValueError(
                f"record is no stored verdict ({problem!r}); allowed is what to_dict returns."
            ) from problem


@dataclass(frozen=True)
class Card:
    """A verdict as it stands on the page, with the reference verdicts beside it."""

    live: Verdict
    references: tuple[Verdict, ...] = ()

    def __repr__(self) -> str:
        return repr(self.live)

    def _repr_html_(self) -> str:
        return _drawn("card", self.live, self.references)


def _drawn(macro: str, *values: Any) -> str:
    return str(getattr(PAGES.get_template("cards.html").module, macro)(*values))


def record(verdict: Verdict, chapter: str) -> Path:
    """Write a live verdict to `<cache>/claims/<scale>/<id>.json`, atomically, and return the path."""
    path = runtime.cache_dir() / "claims" / verdict.scale / f"{verdict.claim.id}.json"
    about = {"chapter": chapter, "compute_version": store.COMPUTE_VERSION}
    store.save_json(path, verdict.to_dict() | about)
    return path


def _recorded() -> list[tuple[Verdict, str]]:
    """Return the verdicts of this scale and version of the computation, with their chapters.

    A file that cannot be read, is damaged, or holds another claim is named in a warning and skipped.
    """
    found = []
    for path in sorted((runtime.cache_dir() / "claims" / runtime.scale()).glob("*.json")):
        try:
            body = store.load_json(path)
            verdict = Verdict.from_dict(body)
            if (verdict.claim.id, verdict.scale) != (path.stem, runtime.scale()):
                raise ValueError(f"It holds claim {verdict.claim.id} at {verdict.scale} scale.")
        except (OSError, ValueError) as problem:
            warnings.warn(f"Skipped the damaged ledger file {path}: {problem}", stacklevel=3)
            continue
        if body.get("compute_version") == store.COMPUTE_VERSION:
            found.append((verdict, str(body.get("chapter", ""))))
    return found


def restored(records: Iterable[Mapping[str, Any]]) -> list[tuple[Verdict, str]]:
    """Return stored verdicts (`Verdict.to_dict`, optionally with `chapter`) with their chapters.

    A damaged one is named in a warning and skipped.
    """
    found = []
    for number, stored in enumerate(records):
        try:
            found.append((Verdict.from_dict(stored), str(stored.get("chapter", ""))))
        except ValueError as problem:
            warnings.warn(f"Skipped the damaged reference record {number}: {problem}", stacklevel=3)
    return found


def ledger(references: Iterable[Mapping[str, Any]] = ()) -> pd.DataFrame:
    """Return one row per claim: live verdict and effect of this scale, and those of each reference device.

    `references` are stored verdicts as `restored` reads them. Columns: chapter, id, factor, sentence, verdict, effect,
    date, then "<device> verdict", "<device> effect" and "<device> date"; an empty text where nothing was measured.
    Of several records of one claim on one device the latest counts. The live verdict says what is claimed (without
    one, the latest reference): a reference of another sentence, test or threshold is stale and left out.
    """
    latest = sorted(restored(references), key=lambda found: found[0].date, reverse=True)
    found = [("", *one) for one in _recorded()] + [(f"{one[0].device} ", *one) for one in latest]
    rows: dict[str, dict[str, Any]] = {}
    said: dict[str, Claim] = {}
    for run, verdict, chapter in found:
        made = verdict.claim
        if said.setdefault(made.id, made) == made:
            row = rows.setdefault(made.id, {"id": made.id, "factor": made.factor, "sentence": made.sentence})
            row["chapter"] = row.get("chapter") or chapter
            if f"{run}verdict" not in row:
                values = (verdict.verdict, verdict.measured, verdict.date)
                row |= {f"{run}{name}": value for name, value in zip(WHAT, values, strict=True)}
    runs = ["", *sorted({run for run, *_ in found if run})]
    columns = ["chapter", "id", "factor", "sentence", *(run + name for run in runs for name in WHAT)]
    ordered = sorted(rows.values(), key=lambda row: (row["chapter"], _natural(row["id"])))
    return pd.DataFrame([{name: row.get(name, "") for name in columns} for row in ordered], columns=columns)


def _natural(name: str) -> list[tuple[int, str]]:
    return [(int(part), "") if part.isdigit() else (-1, part) for part in re.findall(r"\d+|\D+", name)]


@dataclass(frozen=True)
class LedgerTable:
    """The ledger as a table for the page; its plain form is one line a claim: id and live verdict.

    Raises ValueError for a frame that `ledger` has not made.
    """

    frame: pd.DataFrame

    def __post_init__(self) -> None:
        missing = [name for name in ("id", "factor", "sentence", *WHAT) if name not in self.frame.columns]
        if missing:
            raise ValueError(f"frame lacks the columns {missing}; allowed is a frame made by ledger().")

    def __repr__(self) -> str:
        rows = zip(self.frame["id"], self.frame["verdict"], strict=True)
        return "\n".join(f"{name} {verdict or 'not run'}" for name, verdict in rows)

    def _repr_html_(self) -> str:
        runs = [name.removesuffix("verdict") for name in self.frame.columns if name.endswith("verdict")]
        return _drawn("ledger", self.frame.to_dict("records"), runs)
