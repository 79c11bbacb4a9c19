"""What a chapter shows beside its figures: readings, verdict cards, committed runs, the ledger, exercises."""

from __future__ import annotations

import math
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import own_claims
import pandas as pd
import pytest
import torch

from lcbook import claims, page, references, runtime, store
from lcbook.claims import claim
from lcbook.stats.bootstrap import Estimate

TOML = """
[09_chapter.P9]
sentence = "Most questions are answered."
factor = "position encoding"
at_least = 50
unit = "%"
test = "recall"
statistic = "contrast"
tables = ["recall"]
seeds = "0:8"
"""


def table(level: float, seeds: int = 8) -> pd.DataFrame:
    """One arm: all of 100 answers right up to a length of 256, then none, at the level of 60; seeds differ a little."""
    return pd.DataFrame(
        [
            {"arm": "RoPE", "seed": seed, "length": length, "total": 100, "chance": 0.0,
             "correct": min(level / 60 * 100 - seed, 100) * (length <= 256)}
            for seed in range(seeds)
            for length in (64, 128, 256, 512, 1024)
        ]
    )  # fmt: skip


TABLE = table(60).assign(correct=lambda one: 100 * (one["length"] <= 256))


def judged(level: float = 60, seeds: int = 8) -> claims.Card:
    """The card of the claim, after the chapter has made its table at this level of recall."""
    made = page.file("recall", lambda: table(level, seeds), "recall")
    return page.judge("P9", made)


@pytest.fixture(autouse=True)
def chapter(monkeypatch, tmp_path) -> Iterator[Path]:
    """A live chapter with a cache and a folder of committed runs of its own."""
    monkeypatch.setenv("LCBOOK_SCALE", "live")
    monkeypatch.setenv("LCBOOK_CACHE", str(tmp_path / "cache"))
    monkeypatch.setattr(runtime, "session", runtime.Session("09_chapter"))
    monkeypatch.setattr(references, "folder", lambda: tmp_path / "results")
    own_claims.use(monkeypatch, tmp_path, TOML)
    yield tmp_path
    claim.claims.cache_clear()


# Readings ---------------------------------------------------------------------------------------------


def test_a_reading_holds_the_numbers_that_were_computed():
    found = page.reading(
        """RoPE's n50 is {n50},
        {times:.1f} times   the length; {best.value} at {lengths[1]}.""",
        n50=Estimate(3.14, 2.71, 4.0, "above"),
        times=2.04,
        best=Estimate(7, 7, 7),
        lengths=(64, 128),
    )
    assert (
        str(found) == f"RoPE's n50 is {Estimate(3.14, 2.71, 4.0, 'above')}, 2.0 times the length; 7 at 128."
    )
    assert "≥" in str(found)
    assert found._repr_markdown_() == repr(found)
    assert str(page.reading("A brace {{x}} stays.")) == "A brace {x} stays."


def test_a_reading_names_what_is_missing_and_what_is_unused():
    with pytest.raises(ValueError, match=r"text names \['n50'\]; allowed are the numbers given: n, times"):
        page.reading("{n50} and {n} {times}", n=1, times=2)
    with pytest.raises(ValueError, match=r"numbers has \['n'\], which the text does not name"):
        page.reading("{n50}", n=1, n50=2)
    with pytest.raises(ValueError, match=r"text names \['16'\]"):
        page.reading("2^{16} is {n}", n=1)
    with pytest.raises(ValueError, match=r"text names \[''\]"):
        page.reading("{}")


# Verdicts ---------------------------------------------------------------------------------------------


def test_a_claim_is_judged_on_its_whole_table_and_filed(chapter):
    card = judged()
    assert repr(card) == "P9 supported"
    assert runtime.session.verdicts == [card.live]
    assert card.live.designs == {"recall": runtime.session.designs["recall"]}
    stored = store.load_json(chapter / "cache" / "claims" / "live" / "P9.json")
    assert (stored["chapter"], stored["verdict"]) == ("09_chapter", "supported")
    assert (repr(judged(52)), repr(judged(30))) == ("P9 inconclusive", "P9 refuted")


