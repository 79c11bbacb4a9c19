"""What is committed in results/: every verdict is what its rows say of the frozen claim, and every claim has one."""

from __future__ import annotations

import pytest

from lcbook import claims, references
from lcbook.claims.verdict import refusal
from lcbook.evidence import replications
from lcbook.evidence.confirm import judged_anew


@pytest.mark.parametrize(
    "run", references.references("*"), ids=lambda run: f"{run.kind}-{run.chapter}-{run.device}"
)
def test_committed_verdicts_are_what_their_rows_say(run):
    stored = {one.claim: one for one in claims.restored(run.claims)}
    again = {one.claim: one for one in judged_anew(run)}
    assert {name: refusal(one) for name, one in stored.items()} == dict.fromkeys(again, "")
    assert [name for name, one in again.items() if not replications.same(one, stored[name])] == []


def test_every_claim_that_stands_has_an_exploratory_verdict():
    judged = {one["claim"] for run in references.exploratory("*") for one in run.claims}
    assert judged == {name for name, one in claims.claims().items() if not one.withdrawn}


@pytest.mark.filterwarnings("error:Skipped a replication")
def test_every_replication_counts():
    sent = {path.name.split("-")[0] for path in (references.folder() / "replications").glob("*.json")}
    assert set(replications.repeats({})) == sent
