"""What the figures of dilution draw is what the rows hold and what stats makes of them, and they say what they draw."""

from __future__ import annotations

import math

import matplotlib.pyplot as plt
import numpy as np
import pandas as pd
import pytest
from matplotlib.colors import to_hex

from lcbook import plots, stats
from lcbook.plots import dilution
from tests.drawn import arrows, bands, bars, dots, marks, near, thick, written, xy

LENGTHS = (64, 128, 512, 2048)
T_OF_TWO = 4.302652730  # Student's t at 97.5 % with two degrees of freedom


def odds(arms=("softmax", "log-n softmax"), seeds=3) -> pd.DataFrame:
    """Three seeds an arm, 0.3 nats apart, half a nat below what their scores promise."""
    rows = [
        (arm, seed, n, 8 + 2 * k + 0.3 * seed, 1.5 + 0.25 * k)
        for k, arm in enumerate(arms)
        for seed in range(seeds)
        for n in LENGTHS
    ]
    frame = pd.DataFrame(rows, columns=["arm", "seed", "length", "margin", "variance"])
    theory = frame["margin"] - np.log(frame["length"] - 1) - frame["variance"] / 2
    return frame.assign(log_odds=theory - 0.5, **{"train.length": 128})


def forecasts(arms=("softmax", "log-n softmax", "RoPE"), seeds=3) -> pd.DataFrame:
    """Forecasts at four lengths, measured at the first three, and in the last arm at none."""
    rows = [
        (arm, seed, n, 97 - 23 * i - 3 * seed, 101, 89 - 19 * i - 5 * seed - k, 103, 1 / 17, arm != arms[-1] and i < 3)
        for k, arm in enumerate(arms)
        for seed in range(seeds)
        for i, n in enumerate(LENGTHS)
    ]  # fmt: skip
    columns = ["arm", "seed", "length", "predicted", "asked", "correct", "total", "chance", "measured"]
    frame = pd.DataFrame(rows, columns=columns)
    frame.loc[~frame["measured"], ["correct", "total", "chance"]] = math.nan
    return frame.assign(group=frame["arm"].map(lambda arm: "one" if arm == "softmax" else "two"))


def solving() -> pd.DataFrame:
    """Five seeds an arm: all, three or none solve; those recall up to 128, or at every length; others guess."""
    rows = [
        (arm, seed, seed < solved, n, (95 - seed if n <= reach else 5 + seed) if seed < solved else 6, 101)
        for arm, solved, reach in (("softmax", 5, 128), ("log-n softmax", 3, 4096), ("sparsemax", 0, 0))
        for seed in range(5)
        for n in LENGTHS
    ]
    columns = ["arm", "seed", "solved", "length", "correct", "total"]
    return pd.DataFrame(rows, columns=columns).assign(**{"chance": 1 / 17, "train.length": 64})


ROWS = {
    "softmax": np.array([0.1, 0.6, 0.2, 0.1]),
    "sparsemax": [0.0, 0.75, 0.25, 0.0],
    "entmax": [0.0, 1.0, 0, 0],
}


# ---- log odds


def test_log_odds_are_means_with_students_interval_and_the_theory():
    frame = odds()
    ax = plots.log_odds_by_length(frame.sample(frac=1, random_state=1).sort_values("arm", ascending=False))
    half = T_OF_TWO * 0.3 / math.sqrt(3)
    dotted = [line for line in ax.lines if line.get_linewidth() == 1.4]
    assert len(thick(ax)) == len(dotted) == 2
    for k, (line, theory, band) in enumerate(zip(thick(ax), dotted, ax.collections, strict=True)):
        promised = [8.3 + 2 * k - math.log(n - 1) - (1.5 + 0.25 * k) / 2 for n in LENGTHS]
        assert xy(theory) == near(zip(LENGTHS, promised, strict=True))
        assert xy(line) == near((n, y - 0.5) for n, y in zip(LENGTHS, promised, strict=True))
        heights = {round(float(y), 6) for _, y in band.get_paths()[0].vertices}
        assert {round(y - 0.5 + side * half, 6) for y in promised for side in (-1, 1)} <= heights
        assert to_hex(theory.get_color()) == to_hex(line.get_color()) == to_hex(band.get_facecolor()[0])
    assert {"softmax", "log-n softmax", "training length"} <= written(ax)
    assert {"margin − log n − variance/2", "half of the weight"} <= written(ax)
    (zero,) = [line for line in ax.lines if line.get_linestyle() == "-" and list(line.get_ydata()) == [0, 0]]
    assert zero.get_linewidth() == 1.2
    assert ax.get_ylabel() == "Needle's log odds (nats)"
    # 8.3 - log 63 - 0.75 is 3.41 and 8.3 - log 2047 - 0.75 is -0.07
    assert "softmax 2.9 at 64 tokens (theory 3.4) and -0.6 at 2K tokens (theory -0.1)" in ax.get_label()


