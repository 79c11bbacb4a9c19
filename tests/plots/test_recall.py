"""What is drawn is what was computed, in one look, on the axes that were given."""

from __future__ import annotations

import math

import matplotlib as mpl
import matplotlib.pyplot as plt
import numpy as np
import pandas as pd
import pytest
from matplotlib import colors
from matplotlib.collections import QuadMesh
from matplotlib.patches import Rectangle
from matplotlib.text import Text
from scipy.stats import linregress, t

from lcbook import plots, stats
from lcbook.formats import called, percent, short, tokens
from lcbook.models.positions import Linear
from lcbook.plots import recall
from lcbook.plots._lines import spread
from lcbook.plots._style import ENCODINGS, Look, looks, luminance
from tests.drawn import (
    arrows,
    bands,
    bars,
    faint,
    lines_of,
    marks,
    near,
    opened,
    segments,
    thick,
    ticks,
    written,
    xy,
)

ARMS = ("none", "sinusoidal", "learned", "RoPE", "ALiBi", "T5 bias")
LENGTHS = (64, 128, 256, 512)


def tidy(arms=ARMS[:3], seeds=3, lengths=LENGTHS, **columns) -> pd.DataFrame:
    """Arm i forgets at 64 x 4^i tokens; two octaves of the gap at each length; the last seed is worse."""
    rows = []
    for i, arm in enumerate(arms):
        for seed in range(seeds):
            for n in lengths:
                recall = 0.125 + 0.875 / (1 + math.exp(2 * (math.log2(n / 64) - 2 * i + 0.3 * seed)))
                for gap, total in ((n // 4, 48), (n // 2, 80)):
                    row = {"arm": arm, "seed": seed, "length": n, "gap": gap, "total": total, "chance": 0.125}
                    row |= {"probe": "as trained", "correct": round(recall * total), "train.length": 64}
                    row |= {"text_loss": 2 + 0.1 * i + 0.01 * seed * math.log2(n), "solved": seed < 2}
                    rows.append(row | columns)
    return pd.DataFrame(rows)


def test_recall_by_length_draws_the_table_of_stats():
    frame = tidy()
    ax = plots.recall_by_length(frame)
    table = stats.recall(frame, by=["arm", "length"])
    assert len(thick(ax)) == len(bands(ax)) == 3
    for line, corners, (arm, part) in zip(
        thick(ax), bands(ax), table.groupby("arm", sort=False), strict=True
    ):
        assert line.get_color() == ENCODINGS[arm].color
        assert xy(line) == near(zip(part["length"], part["recall"], strict=True))
        for n, low, high in zip(part["length"], part["low"], part["high"], strict=True):
            at = corners[corners[:, 0] == n, 1]
            assert at.min() == pytest.approx(low)
            assert at.max() == pytest.approx(high)


def test_every_seed_is_a_faint_line():
    frame = tidy(seeds=3)
    ax = plots.recall_by_length(frame)
    assert len(faint(ax)) == 9
    one = frame[(frame["arm"] == "none") & (frame["seed"] == 0)].groupby("length")[["correct", "total"]].sum()
    np.testing.assert_allclose([y for _, y in xy(faint(ax)[0])], one["correct"] / one["total"])


def test_chance_and_training_length_are_marked_and_named():
    ax = plots.recall_by_length(tidy())
    assert lines_of(ax, ":") == [[(0, 0.125), (1, 0.125)]]
    assert (
        dict(zip(ax.get_yticks(), [t.get_text() for t in ax.get_yticklabels()], strict=True))[0.125]
        == "chance"
    )
    assert [line[0][0] for line in lines_of(ax, "--")] == [64]
    assert "training length" in written(ax)
    moved = plots.recall_by_length(tidy(), train_length=256)
    assert [line[0][0] for line in lines_of(moved, "--")] == [256]


def test_names_stand_at_the_line_ends_and_do_not_overlap():
    arms = (*ARMS, "RoPE randomized", "sinusoidal randomized")
    frame = tidy(arms)
    frame["correct"] = frame["total"] // 2  # all end at the same point
    ax = plots.recall_by_length(frame)
    ax.get_figure().canvas.draw()
    boxes = {t.get_text(): Text.get_window_extent(t) for t in ax.texts if t.get_text() in arms}
    assert set(boxes) == set(arms)
    for a, box in boxes.items():
        assert box.x0 > ax.get_window_extent().x1
        assert ax.get_figure().bbox.y0 <= box.y0 < box.y1 <= ax.get_figure().bbox.y1
        for b, other in boxes.items():
            overlap = min(box.y1, other.y1) - max(box.y0, other.y0)
            assert a == b or overlap < 0.25 * box.height


def test_long_names_go_into_a_legend():
    ax = plots.recall_by_length(tidy(("a name that is far too long for a line end", "b")))
    (legend,) = ax.get_figure().legends
    assert [t.get_text() for t in legend.get_texts()] == ["a name that is far too long for a line end", "b"]


def test_an_encoding_looks_the_same_in_every_figure():
    frame = tidy(("T5 bias", "RoPE"))
    shown = [thick(plots.recall_by_length(frame)), thick(plots.recall_by(frame, x="gap"))]
    shown += [thick(ax) for ax in plots.text_loss_and_recall(frame)]
    for lines in shown:
        assert [(line.get_color(), line.get_marker()) for line in lines] == [
            ("#009e73", "P"),
            ("#0072b2", "^"),
        ]
    assert (
        len({look.color for look in ENCODINGS.values()})
        == len({look.marker for look in ENCODINGS.values()})
        == 6
    )
    plain, randomized = looks(["RoPE", "RoPE randomized"]).values()
    assert (plain.color, plain.marker) == (randomized.color, randomized.marker)
    assert plain.line == "-" != randomized.line


def test_looks_tell_the_rest_of_an_arm_by_the_line():
    found = looks(["RoPE, key shift", "ALiBi, key shift", "RoPE, none", "something"])
    assert found["RoPE, key shift"].color == found["RoPE, none"].color != found["something"].color
    assert found["RoPE, key shift"].line == found["ALiBi, key shift"].line != found["RoPE, none"].line
    shade = {n: luminance(colors.to_rgb(look.color)) for n, look in looks([512, 64, 128]).items()}
    assert shade[64] < shade[128] < shade[512]


@pytest.mark.parametrize("color", ["#e69f00", "#56b4e9", "#cc79a7", "#000000"])
def test_ink_has_contrast_on_white(color):
    assert 1.05 / (luminance(colors.to_rgb(Look(color, "o").ink)) + 0.05) >= 4.5


def test_luminance_of_known_colours():
    assert luminance((1, 1, 1)) == pytest.approx(1)
    assert luminance((1, 0, 0)) == pytest.approx(0.2126)


def test_a_reader_with_a_dark_style_can_read_the_figures():
    with plt.style.context("dark_background"):
        ax = plots.recall_by_length(tidy(("a name that is far too long for a line end", "b")))
        assert mpl.rcParams["text.color"] == "white"
    words = [ax.xaxis.label, *ax.get_xticklabels(), *ax.get_figure().legends[0].get_texts()]
    assert {colors.to_hex(text.get_color()) for text in words} == {"#000000"}
    assert colors.to_hex(ax.get_figure().get_facecolor()) == "#ffffff"


def test_heat_map_holds_counts_and_half_widths():
    frame = tidy(("RoPE", "ALiBi"))
    ax = plots.heat_map(frame, arm="ALiBi")
    (mesh,) = [c for c in ax.collections if isinstance(c, QuadMesh)]
    cells = np.ma.filled(np.ma.asarray(mesh.get_array()), np.nan).reshape(5, 4)[
        ::-1
    ]  # gaps 16 .. 256, lengths 64 ..
    assert ticks(ax, "y") == ["256", "128", "64", "32", "16"]
    assert np.isnan(cells[4, 0])
    part = frame[(frame["arm"] == "ALiBi") & (frame["length"] == 128) & (frame["gap"] == 64)]
    correct, total = int(part["correct"].sum()), int(part["total"].sum())
    assert cells[2, 1] == pytest.approx(correct / total)
    low, high = stats.wilson(correct, total)
    assert f"{100 * correct / total:.0f} ±{50 * (high - low):.0f}" in written(ax)
    assert mesh.norm.vmin == 0.125
    assert [t.get_text() for t in ax.get_xticklabels()] == ["64", "128", "256", "512"]
    assert 1 in [xy(line)[0][0] for line in ax.lines]  # the training length ends the first column


def test_n50_bars_draw_the_interval_and_an_arrow_where_it_is_censored():
    frame = tidy(("none", "sinusoidal", "RoPE"))
    frame.loc[frame["arm"] == "RoPE", "correct"] = frame["total"]  # never forgets
    ax = plots.n50_bars(frame)
    table = stats.n50_table(frame).set_index("arm")
    names = [t.get_text().split("\n")[0] for t in ax.get_yticklabels()]
    assert names == list(table.sort_values("n50").index)
    assert names[-1] == "RoPE"
    ends = [(table.loc[name, "low"], at, table.loc[name, "high"], at) for at, name in enumerate(names)]
    assert segments(ax) == near(ends)
    assert opened(ax) == [(64, 0), (512, 2)], "at most, at least"
    assert "≥ 512" in written(ax)
    assert (512, 2, True) in arrows(ax), "it points right"
    assert ax.get_yticklabels()[0].get_text().endswith("(2 of 3 seeds solved)")
    assert [line[0][0] for line in lines_of(ax, "--")] == [64]


def fitted(ax) -> list:
    return next(xy(line) for line in ax.lines if len(line.get_xdata()) == 41)


def said(ax) -> str:
    return next(text.get_text() for text in ax.texts if "slope" in text.get_text())


def test_dose_recovers_a_power_law():
    x = np.array([1.0, 2, 4, 8, 16])
    ax = plots.dose(pd.DataFrame({"x": x, "d50": 3 * x**1.5}), x="x", y="d50", expected=1.5)
    assert said(ax).startswith("slope 1.5")
    assert fitted(ax) == near((at, 3 * at**1.5) for at, _ in fitted(ax))
    assert lines_of(ax, "--") == [near([(1, 3), (16, 192)])]


def test_dose_slope_has_the_interval_of_ordinary_least_squares():
    rng = np.random.default_rng(5)
    x = np.array([2.0, 4, 8, 16])  # few, so that the degrees of freedom show
    y = x**-1 * np.exp(rng.normal(size=len(x)) / 5)
    ax = plots.dose(pd.DataFrame({"x": x, "y": y}), x="x", y="y", expected=-1)
    line = linregress(np.log(x), np.log(y))
    half = t.ppf(0.975, len(x) - 2) * line.stderr
    slope = stats.Estimate(line.slope, line.slope - half, line.slope + half)
    assert said(ax).splitlines() == [f"slope {slope}", "expected (dashed): -1"]


def test_dose_draws_bounds_open_with_arrows_and_leaves_them_out_of_the_fit():
    frame = pd.DataFrame({"x": [1.0, 2, 4, 8], "y": [2.0, 4, 8, 9]})
    frame = frame.assign(low=frame["y"], high=frame["y"], censored=[None, None, None, "above"])
    ax = plots.dose(frame, x="x", y="y", expected=1)
    assert said(ax).startswith("slope 1.0")
    assert "≥ 9" in written(ax)
    assert opened(ax) == [(8, 9)]
    assert arrows(ax) == [(8, 9, True)]


def test_dose_computes_n50_and_recall_by_draws_recall_of_a_tidy_frame():
    frame = pd.concat([tidy(("none", "sinusoidal"), base=base) for base in (100.0, 1000.0, 10_000.0)])
    ax = plots.recall_by(frame[frame["length"] == 128], x="base")
    table = stats.recall(frame[frame["length"] == 128], ["arm", "base"])
    assert xy(thick(ax)[0]) == near(table[table["arm"] == "none"][["base", "recall"]].to_numpy())
    assert ax.get_xscale() == "log"
    assert "chance" in ticks(ax, "y")
    ax = plots.dose(frame[frame["arm"] == "sinusoidal"], x="base", y="n50")
    table = stats.n50_table(frame[frame["arm"] == "sinusoidal"], ["base"])
    assert sorted(marks(ax)) == near(table[["base", "n50"]].to_numpy())
    assert not [text for text in ax.texts if "slope" in text.get_text()]


def test_text_loss_is_perplexity_with_a_t_interval():
    frame = tidy(("RoPE",))
    table = recall.text_loss_table(frame)
    losses = [2 + 0.01 * seed * 6 for seed in range(3)]  # length 64
    half = 4.302653 * np.std(losses, ddof=1) / math.sqrt(3)
    want = [math.exp(np.mean(losses) + shift) for shift in (0, -half, half)]
    np.testing.assert_allclose(table.loc[0, ["perplexity", "low", "high"]].to_numpy(float), want)
    top, bottom = plots.text_loss_and_recall(frame)
    assert xy(thick(top)[0]) == near(table[["length", "perplexity"]].to_numpy())
    found = stats.recall(frame, ["arm", "length"])
    assert xy(thick(bottom)[0]) == near(found[["length", "recall"]].to_numpy())
    assert top.get_xlim() == bottom.get_xlim()
    assert (top.get_ylabel(), bottom.get_ylabel()) == ("Perplexity", "Recall")


def test_phase_table_by_hand():
    table = plots.phase_table(4, 100, 10, 100)  # angles 1 and 1/10 radian a token
    turn = 2 * math.pi
    np.testing.assert_allclose(table["trained"], [10 / turn, 1 / turn], rtol=1e-6)
    np.testing.assert_allclose(table["tested"], [100 / turn, 10 / turn], rtol=1e-6)
    np.testing.assert_allclose(table["unseen"], [0, 1 - 1 / turn], rtol=1e-6)
    assert (plots.phase_table(64, 10_000, 128, 512, Linear(4.0))["unseen"] < 1e-7).all()  # PI stays in range


def test_phases_draw_the_table():
    ax = plots.phases(4, 100, 10, 100)
    hatched = [patch for patch in ax.patches if isinstance(patch, Rectangle) and patch.get_hatch()]
    table = plots.phase_table(4, 100, 10, 100)
    assert [round(patch.get_y() + patch.get_height() / 2) for patch in hatched] == [1]
    assert hatched[0].get_x() == pytest.approx(table["trained"][1])
    assert hatched[0].get_x() + hatched[0].get_width() == pytest.approx(1)
    assert "one full turn" in written(ax)
    assert plots.alt(ax).startswith("1 of 2 pairs")


def test_tables_stand_beside_each_other_in_one_look():
    here, there = tidy(("RoPE", "ALiBi")), tidy(("RoPE", "T5 bias"), lengths=(256, 512, 1024))
    axes = plots.recall_beside({"This run": here, "A run with a long name, CPU, 2 cores, 2026-01-02": there})
    want = stats.recall(there, ["arm", "length"])
    assert [y for _, y in xy(thick(axes[1])[1])] == pytest.approx(
        want[want["arm"] == "T5 bias"]["recall"].tolist()
    )
    assert [ax.get_title(loc="left") for ax in axes] == [
        "This run",
        "A run with a long name, CPU, 2\ncores, 2026-01-02",
    ]
    assert axes[0].get_ylim() == axes[1].get_ylim()
    assert plots.alt(axes).startswith("This run. Recall against length")
    assert [t.get_text() for t in axes[0].get_figure().legends[0].get_texts()] == ["RoPE", "ALiBi", "T5 bias"]


def loaded(x="pairs", at=(4, 8, 16, 32, 64), arms=("additive", "delta"), seeds=3) -> pd.DataFrame:
    """Arm i answers 97 - 10 (2 - i) of 101 at the least load, and 13 fewer at each further one; seed s a few more."""
    rows = [
        {"arm": arm, x: n, "seed": seed, "correct": max(97 - 10 * (2 - i) - 13 * j + seed, 2), "total": 101}
        for i, arm in enumerate(arms)
        for j, n in enumerate(at)
        for seed in range(seeds)
    ]
    return pd.DataFrame(rows).assign(chance=1 / 16)


@pytest.mark.parametrize(
    ("draw", "x"), [(plots.recall_by_load, "pairs"), (plots.recall_by_segments, "segments")]
)
def test_recall_by_load_and_by_segments_draw_the_mean_the_band_the_seeds_and_chance(draw, x):
    frame = loaded(x, (1, 2, 4, 8, 16)).sample(frac=1, random_state=0)
    ax = draw(frame)
    table = stats.recall(frame, ["arm", x]).set_index(["arm", x]).sort_index()
    order = list(frame["arm"].unique())
    for arm, line, band in zip(order, thick(ax), bands(ax), strict=True):
        part = table.loc[arm]
        assert xy(line) == near(zip(part.index, part["recall"], strict=True))
        corners = {(float(a), round(float(b), 9)) for a, b in band}
        for side in ("low", "high"):
            assert {(float(n), round(v, 9)) for n, v in part[side].items()} <= corners
    assert len(faint(ax)) == 2 * 3, "one a seed"
    assert xy(faint(ax)[0])[0] in near((1, correct / 101) for correct in (77, 78, 79, 87, 88, 89))
    assert ax.get_xscale() == "log"
    assert ticks(ax, "x") == ["1", "2", "4", "8", "16"]
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


def by_gap() -> pd.DataFrame:
    """Arm i recalls everything up to a gap of 8 (i + 1) and guesses beyond; three seeds."""
    rows = [
        {"arm": arm, "seed": seed, "gap": gap, "correct": 64 if gap <= 8 * (i + 1) else 1, "total": 64}
        for i, arm in enumerate(("1 layer", "2 layers"))
        for seed in range(3)
        for gap in (4, 8, 12, 16, 20)
    ]
    return pd.DataFrame(rows).assign(chance=1 / 64)


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


def neighbours() -> pd.DataFrame:
    """Half of four answers are right at 102 tokens and all elsewhere; the second arm has none right."""
    found = [("a", n, seed, int(n != 102 or seed % 2), 1) for n in range(100, 108) for seed in range(4)]
    found += [("b", n, 0, 0, 2) for n in range(100, 108)]
    return pd.DataFrame(found, columns=["arm", "length", "seed", "correct", "total"]).assign(chance=0.01)


def test_lines_bands_and_the_grid_are_those_of_the_neighbours():
    ax = plots.recall_at_each_length(neighbours(), mark=104, period=3.0)
    grid = [line.get_xdata()[0] for line in ax.lines if len(set(line.get_xdata())) == 1]
    assert grid == [101.0, 104.0, 107.0]
    lines = [line for line in ax.lines if len(line.get_xdata()) == 8]
    assert lines[0].get_ydata().tolist() == [1, 1, 0.5, 1, 1, 1, 1, 1]
    assert lines[1].get_ydata().tolist() == [0] * 8
    low, high = stats.wilson(2, 4)
    band = bands(ax)[0]
    at = band[band[:, 0] == 102][:, 1]
    assert np.isclose(at.min(), low)
    assert np.isclose(at.max(), high)
    assert "a 100 % at 100, 100 % at 107, least 50 % at 102; b 0 % at 100, 0 % at 107" in ax.get_label()


def shared() -> pd.DataFrame:
    rows = [(x, seed, 97 - int(90 * x) - seed, 101) for x in (0.0, 0.5, 1.0) for seed in range(3)]
    return pd.DataFrame(rows, columns=["agreeing", "seed", "correct", "total"]).assign(chance=1 / 13)


def test_recall_by_share_is_that_of_stats():
    ax = plots.recall_by_share(shared(), x="agreeing", xlabel="Share")
    table = stats.recall(shared(), by=["agreeing"])
    drawn = [line.get_ydata() for line in ax.lines if len(line.get_xdata()) == 3]
    assert any(np.allclose(y, table["recall"]) for y in drawn)
    assert any(np.allclose(y, np.array([97, 52, 7]) / 101) for y in drawn)  # the first seed, faintly
    assert ax.get_xlabel() == "Share"
    assert [tick.get_text() for tick in ax.get_yticklabels()].count("chance") == 1
    assert ax.get_label() == "Recall against agreeing: all 95 % at 0 %, 5.9 % at 100 %; chance 7.7 %."


def test_alt_text_states_what_is_seen():
    frame = tidy(("RoPE",), seeds=1)
    text = plots.alt(plots.recall_by_length(frame))
    rate = frame[frame["length"] == 512][["correct", "total"]].sum()
    assert f"{percent(rate['correct'] / rate['total'])} at 512" in text
    assert "chance 12.5 %" in text
    assert plots.alt(plots.text_loss_and_recall(frame)).startswith(
        "Perplexity on the text at 512 tokens: RoPE"
    )


@pytest.mark.parametrize("draw", [plots.recall_by_length, plots.n50_bars, plots.heat_map])
def test_bad_frames_are_named(draw):
    with pytest.raises(ValueError, match=r"frame lacks the columns \['correct'\]"):
        draw(tidy(("RoPE",)).drop(columns="correct"))
    with pytest.raises(ValueError, match="frame has no rows"):
        draw(tidy(("RoPE",)).iloc[:0])
    mixed = pd.concat([tidy(("RoPE",)), tidy(("RoPE",)).assign(probe="YaRN")])
    with pytest.raises(ValueError, match="mixes the probes"):
        draw(mixed)


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda: plots.recall_by_length(tidy(), hue="colour"), "lacks the columns \\['colour'\\]"),
        (lambda: plots.recall_by_load(loaded().drop(columns="pairs")), r"lacks the columns \['pairs'\]"),
        (lambda: plots.recall_by_load(loaded(at=(0, 4))), "pairs has 0; allowed on a log axis"),
        (lambda: plots.recall_by_segments(loaded("segments", (-1, 1))), "segments has -1; allowed is 0"),
        (
            lambda: plots.recall_within_reach(by_gap().drop(columns="gap"), reach={}),
            r"lacks the columns \['gap'\]",
        ),
        (
            lambda: plots.recall_within_reach(by_gap().assign(probe=["a", "b"] * 15), reach={}),
            "mixes the probes",
        ),
        (lambda: plots.recall_at_each_length(neighbours(), mark=104, period=0), "period is 0 and mark 104"),
        (lambda: plots.recall_at_each_length(neighbours(), mark=99, period=3), "a mark from 100 to 107"),
        (
            lambda: plots.recall_by_share(shared().assign(agreeing=2.0), x="agreeing", xlabel=""),
            "a share from 0 to 1",
        ),
        (lambda: plots.recall_by_share(shared(), x="share", xlabel=""), r"lacks the columns \['share'\]"),
        (lambda: plots.recall_beside({}), "tables is empty"),
        (lambda: plots.heat_map(tidy()), "arm is None; allowed is one of 'none'"),
        (lambda: plots.heat_map(tidy(), arm="nope"), "arm is 'nope'"),
        (lambda: recall.text_loss_table(tidy().assign(text_loss=np.nan)), "text_loss is NaN"),
        (lambda: plots.text_loss_and_recall(tidy(), ax=plt.subplots(1, 3)[1]), "ax has 3 axes"),
        (lambda: plots.dose(pd.DataFrame({"x": [0.0, 1], "y": [1.0, 1]}), x="x", y="y"), "x has 0;"),
        (lambda: plots.dose(pd.DataFrame({"x": [1.0, 2], "y": [1.0, -1]}), x="x", y="y"), "y has -1;"),
        (
            lambda: plots.dose(pd.DataFrame({"x": [1.0, 2], "y": [1.0, 2]}), x="x", y="y", expected=1),
            "fit has 2 points",
        ),
        (lambda: plots.phase_table(4, 100, 0, 10), "train_length is 0"),
        (lambda: plots.phase_table(5, 100, 10, 10), "head_dim"),
    ],
)
def test_bad_input_is_named(call, message):
    with pytest.raises(ValueError, match=message):
        call()


