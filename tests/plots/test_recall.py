"""What is drawn is what was computed, in one look, on the axes that were given."""

from __future__ import annotations

import math

import matplotlib as mpl
import matplotlib.pyplot as plt
import numpy as np
import pandas as pd
import pytest
import torch
from matplotlib import colors
from matplotlib.axes import Axes
from matplotlib.collections import FillBetweenPolyCollection, QuadMesh
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from matplotlib.patches import Rectangle
from matplotlib.text import Annotation, Text

from lcbook import plots, stats
from lcbook.formats import called, percent, short, tokens
from lcbook.models.positions import Linear
from lcbook.plots._marks import spread
from lcbook.plots._style import ENCODINGS, Look, looks, luminance

ARMS = ("none", "sinusoidal", "learned", "RoPE", "ALiBi", "T5 bias")
LENGTHS = (64, 128, 256, 512)


@pytest.fixture(autouse=True)
def _close():
    before = dict(mpl.rcParams)
    yield
    plt.close("all")
    assert dict(mpl.rcParams) == before, "a figure changed the reader's rcParams"


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


def xs(line: Line2D) -> np.ndarray:
    return np.asarray(line.get_xdata(), float)


def ys(line: Line2D) -> np.ndarray:
    return np.asarray(line.get_ydata(), float)


def figure_of(ax: Axes) -> Figure:
    figure = ax.get_figure(root=True)
    assert figure is not None
    return figure


def thick(ax: Axes) -> list[Line2D]:
    """The lines of the arms: those with markers."""
    return [line for line in ax.lines if line.get_marker() not in ("None", None, "") and len(xs(line)) > 1]


def drawn_texts(ax: Axes) -> list[str]:
    return [text.get_text() for text in ax.texts]


def test_recall_by_length_draws_the_table_of_stats():
    frame = tidy()
    ax = plots.recall_by_length(frame)
    table = stats.recall(frame, by=["arm", "length"])
    bands = [c for c in ax.collections if isinstance(c, FillBetweenPolyCollection)]
    assert len(thick(ax)) == len(bands) == 3
    for line, band, (arm, part) in zip(thick(ax), bands, table.groupby("arm", sort=False), strict=True):
        assert line.get_color() == ENCODINGS[arm].color
        np.testing.assert_array_equal(xs(line), part["length"])
        np.testing.assert_allclose(ys(line), part["recall"])
        corners = np.asarray(band.get_paths()[0].vertices)
        for n, low, high in zip(part["length"], part["low"], part["high"], strict=True):
            at = corners[corners[:, 0] == n, 1]
            assert at.min() == pytest.approx(low)
            assert at.max() == pytest.approx(high)


def test_every_seed_is_a_faint_line():
    frame = tidy(seeds=3)
    ax = plots.recall_by_length(frame)
    faint = [line for line in ax.lines if line.get_alpha() == 0.35]
    assert len(faint) == 9
    one = frame[(frame["arm"] == "none") & (frame["seed"] == 0)].groupby("length")[["correct", "total"]].sum()
    np.testing.assert_allclose(ys(faint[0]), one["correct"] / one["total"])


def test_chance_and_training_length_are_marked_and_named():
    ax = plots.recall_by_length(tidy())
    levels = [ys(line)[0] for line in ax.lines if line.get_linestyle() == ":"]
    assert levels == [0.125]
    assert (
        dict(zip(ax.get_yticks(), [t.get_text() for t in ax.get_yticklabels()], strict=True))[0.125]
        == "chance"
    )
    assert [xs(line)[0] for line in ax.lines if line.get_linestyle() == "--"] == [64]
    assert "training length" in drawn_texts(ax)
    moved = plots.recall_by_length(tidy(), train_length=256)
    assert [xs(line)[0] for line in moved.lines if line.get_linestyle() == "--"] == [256]


def test_names_stand_at_the_line_ends_and_do_not_overlap():
    arms = (*ARMS, "RoPE randomized", "sinusoidal randomized")
    frame = tidy(arms)
    frame["correct"] = frame["total"] // 2  # all end at the same point
    ax = plots.recall_by_length(frame)
    figure_of(ax).canvas.draw()
    boxes = {t.get_text(): Text.get_window_extent(t) for t in ax.texts if t.get_text() in arms}
    assert set(boxes) == set(arms)
    for a, box in boxes.items():
        assert box.x0 > ax.get_window_extent().x1
        assert figure_of(ax).bbox.y0 <= box.y0 < box.y1 <= figure_of(ax).bbox.y1
        for b, other in boxes.items():
            overlap = min(box.y1, other.y1) - max(box.y0, other.y0)
            assert a == b or overlap < 0.25 * box.height


