"""What the claims about trained models measure, by hand, and what their intervals cover."""

from __future__ import annotations

import math

import numpy as np
import pandas as pd
import pytest

from lcbook.claims.models import flips, octaves_apart, tau, variance_share
from lcbook.claims.rows import NoRowsError
from lcbook.stats import rankings, variance
from lcbook.stats.intervals import mean, sample

MIXERS = ["attention", "delta rule", "linear attention", "gates", "sink", "window"]
FACTORS = ["asked.tasks", "asked.competing"]


def asked(**benchmarks: list[int]) -> pd.DataFrame:
    """Right answers out of 100 of each model, the probe "needle" with a text loss of its recall."""
    rows = [
        (f"m{model}", MIXERS[model], probe, right, 100, right / 100 if probe == "needle" else math.nan)
        for probe, answers in benchmarks.items()
        for model, right in enumerate(answers)
    ]
    return pd.DataFrame(rows, columns=["arm", "model.mixer", "probe", "correct", "total", "text_loss"])


def test_tau_by_hand():
    frame = asked(needle=[10, 20, 30, 40, 50, 60], queries=[20, 10, 30, 40, 50, 60])
    found = tau(frame, a="needle", b="queries", families=["model.mixer"])
    assert found.interval(0.95).value == pytest.approx(13 / 15), "one pair of fifteen swaps"
    assert found.dots == pytest.approx({"m0": 0.6, "m1": 0.6, "m2": 1, "m3": 1, "m4": 1, "m5": 1})
    wide, narrow = found.interval(0.99), found.interval(0.5)
    assert wide.low < narrow.low <= 13 / 15 <= narrow.high <= wide.high == 1
    loss = tau(frame, a="text loss", b="queries", families=["model.mixer"]).interval(0.95)
    assert loss.value == pytest.approx(-13 / 15), "less is better"


def test_tau_needs_six_families_and_both_benchmarks():
    frame = asked(needle=[10, 20, 30, 40, 50, 60], queries=[20, 10, 30, 40, 50, 60])
    kinds = {"delta rule": "recurrence", "linear attention": "recurrence"}
    found = tau(frame, a="needle", b="queries", families=["model.mixer"], kinds=kinds)
    assert found.missing == "the models are of 5 families, fewer than the 6 that an interval of 95 % needs"
    with pytest.raises(NoRowsError, match="the models were not asked for 'tracking'"):
        tau(frame, a="needle", b="tracking", families=["model.mixer"])


def curves(**models: tuple[float, ...]) -> pd.DataFrame:
    rows = [
        (name, 64 * 2**i, 1000 * y, 1000, 0.0) for name, curve in models.items() for i, y in enumerate(curve)
    ]
    return pd.DataFrame(rows, columns=["arm", "length", "correct", "total", "chance"])


def test_octaves_apart_and_flips_by_hand():
    # RULER's rule says 256 tokens for both; the first failure ends the second model's length at 64
    found = octaves_apart(curves(all=(1, 1, 1), dips=(1, 0.5, 1)))
    assert dict(zip(found.units, found.values, strict=True)) == {"all": 0, "dips": 2}
    assert found.limits == (0, 2)
    # of one question, the second length passes in half of the repeats
    found = flips(curves(never=(1, 0), half=(1, 0.5)), rule="RULER", samples=1)
    assert dict(zip(found.units, found.values, strict=True)) == pytest.approx(
        {"never": 0, "half": 0.5}, abs=0.01
    )
    assert found.limits == (0, 1)


def cells(**models: list[float]) -> pd.DataFrame:
    """Recalls of each model in the cells (a, 0), (a, 1), (b, 0), (b, 1), without noise."""
    places = [("a", 0), ("a", 1), ("b", 0), ("b", 1)]
    rows = [
        (model, *place, round(recall * 10**9), 10**9)
        for model, recalls in models.items()
        for place, recall in zip(places, recalls, strict=True)
    ]
    return pd.DataFrame(rows, columns=["arm", *FACTORS, "correct", "total"])


def test_the_share_of_variance_by_hand_is_open_above():
    # squares of the first model: task 4 x .25^2, haystack 4 x .15^2, both 4 x .05^2; the third has no differences
    frame = cells(both=[0.9, 0.7, 0.5, 0.1], haystack=[0.9, 0.1, 0.9, 0.1], same=[0.5] * 4)
    found = variance_share(frame, source="asked.competing", factors=FACTORS)
    assert found.dots == pytest.approx({"both": 9 / 35, "haystack": 1}, abs=1e-6)
    mean, half = (
        (9 / 35 + 1) / 2,
        (1 - 9 / 35) / 2,
    )  # of two values: half their distance is the standard error
    at_half = found.interval(0.5)  # Student's t with one degree of freedom: 1
    assert (at_half.low, at_half.value, at_half.high) == pytest.approx((mean - half, mean, 1), abs=1e-6)


def test_the_share_of_variance_seldom_reads_too_high():
    """At the threshold of a twentieth, from 48 questions a cell; a third of the models carry the effect."""
    rng, runs, models = np.random.default_rng(0), 400, 8
    task = np.array([0.3, 0.0, -0.3])[:, None] * np.ones(6)
    depth = np.tile([0.1, 0.0, -0.1, 0.1, 0.0, -0.1], (3, 1))

    def shares(carried: np.ndarray, questions: int) -> np.ndarray:
        recall = (0.5 + task + carried[..., None, None] * depth).reshape(*carried.shape, 3, 2, 3)
        y = rng.binomial(questions, recall) / questions
        noise = (y * (1 - y) / (questions - 1)).mean((-3, -2, -1))
        squares = variance._squares(y, 3)
        return np.maximum(squares[..., 2] - 2 * noise, 0) / squares.sum(-1)

    truth = shares(np.array([0.0, 0.0, 1.0]), 10**12).mean()
    each = shares((rng.random((runs, models)) < 1 / 3).astype(float), 48)
    low = np.array([mean(sample(one, limits=(0.0, 1.0))).low for one in each])
    assert (low > truth).mean() <= 0.03


@pytest.mark.slow
def test_tau_over_families_covers_where_models_of_one_family_are_alike():
    """Eight families of three, 0.8 of whose variance is the family's; the true tau is the claims' threshold of 0.5."""
    rng, kin, runs = np.random.default_rng(0), np.repeat(np.arange(8), 3), 120
    r = math.sin(math.pi / 4)
    root = np.linalg.cholesky([[1, r], [r, 1]])
    hits = {"families": 0, "models": 0}
    for _ in range(runs):
        ability = (0.8**0.5 * rng.normal(size=(8, 2))[kin] + 0.2**0.5 * rng.normal(size=(24, 2))) @ root.T
        rows = [(m, b, ability[m, k]) for m in range(24) for k, b in enumerate("xy")]
        table = pd.DataFrame(rows, columns=["model", "benchmark", "score"])
        for name, family in (("families", dict(enumerate(kin))), ("models", None)):
            found = rankings.tau_interval(table, "x", "y", family=family, resamples=300)()
            hits[name] += found.low <= 0.5 <= found.high
    assert 0.93 <= hits["families"] / runs
    assert hits["models"] / runs < 0.93