def test_log_odds_that_round_to_zero_have_no_sign():
    frame = odds(arms=("softmax",), seeds=1)
    ax = dilution.log_odds_by_length(frame.assign(log_odds=-0.01))
    assert "softmax 0.0 at 64 tokens" in ax.get_label()
    (band,) = ax.collections
    assert {round(float(y), 9) for _, y in band.get_paths()[0].vertices} == {-0.01}, "one seed has no width"


def test_long_names_are_in_the_one_legend():
    ax = dilution.log_odds_by_length(odds(arms=("softmax with a long name here", "log-n softmax")))
    (legend,) = ax.get_figure().legends
    assert [text.get_text() for text in legend.get_texts()] == [
        "softmax with a long name here", "log-n softmax", "margin − log n − variance/2", "half of the weight"
    ]  # fmt: skip


# ---- weights by rank


def test_weights_are_sorted_and_end_where_they_are_zero():
    ax = plots.weights_by_rank(ROWS | {"log-n softmax": [0.5, 9e-8, 0.5]})
    assert [xy(line) for line in thick(ax)] == [
        near([(1, 0.6), (2, 0.2), (3, 0.1), (4, 0.1)]),
        near([(1, 0.75), (2, 0.25)]),
        near([(1, 1)]),
        near([(1, 0.5), (2, 0.5)]),
    ]
    assert all(line.get_markevery() == [-1] for line in thick(ax))
    assert {"softmax (4)", "sparsemax (2)", "entmax (1)", "log-n softmax (3)"} <= written(ax)
    assert (ax.get_xscale(), ax.get_yscale()) == ("log", "log")
    assert (
        "softmax gives weight to 4 of 4 keys, at most 60 %; sparsemax gives weight to 2 of 4"
        in ax.get_label()
    )
    ax.get_figure().canvas.draw()
    assert {"0.01", "1e-5"} & {ax.yaxis.get_major_formatter()(value, 0) for value in (0.01, 1e-5)} == {
        "0.01",
        "1e-5",
    }


# ---- forecasts


def test_a_panel_has_the_forecast_dashed_and_what_came_as_dots():
    frame = forecasts()
    axes = plots.forecast_panels(frame, columns=2)
    assert len(axes) == 3
    came = stats.recall(frame[frame["measured"]], ["arm", "length"])
    for k, (ax, arm) in enumerate(zip(axes, ("softmax", "log-n softmax", "RoPE"), strict=True)):
        (line,) = thick(ax)
        pooled = [(97 - 23 * i - 3) / 101 for i in range(4)]
        assert xy(line) == near(zip(LENGTHS, pooled, strict=True))
        assert line.is_dashed()
        assert line.get_marker() in ("", "None")
        part = came[came["arm"] == arm]
        assert marks(ax) == near(part[["length", "recall"]].to_numpy())
        assert bars(ax) == near(part[["low", "high"]].to_numpy())
        assert ax.get_title(loc="left") == arm
        chances = [line for line in ax.lines if line.get_linestyle() == ":"]
        assert [list(line.get_ydata()) for line in chances] == [[pytest.approx(1 / 17)] * 2] * len(chances)
        assert len(chances) == (k < 2)
    off = np.mean([abs((84 - 19 * i) / 103 - (94 - 23 * i) / 101) for i in range(3)])
    assert f"off by\n{100 * off:.1f} points" in written(axes[0])
    assert "not measured" in written(axes[2])
    assert {"forecast", "measured", "chance"} <= written(axes[0])
    assert f"came 45 % at 512, {100 * off:.1f} points off on average." in axes[0].get_label()
    assert "softmax: forecast 93 % at 64 and 25 % at 2K tokens" in axes[0].get_label()
    assert axes[2].get_label().endswith("tokens, not measured.")
    assert axes[0].get_ylim() == axes[2].get_ylim()
    assert axes[0].get_xlim() == axes[2].get_xlim()


