"""Effective lengths by hand, their intervals, and how often a repeat flips, against exact probabilities."""

from __future__ import annotations

import math

import numpy as np
import pandas as pd
import pytest
from scipy import stats as distributions

from lcbook import stats
from lcbook.stats import effective
from lcbook.stats.effective import RULES, effective_length, effective_table, flip_share, repeats
from lcbook.stats.estimate import Estimate

LENGTHS = (1024, 2048, 4096, 8192, 16384)
DIPS = (0.97, 0.80, 0.90, 0.83, 0.40)  # below 85.6 % at 2048 and from 8192 on; 85 % of 0.97 is 0.8245


# ---- rules


def test_rules_by_hand():
    assert effective.last_success(LENGTHS, DIPS) == 4096
    assert effective.first_failure(LENGTHS, DIPS) == 1024
    assert effective.share_of_base(LENGTHS, DIPS) == 8192
    assert effective.last_success(LENGTHS, DIPS, 0.4) == 16384
    assert effective.first_failure(LENGTHS, DIPS, 0.83) == 1024
    assert effective.share_of_base(LENGTHS, DIPS, 0.9) == 4096
    assert list(RULES) == ["RULER", "first failure", "NoLiMa", "half recall"]
    assert [RULES[name](LENGTHS, DIPS) for name in list(RULES)[:3]] == [4096, 1024, 8192]


def test_where_no_length_passes_the_length_is_zero():
    nothing = [0.0] * 5
    assert [RULES[name](LENGTHS, nothing) for name in RULES] == [0, 0, 0, 0]
    assert effective.half_recall(LENGTHS, [1.0] * 5) == math.inf
    assert [RULES[name](LENGTHS, [1.0] * 5) for name in list(RULES)[:3]] == [16384] * 3


def test_a_score_at_the_level_passes_whatever_its_rounding():
    assert effective.share_of_base([64, 128], [0.9, 0.9 * 0.85]) == 128
    assert effective.share_of_base([64, 128], [0.3, 0.255]) == 128
    assert effective.last_success([64, 128], [1, 0.856]) == 128
    assert effective.last_success([64, 128], [1, 0.8559]) == 64


def test_rules_take_many_curves_at_once():
    rng = np.random.default_rng(0)
    scores = rng.random((3, 7, 5))
    for name, rule in RULES.items():
        many = rule(LENGTHS, scores)
        assert many.shape == (3, 7), name
        assert many[1, 4] == pytest.approx(rule(LENGTHS, scores[1, 4]), rel=1e-6), name


def test_half_recall_is_n50_at_equal_counts():
    correct, total = [97, 95, 83, 41, 13], [101] * 5
    found = effective.half_recall(LENGTHS, [c / 101 for c in correct], chance=0.1)
    assert found == pytest.approx(
        stats.n50_point(LENGTHS, correct, total, chance=0.1, logistic=True), rel=1e-4
    )


# ---- intervals


def test_with_many_queries_the_interval_closes():
    correct = [round(1e6 * y) for y in DIPS]
    for rule, length in (("RULER", 4096), ("first failure", 1024), ("NoLiMa", 8192)):
        assert effective_length(LENGTHS, correct, [10**6] * 5, rule=rule) == Estimate(length, length, length)


def test_the_interval_holds_the_lengths_that_the_posterior_gives():
    # At 8192 P(rate >= .856) of Beta(17.5, 3.5) decides between 4096 and 8192.
    correct, total = [1000, 1000, 1000, 17, 0], [1000, 1000, 1000, 20, 1000]
    passing = distributions.beta.sf(0.856, 17.5, 3.5)
    assert 0.3 < passing < 0.6
    assert effective_length(LENGTHS, correct, total) == Estimate(4096, 4096, 8192)
    wide = effective_length(LENGTHS, correct, total, confidence=0.1)  # both lengths are likelier than 45 %
    assert (wide.low, wide.high) == ((4096, 8192) if 0.55 > passing > 0.45 else (4096, 4096))


