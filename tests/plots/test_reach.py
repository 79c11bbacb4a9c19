"""What the figures of reach draw is what was recalled, and the reach and the price that were given."""

from __future__ import annotations

import matplotlib as mpl
import matplotlib.pyplot as plt
import numpy as np
import pandas as pd
import pytest
from matplotlib.figure import Figure

from lcbook import plots


@pytest.fixture(autouse=True)
def _close():
    before = dict(mpl.rcParams)
    yield
    plt.close("all")
    assert dict(mpl.rcParams) == before, "a figure changed the reader's rcParams"


def by_gap() -> pd.DataFrame:
    """Arm i recalls everything up to a gap of 8 (i + 1) and guesses beyond; three seeds."""
    rows = [
        {"arm": arm, "seed": seed, "gap": gap, "correct": 64 if gap <= 8 * (i + 1) else 1, "total": 64}
        for i, arm in enumerate(("1 layer", "2 layers"))
        for seed in range(3)
        for gap in (4, 8, 12, 16, 20)
    ]
    return pd.DataFrame(rows).assign(chance=1 / 64)


def priced() -> pd.DataFrame:
    rows = [
        {
            "arm": arm,
            "seed": seed,
            "length": 256,
            "keys": keys,
            "correct": correct,
            "total": 100,
            "chance": 0.02,
        }
        for arm, keys, correct in (("full", 256, 97), ("window 16", 16, 8), ("top 16", 272.5, 99))
        for seed in range(3)
    ]
    return pd.DataFrame(rows)


def test_recall_within_reach_draws_recall_by_gap_and_where_each_reach_ends():
    ax = plots.recall_within_reach(by_gap(), reach={"1 layer": 9, "2 layers": 17})
    curves = [line for line in ax.lines if len(line.get_xdata()) == 5]
    assert [np.asarray(line.get_xdata()).tolist() for line in curves] == [[4, 8, 12, 16, 20]] * 2
    assert np.asarray(curves[0].get_ydata()) == pytest.approx([1, 1, 1 / 64, 1 / 64, 1 / 64])
    assert np.asarray(curves[1].get_ydata()) == pytest.approx([1, 1, 1, 1, 1 / 64])
    ends = {float(line.get_xdata()[0]): line.get_color() for line in ax.lines if len(set(line.get_xdata())) == 1
            and list(line.get_ydata()) == [0, 1]}  # fmt: skip
    assert ends == {9: curves[0].get_color(), 17: curves[1].get_color()}, "in the colour of its arm"
    assert "1 layer: 8 of a reach of 9; 2 layers: 16 of a reach of 17" in plots.alt(ax)
    assert ax.get_xscale() == "linear"


def test_an_arm_without_a_bound_has_no_line():
    ax = plots.recall_within_reach(by_gap(), reach={})
    assert not [
        line for line in ax.lines if len(set(line.get_xdata())) == 1 and list(line.get_ydata()) == [0, 1]
    ]
    nothing = by_gap().assign(correct=0)
    assert "1 layer: none" in plots.alt(plots.recall_within_reach(nothing, reach={}))


def test_keys_and_recall_draws_price_and_recall_and_what_blind_choice_gives():
    ax = plots.keys_and_recall(priced())
    points = sorted(
        (float(x[0]), float(line.get_ydata()[0])) for line in ax.lines if len(x := line.get_xdata()) == 1
    )
    assert np.asarray(points) == pytest.approx(np.array([(16, 0.08), (256, 0.97), (272.5, 0.99)]))
    blind = next(line for line in ax.lines if line.get_linestyle() == "--" and len(line.get_xdata()) > 2)
    x, y = np.asarray(blind.get_xdata()), np.asarray(blind.get_ydata())
    assert (x[0], x[-1]) == pytest.approx((8, 256))
    assert y == pytest.approx(0.02 + 0.98 * x / 256)  # among the keys seen, or a guess
    assert "window 16 8 % with 16" in plots.alt(ax)


@pytest.mark.parametrize("draw", [lambda ax: plots.recall_within_reach(by_gap(), reach={}, ax=ax),
                                  lambda ax: plots.keys_and_recall(priced(), ax=ax)])  # fmt: skip
def test_draws_on_the_axes_given(draw):
    figure, ax = plt.subplots()
    assert draw(ax) is ax
    assert isinstance(figure, Figure)
    assert len(figure.axes) == 1


def two_lengths() -> pd.DataFrame:
    return pd.concat([priced(), priced().assign(length=512)])


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda: plots.recall_within_reach(by_gap().drop(columns="gap"), reach={}), r"lacks the columns \['gap'\]"),
        (lambda: plots.keys_and_recall(priced().drop(columns="keys")), r"lacks the columns \['keys'\]"),
        (lambda: plots.keys_and_recall(two_lengths()), r"has the lengths \[256, 512\]"),
        (lambda: plots.recall_within_reach(by_gap().assign(probe=["a", "b"] * 15), reach={}), "mixes the probes"),
    ],
)  # fmt: skip
def test_bad_input_is_named(call, message):
    with pytest.raises(ValueError, match=message):
        call()
