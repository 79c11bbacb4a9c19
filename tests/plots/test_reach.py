"""What the figure of keys draws is what was recalled, and the price that was given."""

from __future__ import annotations

import numpy as np
import pandas as pd
import pytest

from lcbook import plots


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


def two_lengths() -> pd.DataFrame:
    return pd.concat([priced(), priced().assign(length=512)])


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda: plots.keys_and_recall(priced().drop(columns="keys")), r"lacks the columns \['keys'\]"),
        (lambda: plots.keys_and_recall(two_lengths()), r"has the lengths \[256, 512\]"),
    ],
)  # fmt: skip
def test_bad_input_is_named(call, message):
    with pytest.raises(ValueError, match=message):
        call()
