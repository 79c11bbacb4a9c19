"""Judging: rows in, a verdict out; nothing but the interval decides, and nobody chooses the rows."""

from __future__ import annotations

import json
import math

import numpy as np
import own_claims
import pandas as pd
import pytest
from own_claims import table
from scipy import stats

from lcbook import claims
from lcbook.claims import effects, rows
from lcbook.claims.claim import Claim, find
from lcbook.claims.judging import choices
from lcbook.claims.verdict import Verdict, decide
from lcbook.stats.estimate import Estimate

SEEDS = list(range(8))
HIGH = [50.0, 60, 55, 52, 58, 57, 53, 54]


def effect_of(low, value, high, censored=None, units=8):
    found = Estimate(value, low, high, censored)
    return effects.Effect(lambda _: found, {unit: float(value) for unit in range(units)})


@pytest.mark.parametrize(
    ("name", "low", "value", "high", "censored", "word"),
    [
        ("P1a", 16, 20, 30, None, "supported"),
        ("P1a", 15.9, 20, 30, None, "inconclusive"),
        ("P1a", 1, 2, 15.9, None, "refuted"),
        ("P1a", 1, 2, 16, None, "inconclusive"),
        ("P1a", 32, 32, 32, "above", "supported"),
        ("P1a", 8, 8, 8, "above", "inconclusive"),
        ("P1a", 8, 8, 8, "below", "refuted"),
        ("P1a", 20, 20, 20, "below", "inconclusive"),
        ("P1a", 20, 25, 30, "both", "inconclusive"),
        ("P1a", math.nan, math.nan, math.nan, None, "not judged"),
        ("P1b", 1, 2, 12, None, "supported"),
        ("P1b", 1, 2, 12.1, None, "inconclusive"),
        ("P1b", 12.1, 15, 16, None, "refuted"),
        ("P1b", 12, 15, 16, None, "inconclusive"),
        ("P1b", 2, 2, 2, "below", "supported"),
        ("P1b", 15, 15, 15, "below", "inconclusive"),
        ("P1b", 15, 15, 15, "above", "refuted"),
    ],
)
def test_the_interval_decides(name, low, value, high, censored, word):
    found = decide(find(name), effect_of(low, value, high, censored), seeds=SEEDS, designs={})
    assert found.verdict == word


def test_six_units_are_needed_and_smoke_scale_judges_nothing(monkeypatch):
    said = [decide(find("P1a"), effect_of(17, 20, 23, units=n), seeds=SEEDS, designs={}) for n in (5, 6)]
    assert [one.verdict for one in said] == ["not judged", "supported"]
    assert "5 seeds are fewer than the 6" in said[0].why
    monkeypatch.setenv("LCBOOK_SCALE", "smoke")
    found = decide(find("P1a"), effect_of(17, 20, 23), seeds=SEEDS, designs={})
    assert (found.verdict, found.why) == ("not judged", "nothing is judged at smoke scale")


def test_recall_is_judged_from_the_rows():
    found = claims.judge(find("P1a"), {"recall": table(HIGH)}, designs={"recall": "d"})
    assert (found.verdict, found.seeds, found.designs) == ("supported", SEEDS, {"recall": "d"})
    assert found.effect.value == pytest.approx(np.mean(HIGH))
    t = 2.3646 * np.std(HIGH, ddof=1) / math.sqrt(8)  # Student's t of 7 degrees of freedom, from a table
    assert found.effect.low == pytest.approx(np.mean(HIGH) - t, rel=1e-4)
    assert found.dots == pytest.approx({str(seed): value for seed, value in enumerate(HIGH)})
    assert found.beyond == 8
    assert found.p == 1e-4  # the least that is told


def test_p_is_where_the_interval_just_excludes_the_threshold():
    values = [15.0, 19, 18, 17, 20, 18, 16.5, 18.5]
    found = claims.judge(find("P1a"), {"recall": table(values)}, designs={})
    assert found.p == pytest.approx(stats.ttest_1samp(values, 16).pvalue, rel=0.01)


