"""What the figures of capacity draw is what was recalled, fitted and bounded."""

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
from matplotlib.figure import Figure
from matplotlib.text import Annotation

from lcbook import plots, stats


@pytest.fixture(autouse=True)
def _close():
    before = dict(mpl.rcParams)
    yield
    plt.close("all")
    assert dict(mpl.rcParams) == before, "a figure changed the reader's rcParams"


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
    rows = [("additive", s, s**0.5, s**0.5 * 0.9, s**0.5 * 1.2, False) for s in (49, 169, 961)]
    rows += [("delta", s, s**0.75 / 2, s**0.75 / 2.5, s**0.75 / 1.5, False) for s in (49, 169)]
    rows += [("delta", 961, 101.0, 83.0, math.inf, True)]
    return pd.DataFrame(rows, columns=["rule", "state", "k50", "low", "high", "censored"])


def figure_of(ax: Axes) -> Figure:
    figure = ax.get_figure(root=True)
    assert figure is not None
    return figure


def thick(ax: Axes) -> list:
    return [line for line in ax.lines if line.get_linewidth() == 2 and len(line.get_xdata())]


def xy(line) -> list[tuple[float, float]]:
    return [(float(x), float(y)) for x, y in zip(line.get_xdata(), line.get_ydata(), strict=True)]


def near(rows) -> list:
    """Return rows of numbers to compare with approximately."""
    return [pytest.approx(tuple(row)) for row in rows]


def written(ax: Axes) -> set[str]:
    shown = [*ax.texts, *(text for one in figure_of(ax).legends for text in one.get_texts())]
    return {text.get_text() for text in shown} - {""}


def arrows(ax: Axes) -> list[tuple[float, float, bool]]:
    """Return where arrows without words start, and whether they point up."""
    found = [text for text in ax.texts if isinstance(text, Annotation) and not text.get_text()]
    return sorted((float(one.xy[0]), float(one.xy[1]), one.xyann[1] > 0) for one in found)


def bars(ax: Axes) -> list[tuple[float, float, float]]:
    """Return x, low and high of each vertical bar."""
    parts = [part for c in ax.collections if isinstance(c, LineCollection) for part in c.get_segments()]
    return sorted((float(part[0][0]), float(part[0][1]), float(part[1][1])) for part in parts)


@pytest.mark.parametrize(
    ("draw", "x"), [(plots.recall_by_load, "pairs"), (plots.recall_by_segments, "segments")]
)
def test_recall_by_load_and_by_segments_draw_the_mean_the_band_the_seeds_and_chance(draw, x):
    frame = loaded(x, (1, 2, 4, 8, 16)).sample(frac=1, random_state=0)
    ax = draw(frame)
    table = stats.recall(frame, ["arm", x]).set_index(["arm", x]).sort_index()
    order = list(frame["arm"].unique())
    for arm, line, band in zip(order, thick(ax), ax.collections, strict=True):
        part = table.loc[arm]
        assert xy(line) == near(zip(part.index, part["recall"], strict=True))
        corners = {(float(a), round(float(b), 9)) for a, b in band.get_paths()[0].vertices}
        for side in ("low", "high"):
            assert {(float(n), round(v, 9)) for n, v in part[side].items()} <= corners
        assert to_hex(band.get_facecolor()[0]) == to_hex(line.get_color())
    faint = [line for line in ax.lines if line.get_linewidth() == 0.7]
    assert len(faint) == 2 * 3, "one a seed"
    assert xy(faint[0])[0] in near((1, correct / 101) for correct in (77, 78, 79, 87, 88, 89))
    assert ax.get_xscale() == "log"
    assert [text.get_text() for text in ax.get_xticklabels()] == ["1", "2", "4", "8", "16"]
    (chance,) = [line for line in ax.lines if line.get_linestyle() == ":"]
    assert list(chance.get_ydata()) == [1 / 16] * 2
    assert {"additive", "delta"} <= written(ax)
    assert "delta 87 % at 1, 36 % at 16" in plots.alt(ax)
    assert plots.alt(ax).endswith("; chance 6.2 %.")