def test_long_names_go_into_a_legend():
    ax = plots.recall_by_length(tidy(("a name that is far too long for a line end", "b")))
    (legend,) = figure_of(ax).legends
    assert [t.get_text() for t in legend.get_texts()] == ["a name that is far too long for a line end", "b"]


def test_an_encoding_looks_the_same_in_every_figure():
    frame = tidy(("T5 bias", "RoPE"))
    shown = [thick(plots.recall_by_length(frame)), thick(plots.recall_by_gap(frame))]
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
    words = [ax.xaxis.label, *ax.get_xticklabels(), *figure_of(ax).legends[0].get_texts()]
    assert {colors.to_hex(text.get_color()) for text in words} == {"#000000"}
    assert colors.to_hex(figure_of(ax).get_facecolor()) == "#ffffff"


def test_given_axes_are_used_and_returned():
    figure, axes = plt.subplots(2, 3)
    frame = tidy()
    assert plots.recall_by_length(frame, ax=axes[0, 0]) is axes[0, 0]
    assert plots.recall_by_gap(frame, ax=axes[0, 1]) is axes[0, 1]
    assert plots.n50_bars(frame, ax=axes[0, 2]) is axes[0, 2]
    pair = plots.text_loss_and_recall(frame, ax=axes[:, 0])
    assert list(pair) == list(axes[:, 0])
    assert plots.phases(16, 100, 64, 512, ax=axes[1, 1]) is axes[1, 1]
    assert plots.scores_by_distance([100], 16, ax=axes[1, 2]) is axes[1, 2]
    assert plt.get_fignums() == [figure.number]


def test_recall_by_gap_pools_lengths_or_takes_one():
    frame = tidy(("RoPE",))
    (line,) = thick(plots.recall_by_gap(frame))
    at = frame[frame["gap"] == 64]
    assert ys(line)[list(xs(line)).index(64)] == pytest.approx(at["correct"].sum() / at["total"].sum())
    (line,) = thick(plots.recall_by_gap(frame, length=128))
    assert list(xs(line)) == [32, 64]


def test_a_column_of_numbers_is_a_hue_too():
    ax = plots.recall_by_gap(tidy(("RoPE",)), hue="length")
    assert {"length 64", "length 512"} <= set(drawn_texts(ax))


def test_heat_map_holds_counts_and_half_widths():
    frame = tidy(("RoPE", "ALiBi"))
    ax = plots.heat_map(frame, arm="ALiBi")
    (mesh,) = [c for c in ax.collections if isinstance(c, QuadMesh)]
    flat = np.ma.filled(np.ma.asarray(mesh.get_array()), np.nan)
    cells = flat.reshape(5, 4)  # gaps 16 .. 256, lengths 64 .. 512
    assert np.isnan(cells[4, 0])
    part = frame[(frame["arm"] == "ALiBi") & (frame["length"] == 128) & (frame["gap"] == 64)]
    correct, total = int(part["correct"].sum()), int(part["total"].sum())
    assert cells[2, 1] == pytest.approx(correct / total)
    low, high = stats.wilson(correct, total)
    assert f"{100 * correct / total:.0f} ±{50 * (high - low):.0f}" in drawn_texts(ax)
    assert mesh.norm.vmin == 0.125
    assert [t.get_text() for t in ax.get_xticklabels()] == ["64", "128", "256", "512"]
    assert 1 in [xs(line)[0] for line in ax.lines]  # the training length ends the first column


def test_n50_bars_draw_the_interval_and_an_arrow_where_it_is_censored():
    frame = tidy(("none", "sinusoidal", "RoPE"))
    frame.loc[frame["arm"] == "RoPE", "correct"] = frame["total"]  # never forgets
    ax = plots.n50_bars(frame)
    table = stats.n50_table(frame).set_index("arm")
    names = [t.get_text().split("\n")[0] for t in ax.get_yticklabels()]
    assert names == list(table.sort_values("n50").index)
    assert names[-1] == "RoPE"
    bars = [line for line in ax.lines if line.get_linewidth() == 5]
    for at, (name, bar) in enumerate(zip(names, bars, strict=True)):
        assert list(xs(bar)) == [table.loc[name, "low"], table.loc[name, "high"]]
        assert list(ys(bar)) == [at, at]
    markers = [line.get_marker() for line in ax.lines if len(xs(line)) == 1]
    assert markers[-1] == ">"
    assert "≥ 512" in drawn_texts(ax)
    arrows = [t for t in ax.texts if isinstance(t, Annotation) and t.arrow_patch and t.xy[1] == 2]
    assert [arrow.xy[0] > arrow.xyann[0] for arrow in arrows] == [True]
    assert ax.get_yticklabels()[0].get_text().endswith("(2 of 3 seeds solved)")
    assert any(list(xs(line)) == [64, 64] for line in ax.lines)