SEEDS_WRONG = {
    "a seed is left out": [*SEEDS[:-1], 8],
    "one is left out": SEEDS[:-1],
    "one more was run": [*SEEDS, 8],
    "others were chosen": [0, 1, 2, 3, 4, 5, 6, 17],
}


@pytest.mark.parametrize("seeds", SEEDS_WRONG.values(), ids=SEEDS_WRONG)
def test_the_seeds_of_the_claim_and_no_others_count(seeds):
    few = table((HIGH * 2)[: len(seeds)], seeds)
    found = claims.judge(find("P1a"), {"recall": few}, designs={})
    assert found.verdict == "not judged"
    assert found.why.startswith("a has rows of the seeds 0")
    assert found.why.endswith("allowed are all of 0 to 7 and no others")


def test_no_arm_may_lack_a_seed_unless_the_claim_says_so():
    both = pd.concat([table(HIGH), table(HIGH).assign(arm="b")[1:]]).assign(solved=True)
    terms = {"using": {"terms": [{"arm": "a"}, {"arm": "b"}]}}
    found = claims.judge(changed(**terms), {"recall": both}, designs={})
    assert (found.verdict, found.why) == (
        "not judged", "b has rows of the seeds 1 to 7; allowed are all of 0 to 7 and no others",
    )  # fmt: skip
    assert (
        claims.judge(changed(**terms, where={"solved": True}), {"recall": both}, designs={}).verdict
        == "supported"
    )


def test_a_live_run_may_have_some_of_the_seeds(monkeypatch):
    monkeypatch.setenv("LCBOOK_SCALE", "live")
    assert claims.judge(find("P1a"), {"recall": table(HIGH[:6])}, designs={}).verdict == "supported"
    pilots = table(HIGH[:6], [0, 1, 2, 3, 4, 90])
    assert "no others" in claims.judge(find("P1a"), {"recall": pilots}, designs={}).why


def test_confirmatory_seeds_take_the_place_of_the_explored_ones():
    fresh = list(range(1000, 1012))
    found = claims.judge(find("P1a"), {"recall": table([50.0] * 12, fresh)}, designs={}, seeds=fresh)
    assert (found.verdict, found.seeds) == ("supported", fresh)
    explored = claims.judge(find("P1a"), {"recall": table(HIGH)}, designs={}, seeds=fresh)
    assert explored.why == "a has rows of the seeds 0 to 7; allowed are all of 1000 to 1011 and no others"


def changed(**fields) -> Claim:
    one = find("P1a")
    return Claim(**{name: getattr(one, name) for name in one.__dataclass_fields__} | fields)


@pytest.mark.parametrize(
    ("fields", "why"),
    [
        ({"where": {"arm": "b"}}, "no rows where arm is 'b'"),
        ({"tables": ["gone"]}, "the table 'gone' was not made, or has no rows"),
        ({"where": {"correct": {"at_least": 10_000}}}, "no rows where correct is at least 10000"),
    ],
)
def test_what_is_not_there_is_not_judged_with_the_reason(fields, why):
    found = claims.judge(changed(**fields), {"recall": table(HIGH)}, designs={})
    assert (found.verdict, found.why) == ("not judged", why)


def test_a_claim_whose_condition_fails_is_not_judged():
    need = {"says": "the needle is learned", "statistic": "contrast", "at_least": 90}
    found = claims.judge(changed(requires=[need]), {"recall": table(HIGH)}, designs={})
    assert (found.verdict, found.why) == ("not judged", "the needle is learned does not hold: 54.9")
    kept = claims.judge(changed(requires=[need | {"at_least": 50}]), {"recall": table(HIGH)}, designs={})
    assert kept.verdict == "supported"


