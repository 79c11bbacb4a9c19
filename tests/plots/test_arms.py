"""What the figures of arms and of silenced heads draw is what was recalled and attended to."""

from __future__ import annotations

import itertools

import matplotlib.pyplot as plt
import numpy as np
import pandas as pd
import pytest

from lcbook import plots, stats
from tests.drawn import bars, dots, faint, lines_of, marks, near, segments, thick, ticks, xy

ARMS = {"delta rule": 80, "attention": 95, "additive, silenced previous-token head": 20}
CHANCES = dict(zip(ARMS, (1 / 8, 1 / 4, 1 / 16), strict=True))


def armed(seeds=3) -> pd.DataFrame:
    """Seed s of an arm answers its number + s of 101, in two rows, tested at two lengths."""
    rows = [
        {"arm": arm, "seed": seed, "correct": part, "total": total}
        for seed in range(seeds)
        for arm, right in ARMS.items()
        for part, total in ((right + seed - 7, 90), (7, 11))
    ]
    return pd.DataFrame(rows).assign(chance=1 / 8)


def silenced(layers=2, heads=3, seeds=2) -> pd.DataFrame:
    """Head h of seed s looks where h = s in layer 1 and where h = s + 1 in the last, and is missed there."""
    rows = []
    for layer in range(1, layers + 1):
        for head in range(heads):
            for seed in range(seeds):
                looks = head == seed + (layer == layers)
                one = {
                    "layer": layer, "head": head, "seed": seed, "correct": (20 if looks else 97) + seed, "total": 101,
                    "previous": 0.9 if head == seed else 0.1 + head / 100,
                    "lookup": 0.8 if head == seed + 1 else 0.02 + head / 100,
                }  # fmt: skip
                rows.append(one)
    return pd.DataFrame(rows).assign(chance=1 / 8)


def test_an_arm_is_a_row_with_a_dot_a_seed_the_mean_and_its_interval():
    frame = armed()
    ax = plots.recall_by_arm(frame)
    named = [text.get_text() for text in ax.get_yticklabels()]
    assert [name.replace("\n", " ") for name in named] == list(ARMS), "in order of first appearance"
    assert list(ax.get_yticks()) == [0, 1, 2]
    bottom, top = ax.get_ylim()
    assert bottom > 2.2, "the last row is within the axes"
    assert top < -0.2, "the first is on top"
    table = stats.recall(frame, "arm").set_index("arm")
    means = [line for line in ax.lines if line.get_markersize() == 8]
    assert [xy(line) for line in means] == [
        near([(table.loc[arm, "recall"], at)]) for at, arm in enumerate(ARMS)
    ]
    want = [(table.loc[arm, "low"], at, table.loc[arm, "high"], at) for at, arm in enumerate(ARMS)]
    assert segments(ax) == near(want)
    rows = [[(x, y) for x, y in dots(ax) if round(y) == at] for at in range(3)]
    for at, (right, points) in enumerate(zip(ARMS.values(), rows, strict=True)):
        assert [x for x, _ in points] == pytest.approx([(right + seed) / 101 for seed in range(3)])
        assert len({y for _, y in points}) == 3, "the seeds lie one below the other"
        assert all(abs(y - at) < 0.4 for _, y in points)
    assert len({line.get_color() for line in means}) == 3
    assert plots.alt(ax) == (
        "Recall by arm, with 95 % intervals: delta rule 80 %; attention 95 %; "
        "additive, silenced previous-token head 21 %; chance 12.5 %."
    )


