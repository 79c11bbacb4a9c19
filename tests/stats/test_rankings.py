"""Rankings by hand, against scipy, and the bootstrap against one written out draw by draw."""

from __future__ import annotations

import math

import numpy as np
import pandas as pd
import pytest
from scipy import stats as distributions

from lcbook import stats
from lcbook.stats import rankings, variance
from lcbook.stats.rankings import kendall, rank_table, reversals, tau_interval, tau_table

MODELS = tuple("abcdefg")


def table(**scores: list[float]) -> pd.DataFrame:
    """Counts out of 1009, in rows of two parts that are to be pooled."""
    rows = []
    for benchmark, values in scores.items():
        for model, value in zip(MODELS, values, strict=False):
            k = round(1009 * value)
            rows += [(model, benchmark, k - k // 3, 1009 - 1009 // 3), (model, benchmark, k // 3, 1009 // 3)]
    return pd.DataFrame(rows, columns=["model", "benchmark", "correct", "total"])


UP, DOWN = [0.1, 0.2, 0.3, 0.5, 0.7, 0.8, 0.9], [0.9, 0.8, 0.7, 0.5, 0.3, 0.2, 0.1]
MIXED = [0.2, 0.1, 0.3, 0.8, 0.5, 0.7, 0.9]  # 3 of 21 pairs swap: tau 15/21


# ---- tau


def test_tau_by_hand():
    assert kendall([1, 2, 3, 4], [1, 2, 3, 4]) == 1
    assert kendall([1, 2, 3, 4], [4, 3, 2, 1]) == -1
    assert kendall([1, 2, 3], [1, 3, 2]) == pytest.approx(1 / 3)
    # pairs (1,2) tied in a: 2 agree of sqrt(2 x 3)
    assert kendall([1, 1, 2], [1, 2, 3]) == pytest.approx(2 / math.sqrt(6))
    assert math.isnan(kendall([1, 1, 1], [1, 2, 3]))


def test_tau_is_scipys_with_ties():
    rng = np.random.default_rng(0)
    for n in (3, 7, 13, 29):
        a, b = rng.integers(5, size=(2, n))
        expected = distributions.kendalltau(a, b).statistic
        assert kendall(a, b) == pytest.approx(expected, nan_ok=True), n


def test_the_order_of_the_models_is_the_same_everywhere_or_reversed():
    frame = table(one=UP, two=UP, three=DOWN, four=MIXED)
    assert tau_interval(frame, "one", "two")().value == 1
    assert tau_interval(frame, "one", "three")().value == -1
    found = tau_interval(frame, "one", "four")()
    assert found.value == pytest.approx(15 / 21)
    assert found.low < 15 / 21 < found.high <= 1
    assert tau_interval(frame, "four", "one")().value == found.value


def test_the_bootstrap_is_the_one_written_out():
    """Models drawn with replacement, pairs of a model with itself left out, recalls from the posterior."""
    frame, rng = table(one=UP, four=MIXED), np.random.default_rng(7)
    counts = frame.groupby(["benchmark", "model"])[["correct", "total"]].sum()
    c, t = (counts[name].unstack("model").loc[["one", "four"]].to_numpy() for name in ("correct", "total"))
    taus = []
    for _ in range(4000):
        drawn, rates = rng.integers(7, size=7), rng.beta(c + 0.5, t - c + 0.5)
        same = drawn[:, None] == drawn
        x, y = (np.sign(np.subtract.outer(one[drawn], one[drawn]))[~same] for one in rates)
        taus.append((x * y).sum() / math.sqrt((x**2).sum() * (y**2).sum()))
    found = tau_interval(frame, "one", "four", resamples=4000)()
    tail = 0.5 * math.erfc(math.sqrt(7 / 6) * 2.4469 / math.sqrt(2))  # Student's t with 6 degrees of freedom
    assert found.low == pytest.approx(np.quantile(taus, tail), abs=0.06)
    assert found.high == pytest.approx(np.quantile(taus, 1 - tail), abs=0.03)
    assert np.median(taus) == pytest.approx(15 / 21, abs=0.08), "a model drawn twice is no tie"


def test_few_queries_widen_the_interval():
    rng = np.random.default_rng(1)
    ability = rng.normal(size=23)
    rows = [(f"m{m}", b, a + 0.2 * rng.normal()) for m, a in enumerate(ability) for b in ("x", "y")]
    frame = pd.DataFrame(rows, columns=["model", "benchmark", "ability"])
    share = 1 / (1 + np.exp(-frame["ability"]))
    many, few = ((share * n).round().astype(int) for n in (10007, 11))
    wide, narrow = (
        tau_interval(frame.assign(correct=c, total=n), "x", "y")() for c, n in ((few, 11), (many, 10007))
    )
    assert narrow.low > wide.low
    assert narrow.high - narrow.low < wide.high - wide.low
    assert narrow.low > 0.3


def test_scores_without_counts_are_ranked_as_they_are():
    frame = table(one=UP)
    loss = pd.DataFrame(
        {"model": MODELS, "benchmark": "loss", "score": [-3.0, -2.5, -2.0, -1.5, -1.2, -1.1, -1.0]}
    )
    both = pd.concat([frame, loss])
    assert tau_interval(both, "one", "loss")().value == 1
    alone = tau_interval(pd.concat([loss, loss.assign(benchmark="again")]), "loss", "again")()
    assert (alone.low, alone.value, alone.high) == (1, 1, 1), "nothing is redrawn"
    assert rank_table(both)["loss"].tolist() == [7, 6, 5, 4, 3, 2, 1]


def test_all_ties_are_undefined():
    found = tau_interval(table(one=UP, flat=[0.5] * 7), "one", "flat")()
    assert math.isnan(found.value)


def test_tau_table_has_a_row_a_pair():
    frame = table(one=UP, two=UP, three=DOWN)
    got = tau_table(frame, resamples=101)
    assert got[["a", "b"]].to_numpy().tolist() == [["one", "two"], ["one", "three"], ["two", "three"]]
    assert got["tau"].tolist() == [1, -1, -1]
    assert got["models"].tolist() == [7] * 3
    again = tau_interval(frame, "one", "three", resamples=101)()
    assert got.loc[1, ["low", "high"]].tolist() == [again.low, again.high]


def test_models_are_one_family_if_alike_and_then_come_together():
    frame = pd.DataFrame(
        {"arm": ["a", "b", "c", "d", "a"], "position": ["none", "RoPE", "none", "none", "none"],
         "mixer": ["delta", "softmax", "gated", "softmax", "delta"]}
    )  # fmt: skip
    family = rankings.families(frame, ["position", "mixer"], {"delta": "recurrence", "gated": "recurrence"})
    assert family.to_dict() == {
        "a": "none, recurrence", "b": "RoPE, softmax", "c": "none, recurrence", "d": "none, softmax",
    }  # fmt: skip
    # in one order within each family, in the other between them: two families leave -1 or the inside of one
    up, other = [0.1, 0.2, 0.3, 0.7, 0.8, 0.9], [0.7, 0.8, 0.9, 0.1, 0.2, 0.3]
    pair = dict(zip("abcdef", "xxxyyy", strict=True))
    found = tau_interval(table(one=up, two=other), "one", "two", family=pair)()
    assert found.value == pytest.approx((6 - 9) / 15)
    assert found.high == 1, "a resample of one family alone"


def test_the_tau_of_one_models_pairs_by_hand():
    frame = table(one=[0.1, 0.2, 0.3, 0.3], two=[0.2, 0.1, 0.3, 0.4])
    # a and b swap; c and d tie in the first: 2 of their 3 pairs count there
    one = 2 / math.sqrt(2 * 3)
    assert rankings.agreement(frame, "one", "two").to_dict() == pytest.approx(
        {"a": 1 / 3, "b": 1 / 3, "c": one, "d": one}
    )


# ---- ranks and reversals


def test_ranks_by_hand_with_ties():
    frame = table(one=[0.5, 0.9, 0.5, 0.1], two=[0.1, 0.2, 0.3, 0.4])
    got = rank_table(frame)
    assert list(got.index) == list("abcd")
    assert list(got.columns) == ["one", "two"]
    assert got["one"].tolist() == [2.5, 1, 2.5, 4]
    assert got["two"].tolist() == [4, 3, 2, 1]


def test_reversals_are_pairs_that_differ_both_ways():
    # a beats b by .2 and loses by .2; c differs from neither by more than noise on "two".
    frame = table(one=[0.7, 0.5, 0.3], two=[0.4, 0.6, 0.5])
    got = reversals(frame, "one", "two")
    assert got[["first", "second"]].to_numpy().tolist() == [["a", "b"], ["a", "c"]]
    k = [round(1009 * x) for x in (0.7, 0.5, 0.4, 0.6)]
    one = stats.difference_of_shares(k[0], 1009, k[1], 1009)
    two = stats.difference_of_shares(k[2], 1009, k[3], 1009)
    ends = [one.value, one.low, one.high, two.value, two.low, two.high]
    assert got.iloc[0, 2:].tolist() == pytest.approx(ends)
    swapped = reversals(frame, "two", "one")
    assert swapped[["first", "second"]].to_numpy().tolist() == [["b", "a"], ["c", "a"]]
    few = frame.assign(correct=(frame["correct"] * 0.02).round(), total=(frame["total"] * 0.02).round())
    assert reversals(few, "one", "two").empty
    assert reversals(table(one=UP, two=UP), "one", "two").empty


def test_reversal_of_a_score_needs_any_difference():
    loss = pd.DataFrame({"model": ["a", "b"], "benchmark": "loss", "score": [-2.0, -1.0]})
    got = reversals(pd.concat([table(one=[0.7, 0.5]), loss]), "one", "loss")
    assert got[["first", "second", "difference_b", "low_b", "high_b"]].to_numpy().tolist() == [
        ["a", "b", -1, -1, -1]
    ]


def test_the_variance_is_part_of_these_names():
    assert rankings.variance_shares is variance.variance_shares


LOSS = pd.DataFrame({"model": MODELS, "benchmark": "loss", "score": 1.0})


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda: kendall([1], [1]), r"a has shape \(1,\)"),
        (lambda: kendall([1, 2], [1, math.nan]), "allowed are two finite lists"),
        (lambda: kendall([1, 2, 3], [1, 2]), r"b \(2,\)"),
        (lambda: tau_interval(table(one=UP, two=UP), "one", "six"), "benchmark is 'six'; allowed is one of 'one'"),
        (lambda: tau_interval(table(one=[0.1, 0.2], two=[0.1, 0.2]), "one", "two"), "table has 2 models"),
        (lambda: tau_interval(table(one=UP, two=UP[:5]), "one", "two"), "'two' lacks a score: see model 'f'"),
        (lambda: tau_interval(pd.concat([table(one=UP), table(loss=UP[:3]), LOSS]), "one", "loss"),
         "benchmark 'loss' has counts for some models only: see model 'd'"),
        (lambda: tau_interval(table(one=UP, two=UP), "one", "two", resamples=0), "resamples is 0"),
        (lambda: tau_interval(table(one=UP, two=UP), "one", "two")(95), "confidence is 95"),
        (lambda: tau_interval(table(one=UP, two=UP).assign(correct=2000), "one", "two"), "correct is 2000 of"),
        (lambda: tau_interval(table(one=UP, two=UP), "one", "two", family={"a": 1}), "family lacks 'b'"),
        (lambda: rankings.families(pd.DataFrame({"arm": ["a"]}), ["position"], {}), "lacks the columns"),
        (lambda: rankings.families(pd.DataFrame({"arm": "a", "kind": ["x", "y"]}), ["kind"], {}),
         r"arm 'a' is of the families \['x', 'y'\]; allowed is one"),
        (lambda: tau_table(table(one=UP)), r"table has the benchmarks \['one'\]; allowed are two or more"),
        (lambda: rank_table(table(one=UP)[:0]), "frame has no rows"),
        (lambda: rank_table(table(one=UP).drop(columns="total")), "correct and total or score"),
        (lambda: reversals(table(one=UP), "one", "two"), "benchmark is 'two'"),
    ],
)  # fmt: skip
def test_bad_input_is_named(call, message):
    with pytest.raises(ValueError, match=message):
        call()