def test_censored_where_the_lengths_end():
    hundred = [100] * 5
    for rule in RULES:
        assert effective_length(LENGTHS, hundred, hundred, rule=rule) == Estimate(
            16384, 16384, 16384, "above"
        ), rule
    for rule in ("RULER", "first failure", "half recall"):
        assert effective_length(LENGTHS, [0] * 5, hundred, rule=rule) == Estimate(
            1024, 1024, 1024, "below"
        ), rule
    low = effective_length(LENGTHS, [86, 10, 10, 10, 10], hundred)
    assert low == Estimate(1024, 1024, 1024, "below")
    assert effective_length(LENGTHS, [100, 10, 10, 10, 10], hundred) == Estimate(1024, 1024, 1024)
    few = effective_length(LENGTHS, [3] * 5, [3] * 5, rule="first failure")
    assert (few.low, few.high, few.censored) == (1024, 16384, "both")


def test_half_recall_is_stats_n50():
    correct, total = [97, 95, 83, 41, 13], [101] * 5
    assert effective_length(LENGTHS, correct, total, chance=0.1, rule="half recall") == stats.n50(
        LENGTHS, correct, total, chance=0.1
    )


def test_equal_lengths_are_pooled_in_any_order():
    one = effective_length([64, 128], [19, 7], [20, 11])
    assert effective_length([128, 64, 128, 64], [3, 10, 4, 9], [5, 11, 6, 9]) == one
    assert effective_length(np.array([64, 128]), pd.Series([19, 7]), np.array([20, 11])) == one


def test_table_has_a_row_a_model_and_rule():
    rows = [
        (arm, n, round(89 * y * k), 89, 0.1)
        for arm, k in (("a", 1), ("b", 0.5))
        for n, y in zip(LENGTHS, DIPS, strict=True)
    ]
    frame = pd.DataFrame(rows, columns=["arm", "length", "correct", "total", "chance"])
    table = effective_table(frame)
    assert table["arm"].tolist() == ["a"] * 4 + ["b"] * 4
    assert table["rule"].tolist() == list(RULES) * 2
    assert table["length"].tolist()[:3] == [4096, 1024, 8192]
    assert table["censored"].tolist()[4:6] == ["below", "below"]
    part = frame[frame["arm"] == "b"]
    n50 = stats.n50(part["length"], part["correct"], part["total"], chance=0.1)
    assert table[["length", "low", "high"]].iloc[7].tolist() == [n50.value, n50.low, n50.high]
    assert effective_table(frame, rules=("NoLiMa",))["rule"].tolist() == ["NoLiMa"] * 2


# ---- repeats


def exact(samples: int, recall: tuple[float, ...], *, first: bool) -> np.ndarray:
    """The probability of none and of each length, passing being independent binomials."""
    passes = [distributions.binom.sf(math.ceil(0.856 * samples - 1e-9) - 1, samples, p) for p in recall]
    if first:
        alive = np.cumprod(passes)
        return np.array([1 - alive[0], *(alive[:-1] - alive[1:]), alive[-1]])
    beyond = [math.prod(1 - q for q in passes[k + 1 :]) for k in range(len(passes))]
    return np.array([math.prod(1 - q for q in passes), *(q * b for q, b in zip(passes, beyond, strict=True))])


@pytest.mark.parametrize("rule", ["RULER", "first failure"])
@pytest.mark.parametrize("samples", [1, 7, 53])
def test_repeats_and_flips_have_their_exact_probabilities(rule, samples):
    shares = exact(samples, DIPS, first=rule == "first failure")
    assert shares.sum() == pytest.approx(1)
    found = repeats(LENGTHS, DIPS, samples, rule=rule, count=20000)
    for length, share in zip((0, *LENGTHS), shares, strict=True):
        assert (found == length).mean() == pytest.approx(share, abs=0.012)
    assert flip_share(LENGTHS, DIPS, samples, rule=rule, count=20000) == pytest.approx(
        1 - (shares**2).sum(), abs=0.012
    )


def test_more_samples_flip_less_and_half_recall_hardly_at_all():
    curve = (1.0, 0.95, 0.87, 0.7, 0.4)
    flips = [flip_share(LENGTHS, curve, n) for n in (5, 50, 500, 50000)]
    assert flips == sorted(flips, reverse=True)
    assert flips[0] > 0.5
    assert flips[-1] == 0
    assert (
        flip_share(LENGTHS, curve, 20, rule="half recall", count=500) < 0.02 < flip_share(LENGTHS, curve, 20)
    )


