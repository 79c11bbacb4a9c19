"""What a chapter shows beside its figures: readings with computed numbers, verdict cards, committed runs."""

from __future__ import annotations

import html
import math
import re
import string
import warnings
from collections.abc import Callable
from dataclasses import replace
from typing import Any, SupportsFloat

import numpy as np
import pandas as pd

from lcbook import claims, plots, references, runtime, stats, store
from lcbook.claims import Card, Verdict
from lcbook.evidence import replications
from lcbook.stats.bootstrap import Estimate, Number


class Reading:
    """A paragraph whose numbers were computed beside it; Markdown on a page, plain text elsewhere."""

    def __init__(self, text: str) -> None:
        self.text = " ".join(text.split())

    def __repr__(self) -> str:
        return self.text

    def _repr_markdown_(self) -> str:
        return self.text


NOT_RUN = "(not run)"
UNMEASURED = Estimate(math.nan, math.nan, math.nan)


class _Filled(string.Formatter):
    """Fills in numbers as `str.format` does, and says of one that could not be measured (NaN) that it was not run."""

    def format_field(self, value: Any, format_spec: str) -> str:
        number = value.value if isinstance(value, Estimate) else value
        missing = isinstance(number, float) and math.isnan(number)
        return NOT_RUN if missing else super().format_field(value, format_spec)


def reading(text: str, **numbers: Any) -> Reading:
    """Return the paragraph `text` with `numbers` filled in at `{name}` (an Estimate prints its interval).

    A number that is NaN, as of an arm that is not there, is filled in as "(not run)".
    Raises ValueError if the text names a number that is not given, or one is given that it does not name.
    """
    named = {
        re.split(r"[.\[]", field)[0] for _, field, _, _ in string.Formatter().parse(text) if field is not None
    }
    missing, unused = sorted(named - set(numbers)), sorted(set(numbers) - named)
    if missing:
        raise ValueError(f"text names {missing}; allowed are the numbers given: {', '.join(numbers)}.")
    if unused:
        raise ValueError(
            f"numbers has {unused}, which the text does not name; allowed are only those that it does."
        )
    return Reading(_Filled().format(text, **numbers))


def judge(name: str, *tables: pd.DataFrame) -> Card:
    """Judge the frozen claim `name` on tables of this run, file the verdict, and return the claim's card.

    They are the whole tables that the claim names, in its order, as `run` and `file` gave them: the claim itself says
    which of their rows count. Raises ValueError for another table, and as `claims.judge`.
    """
    claim, session = claims.find(name), runtime.session
    filed = {one: session.tables[one] for one in claim.tables if one in session.tables}
    if len(filed) != len(tables) or not all(a.equals(b) for a, b in zip(tables, filed.values(), strict=True)):
        raise ValueError(
            f"tables of claim {name} are others than {', '.join(claim.tables)} of this run; allowed are these, whole."
        )
    verdict = claims.judge(claim, filed, designs=session.designs, seeds=session.seeds)
    session.verdicts.append(verdict)
    if session.chapter:
        try:
            claims.record(verdict, session.chapter)
        except OSError as error:
            warnings.warn(
                f"The ledger cannot be written ({error}); the verdict stands on the page.", stacklevel=2
            )
    cards = claims.ledger(committed_verdicts(claim.chapter), claim.chapter)
    card = replace(next(one for one in cards if one.claim.id == name), live=verdict)
    other = [table for run in references.exploratory(session.chapter) for table in run.stale_tables()]
    stale = [table for table in claim.tables if table in other]
    if not stale:
        return card
    why = f"The stored verdicts on {name} were judged on another design of {', '.join(map(repr, stale))} than this one."
    return replace(card, exploratory=None, confirmatory=None, survives="", refused=(*card.refused, why))


def committed_verdicts(chapter: str) -> list[tuple[str, Verdict]]:
    """Return the stored verdicts of every current committed run of a chapter ("*": of all), each with its kind."""
    return [
        (run.kind, verdict)
        for run in references.references(chapter)
        if run.status == "current"
        for verdict in claims.restored(run.claims)
    ]


def stated(*names: str) -> claims.Statement:
    """Return the table that states frozen claims before their experiment: sentence, threshold and test."""
    return claims.Statement(tuple(claims.find(name) for name in names))


def committed(name: str) -> dict[str, pd.DataFrame]:
    """Return the committed tables of one experiment of the running chapter that are current, by the run's label."""
    runs = references.exploratory(runtime.session.chapter)
    return {run.label: run.tables[name].copy(deep=False) for run in runs if run.is_current(name)}