@pytest.mark.parametrize(
    ("fields", "said"),
    [
        ({"statistic": "vibes"}, r"statistic of claim P1a is 'vibes'; allowed are .*contrast"),
        ({"of": "best seed"}, r"of is 'best seed'; allowed are mean"),
        ({"where": {"colour": "red"}}, r"where names 'colour'; allowed are columns"),
        ({"where": {"arm": {"like": "a"}}}, r"where tests 'arm' by .*allowed are is"),
        ({"using": {"value": "colour"}}, r"value is 'colour'; allowed are"),
    ],
)
def test_a_claim_that_means_nothing_is_refused(fields, said):
    with pytest.raises(ValueError, match=said):
        claims.judge(changed(**fields), {"recall": table(HIGH)}, designs={})


def test_a_withdrawn_claim_is_not_judged():
    with pytest.raises(ValueError, match="claim X1 is withdrawn"):
        claims.judge(find("X1"), {"recall": table(HIGH)}, designs={})


def test_rows_are_selected_by_values_lists_bounds_and_ends():
    frame = pd.DataFrame(
        {"arm": ["a", "a", "b", "c"], "length": [64, 128, 256, 128], "reach": [100, 100, 300, 100]}
    )
    picks = [
        ({"arm": "a"}, [0, 1]),
        ({"arm": ["a", "c"]}, [0, 1, 3]),
        ({"length": {"at_least": 128, "below": 256}}, [1, 3]),
        ({"length": {"above": "reach"}}, [1, 3]),
        ({"arm": {"not": "a"}}, [2, 3]),
        ({"arm": ["a", "c"], "length": {"is": "largest"}}, [1, 3]),
        ({"length": {"is": "smallest"}}, [0]),
    ]
    for where, kept in picks:
        assert rows.select(frame, where).index.tolist() == kept


def test_terms_of_one_arm_fail_together_and_of_two_by_themselves():
    frame = pd.DataFrame(
        {
            "arm": ["a"] * 4 + ["b"] * 2,
            "seed": [0, 1, 0, 1, 0, 1],
            "length": [64, 64, 128, 128, 64, 64],
            "correct": [100, 2, 60, 2, 50, 40],
            "total": 100,
            "chance": 0.02,
            "in_distribution": [1.0, 0.02, 1.0, 0.02, 0.9, 0.9],
        }
    )
    found = rows.contrast(
        frame,
        [(1.0, {"arm": "a", "length": 64}), (-1.0, {"arm": "a", "length": 128}), (1.0, {"arm": "b"})],
        scale=100.0,
    )
    assert found.units == (0, 1)
    assert found.values.tolist() == [90.0, 40.0]
    one, other = found.arms
    assert (one.learned.tolist(), other.learned.tolist()) == ([True, False], [True, True])
    assert (one.failed, other.failed) == (0.0, 0.0)
    assert found.learned == (1, 2)


def rates(solved: dict[float, list[bool]]) -> pd.DataFrame:
    return pd.DataFrame(
        [
            {"arm": "a", "train.lr": rate, "seed": seed, "solved": passed, "updates_to_gate": 10 - 100 * rate,
             "updates": 20, "in_distribution": 1.0, "correct": 1000 * rate * 10, "total": 1000}
            for rate, flags in solved.items()
            for seed, passed in enumerate(flags)
        ]
    )  # fmt: skip


def test_a_rate_that_other_seeds_might_have_chosen_counts():
    close = rates({0.01: [True] * 8, 0.05: [True] * 7 + [False]})
    assert choices(close, "train.lr") == {"a": [0.01, 0.05]}
    clear = rates({0.01: [True] * 8, 0.05: [False] * 8})
    assert choices(clear, "train.lr") == {"a": [0.01]}
    tied = claims.judge(changed(choose="train.lr"), {"recall": close}, designs={})
    assert (tied.effect.value, round(tied.effect.high)) == (10.0, 51)
    assert tied.verdict == "inconclusive"
    alone = claims.judge(changed(choose="train.lr"), {"recall": clear}, designs={})
    assert (alone.effect.value, round(alone.effect.high), alone.verdict) == (10.0, 11, "refuted")


