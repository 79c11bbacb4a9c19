"""The statistics of softmax dilution: values worked by hand, intervals against others, and what is refused."""

from __future__ import annotations

import itertools
import math

import numpy as np
import pandas as pd
import pytest
from scipy import stats as distributions

from lcbook.claims import dilution
from lcbook.claims.rows import NoRowsError
from lcbook.claims.training import past_gate


def test_the_slope_of_the_log_odds_of_each_seed():
    rows = [
        (seed, n, 3.0 + by * math.log(n)) for seed, by in ((4, -1.0), (7, 0.25)) for n in (1024, 4096, 16384)
    ]
    found = dilution.odds_slope(pd.DataFrame([*rows, (9, 1024, 3.0)], columns=["seed", "length", "log_odds"]))
    assert found.units == (4, 7), "seed 9 was not asked everywhere"
    assert found.values == pytest.approx([-1, 0.25])
    with pytest.raises(NoRowsError, match="fewer than two lengths"):
        dilution.odds_slope(pd.DataFrame(rows[:1], columns=["seed", "length", "log_odds"]))


def reaching(arm: str, crossing: float, seeds: int, solved: int) -> list[tuple]:
    """Rows of an arm whose recall falls, by a logistic in log2 n, through one half at `crossing`."""
    lengths = (64, 128, 256, 512, 1024)
    return [
        (arm, seed, seed < solved, n, round(1000 / (1 + (n / crossing) ** 4)), 1000, 0.0)
        for seed in range(seeds)
        for n in lengths
    ]


def test_the_least_reach_of_several_arms_is_that_of_the_seeds_that_solved():
    columns = ["arm", "seed", "solved", "length", "correct", "total", "chance"]
    rows = reaching("softmax", 128, 7, 7) + reaching("top-k", 256, 7, 7) + reaching("sparse", 1e9, 7, 6)
    table = pd.DataFrame(rows, columns=columns)
    found = dilution.least_reach(table, arms=["sparse", "top-k"], over="softmax")
    reached = found.interval(0.95)
    assert [reached.value, reached.low, reached.high] == pytest.approx([2, 2, 2], rel=0.01)
    assert found.learned == (6, 7)
    assert found.dots == pytest.approx(dict.fromkeys(range(6), 1024 / 128), rel=0.01), "capped at 1,024"
    few = dilution.least_reach(table[table["seed"] > 0], arms=["sparse"], over="softmax")
    assert len(few.dots) == 5
    assert few.interval(0.95).lower == 0, "five seeds have no interval of 95 %"
    with pytest.raises(NoRowsError, match="no rows where arm is 'entmax'"):
        dilution.least_reach(table, arms=["top-k", "entmax"], over="softmax")


def test_each_map_is_judged_by_itself_on_how_often_it_passes_the_gate():
    flags = {"softmax": [1] * 8, "top-k": [1] * 7 + [0], "sparsemax": [0] * 8}
    rows = [
        (arm, seed, 100.0 if one else math.nan, 100)
        for arm, all_ in flags.items()
        for seed, one in enumerate(all_)
    ]
    table = pd.DataFrame(rows, columns=["arm", "seed", "updates_to_gate", "updates"])
    both = dilution.less_often(table, arms=["sparsemax", "top-k"], than="softmax")
    found = both.interval(0.95)
    assert [found.value, found.low] == pytest.approx([0.125, -0.2640], abs=1e-4), (
        "8 of 8 less 7 of 8, exact ends joined"
    )
    assert found.high == past_gate(table, arm="softmax", other="top-k").interval(0.975).high
    assert both.dots == dict.fromkeys(range(7), 0) | {7: 1}
    with pytest.raises(NoRowsError, match="no rows where arm is 'entmax'"):
        dilution.less_often(table, arms=["entmax"], than="softmax")


def forecast(missed: np.ndarray) -> pd.DataFrame:
    """Rows of forecasts that miss by so many points [seeds, lengths] where half of 100 was measured."""
    rows = [
        ("a", s, "filler", 2**n, 50 + missed[s, n], 100, 64, 128)
        for s, n in itertools.product(*map(range, missed.shape))
    ]
    columns = ["arm", "seed", "task", "length", "predicted", "asked", "correct", "total"]
    return pd.DataFrame(rows, columns=columns)


def test_what_a_forecast_misses_is_pooled_over_seeds_before_its_sign_is_dropped():
    rows = forecast(np.array([[10.0, 4.0], [-10.0, 8.0]]))
    found = dilution.forecast_miss(rows)
    assert found.interval(0.95).value == pytest.approx((0 + 6) / 2)
    assert found.dots == pytest.approx({0: 7, 1: 9})
    alone = dilution.forecast_miss(rows[:3])
    assert list(alone.dots) == [0], "seed 1 was not measured everywhere"
    assert (alone.interval(0.95).low, alone.interval(0.95).high) == (0, math.inf)
    with pytest.raises(NoRowsError, match="no seed was measured everywhere"):
        dilution.forecast_miss(rows.iloc[[0, 3]])


@pytest.mark.parametrize("confidence", [0.8, 0.95])
def test_the_interval_of_one_difference_is_that_of_student(confidence):
    rng = np.random.default_rng(3)
    missed = 20 + rng.normal(0, 5, (10, 1))
    half = distributions.t.ppf((1 + confidence) / 2, 9) * missed.std(ddof=1) / math.sqrt(10)
    found = dilution.forecast_miss(forecast(missed)).interval(confidence)
    assert [found.low, found.high] == pytest.approx([missed.mean() - half, missed.mean() + half], abs=0.2)


@pytest.mark.parametrize("truth", [np.zeros(20), np.linspace(-10, 10, 20)])
def test_the_interval_of_what_a_forecast_misses_holds_the_truth(truth):
    rng = np.random.default_rng(5)
    runs = [
        dilution.forecast_miss(forecast(truth + rng.normal(0, 4, (6, 20)))).interval(0.95) for _ in range(40)
    ]
    assert sum(one.low <= np.abs(truth).mean() <= one.high for one in runs) >= 37