def test_chance_that_changes_with_the_load_is_a_curve():
    frame = loaded()
    ax = plots.recall_by_load(frame.assign(chance=1 / frame["pairs"]))
    (curve,) = [line for line in ax.lines if line.get_linestyle() == ":"]
    assert xy(curve) == near((n, 1 / n) for n in (4, 8, 16, 32, 64))
    assert "chance" in written(ax)


def test_few_segments_are_on_a_linear_axis_and_none_is_allowed():
    ax = plots.recall_by_segments(loaded("segments", (0, 1, 2, 3)))
    assert ax.get_xscale() == "linear"
    assert list(ax.get_xticks()) == [0, 1, 2, 3]
    assert plots.recall_by_segments(loaded("segments", (2, 4, 6))).get_xscale() == "linear"


def test_one_seed_and_another_hue():
    ax = plots.recall_by_load(loaded(seeds=1).assign(rule="delta rule"), hue="rule", ax=plt.subplots()[1])
    assert written(ax) == {"delta rule"}
    assert len(thick(ax)) == 1


def sided(arms=("attention", "delta"), gain=(1, 60)) -> pd.DataFrame:
    rows = [
        {"arm": arm, "order": order, "seed": seed, "correct": 30 + seed + (by if order == "first" else 0)}
        for order in ("last", "first")
        for arm, by in zip(arms, gain, strict=True)
        for seed in range(5)
    ]
    return pd.DataFrame(rows).assign(total=100, chance=0.125)


def test_interaction_draws_both_sides_of_each_arm():
    frame = sided()
    ax = plots.interaction(frame, x="order")
    lines = thick(ax)
    assert [list(line.get_ydata()) for line in lines] == [
        pytest.approx([0.32, 0.33]),
        pytest.approx([0.32, 0.92]),
    ]
    assert all(np.round(line.get_xdata()).tolist() == [0, 1] for line in lines)
    assert [text.get_text() for text in ax.get_xticklabels()] == ["last", "first"], "in the order they come"
    table = stats.recall(frame, ["arm", "order"])
    assert sorted(bar[1:] for bar in bars(ax)) == near(sorted(zip(table["low"], table["high"], strict=True)))
    faint = [list(line.get_ydata()) for line in ax.lines if line.get_linewidth() == 0.7]
    assert [0.34, 0.94] in [pytest.approx(one) for one in faint]
    assert len(faint) == 10
    assert "Recall with last and first: attention 32 % and 33 %; delta 32 % and 92 %" in plots.alt(ax)


def test_interaction_names_a_truth_value_by_its_column():
    frame = sided().assign(**{"task.query_first": sided()["order"] == "first"})
    ax = plots.interaction(frame, x="task.query_first")
    assert [text.get_text() for text in ax.get_xticklabels()] == ["query first False", "query first True"]
    assert ax.get_xlabel() == "Query first"


def test_capacity_fits_what_was_measured_and_opens_what_was_not():
    ax = plots.capacity_by_state(fits())
    assert (ax.get_xscale(), ax.get_yscale()) == ("log", "log")
    assert {"additive: S^0.50", "delta: S^0.75"} <= written(ax)
    lines = [xy(line) for line in ax.lines if line.get_linestyle() == "-"]
    assert lines == [
        near([(49, 7), (961, 31)]),
        near([(49, 49**0.75 / 2), (169, 169**0.75 / 2)]),
    ]
    filled, opened = {}, {}
    for line in ax.lines:
        if line.get_linestyle() == "None":
            side = opened if line.get_markerfacecolor() == "white" else filled
            side[line.get_color()] = xy(line)
    first, second = filled
    assert filled[first] == near([(49, 7), (169, 13), (961, 31)])
    assert filled[second] == near([(49, 49**0.75 / 2), (169, 169**0.75 / 2)])
    assert opened[second] == [(961, 101)]
    assert opened[first] == []
    assert arrows(ax) == [(961, 101, True)]
    assert bars(ax)[-1] == (961, 83, 101), "no interval beyond what was measured"
    assert "delta: S^0.75, at least 101 pairs at 961 scalars" in plots.alt(ax)


