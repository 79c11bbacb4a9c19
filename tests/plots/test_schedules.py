"""The loss by length while training goes on: lines are means over seeds, axes are alike, bad input."""

from __future__ import annotations

import math

import pandas as pd
import pytest

from lcbook.plots.training import loss_by_length

TABLE = pd.DataFrame(
    [
        {
            "arm": arm,
            "seed": seed,
            "update": update,
            "trained_at": at,
            "length": n,
            "loss": loss + seed,
            "chance": 1 / 8,
        }
        for arm, base in (("steps", 1.0), ("fixed", 2.0))
        for seed in (0, 1)
        for update, at in ((1, 16), (10, 64))
        for n, loss in ((16, base), (64, base / update))
    ]
)


def test_lines_are_means_over_seeds():
    top, bottom = loss_by_length(TABLE, "steps")
    lines = [line.get_ydata().tolist() for line in bottom.lines[:2]]
    assert lines == [[1.5, 1.5], [1.5, pytest.approx(0.6)]]
    assert top.lines[0].get_ydata().tolist() == [16, 64]
    assert bottom.lines[2].get_ydata()[0] == pytest.approx(math.log(8))
    assert "1.50 at 16 tokens, 0.60 at 64 tokens" in bottom.get_label()
    assert "16 to 64 tokens" in top.get_label()


def test_pictures_of_several_arms_have_the_same_axes():
    limits = [[ax.axis() for ax in loss_by_length(TABLE, arm)] for arm in ("steps", "fixed")]
    assert limits[0] == limits[1]


def test_bad_input():
    with pytest.raises(ValueError, match=r"arm is 'linear'; allowed is one of \['steps', 'fixed'\]"):
        loss_by_length(TABLE, "linear")
    with pytest.raises(ValueError, match="trained_at"):
        loss_by_length(TABLE.drop(columns="trained_at"), "fixed")
