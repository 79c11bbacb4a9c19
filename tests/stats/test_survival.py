"""Survival by hand, against statsmodels, and what the intervals do where the textbooks' are undefined."""

from __future__ import annotations

import math

import numpy as np
import pandas as pd
import pytest
from scipy import stats as distributions
from statsmodels.duration.survfunc import SurvfuncRight

from lcbook.stats import survival
from lcbook.stats.survival import horizon, kaplan_meier, ratio_of_means, restricted_mean, times

BY_HAND = ([3, 5, 5, 8, 11], [True, True, False, True, False])


def drawn(seeds: int, *, scale: float = 40, budget: int = 60, seed: int = 0) -> tuple[np.ndarray, np.ndarray]:
    """Escapes after exponential times, many of them tied, and some seeds lost before the budget ends."""
    rng = np.random.default_rng(seed)
    escape = np.ceil(rng.exponential(scale, seeds) / 3) * 3
    lost = np.where(rng.random(seeds) < 0.3, rng.integers(1, budget, seeds), budget)
    return np.minimum(escape, lost), escape <= lost


def test_survival_by_hand():
    frame = kaplan_meier(*BY_HAND)
    assert frame["update"].tolist() == [0, 3, 5, 8, 11]
    assert frame["at_risk"].tolist() == [5, 5, 4, 2, 1]
    assert frame["escaped"].tolist() == [0, 1, 1, 1, 0]
    assert frame["survival"].tolist() == pytest.approx([1, 4 / 5, 3 / 5, 3 / 10, 3 / 10])
    # Greenwood after update 5: 1/(5*4) + 1/(4*3) = 2/15.
    for confidence, z in ((0.95, 1.959963985), (0.8, 1.281551566)):
        wide = math.exp(z * math.sqrt(2 / 15) / -math.log(0.6))
        row = kaplan_meier(*BY_HAND, confidence=confidence).loc[2, ["low", "high"]]
        assert row.tolist() == pytest.approx([0.6**wide, 0.6 ** (1 / wide)])


def test_survival_is_statsmodels():
    updates, escaped = drawn(29, seed=3)
    found = kaplan_meier(updates, escaped).query("escaped > 0")
    theirs = SurvfuncRight(updates, escaped.astype(int))
    assert found["update"].tolist() == theirs.surv_times.tolist()
    assert found["at_risk"].tolist() == theirs.n_risk.tolist()
    assert found["escaped"].tolist() == theirs.n_events.tolist()
    assert found["survival"].to_numpy() == pytest.approx(theirs.surv_prob)


def test_where_log_log_is_undefined_the_interval_is_clopper_and_pearsons():
    none = kaplan_meier([50] * 7, [False] * 7)
    assert none["survival"].tolist() == [1, 1]
    exact = distributions.binomtest(7, 7).proportion_ci(method="exact")
    assert none["low"].tolist() == pytest.approx([exact.low] * 2)
    assert none["high"].tolist() == [1, 1]
    every = kaplan_meier([2, 3, 5, 7, 11], [True] * 5).iloc[-1]
    exact = distributions.binomtest(0, 5).proportion_ci(method="exact")
    assert every[["survival", "low", "high"]].tolist() == pytest.approx([0, 0, exact.high])


def test_the_interval_holds_the_estimate_and_narrows_with_seeds():
    few, many = kaplan_meier(*drawn(11)), kaplan_meier(*drawn(997))
    for frame in (few, many):
        assert (frame["low"] <= frame["survival"]).all()
        assert (frame["survival"] <= frame["high"]).all()
        assert frame["survival"].is_monotonic_decreasing
    near = [frame[frame["survival"].between(0.4, 0.6)].iloc[0] for frame in (few, many)]
    assert near[1]["high"] - near[1]["low"] < (near[0]["high"] - near[0]["low"]) / 5


def test_the_order_of_seeds_does_not_matter():
    updates, escaped = drawn(23)
    mixed = np.random.default_rng(1).permutation(23)
    pd.testing.assert_frame_equal(
        kaplan_meier(updates, escaped), kaplan_meier(updates[mixed], escaped[mixed])
    )


def test_restricted_mean_by_hand():
    # 3 updates at 1, 2 at 4/5, 3 at 3/5, and 3 at 3/10.
    assert restricted_mean(*BY_HAND, 11).value == pytest.approx(3 + 1.6 + 1.8 + 0.9)
    assert restricted_mean(*BY_HAND, 6).value == pytest.approx(3 + 1.6 + 0.6)
    assert restricted_mean(*BY_HAND, 2).value == 2
    # Areas that follow the updates 3, 5 and 8: 4.3, 2.7 and 0.9.
    variance = 4.3**2 / 20 + 2.7**2 / 12 + 0.9**2 / 2
    half = distributions.t.ppf(0.975, 4) * math.sqrt(variance * 5 / 4)
    found = restricted_mean(*BY_HAND, 11)
    assert (found.low, found.high) == pytest.approx((7.3 - half, min(7.3 + half, 11)))


