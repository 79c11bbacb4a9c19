"""What the figures of training draw is what survival and recall are, and what they say is what they draw."""

from __future__ import annotations

import math

import matplotlib.pyplot as plt
import numpy as np
import pandas as pd
import pytest
from matplotlib.colors import to_hex

from lcbook import stats
from lcbook.plots import depth as data
from lcbook.plots import training as plots
from lcbook.stats import survival
from tests.drawn import arrows, bands, bars, faint, marks, near, opened, thick, written, xy

NEVER = math.nan
GATES = {
    "direct": (310, 530, NEVER, 890, NEVER),
    "short to long": (110, 170, 230, 410, 590),
    "cold": (NEVER,) * 5,
}


def escapes(**gates: tuple[float, ...]) -> pd.DataFrame:
    """Five seeds an arm with a budget of 1,000 updates, each seed measured at two lengths."""
    rows = [(arm, seed, 1000, gate) for arm, of in (gates or GATES).items() for seed, gate in enumerate(of)]
    frame = pd.DataFrame(rows, columns=["arm", "seed", "updates", "updates_to_gate"])
    return pd.concat([frame.assign(length=n) for n in (64, 128)], ignore_index=True)


def by_depth(depths=tuple(i / 5 for i in range(5)), arms=("uniform", "recency"), seeds=3) -> pd.DataFrame:
    rows = [
        (arm, d, s, 97 - s - i * int(40 * (1 - d)), 101)
        for i, arm in enumerate(arms)
        for d in depths
        for s in range(seeds)
    ]
    return pd.DataFrame(rows, columns=["arm", "depth", "seed", "correct", "total"]).assign(chance=1 / 17)


def shares(seeds=4) -> pd.DataFrame:
    rows = [
        (model, x, s, 10 + s + int(80 * x) - 7 * (model == "small"), 101, 2.3 + 0.05 * x + 0.01 * s)
        for model in ("large", "small")
        for x in (0.0, 0.25, 1.0)
        for s in range(seeds)
    ]
    return pd.DataFrame(rows, columns=["model", "share", "seed", "correct", "total", "text_loss"]).assign(
        chance=1 / 17
    )


def by_length() -> pd.DataFrame:
    """RoPE falls after 256 tokens, and after 512 where lengths were random; without an encoding nothing falls."""
    rows = [
        (position, lengths, n, seed, 100 if n <= reach else 5, 101)
        for position, lengths, reach in (
            ("RoPE", "fixed", 256), ("RoPE", "random", 512), ("none", "fixed", 4096), ("none", "random", 4096)
        )
        for n in (64, 128, 256, 512, 1024)
        for seed in range(3)
    ]  # fmt: skip
    return pd.DataFrame(rows, columns=["position", "lengths", "length", "seed", "correct", "total"]).assign(
        chance=0.05
    )


# ---- leaving the plateau


def test_escape_curves_are_one_less_survival_with_its_band():
    ax = plots.escape_curves(escapes())
    groups = survival.times(escapes())
    for (updates, escaped), line, band in zip(groups.values(), thick(ax), bands(ax), strict=True):
        curve = survival.kaplan_meier(updates, escaped)
        points = list(zip(curve["update"], 1 - curve["survival"], strict=True))
        assert xy(line)[: len(points)] == near(points)
        assert xy(line)[-1][0] == 1000, "a line goes on where nobody is left on the plateau"
        assert line.get_drawstyle() == "steps-post"
        heights = {round(float(y), 9) for _, y in band}
        assert {round(1 - y, 9) for side in ("low", "high") for y in curve[side]} <= heights
    ticks = [xy(line)[0] for line in ax.lines if line.get_marker() == "|" and len(line.get_xdata())]
    assert ticks == near([(1000, 0.6), (1000, 0)])
    assert set(GATES) <= written(ax)
    assert (
        "direct 3 of 5, half of them by 890; short to long 5 of 5, half of them by 230; cold 0 of 5."
        in ax.get_label()
    )


def test_more_than_three_curves_have_bars_in_place_of_bands():
    ax = plots.escape_curves(escapes(**GATES, warm=(70, 90, 110, 130, NEVER)), hue="arm")
    ends = [
        survival.kaplan_meier(*part).iloc[-1]
        for part in survival.times(escapes(**GATES, warm=(70, 90, 110, 130, NEVER))).values()
    ]
    assert bars(ax) == near((1 - end["high"], 1 - end["low"]) for end in ends)


