"""What a chapter shows beside its figures: readings with computed numbers, verdict cards, committed runs."""

from __future__ import annotations

import html
from collections.abc import Callable
from typing import Any

import pandas as pd

from lcbook import claims, results, runtime, stats
from lcbook.claims import Card, Claim


class Reading:
    """A paragraph whose numbers were computed beside it; Markdown on a page, plain text elsewhere."""

    def __init__(self, text: str) -> None:
        self.text = " ".join(text.split())

    def __repr__(self) -> str:
        return self.text

    def _repr_markdown_(self) -> str:
        return self.text


def reading(text: str, **numbers: Any) -> Reading:
    """Return the paragraph `text` with `numbers` filled in at `{name}` (an Estimate prints its interval).

    Raises ValueError if the text names a number that is not given, or one is given that it does not name.
    """
    unused = [name for name in numbers if "{" + name not in text]
    try:
        filled = text.format(**numbers)
    except KeyError as missing:
        raise ValueError(
            f"text names {missing}; allowed are the numbers given: {', '.join(numbers)}."
        ) from missing
    if unused:
        raise ValueError(
            f"numbers has {unused}, which the text does not name; allowed are only those that it does."
        )
    return Reading(filled)


def judge(
    claim: Claim, table: pd.DataFrame, statistic: Callable[[pd.DataFrame], Any], **options: Any
) -> Card:
    """Judge a claim on this run, file the verdict, and return its card with the committed verdicts beside it.

    `options` go to `Claim.judge`. A ledger that cannot be written is a warning, not an error.
    """
    verdict = claim.judge(table, statistic, **options)
    runtime.session.verdicts.append(verdict)
    if runtime.session.chapter:
        claims.record(verdict, runtime.session.chapter)
    return claims.card(verdict, committed_verdicts(runtime.session.chapter))


def committed_verdicts(chapter: str) -> list[dict[str, Any]]:
    """Return the stored verdicts of every current committed run of a chapter."""
    return [record for run in results.references(chapter) if run.status == "current" for record in run.claims]


def committed(name: str) -> dict[str, pd.DataFrame]:
    """Return the committed tables of one experiment of the running chapter, by the run's label on the page."""
    return {
        run.label: run.tables[name]
        for run in results.references(runtime.session.chapter)
        if run.status == "current" and name in run.tables
    }


class Runs:
    """The committed runs of a chapter, one row each: device, scale, date, status, time and memory taken."""

    def __init__(self, runs: list[results.Reference]) -> None:
        self.frame = pd.DataFrame(
            [{"device": run.device, "status": run.status, **run.provenance} for run in runs],
            columns=[
                "device",
                "machine",
                "scale",
                "date",
                "status",
                "seconds",
                "peak_memory_mib",
                "torch",
                "commit",
            ],
        )

    def __repr__(self) -> str:
        return (
            self.frame.to_string(index=False)
            if len(self.frame)
            else "There is no committed run of this chapter."
        )

    def _repr_html_(self) -> str:
        if not len(self.frame):
            return f"<p>{html.escape(repr(self))}</p>"
        return self.frame.assign(commit=self.frame["commit"].str[:10]).to_html(index=False, border=0)


def committed_runs() -> Runs:
    """Return the table of the running chapter's committed runs, damaged and stale ones named as such."""
    return Runs(results.references(runtime.session.chapter))


def n50(frame: pd.DataFrame) -> stats.Estimate:
    """Return n50 of one arm in tokens over seeds. Raises ValueError as `stats.n50_table`."""
    row = stats.n50_table(frame.assign(arm="one"), by="arm").iloc[0]
    return stats.Estimate(row["n50"], row["low"], row["high"], row["censored"])