def test_dose_recovers_a_power_law():
    x = np.array([1.0, 2, 4, 8, 16])
    frame = pd.DataFrame({"x": x, "d50": 3 * x**1.5})
    ax = plots.dose(frame, x="x", y="d50", expected=1.5, bound=5, bound_label="here")
    assert "slope 1.5" in drawn_texts(ax)[-1]
    assert "here" in drawn_texts(ax)
    fitted = next(line for line in ax.lines if len(xs(line)) == 41)
    np.testing.assert_allclose(ys(fitted), 3 * xs(fitted) ** 1.5)
    theory = next(line for line in ax.lines if line.get_linestyle() == "--" and len(xs(line)) == 2)
    np.testing.assert_allclose(ys(theory), [3, 192])


def test_dose_slope_has_the_interval_of_ordinary_least_squares():
    from scipy.stats import linregress, t

    rng = np.random.default_rng(5)
    x = np.array([2.0, 4, 8, 16])  # few, so that the degrees of freedom show
    y = x**-1 * np.exp(rng.normal(size=len(x)) / 5)
    ax = plots.dose(pd.DataFrame({"x": x, "y": y}), x="x", y="y")
    line = linregress(np.log(x), np.log(y))
    half = t.ppf(0.975, len(x) - 2) * line.stderr
    assert drawn_texts(ax)[-1] == f"slope {stats.Estimate(line.slope, line.slope - half, line.slope + half)}"


def test_dose_draws_bounds_as_arrows_and_leaves_them_out_of_the_fit():
    frame = pd.DataFrame({"x": [1.0, 2, 4, 8], "y": [2.0, 4, 8, 9]})
    frame = frame.assign(low=frame["y"], high=frame["y"], censored=[None, None, None, "above"])
    ax = plots.dose(frame, x="x", y="y")
    assert drawn_texts(ax)[-1].startswith("slope 1.0")
    assert "≥ 9" in drawn_texts(ax)
    assert [list(xs(line)) for line in ax.lines if line.get_marker() == "^"] == [[8.0]]


def test_dose_computes_recall_and_n50_from_a_tidy_frame():
    frame = pd.concat([tidy(("none", "sinusoidal"), base=base) for base in (100.0, 1000.0, 10_000.0)])
    ax = plots.dose(frame[frame["length"] == 128], x="base", y="recall", hue="arm")
    table = stats.recall(frame[frame["length"] == 128], ["arm", "base"])
    np.testing.assert_allclose(ys(thick(ax)[0]), table[table["arm"] == "none"]["recall"])
    assert "chance" in [t.get_text() for t in ax.get_yticklabels()]
    ax = plots.dose(frame[frame["arm"] == "sinusoidal"], x="base", y="n50")
    points = stats.n50_table(frame[frame["arm"] == "sinusoidal"], ["base"])["n50"]
    assert any(np.array_equal(ys(line), points) for line in ax.lines)


def test_text_loss_is_perplexity_with_a_t_interval():
    frame = tidy(("RoPE",))
    table = plots.text_loss_table(frame)
    losses = [2 + 0.01 * seed * 6 for seed in range(3)]  # length 64
    half = 4.302653 * np.std(losses, ddof=1) / math.sqrt(3)
    want = [math.exp(np.mean(losses) + shift) for shift in (0, -half, half)]
    np.testing.assert_allclose(table.loc[0, ["perplexity", "low", "high"]].to_numpy(float), want)
    top, bottom = plots.text_loss_and_recall(frame)
    np.testing.assert_allclose(ys(thick(top)[0]), table["perplexity"])
    np.testing.assert_allclose(ys(thick(bottom)[0]), stats.recall(frame, ["arm", "length"])["recall"])
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
    assert "one full turn" in drawn_texts(ax)
    assert plots.alt(ax).startswith("1 of 2 pairs")


def test_attention_map_takes_a_tensor_with_a_gradient():
    weights = torch.tensor([[0.25, 0.75, 0.0], [0.2, 0.3, 0.5]], requires_grad=True)
    ax = plots.attention_map(weights, ["a", "b", "c"])
    np.testing.assert_allclose(np.asarray(ax.images[0].get_array()), weights.detach().numpy())
    assert [t.get_text() for t in ax.get_xticklabels()] == ["a", "b", "c"]
    assert [t.get_text() for t in ax.get_yticklabels()] == ["b", "c"]
    assert "0.75, is that of query 0 on key 1" in plots.alt(ax)