def test_learning_curves_have_a_panel_an_arm_and_a_line_a_seed():
    recalls = {"direct": [[0.1] * 30 + [1.0] * 10, [0.1] * 40], "short to long": [[0.1, 0.3, 0.5]]}
    axes = plots.learning_curves(recalls, window=2, chance=0.1)
    assert len(axes) == 2
    lines = [line for line in axes[0].lines if line.get_linewidth() == 1.1]
    assert [len(line.get_xdata()) for line in lines] == [40, 40]
    assert xy(lines[0])[29:32] == near([(30, 0.1), (31, 0.55), (32, 1.0)])
    (line,) = [line for line in axes[1].lines if line.get_linewidth() == 1.1]
    assert xy(line) == near([(1, 0.1), (2, 0.2), (3, 0.4)])
    assert [ax.get_title(loc="left") for ax in axes] == ["direct: 1 of 2", "short to long: 0 of 1"]
    assert [text.get_text() for text in axes[0].get_yticklabels()] == ["chance", "50 %", "100 %"]
    assert (
        "direct: 1 of 2 seeds came to 99 % within 40 updates; at the end they recall 55 %"
        in axes[0].get_label()
    )


def test_the_forest_is_the_ratios_of_restricted_means():
    frame = escapes()
    ax = plots.ablation_forest(frame, "direct")
    groups = survival.times(frame)
    ratios = [
        survival.ratio_of_means(groups[arm], groups["direct"], 1000) for arm in ("short to long", "cold")
    ]
    points = [xy(line)[0] for line in ax.lines if line.get_marker() not in ("None", "", None)]
    assert sorted(points, key=lambda point: point[1]) == near(
        [(1, 0), (ratios[0].value, 1), (ratios[1].value, 2)]
    )
    assert ratios[0].value == pytest.approx(302 / ((310 + 530 + 890 + 2000) / 5))
    assert [bar for bar in bars(ax) if bar[0] < bar[1]] == near((one.low, one.high) for one in ratios)
    assert arrows(ax) == [(pytest.approx(1000 / 746), 2, True)], "nobody escaped: at least"
    assert {"3 of 5", "5 of 5", "0 of 5", "past the gate"} <= written(ax)
    assert [text.get_text() for text in ax.get_yticklabels()] == ["direct", "short to long", "cold"]
    assert ax.get_xscale() == "log"
    assert "up to 1000, relative to direct: direct 3 of 5 escaped; short to long 0.4" in ax.get_label()


def test_the_forest_counts_up_to_the_update_given():
    ax = plots.ablation_forest(escapes(), "short to long", until=400)
    assert {"1 of 5", "3 of 5", "0 of 5"} <= written(ax)
    assert next(text.get_text() for text in ax.get_yticklabels()) == "short to long"


# ---- data


@pytest.mark.parametrize(
    ("depths", "drawn"),
    [((0, 0.25, 0.5, 0.75), (0.125, 0.375, 0.625, 0.875)), ((0.0, 0.5, 1.0), (0, 0.5, 1)), ((0.1, 0.3), (0.1, 0.3))],
)  # fmt: skip
def test_recall_by_depth_draws_means_and_bands(depths, drawn):
    frame = by_depth(depths)
    ax = data.recall_by_depth(frame.sample(frac=1, random_state=1))
    table = stats.recall(frame, ["arm", "depth"]).set_index("arm")
    assert len(thick(ax)) == 2
    for line, band in zip(thick(ax), bands(ax), strict=True):
        arm = "uniform" if line.get_ydata()[0] > 0.9 else "recency"
        part = table.loc[arm]
        assert xy(line) == near(zip(drawn, part["recall"], strict=True))
        corners = {(round(float(a), 9), round(float(b), 9)) for a, b in band}
        for side in ("low", "high"):
            assert {(round(x, 9), round(y, 9)) for x, y in zip(drawn, part[side], strict=True)} <= corners
    (chance,) = [line for line in ax.lines if line.get_linestyle() == ":"]
    assert list(chance.get_ydata()) == pytest.approx([1 / 17] * 2)
    assert {"uniform", "recency"} <= written(ax)


def test_the_words_of_recall_by_depth():
    said = data.recall_by_depth(by_depth()).get_label()
    assert "recency 55 % at 10 %, 88 % at 90 %; chance 5.9 %." in said


def test_training_is_drawn_below_in_multiples_of_the_uniform_share():
    top, bottom = data.depth_panels(by_depth(), {"uniform": (), "recency": (1, 3, 4, 8)})
    assert len(thick(top)) == 2
    values, edges, _ = bottom.patches[1].get_data()
    assert values.tolist() == [0.25, 0.75, 1, 2]
    assert edges.tolist() == [0, 0.25, 0.5, 0.75, 1]
    assert bottom.patches[0].get_data().values.tolist() == [1]
    colors = [to_hex(line.get_color()) for line in thick(top)]
    assert [to_hex(patch.get_edgecolor()) for patch in bottom.patches] == colors
    assert "recency 0.25 at the start and 2 at the end" in bottom.get_label()
    assert not top.get_xlabel()


