"""What the figures of costs and patterns draw is what was measured, computed and selected."""

from __future__ import annotations

import math

import numpy as np
import pandas as pd
import pytest
from matplotlib.text import Text
from scipy import stats as distributions

from lcbook import plots, stats
from lcbook.attention.costs import Machine, visible_pairs
from lcbook.attention.patterns import BigBird, Chunked, Full, Strided, TopK, Window, pattern_mask, reach
from lcbook.plots.costs import duration, memory, rate
from lcbook.stats.timings import exponents
from tests.drawn import bands, lines_of, marked, near, written, xy

LENGTHS = (128, 256, 512, 1024)
POWERS = {"fused": 2.0, "window 64": 1.0, "linear": 1.0}


def timed(powers=POWERS, rounds=3, lengths=LENGTHS) -> pd.DataFrame:
    """Arm i takes 1e-6 (i + 1) n^power seconds, and 10 % more in each further round; the roof is half of that."""
    rows = []
    for i, (arm, power) in enumerate(powers.items()):
        for n in lengths:
            for seed in range(rounds):
                seconds = 1e-6 * (i + 1) * n**power
                row = {"arm": arm, "length": n, "seed": seed, "seconds": seconds * 1.1**seed}
                row |= {"peak_bytes": 1000 * int(n**power), "model_peak_bytes": 900 * int(n**power)}
                row |= {"roofline_seconds": seconds / 2, "flops": 100 * int(n**power), "bytes": 32 * n}
                rows.append(row)
    return pd.DataFrame(rows)