def test_the_largest_of_several_is_judged_by_each_of_them():
    pair = {
        "a": own_claims.table([10.0, 12, 11, 9, 10, 11]),
        "b": own_claims.table([11.0, 9, 10, 12, 10, 11]),
    }
    samples = {name: rows.contrast(one, [(1.0, {})], scale=100.0) for name, one in pair.items()}
    found = effects.effect("largest mean", [samples])
    alone = effects.effect("mean", [samples["a"]]).interval(0.95)
    assert found.interval(0.95).high == pytest.approx(alone.high)
    assert found.interval(0.95).low < alone.low


def test_the_distance_from_a_number_moves_the_dots_too():
    near = rows.contrast(table([40.0, 60, 50, 45, 55, 50]), [(1.0, {})])
    found = effects.effect("distance from 0.5 of the mean", [near])
    assert found.interval(0.95).low == 0
    assert found.dots[0] == pytest.approx(0.1)


def test_a_verdict_survives_json_and_rejects_bad_input():
    found = claims.judge(find("P1b"), {"recall": table([3.0] * 8)}, designs={"recall": "d"})
    assert Verdict.from_dict(json.loads(json.dumps(found.to_dict(), allow_nan=False))) == found
    record = found.to_dict()
    for name in ("claim", "frozen", "effect", "verdict", "dots", "seeds", "p", "date"):
        with pytest.raises(ValueError, match=name):
            Verdict.from_dict({key: value for key, value in record.items() if key != name})
    with pytest.raises(ValueError, match=r"verdict .*allowed"):
        Verdict.from_dict(record | {"verdict": "proved"})
    with pytest.raises(ValueError, match=r"date .*allowed"):
        Verdict.from_dict(record | {"date": "yesterday"})


def test_seeds_that_agree_are_not_surer_than_their_questions():
    same = pd.concat([table([100.0] * 8, asked=512).assign(asked=n) for n in (0, 1)])
    found = rows.contrast(same, [(1.0, {"asked": 0}), (-1.0, {"asked": 1})], scale=100.0)
    share = 512.5 / 513
    deviation = 100 * math.sqrt(2 * share * (1 - share) / 512)
    half = stats.t.ppf(0.975, 7) * deviation / math.sqrt(8)
    effect = effects.effect("mean", [found]).interval(0.95)
    assert (effect.low, effect.high) == pytest.approx((-half, half), rel=1e-6)


def test_rows_that_were_left_out_are_noticed():
    whole = pd.concat([table(HIGH).assign(length=n) for n in (64, 128)])
    assert claims.judge(changed(), {"recall": whole}, designs={}).verdict == "supported"
    cell = whole[(whole["length"] != 128) | (whole["seed"] != 3)]
    assert (
        "a has rows of the seeds 0, 1, 2, 4, 5, 6, 7"
        in claims.judge(changed(), {"recall": cell}, designs={}).why
    )
    fewer = whole.assign(total=whole["total"].where(whole["seed"] != 3, 900))
    assert (
        claims.judge(changed(), {"recall": fewer}, designs={}).why
        == "a has seeds that were asked less than others"
    )


def test_at_the_sizes_of_a_gpu_nothing_is_judged(monkeypatch):
    monkeypatch.setenv("LCBOOK_SCALE", "gpu")
    assert "not those of a GPU" in claims.judge(find("P1a"), {"recall": table(HIGH)}, designs={}).why


def test_a_model_has_learned_if_it_does_half_of_what_the_best_of_its_arm_does():
    """Above chance, 0.1: of 0.45, 0.24 is more than half, 0.20 less; of 0.08 nothing is learned."""

    def learned(*recalls: float) -> list[bool]:
        return rows.learned(
            pd.DataFrame({"seed": range(len(recalls)), "in_distribution": recalls, "chance": 0.1})
        ).tolist()

    assert learned(0.55, 0.34, 0.30) == [True, True, False]
    assert learned(0.18, 0.12) == [False, False]
    assert rows.learned(pd.DataFrame({"seed": [0]})) is None