# ---- from the table of a run


def test_probes_are_benchmarks_and_text_loss_is_one_more():
    rows = [
        ("m", 0, "b", 1, 4, math.nan),
        ("m", 0, "a", 3, 4, 1.5),
        ("n", 0, "b", 2, 4, math.nan),
        ("n", 0, "a", 0, 4, 0.5),
    ]
    frame = pd.DataFrame(rows, columns=["arm", "seed", "probe", "correct", "total", "text_loss"])
    found = rankings.benchmark_scores(frame, {"a": "A", "b": "B"})
    assert found["benchmark"].unique().tolist() == ["A", "B", "text loss"]
    assert kendall(*(found[found["benchmark"] == one].set_index("model")["correct"] for one in "AB")) == -1
    told = found[found["benchmark"] == "text loss"]
    assert told[["model", "score", "total"]].values.tolist() == [["m", -1.5, 0], ["n", -0.5, 0]]
    assert tau_interval(pd.concat([found, found.assign(model=found["model"] + "2")]), "A", "A")().value == 1
    with pytest.raises(ValueError, match=r"benchmarks lacks \['b'\]"):
        rankings.benchmark_scores(frame, {"a": "A"})


def test_a_benchmark_is_compared_with_itself_between_seeds():
    first, second = (table(one=scores, two=UP).assign(seed=seed) for seed, scores in ((3, UP), (5, MIXED)))
    both = pd.concat([second.iloc[::-1], first])
    assert rankings.tau_between_seeds(both, "one") == pytest.approx(15 / 21)
    assert rankings.tau_between_seeds(both, "two") == 1
    assert math.isnan(rankings.tau_between_seeds(first, "one"))