def test_share_curve_has_recall_above_and_the_loss_below():
    frame = shares().query("model == 'large'")
    top, bottom = data.share_curve(frame, xlabel="Share of long documents")
    assert [xy(line) for line in thick(top)] == [
        near(stats.recall(frame, ["share"])[["share", "recall"]].to_numpy())
    ]
    half = 3.182446305 * np.std([0, 0.01, 0.02, 0.03], ddof=1) / 2  # t of three degrees of freedom
    assert [xy(line) for line in thick(bottom)] == [near([(0, 2.315), (0.25, 2.3275), (1, 2.365)])]
    assert bands(bottom)[0][:, 1].min() == pytest.approx(2.315 - half)
    assert len(faint(bottom)) == 4, "one a seed"
    assert "Recall against share: all 11.4 % at 0 %" in top.get_label()
    assert bottom.get_label().endswith("against share of long documents: 2.315 at 0 %, 2.365 at 100 %.")
    _, alone = data.share_curve(shares(1).query("model == 'large'"))
    assert alone.get_xlabel() == "Share"


# ---- lengths


def test_length_interaction_draws_n50_of_each_cell():
    frame = by_length()
    ax = plots.length_interaction(frame, train_length=64)
    table = stats.n50_table(frame, ["position", "lengths"])
    places = marks(ax)
    assert [x for x, _ in places] == pytest.approx(table["n50"].tolist())
    assert [round(y) for _, y in places] == [0, 0, 1, 1]
    assert places[0][1] < places[1][1], "fixed above random"
    assert table["n50"].tolist() == pytest.approx([362, 724, 1024, 1024], rel=0.1)
    assert [(x, right) for x, _, right in arrows(ax)] == [(1024, True), (1024, True)]
    assert sorted(bars(ax)) == near(sorted(table[["low", "high"]].to_numpy().tolist()))
    assert len(opened(ax)) == 2
    assert [text.get_text() for text in ax.get_yticklabels()] == ["RoPE", "none"]
    assert {"fixed", "random", "training length"} <= written(ax)
    assert "none: fixed ≥ 1K" in ax.get_label()


# ---- all


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda: plots.escape_curves(escapes().drop(columns="updates")), r"lacks the columns \['updates'\]"),
        (lambda: plots.escape_curves(escapes()[:0]), "has no rows"),
        (lambda: plots.learning_curves({}), "recalls has no arm"),
        (lambda: plots.learning_curves({"a": [[]]}), "a seed without recalls"),
        (lambda: plots.learning_curves({"a": [[0.5]]}, window=0), "window is 0; allowed is 1 or more"),
        (lambda: plots.ablation_forest(escapes(), "warm"), r"baseline is 'warm'; allowed is one of \['direct'"),
        (lambda: plots.ablation_forest(escapes(cold=GATES["cold"]), "cold"), "baseline is 'cold'; allowed is one of"),
        (lambda: plots.ablation_forest(escapes(), "cold", until=1001), "until is 1001; allowed is above 0 up to 1000"),
        (lambda: data.recall_by_depth(by_depth().drop(columns="chance")), r"lacks the columns \['chance'\]"),
        (lambda: data.recall_by_depth(by_depth((0.5, 1.5))), "depth has 1.5; allowed is a share from 0 to 1"),
        (lambda: data.recall_by_depth(by_depth().assign(probe=["a", "b"] * 15)), "mixes the probes"),
        (lambda: data.depth_panels(by_depth(), {"uniform": ()}), "training of 'recency' is missing; allowed are"),
        (lambda: data.depth_panels(by_depth(), {"uniform": (), "recency": (0, 0)}), r"'recency' is \(0, 0\)"),
        (lambda: data.share_curve(shares().assign(text_loss=math.nan)), "text_loss is NaN in every row"),
        (lambda: data.share_curve(shares().assign(share=2.0)), "share has 2.0; allowed is a share"),
        (lambda: data.share_curve(shares().drop(columns="text_loss")), r"lacks the columns \['text_loss'\]"),
        (lambda: plots.length_interaction(by_length().drop(columns="lengths")), r"lacks the columns \['lengths'\]"),
        (lambda: plots.length_interaction(by_length().query("length == 64")), "lengths"),
    ],
)  # fmt: skip
def test_bad_input_is_named(call, message):
    with pytest.raises(ValueError, match=message):
        call()
    assert not plt.get_fignums(), "no empty figure is left behind"


def test_another_number_of_axes_is_named():
    given = plt.subplots(3)[1]
    for call in (
        lambda: data.depth_panels(by_depth(), {"uniform": (), "recency": ()}, ax=given),
        lambda: data.share_curve(shares(), ax=given),
    ):
        with pytest.raises(ValueError, match="ax has 3 axes; allowed are"):
            call()