@pytest.mark.parametrize(
    ("found", "want"),
    [
        (tokens(64), "64"),
        (tokens(1024), "1K"),
        (tokens(1536), "1.5K"),
        (tokens(2**20), "1M"),
        (tokens(np.int64(2048)), "2K"),
        (percent(1 / 8), "12.5 %"),
        (percent(0.97), "97 %"),
        (percent(0), "0 %"),
        (short(0.015625), "0.0156"),
        (short(1024), "1024"),
        (short(10_000), "10K"),
        (short(2_000_000), "2M"),
        (called("arm", "RoPE"), "RoPE"),
        (called("model.key_shift", True), "key shift True"),
    ],
)
def test_numbers_and_names_are_written_short(found, want):
    assert found == want


def test_spread_moves_as_little_as_it_can():
    assert spread([0.1, 0.9, 0.5], 0.1, 0, 1) == pytest.approx([0.1, 0.9, 0.5])
    assert spread([0.5, 0.5], 0.1, 0, 1) == pytest.approx([0.45, 0.55])
    assert spread([0.52, 0.5, 0.51], 0.1, 0, 1) == pytest.approx([0.61, 0.41, 0.51])
    assert spread([0.0, 0.0, 0.0], 0.1, 0, 1) == pytest.approx([0, 0.1, 0.2])
    assert spread([1.0, 0.99], 0.1, 0, 1) == pytest.approx([1.0, 0.9])


def test_one_seed_and_one_length_can_be_drawn():
    frame = tidy(("RoPE",), seeds=1, lengths=(64,))
    ax = plots.recall_by_length(frame)
    low, high = stats.wilson(frame["correct"].sum(), frame["total"].sum())
    assert bars(ax) == near([(low, high)])
    ax.get_figure().canvas.draw()