def test_a_long_name_is_broken_and_has_room():
    longest = "additive, silenced previous-token head"
    frame = pd.concat([armed(), *(armed()[2:4].assign(arm=f"{longest} {i}") for i in range(4))])
    ax = plots.recall_by_arm(frame)
    lines = [line for text in ax.get_yticklabels() for line in text.get_text().split("\n")]
    assert max(map(len, lines)) <= 22
    assert len(lines) == 2 + 5 * 2
    ax.figure.draw_without_rendering()
    boxes = [text.get_window_extent() for text in ax.get_yticklabels()]
    assert all(above.y0 > below.y1 for above, below in itertools.pairwise(boxes)), "none overlap"
    assert min(box.x0 for box in boxes) >= 0
    assert ax.get_window_extent().width > 0.6 * ax.figure.bbox.width


def test_chance_is_a_line_and_a_tick_that_ousts_those_close_by():
    ax = plots.recall_by_arm(armed())
    assert lines_of(ax, ":") == [[(1 / 8, 0), (1 / 8, 1)]]
    assert [text.get_text() for text in ax.get_xticklabels()] == [
        "0 %", "25 %", "50 %", "75 %", "100 %", "chance",
    ]  # fmt: skip
    assert list(ax.get_xticks()) == [0, 0.25, 0.5, 0.75, 1, 1 / 8]
    ax = plots.recall_by_arm(armed().assign(chance=1 / 16))
    assert list(ax.get_xticks()) == [0.25, 0.5, 0.75, 1, 1 / 16]
    left, right = ax.get_xlim()
    assert left <= 0, "all of 0 to 100 % is shown"
    assert right >= 1


def test_chances_that_differ_are_a_line_each_in_its_row():
    frame = armed()
    ax = plots.recall_by_arm(frame.assign(chance=frame["arm"].map(CHANCES)))
    assert not lines_of(ax, ":"), "one line for all would be wrong"
    upright = [ends for ends in segments(ax) if ends[0] == ends[2]]
    assert upright == near((c, at - 0.4, c, at + 0.4) for at, c in enumerate(CHANCES.values()))
    assert ax.get_xticks()[-1] == 1 / 16, "the tick is that of the row above it"
    assert plots.alt(ax).endswith("chance 6.2 % to 25 %.")


def test_a_mark_is_a_dashed_line_with_its_words():
    assert not [line for line in plots.recall_by_arm(armed()).lines if line.get_linestyle() == "--"]
    ax = plots.recall_by_arm(armed(), mark=(0.6, "either value"))
    (line,) = [line for line in ax.lines if line.get_linestyle() == "--"]
    assert list(line.get_xdata()) == [0.6, 0.6]
    assert [text.get_text() for text in ax.texts] == ["either value"]
    assert plots.alt(ax).endswith("chance 12.5 %; either value 60 %.")


def test_one_seed_has_its_dot_in_the_middle_of_the_row():
    ax = plots.recall_by_arm(armed(seeds=1))
    assert [y for _, y in dots(ax)] == [0, 1, 2]


def test_a_panel_a_layer_has_a_dot_a_head_and_seed_where_it_looks():
    frame = silenced()
    axes = plots.ablations(frame.sample(frac=1, random_state=0))
    assert [ax.get_title("left") for ax in axes] == ["layer 1", "layer 2"]
    assert [ax.get_xlabel() for ax in axes] == ["Weight on the token before", "Weight on the needle's value"]
    for layer, x, ax in ((1, "previous", axes[0]), (2, "lookup", axes[1])):
        part = frame[frame["layer"] == layer]
        assert sorted(marks(ax)) == near(sorted(zip(part[x], part["correct"] / 101, strict=True)))
        assert lines_of(ax, ":") == [[(0, 1 / 8), (1, 1 / 8)]]
        assert ax.get_xlim()[0] < 0
        assert ax.get_xlim()[1] > 1
    assert plots.alt(axes) == (
        "Layer 1: recall without the head of most weight on the token before (0.90) is 20 %, "
        "without another (0.11) 97 %; chance 12.5 %. "
        "Layer 2: recall without the head of most weight on the needle's value (0.80) is 20 %, "
        "without another (0.03) 97 %; chance 12.5 %."
    )