@pytest.mark.parametrize("rows", [slice(0, 35), slice(5, 40), slice(0, 0)])
def test_a_part_of_the_table_judges_nothing(chapter, rows):
    made = page.file("recall", lambda: table(60), "recall")
    for part in (made[rows], made.assign(correct=100)):
        with pytest.raises(
            ValueError, match="tables of claim P9 are others than recall of this run; allowed are these"
        ):
            page.judge("P9", part)
    with pytest.raises(ValueError, match="tables of claim P9 are others"):
        page.judge("P9", made, made)
    assert runtime.session.verdicts == []


def test_few_seeds_and_seeds_of_ones_own_are_not_judged_with_the_reason():
    assert judged(seeds=5).live.why == "5 seeds are fewer than the 6 that an interval of 95 % needs"
    assert (
        judged(seeds=9).live.why
        == "RoPE has rows of the seeds 0 to 8; allowed are all of 0 to 7 and no others"
    )


def committed(chapter: Path, verdict: claims.Verdict, device: str = "cpu", **tables: pd.DataFrame) -> Path:
    session = runtime.Session("09_chapter", tables=tables, designs=runtime.session.designs)
    path = references.save_reference(session, [verdict.to_dict()], 7.0)
    place = chapter / "results" / device / path.name
    place.parent.mkdir(exist_ok=True)
    return path.rename(place)


def test_the_committed_verdict_counts_and_this_run_checks_it(chapter):
    committed(chapter, judged(30).live)
    card = judged()
    assert (card.counts.verdict, card.kind, card.agrees) == (
        "refuted",
        "exploratory",
        "this machine disagrees",
    )
    assert judged(30).agrees == "this machine agrees"


def test_a_verdict_on_a_table_of_another_design_is_refused(chapter):
    committed(chapter, judged(30).live, **runtime.session.tables)
    assert judged().kind == "exploratory"
    card = page.judge("P9", page.file("recall", lambda: table(60), "another design"))
    assert (card.kind, card.exploratory) == ("this run", None)
    assert card.refused == (
        "The stored verdicts on P9 were judged on another design of 'recall' than this one.",
    )


def test_stale_and_damaged_runs_judge_nothing(chapter, monkeypatch):
    path = committed(chapter, judged(30).live, recall=TABLE)
    assert len(page.committed_verdicts("09_chapter")) == len(page.committed("recall")) == 1
    whole = path.read_bytes()
    path.write_bytes(whole[:-9])
    assert page.committed_verdicts("09_chapter") == []
    assert page.committed("recall") == {}
    path.write_bytes(whole)
    monkeypatch.setattr(store, "COMPUTE_VERSION", store.COMPUTE_VERSION + 1)
    assert page.committed_verdicts("09_chapter") == []
    assert page.committed("recall") == {}


def test_a_ledger_that_cannot_be_written_does_not_lose_the_verdict(chapter, monkeypatch):
    (chapter / "file").write_text("")
    monkeypatch.setenv("LCBOOK_CACHE", str(chapter / "file" / "cache"))
    with pytest.warns(UserWarning, match=r"The ledger cannot be written .*; the verdict stands on the page"):
        card = judged()
    assert repr(card) == "P9 supported"
    assert runtime.session.verdicts == [card.live]


def test_outside_a_chapter_nothing_is_recorded(chapter, monkeypatch):
    monkeypatch.setattr(runtime, "session", runtime.Session())
    assert repr(judged()) == "P9 supported"
    assert not (chapter / "cache").exists()


def test_the_ledger_holds_live_and_committed_verdicts(chapter):
    committed(chapter, judged(30).live)
    judged()
    row = page.ledger().frame.iloc[0]
    assert (row["chapter"], row["id"], row["verdict"], row["this machine"]) == (
        "09_chapter",
        "P9",
        "refuted",
        "disagrees",
    )
    assert repr(page.ledger()) == "P9 refuted"


def test_a_ledger_before_any_run():
    assert repr(page.ledger()) == "P9 not run"
    assert "<table" in page.ledger()._repr_html_()


# Committed runs ---------------------------------------------------------------------------------------


def test_no_committed_run_is_said_in_words(chapter):
    for shown in (page.committed_runs(), page.committed_runs("*")):
        assert repr(shown) == "There is no committed run yet."
        assert shown._repr_html_() == "<p>There is no committed run yet.</p>"
    assert page.committed("recall") == {}