def test_training_curve_is_a_running_mean_with_the_gate():
    ax = plots.training_curve({"RoPE": [[0.0, 1.0, 0.5, 1.0], [0.2, 0.4]]}, window=2, chance=0.5)
    lines = [line for line in ax.lines if line.get_alpha() == 0.8]
    np.testing.assert_allclose(ys(lines[0]), [0, 0.5, 0.75, 0.75])
    np.testing.assert_allclose(xs(lines[1]), [1, 2])
    np.testing.assert_allclose(ys(lines[1]), [0.2, 0.3])
    assert sorted(ys(line)[0] for line in ax.lines if line.get_linestyle() == ":") == [0.5, 0.99]
    assert "gate 99 %" in [t.get_text() for t in ax.get_yticklabels()]


def test_scores_by_distance_is_the_mean_cosine():
    ax = plots.scores_by_distance([100, 10_000], 4, longest=50, train_length=32)
    line = ax.lines[0]
    d = xs(line)
    np.testing.assert_allclose(ys(line), (np.cos(d) + np.cos(d / 10)) / 2, atol=1e-6)
    assert {"base 100", "base 10K", "training length"} <= set(drawn_texts(ax))


def test_tables_stand_beside_each_other_in_one_look():
    here, there = tidy(("RoPE", "ALiBi")), tidy(("RoPE", "T5 bias"), lengths=(256, 512, 1024))
    axes = plots.recall_beside({"This run": here, "A run with a long name, CPU, 2 cores, 2026-01-02": there})
    want = stats.recall(there, ["arm", "length"])
    np.testing.assert_allclose(ys(thick(axes[1])[1]), want[want["arm"] == "T5 bias"]["recall"])
    assert [ax.get_title(loc="left") for ax in axes] == [
        "This run",
        "A run with a long name, CPU, 2\ncores, 2026-01-02",
    ]
    assert axes[0].get_ylim() == axes[1].get_ylim()
    assert plots.alt(axes).startswith("This run. Recall against length")
    assert [t.get_text() for t in figure_of(axes[0]).legends[0].get_texts()] == ["RoPE", "ALiBi", "T5 bias"]


def test_alt_text_states_what_is_seen():
    frame = tidy(("RoPE",), seeds=1)
    text = plots.alt(plots.recall_by_length(frame))
    rate = frame[frame["length"] == 512][["correct", "total"]].sum()
    assert f"512 tokens): RoPE {percent(rate['correct'] / rate['total'])}" in text
    assert "chance 12.5 %" in text
    assert plots.alt(plots.text_loss_and_recall(frame)).startswith(
        "Perplexity on the text at 512 tokens: RoPE"
    )


@pytest.mark.parametrize(
    "draw", [plots.recall_by_length, plots.recall_by_gap, plots.n50_bars, plots.heat_map]
)
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
        (lambda: plots.recall_by_gap(tidy(), length=65), "length is 65; allowed is one of 64, 128"),
        (lambda: plots.recall_beside({}), "tables is empty"),
        (lambda: plots.heat_map(tidy()), "arm is None; allowed is one of 'none'"),
        (lambda: plots.heat_map(tidy(), arm="nope"), "arm is 'nope'"),
        (lambda: plots.text_loss_table(tidy().assign(text_loss=np.nan)), "text_loss is NaN"),
        (lambda: plots.text_loss_and_recall(tidy(), ax=plt.subplots(1, 3)[1]), "ax has 3 axes"),
        (lambda: plots.dose(pd.DataFrame({"x": [0.0, 1], "y": [1.0, 1]}), x="x", y="y"), "x has 0.0"),
        (lambda: plots.dose(pd.DataFrame({"x": [1.0, 2], "y": [1.0, -1]}), x="x", y="y"), "y has -1.0"),
        (lambda: plots.dose(pd.DataFrame({"x": [1.0, 2], "y": [1.0, 2]}), x="x", y="y"), "fit has 2 points"),
        (lambda: plots.phase_table(4, 100, 0, 10), "train_length is 0"),
        (lambda: plots.phase_table(5, 100, 10, 10), "head_dim"),
        (lambda: plots.attention_map(torch.zeros(2, 3, 4)), r"weights has shape \(2, 3, 4\)"),
        (lambda: plots.attention_map(torch.zeros(2, 3), ["a"]), "tokens has 1 names; allowed are 3"),
        (lambda: plots.training_curve({}), "recalls has no arm"),
        (lambda: plots.training_curve({"a": [[]]}), "recalls has no arm, or a seed without"),
        (lambda: plots.training_curve({"a": [[0.5]]}, window=0), "window is 0"),
        (lambda: plots.scores_by_distance([], 4), r"bases is \[\]"),
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
    (bar,) = [np.asarray(c.get_paths()[0].vertices) for c in ax.collections]
    np.testing.assert_allclose(bar[:, 1], [low, high])
    figure_of(ax).canvas.draw()
