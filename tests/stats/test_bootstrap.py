"""Intervals against hand-worked values, statsmodels and simulated coverage; n50 against a GLM."""

from __future__ import annotations

import importlib
import math
import time
from collections.abc import Callable

import numpy as np
import pandas as pd
import pytest
import statsmodels.api as sm
from scipy.optimize import minimize
from statsmodels.stats.multitest import multipletests
from statsmodels.stats.proportion import confint_proportions_2indep, proportion_confint
from statsmodels.stats.weightstats import ttost_paired

from lcbook import stats
from lcbook.stats.bootstrap import Estimate
from lcbook.stats.n50 import is_logistic, n50_ends

LENGTHS = 2 ** np.arange(7, 14)  # 128 ... 8192
HUNDRED = np.full(7, 100)


def make_frame(counts: dict[str, list[list[int]]], total: int = 100, chance: float = 0.1) -> pd.DataFrame:
    """One row per arm, seed, length and two gaps; `counts` holds correct answers per arm, seed and length."""
    return pd.DataFrame(
        {
            "arm": arm,
            "seed": seed,
            "length": int(length),
            "gap": gap,
            "correct": correct,
            "total": total,
            "chance": chance,
            "solved": row[0] >= 0.99 * total,
        }
        for arm, seeds in counts.items()
        for seed, row in enumerate(seeds)
        for length, correct in zip(LENGTHS, row, strict=False)
        for gap in (16, 64)
    )


# Estimate


@pytest.mark.parametrize(
    ("estimate", "text"),
    [
        (Estimate(0.25, 0.25, 0.25), "0.250 [0.250, 0.250]"),
        (Estimate(12.34, 10.06, 14.96), "12.3 [10.1, 15.0]"),
        (Estimate(0.98, 0.963, 1.0), "0.980 [0.963, 1.000]"),
        (Estimate(981.2, 879.4, 1098.3), "981 [879, 1098]"),
        (Estimate(123456.7, 23456, 1234567), "123\u202f457 [23\u202f456, 1\u202f234\u202f567]"),
        (Estimate(8192, 8192, 8192, "above"), "≥ 8192"),
        (Estimate(8192, 5000, 8192, "above"), "≥ 8192 [5000, ≥ 8192]"),
        (Estimate(5000, 3000, 8192, "above"), "5000 [3000, ≥ 8192]"),
        (Estimate(64, 64, 64, "below"), "≤ 64"),
        (Estimate(64, 64, 64, "both"), "≥ 64"),
        (Estimate(64, 64, 97, "below"), "≤ 64 [≤ 64, 97]"),
        (Estimate(1024, 128, 8192, "both"), "1024 [≤ 128, ≥ 8192]"),
        (Estimate(-0.001, -0.5, 0.5), "0.0 [-0.5, 0.5]"),
        (Estimate(3, 3, 3), "3 [3, 3]"),
        (Estimate(3.0, 1.0, math.inf), "3 [1, ∞]"),
        (Estimate(math.nan, math.nan, math.nan), "undefined [undefined, undefined]"),
        (Estimate(0, 0, 0), "0 [0, 0]"),
    ],
)
def test_estimate_prints_its_interval(estimate, text):
    assert str(estimate) == text


def test_estimate_opens_its_censored_ends():
    assert (Estimate(5, 3, 8).lower, Estimate(5, 3, 8).upper) == (3, 8)
    assert (Estimate(5, 3, 8, "above").lower, Estimate(5, 3, 8, "above").upper) == (3, math.inf)
    assert (Estimate(5, 3, 8, "below").lower, Estimate(5, 3, 8, "below").upper) == (-math.inf, 8)
    assert (Estimate(5, 3, 8, "both").lower, Estimate(5, 3, 8, "both").upper) == (-math.inf, math.inf)


@pytest.mark.parametrize("bad", [(1, 2, 3, None), (4, 2, 3, None), (2, 1, 3, "up")])
def test_estimate_rejects_bad_input(bad):
    with pytest.raises(ValueError, match="allowed"):
        Estimate(*bad)


# Wilson


@pytest.mark.parametrize(
    ("successes", "trials", "low", "high"),
    [(1, 1, 0.2065, 1), (10, 10, 0.7225, 1), (100, 100, 0.9630, 1), (0, 10, 0, 0.2775), (0, 0, 0, 1)],
)
def test_wilson_by_hand(successes, trials, low, high):
    assert stats.wilson(successes, trials) == pytest.approx((low, high), abs=5e-5)