def test_calibration_has_a_dot_for_each_seed_and_length_measured():
    frame = forecasts()
    ax = plots.calibration(frame.sample(frac=1, random_state=1).sort_values("arm", ascending=False))
    measured = frame[frame["measured"]]
    x, y = 100 * measured["predicted"] / measured["asked"], 100 * measured["correct"] / measured["total"]
    assert sorted(dots(ax)) == near(sorted(zip(x, y, strict=True)))
    for group in ("one", "two"):
        off = (x - y)[measured["group"] == group].abs()
        assert f"{group} {off.mean():.1f} points in {len(off)} dots" in ax.get_label()
    assert ax.get_aspect() == 1
    assert ax.get_xlim() == ax.get_ylim()
    (identity,) = [line for line in ax.lines if line.get_marker() in ("None", "") and len(line.get_xdata())]
    assert list(identity.get_xdata()) == list(identity.get_ydata())
    (band,) = bands(ax)
    assert {round(float(y - x)) for x, y in band} == {-10, 10}
    assert {"one", "two", "±10 points"} <= written(ax)
    assert len(dilution.calibration(frame, hue="arm").get_label().split("points")) == 3


# ---- solving and reach


def test_the_hurdle_has_wilsons_interval_and_n50_of_the_solved():
    frame = solving()
    left, right = plots.escape_and_reach(frame)
    assert marks(left) == near([(1, 0), (0.6, 1), (0, 2)])
    assert bars(left) == near(stats.wilson(k, 5) for k in (5, 3, 0))
    table = stats.n50_table(frame[frame["solved"]], "arm")
    assert marks(right) == near(zip(table["n50"], (0, 1), strict=True))
    assert table["n50"].tolist() == pytest.approx([256, 2048], rel=0.2)
    wide = table[table["high"] > table["low"]]
    assert [bar for bar in bars(right) if bar[1] - bar[0] > 1] == near(wide[["low", "high"]].to_numpy())
    assert arrows(right) == [(2048, 1, True)], "it points right"
    assert {"5 of 5", "3 of 5", "0 of 5"} <= written(left)
    assert {"≥ 2K", "none solved", "training length"} <= written(right)
    assert [text.get_text() for text in left.get_yticklabels()] == ["softmax", "log-n softmax", "sparsemax"]
    assert not right.get_yticks().size
    assert left.get_ylim() == right.get_ylim()
    assert (
        left.get_label()
        == "Seeds that solved the task: softmax 5 of 5; log-n softmax 3 of 5; sparsemax 0 of 5."
    )
    assert "log-n softmax ≥ 2K; sparsemax none solved." in right.get_label()


def test_nobody_solved():
    _, right = dilution.escape_and_reach(solving().query("arm == 'sparsemax'"))
    assert marks(right) == []
    assert "sparsemax none solved." in right.get_label()


# ---- reading costs


def costs() -> pd.DataFrame:
    """Three rounds at two lengths: seconds 1, 2, 4 times 0.5 and 8, memory the same in every round."""
    rows = [
        (n, seed, base * 2**seed, 3 * 2**20) for n, base in ((1024, 0.5), (65_536, 8.0)) for seed in range(3)
    ]
    return pd.DataFrame(rows, columns=["length", "seed", "seconds", "peak_bytes"])


