"""How many samples: by hand, against statsmodels, and each number is the least that does it."""

from __future__ import annotations

import math

import numpy as np
import pytest
from statsmodels.stats.proportion import proportion_confint, samplesize_proportions_2indep_onetail

from lcbook import stats
from lcbook.stats import effective
from lcbook.stats.sample_size import (
    METHODS,
    lower_bound,
    more_samples,
    samples_for_perfect,
    samples_for_width,
    samples_to_tell,
)


def test_twenty_of_twenty_by_hand():
    assert lower_bound(20, 20) == pytest.approx(0.05 ** (1 / 20))
    assert round(lower_bound(20, 20), 3) == 0.861
    assert lower_bound(20, 20, method="Wilson") == pytest.approx(20 / (20 + 1.959963985**2))
    assert round(lower_bound(20, 20, method="Wilson"), 4) == 0.8389
    assert lower_bound(20, 20, method="rule of three") == pytest.approx(1 - 3 / 20, abs=3e-4)
    assert lower_bound(1, 1) == pytest.approx(0.05)
    assert lower_bound(2, 2, method="rule of three") == 0


@pytest.mark.parametrize("confidence", [0.8, 0.95, 0.99])
def test_the_exact_bound_is_statsmodels_and_wilsons_is_ours(confidence):
    for correct, total in ((0, 7), (3, 11), (17, 23), (58, 61), (61, 61)):
        # two-sided at twice the error in each tail is one-sided at it
        expected = proportion_confint(correct, total, alpha=2 * (1 - confidence), method="beta")[0]
        expected = 0.0 if correct == 0 else expected
        assert lower_bound(correct, total, confidence=confidence) == pytest.approx(expected, abs=1e-9)
        low = stats.wilson(correct, total, confidence)[0]
        assert lower_bound(correct, total, method="Wilson", confidence=confidence) == low


def test_perfect_recall_by_hand():
    assert [samples_for_perfect(0.9, method=m) for m in METHODS] == [29, 35, 30]
    # log .05 / log .99 = 298.07; z^2 .99 / .01 = 380.3; log 20 / .01 = 299.57
    assert [samples_for_perfect(0.99, method=m) for m in METHODS] == [299, 381, 300]
    assert samples_for_perfect(0.5, 0.5) == 1
    assert samples_for_perfect(0.9, 0.99) == math.ceil(math.log(0.01) / math.log(0.9)) == 44


@pytest.mark.parametrize("method", METHODS)
@pytest.mark.parametrize("lower", [0.3, 0.856, 0.95, 0.999])
def test_the_number_is_the_least_that_does_it(method, lower):
    n = samples_for_perfect(lower, method=method)
    assert lower_bound(n, n, method=method) >= lower - 1e-9
    assert n == 1 or lower_bound(n - 1, n - 1, method=method) < lower


def test_more_samples_after_some_were_wrong():
    assert more_samples(20, 20, 0.9) == 9, "29 in all"
    assert more_samples(29, 29, 0.9) == 0
    for method in METHODS[:2]:
        more = more_samples(17, 19, 0.9, method=method)
        assert lower_bound(17 + more, 19 + more, method=method) >= 0.9
        assert lower_bound(16 + more, 18 + more, method=method) < 0.9
    assert more_samples(0, 1, 0.9) == 45, "46 samples with one wrong: the textbook's number"


def test_width_by_hand_and_the_least():
    # Wilson at one half: half width z / (2 sqrt(n + z^2)) = .05 at n = z^2 (100 - 1) = 380.3
    assert samples_for_width(0.5, 0.05) == 381
    # at 1: z^2 / (2 (n + z^2)) = .05 at n = 9 z^2 = 34.6
    assert samples_for_width(1, 0.05) == 35
    for recall, half in ((0.2, 0.1), (0.83, 0.03), (0, 0.01)):
        n = samples_for_width(recall, half)
        widths = [np.subtract(*stats.wilson(recall * k, k)[::-1]) / 2 for k in (n - 1, n)]
        assert widths[0] > half >= widths[1] - 1e-12
    assert samples_for_width(0.9, 0.02) == samples_for_width(0.1, 0.02)


@pytest.mark.parametrize(
    ("p1", "p2", "power"), [(0.9, 0.8, 0.8), (0.5, 0.53, 0.9), (1, 0.95, 0.8), (0.07, 0.31, 0.6)]
)
def test_telling_two_models_apart_is_statsmodels(p1, p2, power):
    theirs = samplesize_proportions_2indep_onetail(p1 - p2, p2, power, alpha=0.05, alternative="two-sided")
    assert samples_to_tell(p1, p2, power) == math.ceil(theirs)
    assert samples_to_tell(p2, p1, power) == math.ceil(theirs)


def test_telling_apart_has_its_power():
    n, rng = samples_to_tell(0.9, 0.75), np.random.default_rng(0)
    assert n == 100
    a, b = rng.binomial(n, 0.9, 40000) / n, rng.binomial(n, 0.75, 40000) / n
    middle = (a + b) / 2
    z = np.abs(a - b) / np.sqrt(np.maximum(2 * middle * (1 - middle) / n, 1e-12))
    assert (z > 1.959964).mean() == pytest.approx(0.8, abs=0.03)


def test_effective_has_these_names_too():
    assert effective.samples_for_perfect is samples_for_perfect
    assert set(effective.__all__) <= set(dir(effective))


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda: lower_bound(3, 0), "correct is 3 of 0"),
        (lambda: lower_bound(0, 0), "method is 'exact' for 0 of 0; allowed are 1 sample or more"),
        (lambda: lower_bound(3, 7, method="rule of three"), "for 3 of 7; .* 'rule of three' where all are right"),
        (lambda: lower_bound(3, 7, method="Wald"), "method is 'Wald'"),
        (lambda: lower_bound(3, 7, confidence=1), "confidence is 1"),
        (lambda: samples_for_perfect(1), "lower is 1; allowed is a share between 0 and 1"),
        (lambda: samples_for_perfect(1 - 1e-12), "allowed is a bound that 1000000000 samples can reach"),
        (lambda: samples_for_perfect(0.9, method="Wald"), "method is 'Wald'"),
        (lambda: more_samples(8, 7, 0.9), "correct is 8 of 7"),
        (lambda: more_samples(6, 7, 0.9, method="rule of three"), "for 6 of 7"),
        (lambda: samples_for_width(1.2, 0.1), "recall is 1.2 and half_width 0.1"),
        (lambda: samples_for_width(0.5, 0.5), "half_width 0.5"),
        (lambda: samples_for_width(0.5, 1e-7), "half_width is 1e-07; allowed is one that"),
        (lambda: samples_to_tell(0.5, 0.5), "p1 is 0.5, p2 0.5 and power 0.8; allowed are two different shares"),
        (lambda: samples_to_tell(0.5, 1.5), "p2 1.5"),
        (lambda: samples_to_tell(0.5, 0.6, 0.05), "power above 1 - confidence"),
    ],
)  # fmt: skip
def test_bad_input_is_named(call, message):
    with pytest.raises(ValueError, match=message):
        call()
