"""Variance by hand, against statsmodels' analysis of variance, and without bias on counts that were drawn."""

from __future__ import annotations

import itertools

import numpy as np
import pandas as pd
import pytest
import statsmodels.api as sm
from statsmodels.formula.api import ols

from lcbook.stats.variance import variance_shares

FACTORS = ["depth", "amount", "task"]


def two_by_two(total: int = 10**9) -> pd.DataFrame:
    """Recalls .9 .7 / .5 .1: means .8 .3 and .7 .4, all .55."""
    rows = [("a", 0, 0.9), ("a", 1, 0.7), ("b", 0, 0.5), ("b", 1, 0.1)]
    frame = pd.DataFrame(rows, columns=["task", "amount", "recall"])
    return frame.assign(correct=(frame["recall"] * total).round(), total=total)


def truth(depth: int, amount: int, task: int) -> float:
    return float(
        1 / (1 + np.exp(-(1.5 - 0.2 * depth * (depth - 3) - 0.5 * amount + 0.8 * task * (amount > 1))))
    )


def drawn(queries: int, seed: int = 0) -> pd.DataFrame:
    rng = np.random.default_rng(seed)
    cells = itertools.product(range(5), range(4), range(3))
    rows = [(*cell, rng.binomial(queries, truth(*cell)), queries) for cell in cells]
    return pd.DataFrame(rows, columns=[*FACTORS, "correct", "total"])


def test_by_hand():
    got = variance_shares(two_by_two(), ["task", "amount"], resamples=101).set_index("source")
    # task: 4 x .25^2 = .25; amount: 4 x .15^2 = .09; interaction: 4 x .05^2 = .01; in all .35
    assert list(got.index) == ["task", "amount", "interaction", "sampling"]
    assert got["squares"].tolist() == pytest.approx([0.25, 0.09, 0.01, 0], abs=1e-8)
    assert got["eta2"].tolist()[:3] == pytest.approx([25 / 35, 9 / 35, 1 / 35])
    assert got["share"].tolist() == pytest.approx([25 / 35, 9 / 35, 1 / 35, 0], abs=1e-7)
    assert got["degrees"].tolist() == [1, 1, 1, 3]
    assert (got["high"] - got["low"]).max() < 1e-3


def test_sampling_by_hand():
    got = variance_shares(two_by_two(10), ["task", "amount"], resamples=101).set_index("source")
    v = (0.09 + 0.21 + 0.25 + 0.09) / 4 / 9
    expected = [
        (0.25 - v) / 0.35,
        (0.09 - v) / 0.35,
        0,
    ]  # the interaction's .01 is less than the noise of .018
    assert got["share"].tolist() == pytest.approx([*expected, 1 - sum(expected)])
    assert got["share"].sum() == pytest.approx(1)


def test_squares_are_statsmodels():
    frame = drawn(23)
    fit = ols("y ~ C(depth) + C(amount) + C(task)", frame.assign(y=frame["correct"] / frame["total"])).fit()
    theirs = sm.stats.anova_lm(fit, typ=2)
    got = variance_shares(frame, FACTORS, resamples=11)
    assert got["squares"].to_numpy()[:4] == pytest.approx(theirs["sum_sq"].to_numpy())
    assert got["degrees"].tolist()[:4] == theirs["df"].astype(int).tolist()
    assert got["eta2"].to_numpy()[:4] == pytest.approx((theirs["sum_sq"] / theirs["sum_sq"].sum()).to_numpy())


def expected_shares(queries: int) -> np.ndarray:
    """Of true recalls with the sampling variance that so many queries add."""
    recalls = np.array([truth(*cell) for cell in itertools.product(range(5), range(4), range(3))])
    noise = 59 * (recalls * (1 - recalls) / queries).mean()
    many = drawn(2).assign(correct=1e12 * recalls, total=10**12)
    squares = variance_shares(many, FACTORS, resamples=11)["squares"].to_numpy()[:4]
    return np.append(squares, noise) / (squares.sum() + noise)


def test_shares_are_right_on_average_and_within_their_intervals():
    expected, runs = expected_shares(19), 60
    found = [variance_shares(drawn(19, seed), FACTORS, resamples=200) for seed in range(runs)]
    mean = np.mean([got["share"] for got in found], axis=0)
    assert mean == pytest.approx(expected, abs=0.02)
    raw = np.mean([got["eta2"][:4] for got in found], axis=0)
    assert raw[3] > expected[3] + 0.2, "the noise of sampling looks like interaction"
    hits = np.mean([(got["low"] <= expected) & (expected <= got["high"]) for got in found], axis=0)
    assert (hits >= 0.85).all()
    assert all(((got["low"] <= got["share"]) & (got["share"] <= got["high"])).all() for got in found)