def test_half_recall_flips_where_it_moves_by_an_octave():
    found = np.log2(repeats(LENGTHS, (0.8, 0.7, 0.55, 0.4, 0.3), 5, rule="half recall", count=211))
    pairs = [abs(a - b) >= 1 - 1e-9 for i, a in enumerate(found) for b in found[:i]]
    share = flip_share(LENGTHS, (0.8, 0.7, 0.55, 0.4, 0.3), 5, rule="half recall", count=211)
    assert share == pytest.approx(np.mean(pairs))
    assert 0.05 < share < 0.95


def test_the_same_seed_gives_the_same():
    assert flip_share(LENGTHS, DIPS, 10, seed=3) == flip_share(LENGTHS, DIPS, 10, seed=3)
    assert flip_share(LENGTHS, DIPS, 10, seed=3) != flip_share(LENGTHS, DIPS, 10, seed=4)


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda: effective.last_success([64, 64], [1, 1]), r"lengths is \[64, 64\]; allowed are positive lengths that"),
        (lambda: effective.last_success([64, 32], [1, 1]), "lengths that rise"),
        (lambda: effective.first_failure([64, 128], [97, 80]), r"scores is \[97, 80\]; allowed is a share in \[0, 1\]"),
        (lambda: effective.share_of_base([64, 128], [1, 1, 1]), "for each of 2 lengths"),
        (lambda: effective.last_success([64, 128], [1, 1], 85.6), "level is 85.6; allowed is a share"),
        (lambda: effective_length([64, 128], [1, 1], [2, 2], rule="half"), "rule is 'half'; allowed is one of RULER"),
        (lambda: effective_length([64, 128], [1, 3], [2, 2]), "correct is 3 of 2"),
        (lambda: effective_length([64, 128], [1, 0], [2, 0]), "total is 0 at length 128"),
        (lambda: effective_length([64, 128], [1], [2]), r"lengths has shape \(2,\), counts \(1,\)"),
        (lambda: effective_length([64, 128], [1, 1], [2, 2], draws=0), "draws is 0"),
        (lambda: effective_length([64, 128], [1, 1], [2, 2], confidence=95), "confidence is 95"),
        (lambda: effective_table(pd.DataFrame({"arm": []})), "frame lacks the columns"),
        (lambda: effective_table(pd.DataFrame({"arm": ["a"], "length": [1]})), r"columns \['correct', 'total'"),
        (lambda: repeats([64, 128], [1, 1], 0), "samples is 0 and count 4000"),
        (lambda: flip_share([64, 128], [1, 1], 7, count=1), "count is 1"),
        (lambda: flip_share([64], [1], 7), r"lengths is \[64\]"),
    ],
)  # fmt: skip
def test_bad_input_is_named(call, message):
    with pytest.raises(ValueError, match=message):
        call()


# ---- of each model in a frame


def of_models(**models: tuple[float, ...]) -> pd.DataFrame:
    rows = [
        (name, n, 1000 * y, 1000, 0.0)
        for name, curve in models.items()
        for n, y in zip(LENGTHS, curve, strict=True)
    ]
    return pd.DataFrame(rows, columns=["seed", "length", "correct", "total", "chance"])


def test_each_model_has_its_curve_and_its_value():
    frame = of_models(steep=(1, 1, 0, 0, 0), dips=DIPS)
    assert effective.curves(frame).loc["dips"].tolist() == pytest.approx(DIPS)
    found = effective.over_curves(frame, lambda n, y, chance, more: n[-1] * y[1] + chance + more, more=7)
    assert found.to_dict() == pytest.approx({"dips": 16384 * 0.8 + 7, "steep": 16384 + 7})
    assert effective.over_curves(frame[:0], flip_share).empty
    with pytest.raises(ValueError, match="lacks the columns"):
        effective.over_curves(frame.drop(columns="length"), flip_share)


def test_rules_lie_as_far_apart_as_their_lengths():
    # 1024 by the first failure, beyond the longest by half recall; a step has one length, and n50 half an octave on
    found = effective.octaves_apart(of_models(dips=DIPS, steep=(1, 1, 0, 0, 0)))
    assert found["dips"] == 4
    assert found["steep"] == pytest.approx(0.5, abs=0.01)


def test_the_spread_of_repeats_by_hand():
    # With one query at the second length, the last success is 64 or 128, each half of the time: 0.5 octaves.
    assert effective.repeat_spread([64, 128], [1.0, 0.5], 1, count=20_000) == pytest.approx(0.5, abs=0.01)
    assert effective.repeat_spread([64, 128], [1.0, 0.0], 20, count=10) == 0