def test_wilson_is_statsmodels():
    successes, trials = np.array([0, 3, 17, 58, 61]), np.array([7, 11, 23, 61, 61])
    for confidence in (0.8, 0.95, 0.99):
        low, high = stats.wilson(successes, trials, confidence)
        expected = proportion_confint(successes, trials, alpha=1 - confidence, method="wilson")
        assert low == pytest.approx(expected[0], abs=1e-12)
        assert high == pytest.approx(expected[1], abs=1e-12)


def test_wilson_ends_exactly_where_a_rate_ends():
    trials = np.arange(1, 500)
    assert (stats.wilson(trials, trials)[1] == 1).all()
    assert (stats.wilson(0 * trials, trials)[0] == 0).all()


def test_wilson_scalars_are_floats():
    assert all(type(end) is float for end in stats.wilson(3, 7))


def test_p_solve():
    found = stats.p_solve([True] * 10)
    assert (found.value, found.high) == (1, 1)
    assert found.low == pytest.approx(0.7225, abs=5e-5)
    assert stats.p_solve(pd.Series([True, False, False])).value == pytest.approx(1 / 3)


# n50


def test_n50_is_logistic_regression_without_chance():
    correct = np.array([97, 95, 83, 61, 30, 13, 5])
    design = sm.add_constant(np.log2(LENGTHS))
    fit = sm.GLM(np.column_stack([correct, 100 - correct]), design, family=sm.families.Binomial()).fit()
    a, b = fit.params
    found = stats.n50(LENGTHS, correct, HUNDRED, chance=0)
    assert found.value == pytest.approx(2 ** (-a / b), rel=1e-6)
    # Wald's interval by the delta method: close to the profile's at these counts.
    gradient = np.array([-1 / b, a / b**2])
    error = math.sqrt(gradient @ fit.cov_params() @ gradient)
    assert math.log2(found.low) == pytest.approx(-a / b - 1.96 * error, abs=0.02)
    assert math.log2(found.high) == pytest.approx(-a / b + 1.96 * error, abs=0.02)
    assert found.censored is None


def test_n50_profile_interval_is_where_the_deviance_reaches_chi2():
    x, correct = np.log2(LENGTHS), np.array([96, 92, 84, 55, 33, 18, 15])

    def loss(m: float, log_b: float) -> float:
        p = 0.1 + 0.9 / (1 + np.exp(-np.exp(log_b) * (m - x)))
        return -(correct * np.log(p) + (100 - correct) * np.log(1 - p)).sum()

    best = minimize(
        lambda v: loss(*v), [10, 0], method="Nelder-Mead", options={"xatol": 1e-9, "fatol": 1e-11}
    )
    found = stats.n50(LENGTHS, correct, HUNDRED, chance=0.1)
    assert found.value == pytest.approx(2 ** best.x[0], rel=1e-5)
    for end in (found.low, found.high):
        profile = minimize(lambda v, end=end: loss(math.log2(end), v[0]), [0], method="Nelder-Mead").fun
        assert 2 * (profile - best.fun) == pytest.approx(3.841, abs=0.02)


def test_n50_recovers_the_truth_exactly_from_expected_counts():
    x = np.log2(LENGTHS)
    for m, b, chance in [(9.3, 1.7, 0.25), (11.1, 0.6, 0.1), (8.2, 4.0, 0.0), (10.3, 0.07, 0.1)]:
        p = chance + (1 - chance) / (1 + np.exp(-b * (m - x)))
        found = stats.n50_point(LENGTHS, 1000 * p, np.full(7, 1000), chance=chance)
        assert math.log2(found) == pytest.approx(m, abs=1e-5)


def test_n50_crosses_half_of_the_range_above_chance():
    # (1 + chance) / 2 at 1024 with chance 1/4 is .625; half would lie further out.
    correct = [100, 100, 100, 62.5, 25, 25, 25]
    assert stats.n50_point(LENGTHS, correct, HUNDRED, chance=0.25) == pytest.approx(1024, rel=1e-3)