def as_items(queries: int, seed: int = 0) -> pd.DataFrame:
    rng = np.random.default_rng(seed)
    cells = itertools.product(range(5), range(4), range(3), range(queries))
    rows = [(*cell, rng.binomial(1, truth(*cell[:3])), 1) for cell in cells]
    return pd.DataFrame(rows, columns=[*FACTORS, "seed", "correct", "total"])


def test_items_are_resampled():
    frame = as_items(31)
    counts, items = variance_shares(frame, FACTORS), variance_shares(frame, FACTORS, items="seed")
    columns = ["squares", "eta2", "share"]
    assert items[columns].to_numpy() == pytest.approx(counts[columns].to_numpy())
    assert items["low"].to_numpy() == pytest.approx(counts["low"].to_numpy(), abs=0.06)
    assert items["high"].to_numpy() == pytest.approx(counts["high"].to_numpy(), abs=0.06)
    alike = frame[frame["seed"] == 0].drop(columns="seed")
    same = pd.concat([alike.assign(seed=seed) for seed in range(13)])
    narrow = variance_shares(same, FACTORS, items="seed")
    assert (narrow["high"] - narrow["low"]).max() == pytest.approx(0, abs=1e-9), (
        "thirteen times the same item"
    )


def test_models_are_averaged_and_resampled():
    parts = [drawn(97, seed).assign(arm=seed) for seed in range(5)]
    got = variance_shares(pd.concat(parts), FACTORS, models="arm")
    each = np.stack([variance_shares(part, FACTORS, resamples=11)["share"] for part in parts])
    assert got["share"].to_numpy() == pytest.approx(each.mean(0))
    assert (got["low"] < got["share"]).all()
    # five models: the interval is close to Student's
    half = 2.776 * each.std(0, ddof=1) / np.sqrt(5)
    assert ((got["high"] - got["low"]) / 2).to_numpy() == pytest.approx(half, rel=0.35)


def test_rows_of_a_cell_are_pooled_and_one_factor_has_no_interaction():
    frame = drawn(22)
    half = frame.assign(correct=frame["correct"] // 2, total=11)
    rest = frame.assign(correct=frame["correct"] - frame["correct"] // 2, total=11)
    assert variance_shares(pd.concat([rest, half]), FACTORS).equals(variance_shares(frame, FACTORS))
    one = variance_shares(frame, ["amount"]).set_index("source")
    assert one.loc["interaction", ["degrees", "squares"]].tolist() == pytest.approx([0, 0], abs=1e-12)
    assert one["share"].sum() == pytest.approx(1)


def test_cells_that_are_all_alike_have_no_shares():
    got = variance_shares(two_by_two().assign(correct=7, total=11), ["task", "amount"], resamples=11)
    assert got["share"].isna().all()


FEW = two_by_two(10)


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda: variance_shares(FEW, []), r"factors is \[\]"),
        (lambda: variance_shares(FEW, ["task", "place"]), r"lacks the columns \['place'\]"),
        (lambda: variance_shares(FEW[:0], ["task"]), "frame has no rows"),
        (lambda: variance_shares(FEW, ["task"], models="amount", items="amount"), "models or items, not both"),
        (lambda: variance_shares(FEW.assign(seed=0), ["task"], models="seed"), "models is 'seed', which holds 1 model"),
        (lambda: variance_shares(FEW[1:], ["task", "amount"]), "fewer than two queries at task a, amount 0; allowed"),
        (lambda: variance_shares(FEW.assign(total=1, correct=1), ["task", "amount"]), "fewer than two queries"),
        (lambda: variance_shares(FEW[:2], ["task", "amount"]), "'task' with the value 'a' alone"),
        (lambda: variance_shares(FEW.assign(correct=11), ["task"]), "correct is 11 of 10"),
        (lambda: variance_shares(FEW, ["task"], resamples=0), "resamples is 0"),
    ],
)  # fmt: skip
def test_bad_input_is_named(call, message):
    with pytest.raises(ValueError, match=message):
        call()


def test_a_model_whose_cells_are_alike_leaves_the_others_shares_as_they_are():
    frame = pd.DataFrame(
        [
            {"a": a, "b": b, "seed": seed, "correct": (3 * a + b) * (seed > 0), "total": 7}
            for a in (0, 1)
            for b in (0, 1, 2)
            for seed in range(5)
        ]
    )
    found = variance_shares(frame, ["a", "b"], models="seed")["share"]
    assert np.allclose(found, variance_shares(frame[frame["seed"] > 0], ["a", "b"], models="seed")["share"])
    assert np.isfinite(found).all()
