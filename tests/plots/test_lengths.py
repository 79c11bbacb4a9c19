"""Recall at neighbouring lengths: what is drawn, and what is said of bad input."""

from __future__ import annotations

import numpy as np
import pandas as pd
import pytest

from lcbook import stats
from lcbook.plots.recall import recall_at_each_length


def rows() -> pd.DataFrame:
    """Half of four answers are right at 102 tokens and all elsewhere; the second arm has none right."""
    found = [("a", n, seed, int(n != 102 or seed % 2), 1) for n in range(100, 108) for seed in range(4)]
    found += [("b", n, 0, 0, 2) for n in range(100, 108)]
    return pd.DataFrame(found, columns=["arm", "length", "seed", "correct", "total"]).assign(chance=0.01)


def test_lines_bands_and_the_grid_are_those_of_the_rows():
    ax = recall_at_each_length(rows(), mark=104, period=3.0)
    grid = [line.get_xdata()[0] for line in ax.lines if len(set(line.get_xdata())) == 1]
    assert grid == [101.0, 104.0, 107.0]
    lines = [line for line in ax.lines if len(line.get_xdata()) == 8]
    assert lines[0].get_ydata().tolist() == [1, 1, 0.5, 1, 1, 1, 1, 1]
    assert lines[1].get_ydata().tolist() == [0] * 8
    low, high = stats.wilson(2, 4)
    band = ax.collections[0].get_paths()[0].vertices
    at = band[band[:, 0] == 102][:, 1]
    assert np.isclose(at.min(), low)
    assert np.isclose(at.max(), high)
    assert "a from 50 % to 100 %; b from 0 % to 0 %" in ax.get_label()


def test_bad_input_is_named():
    with pytest.raises(ValueError, match="period is 0 and mark 104"):
        recall_at_each_length(rows(), mark=104, period=0)
    with pytest.raises(ValueError, match="a mark from 100 to 107"):
        recall_at_each_length(rows(), mark=99, period=3)
    with pytest.raises(ValueError, match="lacks the columns"):
        recall_at_each_length(rows().drop(columns="total"), mark=104, period=3)