def test_committed_runs_are_listed_with_their_state(chapter):
    verdict = judged(30).live
    path = committed(chapter, verdict, device="big-gpu", recall=TABLE)
    path.write_bytes(path.read_bytes()[:-9])
    committed(chapter, verdict, recall=TABLE)
    references.save_reference(runtime.Session("10_other"), [], 1.0)
    frame = page.committed_runs().frame
    assert frame["status"].tolist() == ["damaged", "current"]
    assert frame["seconds"].tolist()[1] == 7.0
    for shown in (repr(page.committed_runs()), page.committed_runs()._repr_html_()):
        assert "damaged" in shown
        assert "live" in shown
        assert "nan" not in shown.lower(), "an unknown cell is empty"
        assert "<NA>" not in shown
        assert "&lt;NA&gt;" not in shown
    assert len(frame["commit"].tolist()[1]) in (0, 10)
    assert page.committed_runs("*").frame["chapter"].tolist() == ["09_chapter", "09_chapter", "10_other"]
    assert page.committed_runs("10_other").frame["chapter"].tolist() == ["10_other"]
    (label,) = page.committed("recall")
    assert label == references.references("09_chapter")[1].label
    pd.testing.assert_frame_equal(page.committed("recall")[label], TABLE)
    assert page.committed("another") == {}


def test_a_stale_table_is_neither_listed_nor_drawn(chapter, monkeypatch):
    verdict = judged(30).live
    assert page.file("recall", lambda: TABLE, 64, "RoPE") is TABLE
    page.file("costs", lambda: TABLE[:5], 1)
    committed(chapter, verdict, **runtime.session.tables)
    (label,) = page.committed("recall")
    assert page.fullest("recall", TABLE[:3])[1] == label
    assert page.committed_runs().frame["status"].tolist() == ["current"]
    page.file("recall", lambda: TABLE[:3], 999, "RoPE")
    assert page.committed("recall") == {}
    live, where = page.fullest("recall", TABLE[:3])
    assert (len(live), where[:9]) == (3, "this run,")
    assert page.committed_runs().frame["status"].tolist() == ["stale: recall"]
    assert label in page.committed("costs")
    assert page.committed_verdicts("09_chapter"), "the digest of a table decides no verdict"
    monkeypatch.setattr(runtime, "session", runtime.Session())
    assert page.committed_runs("*").frame["status"].tolist() == ["current"]


def test_what_is_filed_is_named_by_all_that_determines_it():
    def fails():
        raise AssertionError("nothing is computed")

    page.file("one", lambda: TABLE, 1, (2, 3))
    page.file("two", lambda: TABLE, 1, (2, 3))
    page.file("three", lambda: TABLE, 1, (2, 4))
    designs = runtime.session.designs
    assert list(designs) == list(runtime.session.tables) == ["one", "two", "three"]
    assert len(set(designs.values())) == 3, "another name is another table"
    with pytest.raises(ValueError, match="value is a function; allowed in a spec are"):
        page.file("four", fails, fails)
    assert "four" not in runtime.session.tables


# Numbers ----------------------------------------------------------------------------------------------


def test_recall_stands_beside_that_of_the_committed_runs(chapter):
    committed(chapter, judged(30).live, recall=TABLE, other=TABLE)
    (run,) = references.references("09_chapter")
    axes = page.recall_beside(TABLE, "recall")
    titles = [" ".join(ax.get_title(loc="left").split()) for ax in axes]
    assert titles == [f"This run, {runtime.device_description()}, live scale", f"Committed run, {run.label}"]
    assert len(page.recall_beside(TABLE, "not committed")) == 1


def test_n50_in_units_of_the_training_length():
    tokens, times = page.n50(TABLE), page.n50(TABLE, per=64)
    assert 256 < tokens.value < 512
    assert times.censored is None
    assert (times.value, times.low, times.high) == pytest.approx(
        (tokens.value / 64, tokens.low / 64, tokens.high / 64)
    )
    all_right = page.n50(TABLE.assign(correct=100), per=64)
    assert (all_right.value, all_right.censored) == (16, "above")


def test_n50_is_of_one_arm():
    with pytest.raises(ValueError, match=r"frame holds the arms \['RoPE', 'none'\]; allowed is one"):
        page.n50(pd.concat([TABLE, TABLE.assign(arm="none")]))