def test_a_bound_is_dashed_and_named():
    bound = pd.DataFrame({"state": [961, 49], "pairs": [3844.0, 196.0]})
    ax = plots.capacity_by_state(fits(), bounds={"bit bound": bound})
    (dashed,) = [line for line in ax.lines if line.get_linestyle() == "--"]
    assert xy(dashed) == [(49, 196), (961, 3844)]
    assert "bit bound" in written(ax)
    figure_of(ax).draw_without_rendering()
    (name,) = [text for text in ax.texts if text.get_text() == "bit bound"]
    (x0, y0), (x1, y1) = ax.transData.transform(xy(dashed))
    assert name.get_rotation() == pytest.approx(math.degrees(math.atan2(y1 - y0, x1 - x0)), abs=0.5)
    assert "bit bound 3844 at 961" in plots.alt(ax)


def test_equal_bounds_of_two_rules_stand_side_by_side():
    both = fits()
    both.loc[2, ["k50", "low", "high", "censored"]] = [101.0, 90.0, math.inf, True]
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
    opened = [p for line in ax.lines if line.get_markerfacecolor() == "white" for p in xy(line)]
    assert sorted(opened) == [(169, 13), (961, 101)]
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
    "draw",
    [
        lambda ax: plots.recall_by_load(loaded(), ax=ax),
        lambda ax: plots.recall_by_segments(loaded("segments"), ax=ax),
        lambda ax: plots.capacity_by_state(fits(), bounds={"bits": fits().assign(pairs=1000.0)}, ax=ax),
        lambda ax: plots.interaction(sided(), x="order", ax=ax),
    ],
)
def test_draws_on_the_axes_given(draw):
    figure, ax = plt.subplots()
    assert draw(ax) is ax
    assert len(figure.axes) == 1
    assert plt.get_fignums() == [figure.number]


def lacking(frame: pd.DataFrame, column: str) -> pd.DataFrame:
    return frame.drop(columns=column)


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda: plots.recall_by_load(lacking(loaded(), "pairs")), r"lacks the columns \['pairs'\]"),
        (lambda: plots.recall_by_load(lacking(loaded(), "chance")), r"lacks the columns \['chance'\]"),
        (lambda: plots.recall_by_load(loaded()[:0]), "has no rows"),
        (lambda: plots.recall_by_load(loaded(at=(0, 4))), "pairs has 0; allowed is 1 or more"),
        (lambda: plots.recall_by_load(loaded().assign(probe=["a", "b"] * 15)), "mixes the probes"),
        (lambda: plots.recall_by_segments(loaded("pairs")), r"lacks the columns \['segments'\]"),
        (lambda: plots.recall_by_segments(loaded("segments", (-1, 1))), "segments has -1; allowed is 0"),
        (lambda: plots.interaction(loaded(), x="pairs"), r"pairs has the values \[4, 8, 16, 32, 64\]; allowed are two"),
        (lambda: plots.interaction(sided()[:15], x="order"), r"delta has order \['last'\] only"),
        (lambda: plots.interaction(sided().assign(probe=["a", "b"] * 10), x="order"), "mixes the probes"),
        (lambda: plots.capacity_by_state(lacking(fits(), "high")), r"lacks the columns \['high'\]"),
        (lambda: plots.capacity_by_state(fits().assign(k50=0.0)), "k50 has 0; allowed on a log axis"),
        (lambda: plots.capacity_by_state(fits().assign(k50=math.nan)), "k50 has nan; allowed on a log axis"),
        (lambda: plots.capacity_by_state(fits().assign(state=-2)), "state has -2; allowed on a log axis"),
        (lambda: plots.capacity_by_state(fits().assign(censored="yes")), "censored has 'yes'; allowed are True"),
        (lambda: plots.capacity_by_state(fits(), bounds={"bits": fits()}), r"lacks the columns \['pairs'\]"),
        (lambda: plots.capacity_by_state(fits(), bounds={"b": fits().assign(pairs=0)}), "pairs has 0; allowed on a"),
    ],
)  # fmt: skip
def test_bad_input_is_named(call, message):
    with pytest.raises(ValueError, match=message):
        call()
    assert not plt.get_fignums(), "no empty figure is left behind"
