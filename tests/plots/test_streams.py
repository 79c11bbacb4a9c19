"""Figures of long texts read piece by piece: the numbers drawn are those of the frame."""

from __future__ import annotations

import math

import matplotlib.pyplot as plt
import numpy as np
import pandas as pd
import pytest

from lcbook import plots, stats


@pytest.fixture(autouse=True)
def closed():
    yield
    plt.close("all")


def costs() -> pd.DataFrame:
    """Three rounds at two lengths: seconds 1, 2, 4 times 0.5 and 8, memory the same in every round."""
    rows = [
        (n, seed, base * 2**seed, 3 * 2**20) for n, base in ((1024, 0.5), (65_536, 8.0)) for seed in range(3)
    ]
    return pd.DataFrame(rows, columns=["length", "seed", "seconds", "peak_bytes"])


def shared() -> pd.DataFrame:
    rows = [(x, seed, 97 - int(90 * x) - seed, 101) for x in (0.0, 0.5, 1.0) for seed in range(3)]
    return pd.DataFrame(rows, columns=["agreeing", "seed", "correct", "total"]).assign(chance=1 / 13)


def test_seconds_are_geometric_means_and_memory_is_flat():
    left, right = plots.seconds_and_memory(costs())
    np.testing.assert_allclose(np.asarray(left.lines[0].get_ydata(), float), [1.0, 16.0])
    np.testing.assert_allclose(np.asarray(right.lines[0].get_ydata(), float), [3 * 2**20] * 2)
    assert left.get_label() == "Seconds a text against length: 1 s at 1K tokens, 16 s at 64K tokens."
    # the 95 % interval of a mean of three logs one log 2 apart: t(2) * log 2 / sqrt 3 either way
    half = 4.302653 * math.log(2) / math.sqrt(3)
    low, high = left.collections[0].get_segments()[0][:, 1]
    assert (low, high) == pytest.approx((math.exp(-half), math.exp(half)), rel=1e-5)


def test_one_round_has_no_bar():
    left, _ = plots.seconds_and_memory(costs().query("seed == 0"))
    low, high = left.collections[0].get_segments()[0][:, 1]
    assert low == high == 0.5


def test_recall_by_share_is_that_of_stats():
    ax = plots.recall_by_share(shared(), x="agreeing", xlabel="Share")
    table = stats.recall(shared(), by=["agreeing"])
    drawn = [line.get_ydata() for line in ax.lines if len(line.get_xdata()) == 3]
    assert any(np.allclose(y, table["recall"]) for y in drawn)
    assert any(np.allclose(y, np.array([97, 52, 7]) / 101) for y in drawn)  # the first seed, faintly
    assert ax.get_xlabel() == "Share"
    assert [tick.get_text() for tick in ax.get_yticklabels()].count("chance") == 1
    assert ax.get_label() == "Recall against agreeing: 95 % at 0 %, 5.9 % at 100 %."


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda: plots.seconds_and_memory(costs().drop(columns="seconds")), "seconds"),
        (lambda: plots.seconds_and_memory(costs()[:0]), "0 rows|no rows|empty"),
        (lambda: plots.recall_by_share(shared().assign(agreeing=2.0), x="agreeing", xlabel=""), "from 0 to 1"),
        (lambda: plots.recall_by_share(shared(), x="share", xlabel=""), "share"),
    ],
)  # fmt: skip
def test_bad_input_is_named(call, message):
    with pytest.raises(ValueError, match=message):
        call()