def test_without_censoring_the_restricted_mean_is_the_mean_with_students_interval():
    updates = np.array([310, 370, 410, 430, 530, 590, 610])
    found = restricted_mean(updates, [True] * 7, 1000)
    plain = distributions.ttest_1samp(updates, 0).confidence_interval(0.95)
    assert found.value == pytest.approx(updates.mean())
    assert (found.low, found.high) == pytest.approx((plain.low, plain.high))
    cut = np.minimum(updates, 500)
    found = restricted_mean(cut, updates <= 500, 500)
    plain = distributions.ttest_1samp(cut, 0).confidence_interval(0.95)
    assert (found.value, found.low) == pytest.approx((cut.mean(), plain.low))
    assert found.high == pytest.approx(min(plain.high, 500))


def test_one_seed_says_next_to_nothing():
    found = restricted_mean([13], [True], 20)
    assert (found.value, found.low, found.high) == (13, 0, 20)
    ratio = ratio_of_means(([13], [True]), BY_HAND, 11)
    assert (ratio.low, ratio.high, ratio.censored) == (0, math.inf, "both")


def test_the_ratio_by_hand_and_its_censoring():
    quick, slow = ([10, 14, 18], [True] * 3), ([20, 30, 40], [True] * 3)
    found = ratio_of_means(quick, slow, 50)
    va, vb = 16 / 3 / 14**2, 100 / 3 / 30**2
    half = distributions.t.ppf(0.975, 2) * math.sqrt(va + vb) * 3 / 2
    assert found.value == pytest.approx(14 / 30)
    assert [found.low, found.high] == pytest.approx([14 / 30 * math.exp(s * half) for s in (-1, 1)])
    assert found.censored is None
    other = ratio_of_means(slow, quick, 50)
    assert [other.value, other.low, other.high] == pytest.approx(
        [1 / found.value, 1 / found.high, 1 / found.low]
    )
    never = ([50] * 3, [False] * 3)
    assert ratio_of_means(never, slow, 50).censored == "above"
    assert ratio_of_means(slow, never, 50).censored == "below"
    both = ratio_of_means(never, never, 50)
    assert (both.value, both.low, both.high, both.censored) == (1, 1, 1, "both")
    assert ratio_of_means(quick, slow, 15).censored == "below", "no escape of the baseline by then"
    assert ratio_of_means(quick, slow, 10).censored == "below", "an escape at the end is one"


def test_the_horizon_is_where_every_curve_is_known():
    done, cut, longer = ([3, 9], [True, True]), ([4, 7], [True, False]), ([4, 30], [True, False])
    assert horizon({"a": done}) == 9
    assert horizon({"a": done, "b": longer}) == 30
    assert horizon({"a": done, "b": longer, "c": cut}) == 7
    for group in (done, cut, longer):
        restricted_mean(*group, 7)


def test_times_of_a_tidy_frame():
    rows = [("b", 2, 70, 41.0), ("b", 3, 70, math.nan), ("a", 2, 50, 50.0)]
    frame = pd.DataFrame(rows, columns=["arm", "seed", "updates", "updates_to_gate"])
    found = times(pd.concat([frame.assign(length=n) for n in (8, 16)]))
    assert list(found) == ["b", "a"]
    assert [part.tolist() for part in found["b"]] == [[41, 70], [True, False]]
    assert [part.tolist() for part in found["a"]] == [[50], [True]]
    with pytest.raises(
        ValueError, match="several values for seed 2 of arm 'b'; allowed is one training a seed"
    ):
        times(pd.concat([frame, frame.assign(updates=71)]))
    with pytest.raises(ValueError, match=r"lacks the columns \['seed'\]"):
        times(frame.drop(columns="seed"))
    with pytest.raises(ValueError, match="has no rows"):
        times(frame[:0])


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda: kaplan_meier([], []), r"updates has shape \(0,\).*allowed are equal shapes"),
        (lambda: kaplan_meier([3, 5], [True]), r"shape \(2,\), escaped \(1,\)"),
        (
            lambda: kaplan_meier([3, 0], [True, True]),
            "updates has 0; allowed are finite numbers of 1 or more",
        ),
        (lambda: kaplan_meier([3, -2], [True, True]), "updates has -2"),
        (lambda: kaplan_meier([3, math.nan], [True, True]), "updates has nan"),
        (lambda: kaplan_meier([3, 5], [1, 2]), r"escaped is \[1, 2\]; allowed are truth values"),
        (lambda: kaplan_meier([3], [True], confidence=1), "confidence is 1"),
        (lambda: restricted_mean(*BY_HAND, 12), "until is 12; allowed is above 0 up to 11"),
        (lambda: restricted_mean(*BY_HAND, 0), "until is 0"),
        (lambda: restricted_mean(*BY_HAND, 9, confidence=0), "confidence is 0"),
        (lambda: ratio_of_means(BY_HAND, ([5], [False]), 7), "until is 7; allowed is above 0 up to 5"),
        (lambda: horizon({}), "groups is empty"),
    ],
)
def test_bad_input_is_named(call, message):
    with pytest.raises(ValueError, match=message):
        call()


def test_waits_of_arms():
    rows = [("quick", 0, 20.0), ("quick", 1, 40.0), ("slow", 0, math.nan), ("slow", 1, 60.0)]
    table = pd.DataFrame(rows, columns=["arm", "seed", "updates_to_gate"]).assign(updates=100)
    found = survival.waits(table)
    assert found[["passed", "seeds", "updates"]].to_numpy().tolist() == [[2, 2, 30], [1, 2, 80]]