def test_n50_matches_a_generic_optimizer():
    rng, x = np.random.default_rng(3), np.log2(LENGTHS)
    for _ in range(25):
        chance, m, b = rng.choice([0, 0.1, 0.25]), rng.uniform(7.5, 12.5), np.exp(rng.uniform(-0.7, 1.5))
        correct = rng.binomial(53, chance + (1 - chance) / (1 + np.exp(-b * (m - x))))

        def loss(v, correct=correct, chance=chance):
            p = chance + (1 - chance) / (1 + np.exp(-np.exp(v[1]) * (v[0] - x)))
            p = np.clip(p, 1e-15, 1 - 1e-15)
            return -(correct * np.log(p) + (53 - correct) * np.log(1 - p)).sum()

        tries = [minimize(loss, [s, 0], method="Nelder-Mead", options={"fatol": 1e-11}) for s in (8, 10, 12)]
        best = min(tries, key=lambda found: found.fun).x[0]
        found = stats.n50_point(LENGTHS, correct, np.full(7, 53), chance=chance, logistic=True)
        assert math.log2(found) == pytest.approx(best, abs=2e-3)


def test_n50_of_a_step_is_the_middle_and_its_interval_the_gap():
    found = stats.n50(LENGTHS, [100, 100, 100, 0, 0, 0, 0], HUNDRED, chance=0)
    assert found.value == pytest.approx(math.sqrt(512 * 1024), rel=1e-3)
    assert 512 <= found.low < 530
    assert 990 < found.high <= 1024
    assert found.censored is None


@pytest.mark.parametrize("chance", [0, 0.1])
def test_n50_is_censored_outside_the_tested_lengths(chance):
    everywhere = stats.n50(LENGTHS, HUNDRED, HUNDRED, chance=chance)
    assert everywhere == Estimate(8192, 8192, 8192, "above")
    nowhere = stats.n50(LENGTHS, 100 * chance * np.ones(7), HUNDRED, chance=chance)
    assert nowhere == Estimate(128, 128, 128, "below")
    assert stats.n50_point(LENGTHS, HUNDRED, HUNDRED, chance=chance) == math.inf
    assert stats.n50_point(LENGTHS, 100 * chance * np.ones(7), HUNDRED, chance=chance) == 0


def test_n50_of_rising_recall_is_decided_by_its_level():
    rising = [52, 55, 60, 70, 80, 90, 95]
    assert stats.n50(LENGTHS, rising, HUNDRED, chance=0).censored == "above"
    assert stats.n50(LENGTHS, [1, 2, 3, 4, 5, 6, 31], HUNDRED, chance=0).censored == "below"


def test_n50_interval_may_be_censored_while_the_value_is_not():
    found = stats.n50(LENGTHS, [10, 10, 9, 9, 8, 7, 4], np.full(7, 10), chance=0)
    assert found.low < found.value < 8192
    assert (found.high, found.censored) == (8192, "above")


