"""What the figures of capacity draw is what was recalled, fitted and bounded."""

from __future__ import annotations

import math

import matplotlib.pyplot as plt
import pandas as pd
import pytest

from lcbook import plots, stats
from tests.drawn import arrows, bars, marks, near, opened, written, xy


def loaded(x="pairs", at=(4, 8, 16, 32, 64), arms=("additive", "delta"), seeds=3) -> pd.DataFrame:
    """Arm i answers 97 - 10 (2 - i) of 101 at the least load, and 13 fewer at each further one; seed s a few more."""
    rows = [
        {"arm": arm, x: n, "seed": seed, "correct": max(97 - 10 * (2 - i) - 13 * j + seed, 2), "total": 101}
        for i, arm in enumerate(arms)
        for j, n in enumerate(at)
        for seed in range(seeds)
    ]
    return pd.DataFrame(rows).assign(chance=1 / 16)


def fits() -> pd.DataFrame:
    """Additive: K50 = S^0.5. Delta: K50 = S^0.75 / 2 as far as was measured, and more than 101 at the last."""
    rows = [("additive", s, s**0.5, s**0.5 * 0.9, s**0.5 * 1.2, None) for s in (49, 169, 961)]
    rows += [("delta", s, s**0.75 / 2, s**0.75 / 2.5, s**0.75 / 1.5, None) for s in (49, 169)]
    rows += [("delta", 961, 101.0, 83.0, 101.0, "above")]
    return pd.DataFrame(rows, columns=["rule", "state", "k50", "low", "high", "censored"])


def test_capacity_fits_what_was_measured_and_opens_what_was_not():
    ax = plots.capacity_by_state(fits())
    assert (ax.get_xscale(), ax.get_yscale()) == ("log", "log")
    assert {"additive: S^0.50", "delta: S^0.75"} <= written(ax)
    lines = [xy(line) for line in ax.lines if line.get_linestyle() == "-"]
    assert lines == [
        near([(49, 7), (961, 31)]),
        near([(49, 49**0.75 / 2), (169, 169**0.75 / 2)]),
    ]
    assert sorted(marks(ax)) == near(
        sorted([(49, 7), (169, 13), (961, 31), (49, 49**0.75 / 2), (169, 169**0.75 / 2), (961, 101)])
    )
    assert opened(ax) == [(961, 101)]
    assert arrows(ax) == [(961, 101, True)]
    assert (83, 101) in bars(ax), "no interval beyond what was measured"
    assert "delta: S^0.75, ≥ 101 pairs at 961 scalars" in plots.alt(ax)


def test_a_bound_is_dashed_and_named():
    bound = pd.DataFrame({"state": [961, 49], "pairs": [3844.0, 196.0]})
    ax = plots.capacity_by_state(fits(), bounds={"bit bound": bound})
    (dashed,) = [line for line in ax.lines if line.get_linestyle() == "--"]
    assert xy(dashed) == [(49, 196), (961, 3844)]
    assert "bit bound" in written(ax)
    ax.get_figure().draw_without_rendering()
    (name,) = [text for text in ax.texts if text.get_text() == "bit bound"]
    (x0, y0), (x1, y1) = ax.transData.transform(xy(dashed))
    assert name.get_rotation() == pytest.approx(math.degrees(math.atan2(y1 - y0, x1 - x0)), abs=0.5)
    assert "bit bound 3844 at 961" in plots.alt(ax)


def test_equal_bounds_of_two_rules_stand_side_by_side():
    both = fits()
    both.loc[2, ["k50", "low", "high", "censored"]] = [101.0, 90.0, 101.0, "above"]
    at = [x for x, _, up in arrows(plots.capacity_by_state(both)) if up]
    assert len(at) == 2
    assert at[0] < 961 < at[1]
    assert math.sqrt(at[0] * at[1]) == pytest.approx(961)


def test_the_words_of_an_estimate_are_understood():
    words = fits().assign(censored=[None, "below", "above", None, "both", "above"])
    words.loc[1, ["low"]] = 13.0  # k50 is the least load: at most 13
    words.loc[4, ["low", "high"]] = [20.0, 83.0]  # measured, but neither end of its interval
    words.loc[5, "high"] = 101.0
    ax = plots.capacity_by_state(words)
    assert sorted(opened(ax)) == [(169, 13), (961, 101)]
    top = 961**0.5 * 1.2  # "above" with k50 inside its interval: an arrow at its end, and a filled marker
    assert arrows(ax) == near(
        [(169, 13, False), (169, 20, False), (169, 83, True), (961, top, True), (961, 101, True)]
    )
    assert "additive: S^0.50" in written(ax)


def test_a_table_of_n50_over_pairs_can_be_drawn():
    frame = loaded(at=(4, 16, 64)).assign(rule="delta")
    frame = pd.concat([frame.assign(state=64), frame.assign(state=256, correct=101)])
    table = stats.n50_table(frame.assign(length=frame["pairs"]), ["rule", "state"])
    ax = plots.capacity_by_state(table.rename(columns={"n50": "k50"}))
    assert (256, 64, True) in arrows(ax)


def test_a_rule_measured_at_one_size_has_no_exponent():
    one = fits().query("state == 49")
    assert {"additive", "delta"} <= written(plots.capacity_by_state(one))


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda: plots.capacity_by_state(fits().drop(columns="high")), r"lacks the columns \['high'\]"),
        (lambda: plots.capacity_by_state(fits().assign(k50=0.0)), "k50 has 0; allowed on a log axis"),
        (lambda: plots.capacity_by_state(fits().assign(k50=math.nan)), "k50 has nan; allowed on a log axis"),
        (lambda: plots.capacity_by_state(fits().assign(state=-2)), "state has -2; allowed on a log axis"),
        (lambda: plots.capacity_by_state(fits(), bounds={"bits": fits()}), r"lacks the columns \['pairs'\]"),
        (lambda: plots.capacity_by_state(fits(), bounds={"b": fits().assign(pairs=0)}), "pairs has 0; allowed on a"),
    ],
)  # fmt: skip
def test_bad_input_is_named(call, message):
    with pytest.raises(ValueError, match=message):
        call()
    assert not plt.get_fignums(), "no empty figure is left behind"