def test_share_worked_by_hand():
    assert page.share(pd.DataFrame({"correct": [1, 2], "total": [2, 30]})) == "9 %"  # 3 of 32
    found = page.shares(pd.DataFrame({"arm": ["b", "a", "b"], "correct": [1, 2, 0], "total": [2, 2, 2]}))
    assert (dict(found), list(found)) == ({"b": "25 %", "a": "100 %"}, ["b", "a"])
    assert page.reading("{found[a b]}", found=found).text == "(not run)"


def test_an_arm_that_is_not_there_is_said_and_stops_nothing():
    both = pd.concat([TABLE, TABLE.assign(arm="none", correct=0)])
    arm = page.by_arm(both)
    assert list(arm) == ["RoPE", "none"]
    pd.testing.assert_frame_equal(arm["RoPE"], TABLE)
    assert len(page.by_arm(both, "length")[512]) == 16
    gone = arm["ALiBi"]
    assert (len(gone), list(gone.columns), "ALiBi" in arm) == (0, list(TABLE.columns), False)
    shown = page.reading("{a}, {b}, {c:.1f}, {d} and {e:.0f}", a=page.n50(gone), b=page.share(gone),
                         c=page.score(both, "ALiBi"), d=page.share(TABLE), e=page.score(both, "RoPE"))  # fmt: skip
    assert str(shown) == "(not run), (not run), (not run), 60 % and 60"
    with pytest.raises(KeyError, match="armm"):
        page.by_arm(both, "armm")


def test_an_exercise_is_open_or_right(capsys):
    assert page.check(None, 3.0) is None, "a notebook prints the value of a cell's last line"
    assert capsys.readouterr().out == "Not answered yet: replace None.\n"
    page.check(3.0000001, 3.0)
    page.check(1.04e6, 1e6, tolerance=0.05)  # relative above 1
    page.check(0.04, 0.0, tolerance=0.05)  # absolute below
    page.check("3", 3.0)
    page.check(np.array(3), 3)
    page.check(2 < 3, np.bool_(True))
    assert capsys.readouterr().out == "Right.\n" * 6


@pytest.mark.parametrize(
    ("answer", "expected", "said"),
    [
        (54_000, 54_410, "54000 is close, but a little too small: keep more digits"),
        (1.06e6, 1e6, "1.06e+06 is too large"),
        (3.001, 3.0, "3.001 is close, but a little too large: keep more digits"),
        (72, 0.72, "72 is 100 times too large: a share is asked for, not per cent"),
        (0.97, 97, "0.97 is 100 times too small: per cent are asked for, not a share"),
        (8660, 54_410, "8660 is too small by a factor of 2 pi"),
        (6.283, 1, "6.283 is too large by a factor of 2 pi"),
        (-3.0, 3.0, "-3 has the wrong sign"),
        (0.86, 0.72, "0.86 is too large"),
        (0, 3.0, "0 is too small"),
        (math.nan, 3.0, "nan is not a number"),
        (math.inf, 3.0, "inf is too large"),
        (False, np.bool_(True), "0 does not hold"),
        ("three", 3.0, "the answer is a str; allowed is one number"),
        ((3, 4), 3.0, "the answer is a tuple; allowed is one number"),
        (10**400, 3.0, "the answer is a int; allowed is one number"),
        (torch.ones(2), 1.0, "the answer is a Tensor; allowed is one number"),
    ],
)  # fmt: skip
def test_a_wrong_answer_is_one_line_with_a_hint(capsys, answer, expected, said):
    page.check(answer, expected)
    assert capsys.readouterr().out == f"Not yet: {said}.\n"


def test_score_worked_by_hand():
    rows = [("a", 1, 3, 4), ("a", 1, 1, 4), ("a", 2, 4, 4), ("b", 1, 0, 4)]
    frame = pd.DataFrame(rows, columns=["arm", "hops", "correct", "total"])
    assert page.score(frame, "a", hops=1) == 50
    assert page.score(frame, "a") == pytest.approx(100 * 8 / 12)
    assert math.isnan(page.score(frame, "c"))
    with pytest.raises(
        ValueError, match=r"where names \['hop'\]; allowed are columns of the frame: arm, hops"
    ):
        page.score(frame, "a", hop=1)
