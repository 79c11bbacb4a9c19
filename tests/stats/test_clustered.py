"""Recall of clustered requests: how many count, and that the interval holds the truth as often as it says."""

from __future__ import annotations

import math

import numpy as np
import pandas as pd
import pytest

from lcbook.stats.clustered import (
    clustered_recall,
    effective_lengths,
    half_recall,
    independent,
    interval,
    length_of,
    summary,
)
from lcbook.stats.estimate import Estimate, wilson


def frame(shares: list[list[float]], **columns) -> pd.DataFrame:
    """A row for each sample and depth, each with a share of four answers."""
    rows = [
        {"task": "needle", "length": 64, "sample": sample, "correct": 4 * share, "total": 4, "chance": 0.0}
        for sample, depths in enumerate(shares)
        for share in depths
    ]
    return pd.DataFrame(rows).assign(**columns)


def test_samples_that_are_all_right_or_all_wrong_count_once_each():
    # 3 of 5 samples right at all 7 depths: one number a sample, so 5 requests, not 35.
    row = clustered_recall(frame([[1.0] * 7] * 3 + [[0.0] * 7] * 2), "task").iloc[0]
    assert (row["requests"], row["samples"], row["total"]) == (35, 5, 5.0)
    assert (row["low"], row["high"]) == pytest.approx(wilson(3, 5))


def test_samples_that_are_alike_count_as_often_as_they_were_asked():
    # Each of 5 samples right at 2 of 3 depths: samples do not differ, so the 15 requests are as good as independent.
    row = clustered_recall(frame([[1.0, 1.0, 0.0]] * 5), "task").iloc[0]
    assert row["total"] == 15
    assert (row["low"], row["high"]) == pytest.approx(wilson(10, 15))


def test_in_between_as_the_formula_says():
    # Sums 3, 1, 2, 3, 1 of 3: recall 10/15, variance 5/4 x (1+1+0+1+1)/15^2 = 1/45, (2/9) / (1/45) = 10 requests,
    # times the squared ratio of t(0.975) with 14 and 4 degrees of freedom, (2.1448 / 2.7764)^2 = 0.5968: 5.97.
    shares = [[1.0, 1.0, 1.0], [1.0, 0.0, 0.0], [1.0, 1.0, 0.0], [1.0, 1.0, 1.0], [0.0, 0.0, 1.0]]
    assert independent(np.array([3.0, 1.0, 2.0, 3.0, 1.0]), np.full(5, 3.0)) == pytest.approx(5.968, abs=1e-3)
    assert clustered_recall(frame(shares), "task")["total"].item() == pytest.approx(5.968, abs=1e-3)


def test_one_request_a_sample_is_wilsons_interval():
    row = clustered_recall(frame([[1.0], [1.0], [0.0], [1.0], [0.25], [1.0], [1.0]]), "task").iloc[0]
    assert row["total"] == 7
    assert (row["low"], row["high"]) == pytest.approx(wilson(5.25, 7)), "an answer in part counts in part"


@pytest.mark.parametrize(("alike", "depths"), [(0.0, 11), (0.3, 11), (0.9, 11), (0.3, 3), (0.0, 1)])
@pytest.mark.parametrize("recall", [0.5, 0.9, 0.98])
def test_the_interval_holds_the_truth(recall, alike, depths):
    """At 20 samples 95 % intervals hold it in 90 % of 400 sweeps and more, whether or not depths agree."""
    rng, samples, held = np.random.default_rng(7), 20, 0
    for _ in range(400):
        scale = (1 - alike) / alike if alike else math.inf
        own = rng.beta(recall * scale, (1 - recall) * scale, samples) if alike else np.full(samples, recall)
        right = rng.binomial(depths, own).astype(float)
        total = independent(right, np.full(samples, float(depths)))
        low, high = wilson(right.sum() / (samples * depths) * total, total)
        held += low <= recall <= high
    assert held >= 360


def test_failures_stand_in_no_average():
    rows = frame([[1.0, 0.0]] * 3)
    lost = rows.assign(correct=0, total=0, chance=math.nan)
    counted = ["recall", "low", "high", "requests", "samples"]
    both = pd.concat([rows, lost.assign(sample=lambda f: f["sample"] + 3)])
    assert clustered_recall(both, "task")[counted].equals(clustered_recall(rows, "task")[counted])
    none = clustered_recall(lost, "task").iloc[0]
    assert math.isnan(none["recall"])
    assert interval(none.to_dict()) == "no answers"


def test_words_for_intervals_and_lengths():
    row = clustered_recall(frame([[1.0]] * 5 + [[0.0]]), "task").iloc[0]
    assert interval(row.to_dict()) == "83 % [44, 97]"
    assert length_of(Estimate(5900.0, 4096.0, 16384.0, "above")) == "5.8K [4K, ≥ 16K]"
    assert length_of(Estimate(16384.0, 4096.0, 16384.0, "above")) == "≥ 16K [4K, ≥ 16K]"
    assert length_of(Estimate(1024.0, 1024.0, 1024.0, "below")) == "≤ 1K"
    assert length_of(Estimate(2048.0, 1024.0, 4096.0)) == "2K [1K, 4K]"
    assert length_of(None) == "needs two lengths"


def test_effective_lengths_come_from_what_counts():
    long = frame([[0.0] * 7] * 11, length=128)
    found = effective_lengths(summary(pd.concat([long, frame([[1.0] * 7] * 11)])))
    assert found["RULER"].value == 64
    assert found["half recall"].value == pytest.approx(64 * math.sqrt(2), rel=0.01)
    assert effective_lengths(summary(long)) == {}
    assert half_recall(pd.concat([long, frame([[1.0] * 7] * 11)])) == found["half recall"]
    assert half_recall(long) is half_recall(long[:0]) is None


def test_bad_frames_say_what_is_lacking():
    with pytest.raises(ValueError, match=r"lacks the columns \['sample'\]; allowed is a frame with"):
        clustered_recall(frame([[1.0]]).drop(columns="sample"), "task")
    with pytest.raises(ValueError, match="frame has no rows"):
        clustered_recall(frame([[1.0]])[:0], "task")
