"""What the figures of dilution draw is what the rows hold and what stats makes of them, and they say what they draw."""

from __future__ import annotations

import math

import matplotlib as mpl
import matplotlib.pyplot as plt
import numpy as np
import pandas as pd
import pytest
from matplotlib.axes import Axes
from matplotlib.collections import LineCollection
from matplotlib.colors import to_hex
from matplotlib.text import Annotation, Text

from lcbook import plots, stats
from lcbook.plots import dilution
from lcbook.plots._style import SMALL


@pytest.fixture(autouse=True)
def _close():
    before = dict(mpl.rcParams)
    yield
    plt.close("all")
    assert dict(mpl.rcParams) == before, "a figure changed the reader's rcParams"


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


def xy(line) -> list[tuple[float, float]]:
    return [(float(x), float(y)) for x, y in zip(line.get_xdata(), line.get_ydata(), strict=True)]


def near(rows) -> list:
    return [pytest.approx(tuple(row)) for row in rows]


def thick(ax: Axes) -> list:
    return [line for line in ax.lines if line.get_linewidth() == 2 and len(line.get_xdata())]


def written(ax: Axes) -> set[str]:
    figure = ax.get_figure(root=True)
    legends = [text for one in figure.legends for text in one.get_texts()]
    return {text.get_text() for text in [*ax.texts, *legends]} - {""}


def bars(ax: Axes) -> list[tuple[float, float]]:
    """Return the ends of each bar, along the side on which it is longer."""
    parts = [part for c in ax.collections if isinstance(c, LineCollection) for part in c.get_segments()]
    return [
        tuple(sorted(part[:, int(np.ptp(part[:, 1]) > np.ptp(part[:, 0]))].tolist())) for part in parts if len(part)
    ]  # fmt: skip


def marks(ax: Axes) -> list[tuple[float, float]]:
    return [point for line in ax.lines if line.get_marker() not in ("None", "", None) for point in xy(line)]


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
    for group, off in (("one", "softmax"), ("two", "log-n softmax")):
        part = frame[(frame["arm"] == off) & frame["measured"]]
        x, y = 100 * part["predicted"] / part["asked"], 100 * part["correct"] / part["total"]
        (line,) = [
            line
            for line in ax.lines
            if len(line.get_xdata()) == 9 and line.get_marker() == "o^"[group == "two"]
        ]
        assert sorted(xy(line)) == near(sorted(zip(x, y, strict=True)))
        assert f"{group} {(x - y).abs().mean():.1f} points in 9 dots" in ax.get_label()
    assert ax.get_aspect() == 1
    assert ax.get_xlim() == ax.get_ylim()
    (identity,) = [line for line in ax.lines if line.get_marker() in ("None", "") and len(line.get_xdata())]
    assert list(identity.get_xdata()) == list(identity.get_ydata())
    (band,) = ax.collections
    assert {round(float(y - x)) for x, y in band.get_paths()[0].vertices} == {-10, 10}
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
    arrows = [one for one in right.texts if isinstance(one, Annotation) and one.arrow_patch]
    assert [(one.xyann, one.xy[0] > 2048) for one in arrows] == [((2048, 1), True)], "it points right"
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


# ---- all


DRAWN = {
    "log_odds": lambda: dilution.log_odds_by_length(odds()),
    "ranks": lambda: dilution.weights_by_rank(ROWS),
    "panels": lambda: dilution.forecast_panels(forecasts()),
    "calibration": lambda: dilution.calibration(forecasts()),
    "hurdle": lambda: dilution.escape_and_reach(solving()),
}


@pytest.mark.parametrize("draw", DRAWN.values(), ids=DRAWN)
def test_no_text_is_small_or_outside_the_figure(draw):
    axes = np.ravel(np.asarray(draw(), dtype=object))
    figure = axes[0].get_figure()
    figure.canvas.draw()
    shown = [text for text in figure.findobj(Text) if text.get_text() and text.get_visible()]
    assert min(text.get_fontsize() for text in shown) >= SMALL
    box = figure.bbox
    for ax in axes:
        assert ax.get_label().endswith(".")
        for text in [*ax.texts, *ax.get_yticklabels(), ax.title, ax._left_title]:
            extent = text.get_window_extent()
            assert not text.get_text() or (extent.x0 >= -1 and extent.x1 <= box.x1 + 1), text.get_text()


@pytest.mark.parametrize(
    "draw",
    [
        lambda ax: dilution.log_odds_by_length(odds(), ax=ax),
        lambda ax: dilution.weights_by_rank(ROWS, ax=ax),
        lambda ax: dilution.calibration(forecasts(), ax=ax),
    ],
)
def test_draws_on_the_axes_given(draw):
    figure, ax = plt.subplots()
    assert draw(ax) is ax
    assert figure.axes == [ax]
    assert plt.get_fignums() == [figure.number]


def test_the_hurdle_is_drawn_on_the_axes_given():
    given = plt.subplots(2)[1]
    assert list(dilution.escape_and_reach(solving(), ax=given)) == list(given)
    assert len(plt.get_fignums()) == 1


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda: dilution.log_odds_by_length(odds().drop(columns="margin")), r"lacks the columns \['margin'\]"),
        (lambda: dilution.log_odds_by_length(odds()[:0]), "has no rows"),
        (lambda: dilution.log_odds_by_length(pd.concat([odds(), odds()])), "several rows of one seed and length"),
        (lambda: dilution.log_odds_by_length(odds().assign(variance=math.nan)), "variance has values that are not"),
        (lambda: dilution.log_odds_by_length(odds().replace({"length": {64: 1}})), "length has 1; allowed is 2 tokens"),
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