def selected(arms=("top 4", "top 16"), seeds=4) -> pd.DataFrame:
    rows = []
    for i, arm in enumerate(arms):
        for n in (256, 1024):
            for seed in range(seeds):
                kept = 100 - 20 * (1 - i) - (n // 256) * 5 - seed
                row = {"arm": arm, "length": n, "seed": seed, "total": 100, "chance": 0.125, "selected": kept}
                rows.append(row | {"correct_selected": kept - 2, "correct": kept - 2 + (100 - kept) // 8})
    return pd.DataFrame(rows)


@pytest.mark.parametrize(
    ("found", "want"),
    [
        (duration(0.00012), "120 µs"),
        (duration(0.5), "500 ms"),
        (duration(0.001), "1 ms"),
        (duration(2), "2 s"),
        (memory(2048), "2 KiB"),
        (memory(3 * 2**19), "1.5 MiB"),
        (memory(2**30), "1 GiB"),
        (memory(100), "100 B"),
        (rate(2e9), "2 GFLOP/s"),
        (rate(6.7e13), "67 TFLOP/s"),
    ],
)
def test_units(found, want):
    assert found == want


@pytest.mark.parametrize("y", ["seconds", "peak_bytes"])
def test_cost_panels_draw_means_intervals_and_the_closed_form(y):
    frame = timed()
    closed = {"seconds": "roofline_seconds", "peak_bytes": "model_peak_bytes"}[y]
    for ax, arm in zip(plots.cost_panels(frame, y=y), POWERS, strict=True):
        part = frame[frame["arm"] == arm]
        logs = np.log(part.pivot(index="length", columns="seed", values=y))
        (line,), (roof,) = marked(ax), lines_of(ax, "--")
        assert xy(line) == near(zip(LENGTHS, np.exp(logs.mean(axis=1)), strict=True))
        assert roof == near(zip(LENGTHS, part.groupby("length")[closed].first(), strict=True))
        half = distributions.t.ppf(0.975, 2) * logs.iloc[0].std() / math.sqrt(3)
        (corners,) = bands(ax)
        first = corners[corners[:, 0] == 128, 1]
        assert first.max() == pytest.approx(math.exp(logs.iloc[0].mean() + half))
    assert ax.get_xscale() == ax.get_yscale() == "log"


def test_titles_carry_the_exponent_of_the_longer_half():
    frame = timed({"one": 1.0, "two": 2.0})
    frame.loc[frame["length"] < 512, "seconds"] = 1.0  # overhead
    fits = exponents(frame, from_length=512)["exponent"]
    assert fits.tolist() == pytest.approx([1, 2])
    axes = plots.cost_panels(frame)
    assert [ax.get_title("left") for ax in axes] == ["one:  $n^{1.00}$", "two:  $n^{2.00}$"]
    assert "exponents fitted from 512 tokens on" in plots.alt(axes)
    assert "growing as n^1.00" in plots.alt(axes)
    assert "n^{1.00}" not in plots.cost_panels(frame, from_length=128)[0].get_title("left")


def test_one_length_or_round_and_no_closed_form_can_be_drawn():
    axes = plots.cost_panels(timed(lengths=(128,), rounds=1), closed_form=False)
    assert not lines_of(axes[0], "--")
    assert "n^" not in plots.alt(axes)
    axes = plots.cost_panels(timed().assign(model_peak_bytes=math.nan), y="peak_bytes")
    assert "closed form" not in written(axes[0])


def test_panels_show_one_form_each_and_the_reference_in_grey():
    frame = timed()
    axes = plots.cost_panels(frame)
    assert len(axes) == 3
    grey = [[line for line in ax.lines if line.get_color() == "#b0b0b0"] for ax in axes]
    assert [len(lines) for lines in grey] == [0, 1, 1]  # none over itself
    fused = marked(axes[0])[0]
    np.testing.assert_allclose(grey[1][0].get_ydata(), fused.get_ydata())
    for ax, arm, power in zip(axes, POWERS, POWERS.values(), strict=True):
        assert len(marked(ax)) == 1
        assert ax.get_title(loc="left").startswith(f"{arm}:")
        assert f"{power:.2f}" in ax.get_title(loc="left")
        assert arm in plots.alt(ax)
    (legend,) = axes[0].get_figure().legends
    assert [text.get_text() for text in legend.get_texts()] == ["fused", "roofline"]
    named = plots.cost_panels(frame, reference="linear", closed_form=False)
    assert [len([x for x in ax.lines if x.get_color() == "#b0b0b0"]) for ax in named] == [1, 1, 0]
    alone = plots.cost_panels(frame[frame["arm"] != "fused"], closed_form=False)
    assert not any(line.get_color() == "#b0b0b0" for ax in alone for line in ax.lines)


def test_ten_panels_do_not_overlap():
    arms = {f"form of attention {i}": 1.0 + i / 10 for i in range(10)}
    axes = plots.cost_panels(timed(arms))
    figure = axes[0].get_figure()
    figure.canvas.draw()
    boxes = [ax.get_tightbbox() for ax in axes]
    for i, a in enumerate(boxes):
        assert figure.bbox.x0 <= a.x0 < a.x1 <= figure.bbox.x1
        for b in boxes[i + 1 :]:
            apart = a.x1 <= b.x0 + 1 or b.x1 <= a.x0 + 1 or a.y0 >= b.y1 - 1 or b.y0 >= a.y1 - 1
            assert apart


def test_roofline_draws_the_roof_and_what_was_achieved():
    frame = timed({"fused": 2.0, "linear": 1.0}, rounds=1)
    machine = Machine(1e9, 1e7)
    ax = plots.roofline(frame, machine)
    for line, arm in zip(marked(ax), ("fused", "linear"), strict=True):
        part = frame[frame["arm"] == arm]
        np.testing.assert_allclose(line.get_xdata(), part["flops"] / part["bytes"])
        np.testing.assert_allclose(line.get_ydata(), part["flops"] / part["seconds"])
    (roof,) = [line for line in ax.lines if line.get_color() == "black"]
    x, y = (np.asarray(data, float) for data in roof.get_data())
    assert x[1] == 100  # operations a byte at the knee
    np.testing.assert_allclose(y, np.minimum(1e9, x * 1e7))
    assert "1 GFLOP/s" in plots.alt(ax)


def test_gallery_shades_by_the_layers_needed():
    patterns = [Window(5, 2), Strided(3, 7), BigBird(4, 1, 1, 1), Chunked(6), Full()]
    axes = plots.pattern_gallery(patterns, 31, layers=3)
    assert len(axes) == 5
    for ax, pattern in zip(axes, patterns, strict=True):
        drawn = np.asarray(ax.images[0].get_array())
        mask = pattern_mask(pattern, 31)
        for depth in (1, 2, 3):
            np.testing.assert_array_equal((drawn > 0) & (drawn <= depth), reach(mask, depth).numpy())
        share = 100 * visible_pairs(pattern, 31) / visible_pairs(Full(), 31)
        title = ax.get_title(loc="left")
        assert f"{share:.0f} % of pairs" in title or f"{share:.1f} % of pairs" in title
        assert title.splitlines()[2].startswith("reach ")
    assert axes[0].get_title(loc="left").endswith("reach 8, 16, 24")
    assert axes[3].get_title(loc="left").endswith("reach 0, 0, 0")  # the last token begins a block
    axes[0].get_figure().canvas.draw()
    assert len(plots.pattern_gallery([Window(3)], 11, layers=1)) == 1


def test_titles_of_the_gallery_stay_apart():
    patterns = [Full(), Window(16), Window(16, 2), Strided(16, 16), Chunked(16), BigBird(16, 3, 2, 1)]
    axes = plots.pattern_gallery(patterns, 128)
    figure = axes[0].get_figure()
    figure.canvas.draw()
    titles = [text for text in figure.findobj(Text) if "reach" in text.get_text()]
    boxes = [text.get_window_extent() for text in titles]
    assert len(boxes) == 6
    for i, a in enumerate(boxes):
        assert figure.bbox.y0 <= a.y0 < a.y1 <= figure.bbox.y1
        assert not any(a.overlaps(b) for b in boxes[i + 1 :])


def test_found_and_right_draws_both_recalls():
    frame = selected()
    ax = plots.found_and_right(frame)
    right = stats.recall(frame, ["arm", "length"])
    for line, (_, part) in zip(marked(ax), right.groupby("arm", sort=False), strict=True):
        np.testing.assert_allclose(line.get_ydata(), part["recall"])
        kept = frame[frame["arm"] == part["arm"].iloc[0]].groupby("length")["selected"].sum() / 400
        np.testing.assert_allclose(line.get_xdata(), kept)
    assert lines_of(ax, "--") == [[(0, 0.125), (1, 1)]]
    assert "kept: answered, lost: guessed" in [text.get_text() for text in ax.texts]
    bars = [np.asarray(c.get_segments()) for c in ax.collections]
    np.testing.assert_allclose(bars[1][:, :, 1], right[right["arm"] == "top 4"][["low", "high"]])
    part = frame[frame["arm"] == "top 4"].sum(numeric_only=True)
    share = 100 * part["correct_selected"] / part["selected"]
    assert f"top 4 {share:.0f} % and" in plots.alt(ax)


def test_a_selector_that_keeps_everything_has_no_other_queries():
    frame = selected(("all",)).assign(selected=100, correct_selected=97, correct=97)
    assert "all 97 % and no query" in plots.alt(plots.found_and_right(frame))


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda: plots.cost_panels(timed(), y="flops"), "y is 'flops'; allowed are 'seconds', 'peak_bytes'"),
        (lambda: plots.cost_panels(timed().drop(columns="seed")), r"frame lacks the columns \['seed'\]"),
        (lambda: plots.cost_panels(timed().iloc[:0]), "frame has no rows"),
        (lambda: plots.cost_panels(timed().assign(seconds=0.0)), "seconds has 0.0; allowed on a log axis"),
        (lambda: plots.cost_panels(timed(), reference="x"), "arm is 'x'; allowed is one of 'fused', 'window"),
        (lambda: plots.roofline(timed().drop(columns="flops"), Machine(1, 1)), r"columns \['flops'\]"),
        (lambda: plots.pattern_gallery([], 16), "patterns has 0 and layers is 3; allowed are one or more"),
        (lambda: plots.pattern_gallery([Full()], 16, layers=5), "layers is 5; allowed are one or more, and 1 to 4"),
        (lambda: plots.pattern_gallery([TopK()], 16), r"patterns is \[TopK\(.*\)\]; allowed are static ones"),
        (lambda: plots.found_and_right(timed()), "lacks the columns"),
    ],
)  # fmt: skip
def test_bad_input_is_named(call, message):
    with pytest.raises(ValueError, match=message):
        call()
