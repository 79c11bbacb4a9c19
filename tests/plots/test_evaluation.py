"""What the figures of evaluation draw is what the counts hold, and they say what they draw."""

from __future__ import annotations

import numpy as np
import pandas as pd
import pytest
from matplotlib.patches import Rectangle

from lcbook import stats
from lcbook.plots import evaluation
from lcbook.stats.effective import RULES, effective_table
from lcbook.stats.rankings import rank_table
from tests.drawn import arrows, bars, marks, xy

LENGTHS, DEPTHS = (1024, 2048, 4096, 8192, 16384), (0.0, 0.5, 1.0)
MODELS = ("softmax, RoPE", "delta rule", "window 64", "linear")


def cells(lengths=LENGTHS) -> pd.DataFrame:
    """Each cell in two rows: 13 and 10 queries; recall falls with the length, most in the middle."""
    rows = []
    for k, n in enumerate(lengths):
        for depth in DEPTHS:
            right = max(0, 23 - k * (5 if depth == 0.5 else 2))
            rows += [(n, depth, 0, min(13, right), 13), (n, depth, 1, max(0, right - 13), 10)]
    return pd.DataFrame(rows, columns=["length", "depth", "seed", "correct", "total"]).assign(chance=0.1)


def benchmarks() -> pd.DataFrame:
    rows = [
        (model, benchmark, 7 + 11 * rank, 101)
        for benchmark, order in (
            ("needle", (4, 3, 2, 1)),
            ("multi-query", (3, 4, 1, 2)),
            ("hops", (1, 2, 3, 4)),
        )
        for model, rank in zip(MODELS, order, strict=True)
    ]
    return pd.DataFrame(rows, columns=["model", "benchmark", "correct", "total"])


SHARES = pd.DataFrame(
    {"source": ["depth", "task", "interaction", "sampling"], "share": [0.41, 0.104, 0.3, 0.186],
     "low": [0.3, 0.02, 0.2, 0.1], "high": [0.55, 0.19, 0.41, 0.22]}
)  # fmt: skip
TAUS = pd.DataFrame(
    [("a", "b", 0.62, 0.21, 0.9), ("a", "c", -0.1, -0.5, 0.333), ("b", "c", -0.4, -0.8, -0.04)],
    columns=["a", "b", "tau", "low", "high"],
)


def words(ax) -> list[str]:
    return [text.get_text() for text in ax.texts if text.get_text()]


# ---- the grid


def test_grid_has_recall_and_wilsons_ends_in_each_cell():
    ax = evaluation.recall_grid(cells().sample(frac=1, random_state=1))
    found = {(text.get_position()): text.get_text() for text in ax.texts}
    assert len(found) == 15
    for k in range(5):
        for i, fall in enumerate((2, 5, 2)):
            right = 23 - k * fall
            low, high = stats.wilson(right, 23)
            assert found[k + 0.5, i + 0.5] == f"{100 * right / 23:.0f} %\n{100 * low:.0f} to {100 * high:.0f}"
    assert [text.get_text() for text in ax.get_xticklabels()] == ["1K", "2K", "4K", "8K", "16K"]
    assert [text.get_text() for text in ax.get_yticklabels()] == ["0 %", "50 %", "100 %"]
    assert ax.get_ylim()[0] > ax.get_ylim()[1], "the start of the text is on top"
    low, high = (100 * x for x in stats.wilson(3, 23))
    said = f"from 13 % (interval {low:.1f} % to {high:.0f} %) to 100 %, 23 queries a cell."
    assert ax.get_label() == f"Recall by length and depth, {said}"


def test_many_lengths_leave_room_for_less():
    seven = evaluation.recall_grid(cells(tuple(64 * 2**k for k in range(7))))
    assert "100 %\n86–100" in words(seven)
    nine = evaluation.recall_grid(cells(tuple(64 * 2**k for k in range(9))))
    assert "100 %" in words(nine)
    assert not any("\n" in text for text in words(nine))


def test_grid_by_another_column_with_a_gap_and_a_title():
    frame = cells().rename(columns={"depth": "distractors"}).replace({"distractors": {0.5: 8, 1.0: 32}})
    frame = frame[(frame["distractors"] != 32) | (frame["length"] != 1024)]
    ax = evaluation.recall_grid(frame, y="distractors", title="tiny", train_length=2048)
    assert [text.get_text() for text in ax.get_yticklabels()] == ["0", "8", "32"]
    assert len([text for text in words(ax) if "\n" in text]) == 14
    assert "trained to 2K" in words(ax)
    assert ax.get_title(loc="left") == "tiny"
    assert ax.get_label().startswith("tiny: recall by length and distractors, from 13 %")


