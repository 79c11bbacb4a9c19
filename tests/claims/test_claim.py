"""Frozen claims: read, locked, and refused where one word is another."""

from __future__ import annotations

import math

import own_claims
import pytest

from lcbook.claims import claim
from lcbook.claims.claim import Claim, find, freeze, read, seeds_of

GOOD = {
    "id": "P1", "sentence": "So it is.", "chapter": "01", "factor": "position", "test": "by hand",
    "statistic": "contrast", "tables": ["recall"], "seeds": "0:8", "at_least": 1.0,
}  # fmt: skip


@pytest.mark.parametrize(
    ("change", "name"),
    [
        ({"id": ""}, "id"),
        ({"id": "../P1"}, "id"),
        ({"id": "1P"}, "id"),
        ({"sentence": "  "}, "sentence"),
        ({"factor": ""}, "factor"),
        ({"test": ""}, "test"),
        ({"tables": []}, "tables"),
        ({"tables": "recall"}, "tables"),
        ({"units": "cat"}, "units"),
        ({"seeds": "0-8"}, "seeds"),
        ({"seeds": "3:3"}, "seeds"),
        ({"confirmed_by": "1,1"}, "seeds"),
        ({"at_least": None}, "at_least"),
        ({"at_most": 2.0}, "at_least"),
        ({"at_least": math.inf}, "at_least"),
        ({"at_least": math.nan}, "at_least"),
    ],
)
def test_a_claim_rejects_bad_input(change, name):
    Claim(**GOOD)
    with pytest.raises(ValueError, match=f"^{name} .*allowed"):
        Claim(**(GOOD | change))


def test_seeds_are_a_range_or_a_list():
    assert seeds_of("1000:1003") == (1000, 1001, 1002)
    assert seeds_of("0,2,5") == (0, 2, 5)


def test_a_claim_takes_what_its_chapter_has_in_common():
    found = read(own_claims.TOML)
    assert list(found) == ["P1a", "P1b", "X1"]
    assert (found["P1a"].chapter, found["P1a"].factor, found["P1a"].threshold) == (
        "01_tiny", "position encoding", "at least 16 %",
    )  # fmt: skip
    assert (found["P1a"].about, found["P1b"].threshold) == ("mean over seeds", "at most 12 %")


WRONG = {
    "id twice in one chapter": (
        own_claims.TOML + "\n[01_tiny.P1a]\nsentence = 'Another.'\n",
        "uses an id twice",
    ),
    "id twice in the book": (
        own_claims.TOML.replace("[02_small.X1]", "[02_small.P1a]"),
        "P1a is used twice",
    ),
    "unknown field": (own_claims.TOML.replace("unit =", "units_of ="), r"has the fields \['units_of'\]"),
    "incomplete": (own_claims.TOML.replace('test = "by hand"\n', ""), "X1 is incomplete"),
    "no TOML": ("P1a = [", "no TOML"),
}


@pytest.mark.parametrize(("text", "said"), WRONG.values(), ids=WRONG)
def test_a_file_that_holds_no_claims_is_refused(text, said):
    with pytest.raises(ValueError, match=said):
        read(text)


EDITS = {
    "sentence": ('"Most are right."', '"Almost all are right."'),
    "threshold": ("at_least = 16", "at_least = 15"),
    "direction": ("at_most = 12.0", "at_least = 12.0"),
    "statistic": ('statistic = "contrast"', 'statistic = "n50"'),
    "seeds": ('seeds = "0:8"', 'seeds = "0:7"'),
    "test": ('"pooled recall"', '"recall"'),
    "estimand": ('unit = "%"', 'unit = "%"\nof = "median"'),
    "filter": ('unit = "%"', 'unit = "%"\nwhere = { arm = "a" }'),
}


@pytest.mark.parametrize("edit", EDITS)
def test_a_frozen_claim_cannot_be_changed(monkeypatch, tmp_path, edit):
    old, new = EDITS[edit]
    assert old in own_claims.TOML
    claim.FILE.write_text(own_claims.TOML.replace(old, new))
    claim.claims.cache_clear()
    with pytest.raises(ValueError, match=r"is not as it was frozen; allowed is a new claim"):
        find("P1a")
    with pytest.raises(ValueError, match="is not as it was frozen"):
        freeze()


def test_a_note_and_a_withdrawal_may_follow_the_run():
    before = find("P1a").digest
    claim.FILE.write_text(own_claims.TOML.replace('unit = "%"', 'unit = "%"\nnote = "Seen before."', 1))
    claim.claims.cache_clear()
    assert (find("P1a").digest, find("P1a").note) == (before, "Seen before.")


def test_a_frozen_claim_cannot_go_nor_come_back_as_another():
    whole = own_claims.TOML
    claim.FILE.write_text(whole[: whole.index("[01_tiny.P1b]")])
    claim.claims.cache_clear()
    with pytest.raises(ValueError, match="claim P1b is gone; allowed is to withdraw it"):
        find("P1a")
    claim.FILE.write_text(whole.replace("Few are right.", "Another claim."))
    claim.claims.cache_clear()
    with pytest.raises(ValueError, match="P1b is not as it was frozen"):
        find("P1a")


def test_what_was_withdrawn_stays_as_it_was_said():
    whole = own_claims.TOML
    for text in (
        whole.replace("A control said otherwise.", "It was wrong."),
        whole[: whole.index("withdrawn =")],
    ):
        claim.FILE.write_text(text)
        claim.claims.cache_clear()
        with pytest.raises(ValueError, match="claim X1 was withdrawn otherwise; allowed is to leave it so"):
            find("P1a")
    reason = 'withdrawn = { verdict = "-", effect = "-", date = "2025-01-01", why = "We did not like it." }'
    claim.FILE.write_text(whole.replace('unit = "%"', f'unit = "%"\n{reason}', 1))
    claim.claims.cache_clear()
    with pytest.raises(ValueError, match="claim P1a is not frozen"):
        find("P1a")


def test_what_is_not_frozen_or_not_there_is_not_judged(monkeypatch, tmp_path):
    with pytest.raises(ValueError, match=r"id is 'Z9'; allowed are the claims"):
        find("Z9")
    claim.LOCK.unlink()
    with pytest.raises(ValueError, match=r"P1a is not frozen; run python -m lcbook freeze"):
        find("P1a")
    assert freeze() == ["P1a", "P1b", "X1", "X1:withdrawn"]
    assert find("P1a").id == "P1a"