def test_lengths_of_a_head_are_pooled_by_their_queries():
    frame = silenced(heads=1, seeds=1)
    frame = pd.concat([frame.assign(correct=10, total=40), frame.assign(correct=50, total=60)])
    frame = pd.concat([frame, frame[:1].assign(seed=1, correct=3, total=10, previous=0.4)])
    axes = plots.ablations(frame)
    assert [sorted(marks(ax)) for ax in axes] == [near([(0.4, 0.3), (0.9, 0.6)]), near([(0.02, 0.6)])]
    assert plots.alt(axes[1]).endswith("(0.02) is 60 %; chance 12.5 %."), "there is no other head"


def test_the_last_layer_alone_is_drawn_against_lookup():
    assert [ax.get_xlabel() for ax in plots.ablations(silenced(layers=1))] == ["Weight on the needle's value"]
    axes = plots.ablations(silenced(layers=4))
    assert [ax.get_xlabel() for ax in axes] == ["Weight on the token before"] * 3 + [
        "Weight on the needle's value"
    ]
    assert axes[0].get_subplotspec().get_gridspec().ncols == 2
    assert len(plots.ablations(silenced(layers=5))) == 5


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
    assert ticks(ax, "x") == ["last", "first"], "in the order they come"
    table = stats.recall(frame, ["arm", "order"])
    assert sorted(bars(ax)) == near(sorted(zip(table["low"], table["high"], strict=True)))
    seeds = [list(line.get_ydata()) for line in faint(ax)]
    assert [0.34, 0.94] in [pytest.approx(one) for one in seeds]
    assert len(seeds) == 10
    assert "Recall with last and first: attention 32 % and 33 %; delta 32 % and 92 %" in plots.alt(ax)


def test_interaction_names_a_truth_value_by_its_column():
    frame = sided().assign(**{"task.query_first": sided()["order"] == "first"})
    ax = plots.interaction(frame, x="task.query_first")
    assert ticks(ax, "x") == ["query first False", "query first True"]
    assert ax.get_xlabel() == "Query first"


def several() -> pd.DataFrame:
    return pd.concat([silenced(), silenced().assign(lookup=0.5)])


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda: plots.recall_by_arm(armed().drop(columns="chance")), r"lacks the columns \['chance'\]"),
        (lambda: plots.recall_by_arm(armed()[:0]), "has no rows"),
        (lambda: plots.recall_by_arm(armed().assign(probe=["a", "b"] * 9)), "mixes the probes"),
        (lambda: plots.recall_by_arm(armed(), mark=(50, "half")), r"mark is \(50, 'half'\); allowed is a recall"),
        (lambda: plots.recall_by_arm(armed(), mark=(float("nan"), "half")), r"mark is \(nan, 'half'\)"),
        (lambda: plots.interaction(armed(), x="seed"), r"seed has the values \[0, 1, 2\]; allowed are two"),
        (lambda: plots.interaction(sided()[:15], x="order"), r"delta has order \['last'\] only"),
        (lambda: plots.interaction(sided().assign(probe=["a", "b"] * 10), x="order"), "mixes the probes"),
        (lambda: plots.ablations(silenced().drop(columns="lookup")), r"lacks the columns \['lookup'\]"),
        (lambda: plots.ablations(silenced()[:0]), "has no rows"),
        (lambda: plots.ablations(silenced().assign(probe=["a", "b"] * 6)), "mixes the probes"),
        (lambda: plots.ablations(several()), "lookup has 2 values for head 0 of seed 0; allowed is one"),
        (lambda: plots.ablations(silenced().assign(previous=1.5)), "previous has 1.5; allowed is a weight"),
        (lambda: plots.ablations(silenced().assign(previous=float("nan"))), "previous has nan; allowed"),
    ],
)  # fmt: skip
def test_bad_input_is_named(call, message):
    with pytest.raises(ValueError, match=message):
        call()
    assert not plt.get_fignums(), "no empty figure is left behind"