# ---- rankings


def test_rank_lines_cross_as_the_ranks_do():
    ax = evaluation.rank_lines(benchmarks())
    table = rank_table(benchmarks())
    assert table.to_numpy().tolist() == [[1, 2, 4], [2, 1, 3], [3, 4, 2], [4, 3, 1]]
    assert [[y for _, y in xy(line)] for line in ax.lines] == table.to_numpy().tolist()
    assert ax.get_ylim()[0] > ax.get_ylim()[1]
    ends = [(text.get_text(), *text.get_position()) for text in ax.texts]
    assert [(name, y) for name, x, y in ends if x < 0] == list(zip(MODELS, (1, 2, 3, 4), strict=True))
    assert [(name, y) for name, x, y in ends if x > 2] == list(zip(MODELS, (4, 3, 2, 1), strict=True))
    # needle to multi-query: 2 crossings; to hops: all six pairs but (a, b) and (c, d), which swap back: 4
    assert "lines cross 6 times" in ax.get_label()
    assert "first: softmax, RoPE on needle, delta rule on multi-query, linear on hops" in ax.get_label()


def test_ties_have_names_apart_and_long_names_stand_on_one_side():
    frame = benchmarks().assign(correct=50)
    frame["model"] = frame["model"].replace("linear", "linear attention, decayed")
    ax = evaluation.rank_lines(frame)
    heights = sorted(text.get_position()[1] for text in ax.texts)
    assert len(heights) == 4
    assert np.diff(heights).min() > 0.85
    assert "lines cross 0 times" in ax.get_label()


# ---- rules


def test_rules_are_drawn_with_their_intervals_below_the_curve():
    frame = cells()
    ax = evaluation.rules_on_curve(frame.sample(frac=1, random_state=1))
    table = effective_table(frame.assign(arm=""))
    curve = stats.recall(frame.assign(seed=0), by="length")
    points = marks(ax)
    assert points[:5] == [pytest.approx(p) for p in zip(curve["length"], curve["recall"], strict=True)]
    assert [x for x, _ in points[5:]] == pytest.approx(table["length"].tolist())
    assert all(y < 0 for _, y in points[5:])
    assert bars(ax) == [pytest.approx(tuple(pair)) for pair in table[["low", "high"]].to_numpy()]
    assert [text.split(" ")[0] for text in words(ax) if ":\n" in text] == ["RULER", "first", "NoLiMa", "half"]
    assert (
        "effective length by rule, with 95 % intervals: RULER 2K [1K, 2K]; first failure 2K [1K, 2K]"
        in ax.get_label()
    )


def test_censored_lengths_have_arrows():
    frame = cells().assign(correct=lambda f: f["total"])
    ax = evaluation.rules_on_curve(frame, rules=("RULER", "NoLiMa"), train_length=2048)
    assert [(x, right) for x, _, right in arrows(ax)] == [(16384, True)] * 2, "they point beyond the longest"
    assert "RULER (85.6 %):\n≥ 16K" in words(ax)
    assert "training length" in words(ax)
    assert "RULER ≥ 16K; NoLiMa ≥ 16K." in ax.get_label()
    nothing = evaluation.rules_on_curve(cells().assign(correct=0), rules=("RULER",))
    assert "RULER ≤ 1K." in nothing.get_label()
    assert list(RULES) == list(evaluation.MEANING)


# ---- samples


def test_samples_needed_marks_wilsons_low_end():
    ax = evaluation.samples_needed()
    assert marks(ax) == [pytest.approx((n, stats.wilson(n, n)[0])) for n in (1, 10, 20, 100, 500)]
    assert words(ax) == ["21 %", "72 %", "84 %", "96 %", "99 %"]
    assert "20 of 20 84 %" in ax.get_label()
    long = [line for line in ax.lines if len(line.get_xdata()) > 50]
    exact = [line for line in long if line.is_dashed()]
    assert len(exact) == 1
    assert dict(xy(exact[0]))[20] == pytest.approx(0.05 ** (1 / 20))
    assert evaluation.samples_needed((3, 50), most=200).get_xlim()[1] == pytest.approx(224)


# ---- variance and tau


