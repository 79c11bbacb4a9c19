"""Statistics of cells on arrays, against values worked by hand."""

from __future__ import annotations

import math

import pandas as pd
import pytest

from lcbook import stats


def by_depth(correct: list[int], **columns: object) -> pd.DataFrame:
    """Ten rows, one a tenth of the depth, of ten questions each; written from the end to the start."""
    depths = [round(0.1 * i + 0.05, 2) for i in range(10)]
    frame = pd.DataFrame({"depth": depths, "correct": correct, "total": 10}).assign(**columns)
    return frame[::-1]


def test_contrasts_of_depth_worked_by_hand():
    late = by_depth([2, 3, 4, 4, 4, 6, 7, 7, 8, 9], training="recency")
    both = pd.concat([late, by_depth([0] * 10, training="other")])
    assert stats.tilt(both, training="recency") == 70
    assert stats.bend(both, training="recency") == 5  # 55 at the ends, 50 in the middle
    assert math.isnan(stats.tilt(late, training="primacy"))
    assert math.isnan(stats.bend(late[late["depth"] > 0.1]))
    with pytest.raises(ValueError, match="allowed are columns of the frame"):
        stats.tilt(late, trained="recency")


def held(exponent: float = 2.0) -> pd.DataFrame:
    """K50 of two rules at three states and two seeds: 3 x^exponent and x, seeds a factor of 4 apart."""
    rows = [
        (rule, state, seed, seed * (3 * state**exponent if rule == "delta" else state))
        for rule in ("delta", "additive")
        for state in (4, 16, 8)
        for seed in (1, 4)
    ]
    return pd.DataFrame(rows, columns=["rule", "state", "seed", "k50"])


def test_geometric_ratio_worked_by_hand():
    over = {"rule": ("delta", "additive")}
    assert stats.geometric_ratio(held(1.0), "k50", over, "state") == pytest.approx(3)
    assert stats.geometric_ratio(held(2.0), "k50", over, "state") == pytest.approx(24)  # 12, 24 and 48
    only = held(2.0).query("not (rule == 'additive' and state == 16)")
    assert stats.geometric_ratio(only, "k50", over, "state") == pytest.approx(math.sqrt(12 * 24))
    assert math.isnan(stats.geometric_ratio(held(), "k50", {"rule": ("delta", "gated")}, "state"))


def test_used_reach_ends_at_the_first_gap_that_is_lost():
    """Of gaps 2 to 10 one seed holds 2 and 4, another all that it was asked, the third none; the reach is 9."""
    rows = [
        (0, 2, 9),
        (0, 4, 6),
        (0, 6, 5),
        (0, 8, 9),
        (1, 2, 8),
        (1, 4, 8),
        (1, 8, 6),
        (2, 2, 5),
        (2, 10, 9),
    ]
    frame = pd.DataFrame(rows, columns=["seed", "gap", "correct"]).assign(total=10, chance=0, reach=9)
    assert stats.used_reach(frame) == 4 / 8
    assert stats.used_reach(frame[frame["seed"] == 1]) == 1
    assert stats.used_reach(frame[frame["seed"] == 2]) == 0
    with pytest.raises(ValueError, match="mixes the probes"):
        stats.used_reach(frame.assign(probe=["a"] * 8 + ["b"]))


def test_selection_misses_where_a_kept_needle_is_not_answered():
    """With a quarter for a guess, 10 of 18 kept predict 12 right; 4 of 8 kept predict 5, and 3 are."""
    frame = pd.DataFrame(
        {
            "arm": ["a", "a", "b", "b"],
            "length": [64, 64, 64, 128],
            "right": [6, 6, 3, 8],
            "selected": [4, 6, 4, 8],
            "asked": [9, 9, 8, 8],
            "chance": 0.25,
        }
    )
    assert stats.selection_miss(frame) == pytest.approx(25)
    assert stats.selection_miss(frame[frame["arm"] == "a"]) == 0
    with pytest.raises(ValueError, match="lacks the columns"):
        stats.selection_miss(frame.drop(columns="asked"))