def file(name: str, compute: Callable[[], pd.DataFrame], *of: Any) -> pd.DataFrame:
    """Return the table that `compute` gives, filed under the running chapter as `name`: for what `run` did not make.

    `of` are the values that determine it (dataclasses, containers, numbers): where they change, a committed table of
    this name is stale. Raises ValueError for a value that has no plain form, before anything is computed.
    """
    return runtime.session.file(name, store.digest("file", name, *of), compute)


def fullest(name: str, live: pd.DataFrame) -> tuple[pd.DataFrame, str]:
    """Return the table `name` of the running chapter's committed run and that run's label, or the live one if none."""
    for label, table in committed(name).items():
        return table, label
    return live, f"this run, {runtime.device_description()}, {runtime.scale()} scale"


def recall_beside(table: pd.DataFrame, name: str, **options: Any) -> np.ndarray:
    """Draw recall by length of this run beside that of the running chapter's committed runs of the experiment `name`.

    `options` go to `plots.recall_beside`, whose panels are returned; without a committed run there is one panel.
    """
    here = f"This run, {runtime.device_description()}, {runtime.scale()} scale"
    there = {f"Committed run, {label}": one for label, one in committed(name).items()}
    return plots.recall_beside({here: table} | there, **options)


class Table:
    """A small frame as a table on the page, or the sentence `empty` where it has no rows."""

    def __init__(self, frame: pd.DataFrame, empty: str) -> None:
        self.frame, self.empty = frame, empty

    def __repr__(self) -> str:
        return self.frame.to_string(index=False) if len(self.frame) else self.empty

    def _repr_html_(self) -> str:
        if not len(self.frame):
            return f"<p>{html.escape(self.empty)}</p>"
        return self.frame.to_html(index=False, border=0)


RUN_COLUMNS = [
    "chapter", "machine", "scale", "training_seconds", "seconds", "resumed", "peak_memory_mib", "date", "torch",
    "commit", "status",
]  # fmt: skip


def committed_runs(chapter: str = "") -> Table:
    """Return the exploratory runs of a chapter (the running one if not named; "*" for all), one row each.

    A row holds machine, scale, seconds of training on one core or GPU, seconds in all (of the last session, where it
    resumed an earlier one), peak memory (MiB), date, version of torch, commit and status: current, or
    stale or damaged, in which case nothing of it is drawn or judged. Where the running chapter has another design for
    some of its tables, these are named as stale and not drawn.
    """
    runs = references.exploratory(chapter or runtime.session.chapter)
    rows = [{"chapter": run.chapter, "status": _standing(run), **run.provenance} for run in runs]
    frame = pd.DataFrame(rows, columns=RUN_COLUMNS)
    frame = frame.assign(commit=frame["commit"].astype("string").str[:10]).astype(object)
    return Table(frame.where(frame.notna(), ""), "There is no committed run yet.")


def _standing(run: references.Reference) -> str:
    tables = run.stale_tables() if run.chapter == runtime.session.chapter else []
    return f"stale: {', '.join(tables)}" if run.status == "current" and tables else run.status


def calibration() -> Table:
    """Return how often the book's intervals held a truth that was simulated, in %: `make calibrate`.

    A row for each kind of interval and of data: how often at each number of units, how often at most a claim at its
    threshold was falsely supported, and where this falls short of the promise (93 % and 3 %) by more than the noise of
    the simulation; "wide" says that it always holds 99 % or more. Raises as `store.load_json`.
    """
    found = pd.DataFrame(store.load_json(references.folder() / "calibration.json")["rows"])
    rows = []
    for (kind, says), part in found.groupby(["kind", "says"], sort=False):
        held = {
            f"{units} units": f"{100 * share:.0f}"
            for units, share in zip(part["units"], part["coverage"], strict=True)
        }
        wrong = {"falsely supported": f"{100 * part['false_supported'].max():.0f}"}
        rows.append({"interval of": f"{kind}: {says}"} | held | wrong | {"": _kept(part)})
    return Table(pd.DataFrame(rows), "Nothing is simulated yet.")


PROMISED, WRONG = 0.93, 0.03  # coverage at least, and false support at most, of nominal 95 %


def _kept(part: pd.DataFrame) -> str:
    """Return how the simulations of one interval compare with what the book promises."""
    counts = part["repeats"].to_numpy()
    most = stats.wilson((part["coverage"] * counts).round().to_numpy(), counts)[1]
    least = stats.wilson((part["false_supported"] * counts).round().to_numpy(), counts)[0]
    if (most < PROMISED).any() or (least > WRONG).any():
        return "falls short"
    return "wide" if (part["coverage"] >= 0.99).all() else ""