def test_variance_bars_have_the_shares_and_their_intervals():
    ax = evaluation.variance_bars(SHARES)
    lengths = [patch.get_width() for patch in ax.patches]
    assert lengths == pytest.approx(SHARES["share"].tolist())
    assert bars(ax) == [pytest.approx(tuple(pair)) for pair in SHARES[["low", "high"]].to_numpy()]
    assert words(ax) == ["41 % [30, 55]", "10 % [2, 19]", "30 % [20, 41]", "19 % [10, 22]"]
    assert [text.get_text() for text in ax.get_yticklabels()] == ["Depth", "Task", "Interaction", "Sampling"]
    assert "depth 41 % [30, 55]; task 10 % [2, 19]" in ax.get_label()


def test_tau_matrix_frames_what_leaves_out_zero():
    ax = evaluation.tau_matrix(TAUS)
    found = {text.get_position(): text.get_text() for text in ax.texts}
    assert found == {
        (0.5, 0.5): "0.62\n0.2 to 0.9", (0.5, 1.5): "−0.10\n−0.5 to 0.3", (1.5, 1.5): "−0.40\n−0.8 to 0.0"
    }  # fmt: skip
    frames = [patch.get_xy() for patch in ax.patches if isinstance(patch, Rectangle)]
    assert [(int(x), int(y)) for x, y in frames] == [(0, 0), (1, 1)]
    assert [text.get_text() for text in ax.get_xticklabels()] == ["a", "b"]
    assert [text.get_text() for text in ax.get_yticklabels()] == ["b", "c"]
    assert "a and c −0.10 [−0.50, 0.33]" in ax.get_label()


def test_tau_matrix_keeps_each_text_in_its_cell_with_seven_benchmarks():
    names = [f"test {i}" for i in range(7)]
    rows = [(a, b, -0.25, -0.95, 0.95) for i, a in enumerate(names) for b in names[i + 1 :]]
    ax = evaluation.tau_matrix(pd.DataFrame(rows, columns=["a", "b", "tau", "low", "high"]))
    ax.get_figure().canvas.draw()
    (x0, y0), (x1, y1) = ax.transData.transform([(0, 0), (1, 1)])
    for text in ax.texts:
        extent = text.get_window_extent()
        assert extent.width < abs(x1 - x0)
        assert extent.height < abs(y1 - y0)


# ---- all


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda: evaluation.recall_grid(cells().drop(columns="depth")), r"lacks the columns \['depth'\]"),
        (lambda: evaluation.recall_grid(cells()[:0]), "has no rows"),
        (lambda: evaluation.recall_grid(cells().assign(correct=14)), "correct is 28 of 23"),
        (lambda: evaluation.recall_grid(cells().assign(probe=["a", "b"] * 15)), "mixes the probes"),
        (lambda: evaluation.rank_lines(benchmarks().query("benchmark == 'hops'")), r"has the benchmarks \['hops'\]"),
        (lambda: evaluation.rank_lines(benchmarks()[1:]), "'needle' lacks a score: see model 'softmax, RoPE'"),
        (lambda: evaluation.rules_on_curve(cells().drop(columns="chance")), r"lacks the columns \['chance'\]"),
        (lambda: evaluation.rules_on_curve(cells(), rules=("HELMET",)), "rule is 'HELMET'; allowed is one of RULER"),
        (lambda: evaluation.samples_needed(()), r"marks is \(\) and most 1000"),
        (lambda: evaluation.samples_needed((0, 10)), r"marks is \(0, 10\)"),
        (lambda: evaluation.samples_needed((2000,)), "from 1 to most"),
        (lambda: evaluation.variance_bars(SHARES.drop(columns="low")), r"lacks the columns \['low'\]"),
        (lambda: evaluation.variance_bars(SHARES.assign(low=np.nan)), "share has values that are not finite"),
        (lambda: evaluation.tau_matrix(TAUS.drop(columns="tau")), r"lacks the columns \['tau'\]"),
        (lambda: evaluation.tau_matrix(TAUS[:0]), "has no rows"),
    ],
)  # fmt: skip
def test_bad_input_is_named(call, message):
    with pytest.raises(ValueError, match=message):
        call()


def test_cells_that_are_all_alike_draw_no_bar():
    ax = evaluation.variance_bars(SHARES.assign(share=np.nan, low=np.nan, high=np.nan))
    assert all(bar.get_width() == 0 for bar in ax.patches)