def test_n50_pools_repeated_lengths_and_ignores_order_and_empty_cells():
    correct = np.array([99, 95, 90, 50, 20, 12, 10])
    plain = stats.n50(LENGTHS, correct, HUNDRED, chance=0.1)
    shuffled = np.array([6, 2, 0, 5, 1, 4, 3])
    assert stats.n50(LENGTHS[shuffled], correct[shuffled], HUNDRED, chance=0.1) == plain
    halves = np.concatenate([correct // 3, correct - correct // 3])
    totals = np.concatenate([HUNDRED // 3, HUNDRED - HUNDRED // 3])
    twice = stats.n50(np.tile(LENGTHS, 2), halves, totals, chance=0.1)
    assert twice.value == pytest.approx(plain.value, rel=1e-9)
    empty = stats.n50_point([*LENGTHS, 16384], [*correct, 0], [*HUNDRED, 0], chance=0.1)
    assert empty == pytest.approx(plain.value, rel=1e-3)


def test_n50_point_takes_many_rows_at_once():
    rng = np.random.default_rng(0)
    correct = rng.binomial(100, [0.99, 0.95, 0.9, 0.5, 0.2, 0.12, 0.1], size=(3, 5, 7))
    for logistic in (True, False):
        many = stats.n50_point(
            LENGTHS, correct, np.broadcast_to(HUNDRED, correct.shape), chance=0.1, logistic=logistic
        )
        assert many.shape == (3, 5)
        one = stats.n50_point(LENGTHS, correct[2, 3], HUNDRED, chance=0.1, logistic=logistic)
        assert many[2, 3] == pytest.approx(one, rel=1e-6)


def test_n50_of_a_window_is_where_its_recall_crosses_one_half():
    # min(1, 512 / n): 1 1 1 .5 .25 ..., so that n50 is 1024; the logistic says a quarter of an octave more.
    correct = np.array([100, 100, 100, 50, 25, 12, 6]) * 4
    assert not is_logistic(LENGTHS, correct, 4 * HUNDRED, chance=0)
    assert stats.n50_point(LENGTHS, correct, 4 * HUNDRED, chance=0, logistic=True) > 1024 * 2**0.2
    assert stats.n50_point(LENGTHS, correct, 4 * HUNDRED, chance=0) == pytest.approx(1024)
    # Between 80 % at 512 and 40 % at 1024: a straight line at 3/4; by a constant factor, ln 1.6 / ln 2 of the octave
    # for recall and ln 2.5 / ln 3 for what it lacks.
    bent = np.array([100, 100, 80, 40, 20, 10, 5])
    assert n50_ends(LENGTHS, bent, HUNDRED, chance=0) == pytest.approx([512 * 2**0.678072, 512 * 2**0.834044])
    assert stats.n50_point(LENGTHS, bent, HUNDRED, chance=0, logistic=False) == pytest.approx(512 * 2**0.75)


def test_n50_without_a_logistic_pools_what_rises_and_ignores_empty_cells():
    rising = [100, 40, 60, 20, 10, 0, 0]  # 40 and 60 pool to 50 at both: crossed at the second
    assert stats.n50_point(LENGTHS, rising, HUNDRED, chance=0, logistic=False) == pytest.approx(512)
    counts = [90, 90, 60, 30, 0, 0, 0], [100, 100, 100, 100, 0, 0, 0]
    assert stats.n50_point(LENGTHS, *counts, chance=0, logistic=False) == pytest.approx(512 * 2 ** (1 / 3))


def test_n50_of_recall_that_rises_through_one_half_is_undefined():
    rising = [2, 10, 30, 50, 70, 90, 95]
    assert math.isnan(stats.n50_point(LENGTHS, rising, HUNDRED, chance=0))
    assert math.isnan(stats.n50(LENGTHS, rising, HUNDRED, chance=0).value)
    assert stats.n50(LENGTHS, [48, 50, 51, 49, 50, 52, 53], HUNDRED, chance=0).censored == "both"
    table = stats.n50_table(make_frame({"up": [rising] * 3}), resamples=20)
    assert table[["n50", "low", "high"]].isna().all(axis=None)


def test_n50_table_has_the_gap_of_a_step_as_interval():
    row = stats.n50_table(make_frame({"step": [[100, 100, 100, 10, 10, 10, 10]] * 6}), resamples=50).iloc[0]
    assert (row["low"], row["high"]) == pytest.approx((512, 1024))
    assert 512 < row["n50"] < 1024


def test_n50_interval_covers():
    rng, x, hits = np.random.default_rng(1), np.log2(LENGTHS), 0.0
    p = 0.1 + 0.9 / (1 + np.exp(-1.5 * (10.4 - x)))
    for _ in range(150):
        found = stats.n50(LENGTHS, rng.binomial(40, p), np.full(7, 40), chance=0.1)
        hits += found.low <= 2**10.4 <= found.high
    assert 0.90 <= hits / 150 <= 0.99


def test_n50_point_is_quick():
    started = time.process_time()
    for _ in range(20):
        stats.n50_point(LENGTHS, [99, 95, 90, 50, 20, 12, 10], HUNDRED, chance=0.1)
    assert (time.process_time() - started) / 20 < 0.02  # a quarter of that on an idle core


@pytest.mark.parametrize(
    ("arguments", "name"),
    [
        (dict(lengths=[128], correct=[1], total=[2], chance=0), "lengths"),
        (dict(lengths=[128, 128], correct=[1, 1], total=[2, 2], chance=0), "lengths"),
        (dict(lengths=[0, 128], correct=[1, 1], total=[2, 2], chance=0), "lengths"),
        (dict(lengths=[64, 128], correct=[3, 1], total=[2, 2], chance=0), "correct"),
        (dict(lengths=[64, 128], correct=[-1, 1], total=[2, 2], chance=0), "correct"),
        (dict(lengths=[64, 128], correct=[1, 1, 1], total=[2, 2, 2], chance=0), "total"),
        (dict(lengths=[64, 128], correct=[0, 0], total=[0, 0], chance=0), "total"),
        (dict(lengths=[64, 128], correct=[[1, 1]], total=[[2, 2]], chance=0), "correct"),
        (dict(lengths=[64, 128], correct=[1, 1], total=[2, 2], chance=1), "chance"),
        (dict(lengths=[64, 128], correct=[1, 1], total=[2, 2], chance=-0.1), "chance"),
        (dict(lengths=[64, 128], correct=[1, 1], total=[2, 2], chance=0, confidence=1.0), "confidence"),
    ],
)
def test_n50_rejects_bad_input(arguments, name):
    with pytest.raises(ValueError, match=f"{name} .*allowed"):
        stats.n50(**arguments)


# Bootstrap


def rate(frame: pd.DataFrame) -> float:
    return frame["correct"].sum() / frame["total"].sum()


def test_bootstrap_keeps_the_uncertainty_of_perfect_counts():
    frame = make_frame({"a": [[100] * 7] * 5}).query("length == 128 and gap == 16")
    found = stats.bootstrap(frame, rate)
    assert (found.value, found.high) == (1, 1)
    assert 0.98 < found.low < 0.9975


def test_bootstrap_keeps_arms_paired_by_seed():
    rows = [("a", s, 10.0 * s) for s in range(7)] + [("b", s, 10.0 * s + 3) for s in range(7)]
    frame = pd.DataFrame(rows, columns=["arm", "seed", "value"])

    def difference(part: pd.DataFrame) -> float:
        means = part.groupby("arm")["value"].mean()
        return means["b"] - means["a"]

    found = stats.bootstrap(frame, difference, resamples=100)
    assert (found.low, found.high) == pytest.approx((3, 3))


def test_bootstrap_counts_a_seed_drawn_twice_as_two():
    frame = pd.DataFrame({"seed": [3, 5, 7], "value": [1.0, 2.0, 3.0]})
    seen = []

    def statistic(part: pd.DataFrame) -> float:
        seen.append((part["seed"].tolist(), part.index.tolist()))
        return part["value"].mean()

    stats.bootstrap(frame, statistic, resamples=200)
    assert len(seen) == 11, "10 multisets of 3 seeds, and the frame itself"
    assert all(draw == ([0, 1, 2], [0, 1, 2]) for draw in seen[:-1])
    assert frame["seed"].tolist() == [3, 5, 7]


def slow_bootstrap(
    frame: pd.DataFrame, statistic: Callable[[pd.DataFrame], float], resamples: int
) -> Estimate:
    """The definition: a frame of its own for each resample."""
    rng, groups, values = np.random.default_rng(0), [part for _, part in frame.groupby("seed")], []
    for drawn in rng.integers(len(groups), size=(resamples, len(groups))):
        part = pd.concat([groups[j].assign(seed=number) for number, j in enumerate(drawn)], ignore_index=True)
        if "total" in part:
            c, t = part["correct"], part["total"]
            part["correct"] = t * rng.beta(c + 0.5, t - c + 0.5)
        values.append(statistic(part))
    return stats.resampled_interval(statistic(frame), np.array(values), len(groups), 0.95, None)


@pytest.mark.parametrize("columns", [["correct", "total"], ["correct"]])
def test_bootstrap_is_the_one_written_out(monkeypatch, columns):
    frame = pd.DataFrame(
        {"seed": [4, 2, 2, 9, 4, 4, 9], "arm": list("babbaba"), "correct": [3, 1, 5, 2, 7, 0, 4], "total": 7}
    )[["seed", "arm", *columns]].set_axis([2, 3, 5, 7, 11, 13, 17])

    def statistic(part: pd.DataFrame) -> float:
        sums = part.groupby("arm")["correct"].sum()
        return sums["b"] - sums.get("a", 0) + 10 * part["seed"].nunique()

    monkeypatch.setattr(importlib.import_module("lcbook.stats.bootstrap"), "MOST_ROWS", 50)
    assert stats.bootstrap(frame, statistic, resamples=101) == slow_bootstrap(frame, statistic, 101)


def test_bootstrap_inner_noise_is_binomial():
    frame = pd.DataFrame({"seed": [0], "correct": [300], "total": [1000]})
    found = stats.bootstrap(frame, rate, resamples=2000)
    low, high = stats.wilson(300, 1000)
    assert found.low == pytest.approx(low, abs=0.004)
    assert found.high == pytest.approx(high, abs=0.004)


@pytest.mark.parametrize(("seeds", "least"), [(5, 0.87), (8, 0.90)])
def test_bootstrap_over_few_seeds_covers(seeds, least):
    # Plain percentiles cover about 0.83 with five seeds.
    rng, hits = np.random.default_rng(2), 0.0
    for _ in range(200):
        values = rng.normal(size=seeds)
        drawn = values[rng.integers(seeds, size=(400, seeds))].mean(1)
        found = stats.resampled_interval(values.mean(), drawn, seeds, 0.95, None)
        hits += found.low <= 0 <= found.high
    assert least <= hits / 200 <= 0.99


def test_interval_of_five_seeds_is_expanded():
    # Hesterberg's tail for n = 5: the normal tail beyond sqrt(5/4) x 2.776 (Student's t with 4 df).
    tail = 0.5 * math.erfc(math.sqrt(5 / 4) * 2.7764 / math.sqrt(2))
    found = stats.resampled_interval(0.5, np.linspace(0, 1, 100_001), 5, 0.95, None)
    assert (found.low, found.high) == pytest.approx((tail, 1 - tail), abs=2e-5)


def test_interval_takes_the_resampled_values_outside_the_quantiles():
    # The 2.5 % quantile of 0 ... 39 lies at 0.975, between 0 and 1; that of 0 ... 40 at 1.
    for values, ends in ((40, (0, 39)), (41, (1, 39))):
        found = stats.resampled_interval(20, np.arange(values), 1, 0.95, None)
        assert (found.low, found.high) == ends


def test_bootstrap_is_repeatable_and_follows_its_seed():
    frame = make_frame({"a": [[90, 80, 70, 60, 50, 40, 30]] * 3})
    one, two = (stats.bootstrap(frame, rate, resamples=50) for _ in range(2))
    assert one == two
    assert stats.bootstrap(frame, rate, resamples=50, seed=1) != one


def test_bootstrap_width_follows_confidence():
    frame = make_frame({"a": [[90 - s, 80, 70, 60 + s, 50, 40, 30] for s in range(7)]})
    wide, narrow = (stats.bootstrap(frame, rate, resamples=300, confidence=c) for c in (0.95, 0.5))
    assert wide.high - wide.low > 1.5 * (narrow.high - narrow.low)


def test_bootstrap_censors_at_its_limits():
    frame = pd.DataFrame({"seed": range(5), "value": [1.0, 2.0, 3.0, 4.0, math.inf]})
    found = stats.bootstrap(frame, lambda part: part["value"].median(), limits=(0.5, 8.0))
    assert (found.value, found.high, found.censored) == (3, 8, "above")
    open_end = stats.bootstrap(frame, lambda part: part["value"].median())
    assert (open_end.high, open_end.censored) == (math.inf, "above")
    low = stats.bootstrap(frame, lambda part: -part["value"].median(), limits=(-8.0, 0.0))
    assert (low.value, low.low, low.censored) == (-3, -8, "below")
    at = stats.bootstrap(frame, lambda part: 99.0, limits=(0.5, 8.0))
    assert at == Estimate(8, 8, 8, "above")


def test_bootstrap_counts_undefined_resamples_against_both_ends():
    frame = pd.DataFrame({"seed": range(5), "value": [1.0, 1.0, 1.0, 1.0, 2.0]})
    found = stats.bootstrap(frame, lambda part: 1.5 if part["value"].nunique() > 1 else math.nan)
    assert (found.lower, found.upper) == (-math.inf, math.inf)
    assert math.isnan(stats.bootstrap(frame, lambda part: math.nan, resamples=9).value)


def test_bootstrap_is_quick():
    frame = make_frame({arm: [[90, 80, 70, 60, 50, 40, 30]] * 7 for arm in "abc"})
    assert len(frame) == 294
    started = time.process_time()
    stats.bootstrap(frame, rate)
    assert time.process_time() - started < 4  # a tenth of that on an idle core


@pytest.mark.parametrize(
    ("frame", "settings", "name"),
    [
        (pd.DataFrame({"value": [1.0]}), {}, "frame"),
        (pd.DataFrame({"seed": []}), {}, "frame"),
        (pd.DataFrame({"seed": [1]}), {"resamples": 0}, "resamples"),
        (pd.DataFrame({"seed": [1]}), {"confidence": 95.0}, "confidence"),
        (pd.DataFrame({"seed": [1], "correct": [2], "total": [1]}), {}, "correct"),
    ],
)
def test_bootstrap_rejects_bad_input(frame, settings, name):
    with pytest.raises(ValueError, match=f"{name} .*allowed"):
        stats.bootstrap(frame, len, **settings)


# Tables

FALL = [100, 99, 90, 55, 20, 12, 10]  # n50 near 1024
EARLY = [99, 60, 20, 12, 10, 10, 10]  # n50 near 256
LATE = [100, 100, 100, 100, 100, 99, 90]  # beyond 8192


def test_n50_table_takes_the_median_seed_and_keeps_the_unsolved():
    frame = make_frame(
        {"falls": [FALL, FALL, EARLY, LATE, FALL], "never": [[10] * 7] * 5, "holds": [[100] * 7] * 5}
    )
    table = stats.n50_table(frame)
    assert list(table["arm"]) == ["falls", "never", "holds"]
    falls, never, holds = table.to_dict("records")
    assert falls["n50"] == pytest.approx(stats.n50_point(LENGTHS, FALL, HUNDRED, chance=0.1), rel=1e-6)
    assert falls["low"] < 300
    assert (falls["high"], never["n50"]) == (8192, 128)
    assert (holds["n50"], holds["low"], holds["high"]) == (8192, 8192, 8192)
    assert table["censored"].tolist() == ["above", "below", "above"]
    assert table["seeds"].tolist() == [5, 5, 5]
    assert table["p_solve"].tolist() == [1, 0, 1]


def test_n50_table_without_censoring_says_none_and_groups_by_several():
    frame = make_frame({"a": [FALL] * 5}, total=100)
    assert stats.n50_table(frame)["censored"].tolist() == [None]
    table = stats.n50_table(frame.assign(**{"model.layers": 2}), by=["model.layers", "arm"])
    assert list(table.columns[:2]) == ["model.layers", "arm"]
    assert (table["low"] < 0.97 * table["n50"]).all()  # equal seeds keep the noise of their sequences
    missing = stats.n50_table(frame.drop(columns="solved"))
    assert missing["p_solve"].isna().all()


def test_n50_table_matches_the_frame_bootstrap():
    rows = [[100, 99, 90 - 5 * s, 50 - 5 * s, 20, 12, 10] for s in range(7)]
    frame = make_frame({"a": rows})
    fast = stats.n50_table(frame).iloc[0]
    slow = stats.bootstrap(frame, stats.median_n50, resamples=400, limits=(128, 8192))
    assert fast["n50"] == pytest.approx(slow.value, rel=1e-9)
    assert math.log2(fast["low"]) == pytest.approx(math.log2(slow.low), abs=0.08)
    assert math.log2(fast["high"]) == pytest.approx(math.log2(slow.high), abs=0.08)


def test_median_n50_of_even_and_split_seeds():
    frame = make_frame({"a": [FALL, EARLY]})
    a, b = (stats.n50_point(LENGTHS, row, HUNDRED, chance=0.1) for row in (FALL, EARLY))
    assert stats.median_n50(frame) == pytest.approx(math.sqrt(a * b), rel=1e-6)
    split = make_frame({"a": [[100] * 7, [10] * 7]})
    assert stats.median_n50(split) == pytest.approx(1024)
    assert stats.median_n50(make_frame({"a": [[100] * 7, FALL]})) == math.inf
    assert stats.median_n50(make_frame({"a": [[10] * 7, FALL]})) == 0


def test_median_n50_weights_gaps_by_their_queries():
    frame = pd.DataFrame(
        {
            "seed": 0,
            "length": [128, 128, 8192, 8192],
            "correct": [100, 90, 0, 5],
            "total": [100, 100, 10, 190],
            "chance": 0.0,
        }
    )
    assert stats.median_n50(frame) == stats.n50_point([128, 8192], [190, 5], [200, 200], chance=0)


def test_statistics_of_a_frame_worked_by_hand():
    frame = pd.DataFrame({"arm": ["b", "a", "b"], "correct": [1, 3, 2], "total": [2, 4, 4], "probe": ""})
    assert stats.recalls(frame) == {"b": 50, "a": 75}
    assert list(stats.recalls(frame)) == ["b", "a"]
    frame = make_frame({"a": [FALL], "b": [EARLY], "c": [[100] * 7]})
    found = stats.crossings(frame, "length", "arm")
    by_hand = [stats.n50_point(LENGTHS, row, HUNDRED, chance=0.1) for row in (FALL, EARLY)]
    assert found.tolist() == pytest.approx([*by_hand, 8192], rel=1e-6), (
        "what is never lost is the longest length"
    )
    assert found.index.tolist() == ["a", "b", "c"]


def test_recall_of_one_seed_is_wilson_and_of_several_is_wider():
    frame = make_frame({"a": [[95] * 7], "b": [[90] * 7, [100] * 7, [95] * 7, [85] * 7, [99] * 7]})
    one, several = stats.recall(frame[frame["length"] == 128], by="arm").to_dict("records")
    assert [one[name] for name in ("correct", "total", "recall", "seeds")] == [190, 200, 0.95, 1]
    assert (one["low"], one["high"]) == pytest.approx(stats.wilson(190, 200))
    low, high = stats.wilson(938, 1000)
    assert several["recall"] == pytest.approx(0.938)
    assert several["low"] < low - 0.02
    assert several["high"] > high + 0.02


def test_recall_of_identical_perfect_seeds_has_width():
    table = stats.recall(make_frame({"a": [[100] * 7] * 5}), by=["arm", "length"])
    assert len(table) == 7
    assert (table["high"] == 1).all()
    assert table["low"].between(0.98, 0.9985).all()


@pytest.mark.parametrize("table", [stats.median_n50, stats.n50_table, lambda f: stats.recall(f, "arm")])
def test_tables_reject_bad_frames(table):
    frame = make_frame({"a": [FALL]})
    for missing in ("seed", "correct"):
        with pytest.raises(ValueError, match=f"lacks .*{missing}"):
            table(frame.drop(columns=missing))
    with pytest.raises(ValueError, match="no rows"):
        table(frame.iloc[:0])
    with pytest.raises(ValueError, match="mixes the probes"):
        table(pd.concat([frame.assign(probe="as trained"), frame.assign(probe="phases compressed")]))


def test_recall_rejects_a_group_without_queries():
    with pytest.raises(ValueError, match=r"total is 0 .*allowed"):
        stats.recall(make_frame({"a": [[0] * 7]}, total=0), "arm")


# Tests


@pytest.mark.parametrize("counts", [(8, 8, 0, 8), (7, 11, 3, 13), (2, 5, 4, 5), (0, 7, 0, 5)])
def test_difference_of_shares_is_statsmodels(counts):
    for confidence in (0.95, 0.8):
        found = stats.difference_of_shares(*counts, confidence=confidence)
        expected = confint_proportions_2indep(*counts, method="newcomb", compare="diff", alpha=1 - confidence)
        assert (found.low, found.high) == pytest.approx(expected)
    assert found.value == pytest.approx(counts[0] / counts[1] - counts[2] / counts[3])


def test_holm_is_statsmodels():
    p = np.array([0.04, 0.01, 0.03, 0.5, 0.011])
    assert stats.holm(p) == pytest.approx(multipletests(p, method="holm")[1])
    assert stats.holm([0.6, 0.7]) == pytest.approx([1.0, 1.0])


def test_tost_is_statsmodels():
    rng = np.random.default_rng(5)
    a, b = rng.normal(0.3, 1, 11), rng.normal(0, 1, 11)
    for margin in (0.5, 1.0, 2.0):
        assert stats.tost(a - b, margin) == pytest.approx(ttost_paired(a, b, -margin, margin)[0])
    assert [stats.tost([-d, -d], 0.25) for d in (0.125, 0.25, 0.5)] == [0, 1, 1]
    assert stats.tost([0.0, 0.5], 0.25) == 0.5, "a mean at the margin"


def test_slope_by_hand():
    assert stats.slope([1, 2, 4], [1, 3, 4]) == pytest.approx(13 / 14)
    x, y = np.array([1.0, 2.0, 5.0, 7.0]), np.array([3.0, 1.0, 8.0, 2.0])
    assert stats.slope(x, y) == pytest.approx(np.polyfit(x, y, 1)[0])


@pytest.mark.parametrize(
    ("call", "name"),
    [
        (lambda: stats.wilson(3, 2), "correct"),
        (lambda: stats.wilson(1, 2, 0), "confidence"),
        (lambda: stats.p_solve([]), "solved"),
        (lambda: stats.difference_of_shares(6, 5, 0, 5), "correct"),
        (lambda: stats.difference_of_shares(0, 5, 0, 0), "n_a"),
        (lambda: stats.holm([0.5, 1.2]), "pvalues"),
        (lambda: stats.holm([math.nan]), "pvalues"),
        (lambda: stats.tost([0.1], 1), "differences"),
        (lambda: stats.tost([0.1, 0.2], 0), "differences"),
        (lambda: stats.tost([0.1, math.nan], 1), "differences"),
        (lambda: stats.slope([1, 1], [1, 2]), "x"),
        (lambda: stats.slope([1, 2, 3], [1, 2]), "x"),
    ],
)
def test_bad_input_is_named(call, name):
    with pytest.raises(ValueError, match=f"^{name} .*allowed"):
        call()