def test_seconds_are_geometric_means_and_memory_is_flat():
    left, right = plots.seconds_and_memory(costs())
    assert marks(left) == near([(1024, 1.0), (65_536, 16.0)])
    assert marks(right) == near([(1024, 3 * 2**20), (65_536, 3 * 2**20)])
    assert left.get_label() == "Seconds a text against length: 1 s at 1K tokens, 16 s at 64K tokens."
    # the 95 % interval of a mean of three logs one log 2 apart: t(2) * log 2 / sqrt 3 either way
    half = T_OF_TWO * math.log(2) / math.sqrt(3)
    (band,) = bands(left)
    first = band[band[:, 0] == 1024, 1]
    assert (first.min(), first.max()) == pytest.approx((math.exp(-half), math.exp(half)), rel=1e-5)


def test_one_round_has_no_width():
    (band,) = bands(plots.seconds_and_memory(costs().query("seed == 0"))[0])
    assert set(band[band[:, 0] == 1024, 1]) == {0.5}


# ---- all


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda: dilution.log_odds_by_length(odds().drop(columns="margin")), r"lacks the columns \['margin'\]"),
        (lambda: dilution.log_odds_by_length(odds()[:0]), "has no rows"),
        (lambda: dilution.log_odds_by_length(pd.concat([odds(), odds()])), "several rows of one seed and length"),
        (lambda: dilution.log_odds_by_length(odds().assign(variance=math.nan)), "variance has values that are not"),
        (lambda: dilution.log_odds_by_length(odds().replace({"length": {64: 1}})), "length has 1; allowed is 2 tokens"),
        (lambda: plots.seconds_and_memory(costs().drop(columns="seconds")), r"columns \['seconds'\]"),
        (lambda: dilution.weights_by_rank({}), "rows is empty"),
        (lambda: dilution.weights_by_rank({"a": [[0.5, 0.5]]}), r"bad weights for 'a', of shape \(1, 2\)"),
        (lambda: dilution.weights_by_rank({"a": [0.5, -0.1]}), "bad weights for 'a'"),
        (lambda: dilution.weights_by_rank({"a": [0.5, math.nan]}), "bad weights for 'a'"),
        (lambda: dilution.weights_by_rank({"a": [0.0, 1e-8]}), "bad weights for 'a'"),
        (lambda: dilution.weights_by_rank({"a": []}), "bad weights for 'a'"),
        (lambda: dilution.forecast_panels(forecasts().drop(columns="asked")), r"lacks the columns \['asked'\]"),
        (lambda: dilution.forecast_panels(forecasts(), columns=0), "columns is 0; allowed is 1 or more"),
        (lambda: dilution.forecast_panels(forecasts().assign(predicted=102)), "correct is 102 of 101"),
        (lambda: dilution.forecast_panels(forecasts().assign(probe=["a", "b"] * 18)), "mixes the probes"),
        (lambda: dilution.calibration(forecasts().drop(columns="group")), r"lacks the columns \['group'\]"),
        (lambda: dilution.calibration(forecasts().query("arm == 'RoPE'")), "total is NaN or 0 in every row"),
        (lambda: dilution.calibration(forecasts().assign(correct=104)), "correct is 104 of 103"),
        (lambda: dilution.escape_and_reach(solving().drop(columns="solved")), r"lacks the columns \['solved'\]"),
        (lambda: dilution.escape_and_reach(solving()[:0]), "has no rows"),
        (lambda: dilution.escape_and_reach(solving().query("length == 64")), "lengths"),
    ],
)  # fmt: skip
def test_bad_input_is_named(call, message):
    with pytest.raises(ValueError, match=message):
        call()
    assert not plt.get_fignums(), "no empty figure is left behind"


def test_another_number_of_axes_is_named():
    with pytest.raises(ValueError, match="ax has 3 axes; allowed are two"):
        dilution.escape_and_reach(solving(), ax=plt.subplots(3)[1])