def ledger() -> claims.Ledger:
    """Return every claim of the book: the verdict that counts, what this machine's run says, and who repeated it."""
    cards = tuple(claims.ledger(committed_verdicts("*")))
    found = {one.claim.id: one.counts.verdict for one in cards if one.counts}
    return claims.Ledger(cards, replications.repeats(found))


class Parts(dict[Any, pd.DataFrame]):
    """The rows of a frame by the value of one column; no rows for a value that is not there."""

    def __init__(self, frame: pd.DataFrame, column: str) -> None:
        super().__init__(iter(frame.groupby(column)))
        self._none = frame[:0]

    def __missing__(self, value: Any) -> pd.DataFrame:
        return self._none


def by_arm(frame: pd.DataFrame, column: str = "arm") -> Parts:
    """Return the rows of each arm (or of each value of another column) as a dict.

    An arm that is not there, since the experiment was changed, has no rows: `n50`, `share`, `score` and `judge` then
    say so, and the cells below go on. Raises KeyError for a column that is not there.
    """
    return Parts(frame, column)


def n50(frame: pd.DataFrame, *, per: Number = 1.0) -> Estimate:
    """Return n50 of one arm over seeds, in tokens or in units of `per` tokens; NaN for no rows.

    Raises ValueError as `n50_table`, and for rows of more than one arm.
    """
    if not len(frame):
        return UNMEASURED
    if frame["arm"].nunique() != 1:
        raise ValueError(f"frame holds the arms {list(frame['arm'].unique())}; allowed is one.")
    row = stats.n50_table(frame, by="arm").iloc[0]
    return Estimate(row["n50"] / per, row["low"] / per, row["high"] / per, row["censored"])


def share(frame: pd.DataFrame) -> str:
    """Return the recall of all rows together as a percentage, for a reading; "(not run)" where nothing was asked."""
    asked = frame["total"].sum()
    return f"{100 * frame['correct'].sum() / asked:.0f} %" if asked else NOT_RUN


class Shares(dict[Any, str]):
    """Recall in words by the value of one column; "(not run)" for a value that is not there."""

    def __missing__(self, value: Any) -> str:
        return NOT_RUN


def shares(frame: pd.DataFrame, column: str = "arm") -> Shares:
    """Return `share` of each arm (or of each value of another column), in the order of the rows.

    In a reading: `{found[RoPE]}`. Raises KeyError for a column that is not there.
    """
    return Shares((value, share(rows)) for value, rows in frame.groupby(column, sort=False))


def score(frame: pd.DataFrame, arm: str, **where: Any) -> float:
    """Return the recall of an arm in per cent, in the rows whose columns `where` have these values; NaN for no rows.

    A statistic for `judge`. Raises ValueError for a column that is not there.
    """
    rows = stats.matching(frame, {"arm": arm, **where})
    correct, total = (frame[name].to_numpy()[rows].sum() for name in ("correct", "total"))
    return float(100 * correct / total) if rows.any() else math.nan


def check(answer: Any, expected: SupportsFloat, tolerance: SupportsFloat = 1e-6) -> None:
    """Print whether an exercise is open (None), right, or in which way it is not yet.

    `tolerance` is relative for expected values above 1, absolute below.
    """
    print(_said(answer, expected, float(tolerance)))


def _said(answer: Any, expected: SupportsFloat, tolerance: float) -> str:
    if answer is None:
        return "Not answered yet: replace None."
    try:
        given, right = float(answer), float(expected)
    except (TypeError, ValueError, RuntimeError, OverflowError):
        return f"Not yet: the answer is a {type(answer).__name__}; allowed is one number."
    if abs(given - right) <= tolerance * max(1.0, abs(right)):
        return "Right."
    hint = "does not hold" if isinstance(expected, bool | np.bool_) else _hint(given, right)
    return f"Not yet: {given:g} {hint}."


def _hint(given: float, right: float) -> str:
    """Return in which way a number is wrong."""
    if math.isnan(given):
        return "is not a number"
    side = "large" if given > right else "small"
    slips = {
        1: f"is close, but a little too {side}: keep more digits",
        -1: "has the wrong sign",
        100: "is 100 times too large: a share is asked for, not per cent",
        0.01: "is 100 times too small: per cent are asked for, not a share",
        2 * math.pi: "is too large by a factor of 2 pi",
        1 / (2 * math.pi): "is too small by a factor of 2 pi",
    }
    near = [said for factor, said in slips.items() if math.isclose(given, factor * right, rel_tol=0.02)]
    return near[0] if near else f"is too {side}"
